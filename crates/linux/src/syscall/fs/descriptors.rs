//! Getting, copying and closing descriptors.

use super::{AT_FDCWD, Caller, PathArg, install, nofile};
use crate::fs::{FdFlags, OpenFile, OpenFlags, OpenHow, Resolve};
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::Task;
use kilburn_addr::Errno;
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    now(23, "dup", Support::Full, sys_dup),
    now(24, "dup3", Support::Full, sys_dup3),
    waits!(56, "openat", Support::Full, sys_openat),
    now(57, "close", Support::Full, sys_close),
    waits!(59, "pipe2", Support::Full, sys_pipe2),
    now(
        436,
        "close_range",
        Support::Partial("no CLOSE_RANGE_UNSHARE of a shared table"),
        sys_close_range,
    ),
    waits!(437, "openat2", Support::Full, sys_openat2),
];

async fn sys_openat(task: &Rc<Task>, args: Args) -> SysResult {
    let how = OpenHow::new(args.uint(2), args.uint(3))?;
    let path = PathArg::read(task, args.int(0), args.addr(1)).await?;
    open(task, &path, how).await
}

async fn open(task: &Rc<Task>, path: &PathArg, how: OpenHow) -> SysResult {
    task.files().check_room(nofile(task))?;
    let caller = Caller::new(task);
    let file = caller.vfs.open(&caller.creds, &caller.fs, &path.from, &path.text, how)?;
    wait_until_open(task, &file).await?;
    Ok(install(task, file, how.flags)?)
}

/// Waits for the other side of a FIFO.
async fn wait_until_open(task: &Rc<Task>, file: &OpenFile) -> SysResult {
    while !file.ops().is_open_complete() {
        super::io::wait_for(task, file).await?;
    }
    Ok(0)
}

/// `struct open_how` of `openat2`.
async fn sys_openat2(task: &Rc<Task>, args: Args) -> SysResult {
    const SIZE: usize = 24;
    let size = args.raw(3);
    if size < SIZE as u64 {
        return Err(Errno::EINVAL.into());
    }
    if size > 4096 {
        return Err(Errno::E2BIG.into());
    }
    let mut raw = vec![0; size as usize];
    task.copy_in(args.addr(2), &mut raw).await?;
    if raw[SIZE..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG.into());
    }
    let field =
        |i: usize| raw[i * 8..i * 8 + 8].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    let (flags, mode, resolve) = (field(0), field(1), field(2));
    let flags = u32::try_from(flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let resolve = Resolve::from_bits(resolve).ok_or(Errno::EINVAL)?;
    let both = Resolve::BENEATH | Resolve::IN_ROOT;
    let makes = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
    if resolve.contains(both) || mode & !0o7777 != 0 || !makes && mode != 0 {
        return Err(Errno::EINVAL.into());
    }
    let allowed = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !allowed.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    let how = OpenHow::checked(flags, mode as u32, resolve)?;
    let mut path = PathArg::read(task, args.int(0), args.addr(1)).await?;
    if resolve.intersects(both) && args.int(0) != AT_FDCWD {
        path.from = task.files().get_any(args.int(0))?.path().clone();
    }
    if resolve.contains(Resolve::CACHED) {
        // Nothing is promised to be cached; programs retry without it.
        return Err(Errno::EAGAIN.into());
    }
    open(task, &path, how).await
}

fn sys_close(task: &Rc<Task>, args: Args) -> SysResult {
    task.files().close(args.int(0))?;
    Ok(0)
}

fn sys_close_range(task: &Rc<Task>, args: Args) -> SysResult {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    let (first, last, flags) = (args.uint(0), args.uint(1), args.uint(2));
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL.into());
    }
    if flags & UNSHARE != 0 {
        let own = task.files().fork_copy()?;
        drop(task.replace_files(Some(own)));
    }
    let files = task.files();
    for (fd, old) in files.open_fds() {
        if (first..=last).contains(&(fd as u32)) {
            if flags & CLOEXEC != 0 {
                files.set_flags(fd, old | FdFlags::CLOEXEC)?;
            } else {
                // As Linux: late errors of writing back are not told.
                let _ = files.close(fd);
            }
        }
    }
    Ok(0)
}

fn sys_dup(task: &Rc<Task>, args: Args) -> SysResult {
    let files = task.files();
    let file = files.get_any(args.int(0))?;
    Ok(files.install(file, FdFlags::empty(), nofile(task))? as u64)
}

fn sys_dup3(task: &Rc<Task>, args: Args) -> SysResult {
    let (old, new, flags) = (args.int(0), args.int(1), args.uint(2));
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL.into());
    }
    let limit = nofile(task);
    if u64::try_from(new).map_or(true, |new| new >= limit) {
        return Err(Errno::EBADF.into());
    }
    let files = task.files();
    let file = files.get_any(old)?;
    let flags = if flags != 0 { FdFlags::CLOEXEC } else { FdFlags::empty() };
    files.replace(new, file, flags, limit)?;
    Ok(new as u64)
}

async fn sys_pipe2(task: &Rc<Task>, args: Args) -> SysResult {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    let flags = OpenFlags::from_bits(args.uint(1)).filter(|flags| allowed.contains(*flags));
    let flags = flags.ok_or(Errno::EINVAL)?;
    let (read, write) = task.kernel().vfs().pipe(&task.creds(), flags)?;
    let files = task.files();
    let read = install(task, read, flags)?;
    let write = match install(task, write, flags) {
        Ok(write) => write,
        Err(errno) => {
            let _ = files.close(read as i32);
            return Err(errno.into());
        }
    };
    let mut raw = [0; 8];
    raw[..4].copy_from_slice(&(read as u32).to_le_bytes());
    raw[4..].copy_from_slice(&(write as u32).to_le_bytes());
    if let Err(errno) = task.copy_out(args.addr(0), &raw).await {
        let _ = files.close(read as i32);
        let _ = files.close(write as i32);
        return Err(errno.into());
    }
    Ok(0)
}
