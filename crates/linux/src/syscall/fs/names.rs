//! Making, removing and moving names; working directory, root and umask.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, Caller, PathArg, place_of};
use crate::fs::{Device, FileType, LastLink, NewKind, Remove, RenameMode};
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::{Capability, Task};
use kilburn_addr::Errno;
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(17, "getcwd", Support::Full, sys_getcwd),
    waits!(33, "mknodat", Support::Full, sys_mknodat),
    waits!(34, "mkdirat", Support::Full, sys_mkdirat),
    waits!(35, "unlinkat", Support::Full, sys_unlinkat),
    waits!(36, "symlinkat", Support::Full, sys_symlinkat),
    waits!(37, "linkat", Support::Full, sys_linkat),
    waits!(49, "chdir", Support::Full, sys_chdir),
    now(50, "fchdir", Support::Full, sys_fchdir),
    waits!(51, "chroot", Support::Full, sys_chroot),
    now(166, "umask", Support::Full, sys_umask),
    waits!(276, "renameat2", Support::Partial("no RENAME_WHITEOUT"), sys_renameat2),
];

async fn sys_getcwd(task: &Rc<Task>, args: Args) -> SysResult {
    let fs = task.fs();
    let mut text = fs.cwd().working_dir_text(&fs.root())?;
    text.push(0);
    if text.len() > 4096 {
        return Err(Errno::ENAMETOOLONG.into());
    }
    if (text.len() as u64) > args.raw(1) {
        return Err(Errno::ERANGE.into());
    }
    task.copy_out(args.addr(0), &text).await?;
    Ok(text.len() as u64)
}

async fn sys_mknodat(task: &Rc<Task>, args: Args) -> SysResult {
    let mode = args.uint(2);
    let device = Device::decode(args.uint(3));
    let what = match mode & 0o170_000 {
        0 | 0o100_000 => NewKind::Regular,
        0o010_000 => NewKind::Fifo,
        0o140_000 => NewKind::Socket,
        0o020_000 => NewKind::Device(FileType::CharDevice, device),
        0o060_000 => NewKind::Device(FileType::BlockDevice, device),
        0o040_000 => return Err(Errno::EPERM.into()),
        _ => return Err(Errno::EINVAL.into()),
    };
    let path = PathArg::read(task, args.int(0), args.addr(1)).await?;
    let caller = Caller::new(task);
    caller.vfs.create(caller.who(), path.at(), what, mode & 0o7777)?;
    Ok(0)
}

async fn sys_mkdirat(task: &Rc<Task>, args: Args) -> SysResult {
    let path = PathArg::read(task, args.int(0), args.addr(1)).await?;
    let caller = Caller::new(task);
    // Set-ID bits of a new directory come from its parent alone.
    let perm = args.uint(2) & 0o1777;
    caller.vfs.create(caller.who(), path.at(), NewKind::Directory, perm)?;
    Ok(0)
}

async fn sys_unlinkat(task: &Rc<Task>, args: Args) -> SysResult {
    const AT_REMOVEDIR: u32 = 0x200;
    let remove = match args.uint(2) {
        0 => Remove::File,
        AT_REMOVEDIR => Remove::Directory,
        _ => return Err(Errno::EINVAL.into()),
    };
    let path = PathArg::read(task, args.int(0), args.addr(1)).await?;
    let caller = Caller::new(task);
    caller.vfs.unlink(caller.who(), path.at(), remove)?;
    Ok(0)
}

async fn sys_symlinkat(task: &Rc<Task>, args: Args) -> SysResult {
    let target = task.read_path(args.addr(0)).await?;
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    let path = PathArg::read(task, args.int(1), args.addr(2)).await?;
    let caller = Caller::new(task);
    caller.vfs.create(caller.who(), path.at(), NewKind::Symlink(&target), 0o777)?;
    Ok(0)
}

async fn sys_linkat(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.uint(4);
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & AT_EMPTY_PATH != 0 && !task.creds().has_cap(Capability::DacReadSearch) {
        return Err(Errno::ENOENT.into());
    }
    let target = place_of(task, args.int(0), args.addr(1), flags, LastLink::Keep).await?;
    let path = PathArg::read(task, args.int(2), args.addr(3)).await?;
    let caller = Caller::new(task);
    caller.vfs.link(caller.who(), &target, path.at())?;
    Ok(0)
}

async fn sys_renameat2(task: &Rc<Task>, args: Args) -> SysResult {
    let mode = match args.uint(4) {
        0 => RenameMode::Replace,
        1 => RenameMode::NoReplace,
        2 => RenameMode::Exchange,
        _ => return Err(Errno::EINVAL.into()),
    };
    let old = PathArg::read(task, args.int(0), args.addr(1)).await?;
    let new = PathArg::read(task, args.int(2), args.addr(3)).await?;
    let caller = Caller::new(task);
    caller.vfs.rename(caller.who(), old.at(), new.at(), mode)?;
    Ok(0)
}

async fn sys_chdir(task: &Rc<Task>, args: Args) -> SysResult {
    let path = PathArg::read(task, AT_FDCWD, args.addr(0)).await?;
    let caller = Caller::new(task);
    let place = caller.vfs.directory(caller.who(), path.at())?;
    caller.fs.set_cwd(place);
    Ok(0)
}

fn sys_fchdir(task: &Rc<Task>, args: Args) -> SysResult {
    let file = task.files().get_any(args.int(0))?;
    let caller = Caller::new(task);
    caller.vfs.check_directory(&caller.creds, file.path())?;
    caller.fs.set_cwd(file.path().clone());
    Ok(0)
}

async fn sys_chroot(task: &Rc<Task>, args: Args) -> SysResult {
    let path = PathArg::read(task, AT_FDCWD, args.addr(0)).await?;
    let caller = Caller::new(task);
    let place = caller.vfs.directory(caller.who(), path.at())?;
    if !caller.creds.has_cap(Capability::SysChroot) {
        return Err(Errno::EPERM.into());
    }
    caller.fs.set_root(place);
    Ok(0)
}

fn sys_umask(task: &Rc<Task>, args: Args) -> SysResult {
    Ok(u64::from(task.fs().set_umask(args.uint(0))))
}
