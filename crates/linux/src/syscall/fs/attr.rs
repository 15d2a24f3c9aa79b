//! Changing files: mode, owner, times, size, extended attributes; making them durable.

use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, Caller, file_arg, place_of};
use crate::fs::{
    FileType, InodeRef, LastLink, NewTime, OpenFile, Path, Timespec, Touch, XattrMode,
};
use crate::signal::Signal;
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::Task;
use crate::task::limits::Resource;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(5, "setxattr", Support::Full, sys_setxattr),
    waits!(6, "lsetxattr", Support::Full, sys_lsetxattr),
    waits!(7, "fsetxattr", Support::Full, sys_fsetxattr),
    waits!(8, "getxattr", Support::Full, sys_getxattr),
    waits!(9, "lgetxattr", Support::Full, sys_lgetxattr),
    waits!(10, "fgetxattr", Support::Full, sys_fgetxattr),
    waits!(11, "listxattr", Support::Full, sys_listxattr),
    waits!(12, "llistxattr", Support::Full, sys_llistxattr),
    waits!(13, "flistxattr", Support::Full, sys_flistxattr),
    waits!(14, "removexattr", Support::Full, sys_removexattr),
    waits!(15, "lremovexattr", Support::Full, sys_lremovexattr),
    waits!(16, "fremovexattr", Support::Full, sys_fremovexattr),
    waits!(45, "truncate", Support::Full, sys_truncate),
    now(46, "ftruncate", Support::Full, sys_ftruncate),
    now(47, "fallocate", Support::Partial("no COLLAPSE_RANGE, INSERT_RANGE"), sys_fallocate),
    now(52, "fchmod", Support::Full, sys_fchmod),
    waits!(53, "fchmodat", Support::Full, sys_fchmodat),
    waits!(54, "fchownat", Support::Full, sys_fchownat),
    now(55, "fchown", Support::Full, sys_fchown),
    now(81, "sync", Support::Full, sys_sync),
    now(82, "fsync", Support::Full, sys_fsync),
    now(83, "fdatasync", Support::Full, sys_fsync),
    now(84, "sync_file_range", Support::Full, sys_sync_file_range),
    waits!(88, "utimensat", Support::Full, sys_utimensat),
    now(213, "readahead", Support::Full, sys_readahead),
    now(223, "fadvise64", Support::Full, sys_fadvise64),
    now(267, "syncfs", Support::Full, sys_syncfs),
    waits!(452, "fchmodat2", Support::Full, sys_fchmodat2),
];

fn sys_fchmod(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let caller = Caller::new(task);
    caller.vfs.chmod(&caller.creds, file.path(), args.uint(1))?;
    Ok(0)
}

async fn sys_fchmodat(task: &Rc<Task>, args: Args) -> SysResult {
    chmod_at(task, args, 0).await
}

async fn sys_fchmodat2(task: &Rc<Task>, args: Args) -> SysResult {
    chmod_at(task, args, args.uint(3)).await
}

async fn chmod_at(task: &Rc<Task>, args: Args, flags: u32) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = place_of(task, args.int(0), args.addr(1), flags, LastLink::Follow).await?;
    let caller = Caller::new(task);
    caller.vfs.chmod(&caller.creds, &place, args.uint(2))?;
    Ok(0)
}

/// An id argument: -1 leaves it.
fn id_arg(args: Args, i: usize) -> Option<u32> {
    Some(args.uint(i)).filter(|id| *id != u32::MAX)
}

fn sys_fchown(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let caller = Caller::new(task);
    caller.vfs.chown(&caller.creds, file.path(), id_arg(args, 1), id_arg(args, 2))?;
    Ok(0)
}

async fn sys_fchownat(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.uint(4);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = place_of(task, args.int(0), args.addr(1), flags, LastLink::Follow).await?;
    let caller = Caller::new(task);
    caller.vfs.chown(&caller.creds, &place, id_arg(args, 2), id_arg(args, 3))?;
    Ok(0)
}

fn new_time(raw: &[u8]) -> Result<NewTime, Errno> {
    const UTIME_NOW: u64 = (1 << 30) - 1;
    const UTIME_OMIT: u64 = (1 << 30) - 2;
    let word = |at: usize| raw[at..at + 8].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    Ok(match word(8) {
        UTIME_NOW => NewTime::Now,
        UTIME_OMIT => NewTime::Keep,
        nanos if nanos < 1_000_000_000 => {
            NewTime::Set(Timespec { seconds: word(0) as i64, nanos: nanos as u32 })
        }
        _ => return Err(Errno::EINVAL),
    })
}

async fn sys_utimensat(task: &Rc<Task>, args: Args) -> SysResult {
    let (mut atime, mut mtime) = (NewTime::Now, NewTime::Now);
    if args.addr(2) != VirtAddr::ZERO {
        let mut raw = [0; 32];
        task.copy_in(args.addr(2), &mut raw).await?;
        (atime, mtime) = (new_time(&raw[..16])?, new_time(&raw[16..])?);
        if (atime, mtime) == (NewTime::Keep, NewTime::Keep) {
            return Ok(0);
        }
    }
    let flags = args.uint(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let caller = Caller::new(task);
    if args.addr(1) == VirtAddr::ZERO && args.int(0) != AT_FDCWD {
        // futimens: the descriptor itself.
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        let file = file_arg(task, args, 0)?;
        caller.vfs.set_times(&caller.creds, file.path(), atime, mtime)?;
        return Ok(0);
    }
    let place = place_of(task, args.int(0), args.addr(1), flags, LastLink::Follow).await?;
    caller.vfs.set_times(&caller.creds, &place, atime, mtime)?;
    Ok(0)
}

/// Growing a file past `RLIMIT_FSIZE` is EFBIG and a signal.
fn check_size(task: &Task, inode: &InodeRef, size: u64) -> Result<(), Errno> {
    if size > OpenFile::POSITION_MAX {
        return Err(Errno::EFBIG);
    }
    if size > task.rlimit(Resource::Fsize) && size > inode.stat()?.size {
        task.raise(Signal::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(())
}

async fn sys_truncate(task: &Rc<Task>, args: Args) -> SysResult {
    let size = u64::try_from(args.long(1)).map_err(|_| Errno::EINVAL)?;
    let place = place_of(task, AT_FDCWD, args.addr(0), 0, LastLink::Follow).await?;
    let caller = Caller::new(task);
    check_size(task, place.inode(), size)?;
    caller.vfs.truncate(&caller.creds, &place, size)?;
    Ok(0)
}

fn sys_ftruncate(task: &Rc<Task>, args: Args) -> SysResult {
    let size = u64::try_from(args.long(1)).map_err(|_| Errno::EINVAL)?;
    let file = file_arg(task, args, 0)?;
    if file.inode().kind() != FileType::Regular || !file.flags().writable() {
        return Err(Errno::EINVAL.into());
    }
    check_size(task, file.inode(), size)?;
    let caller = Caller::new(task);
    caller.vfs.truncate_open(&caller.creds, &file, size)?;
    Ok(0)
}

fn sys_fallocate(task: &Rc<Task>, args: Args) -> SysResult {
    const KEEP_SIZE: u32 = 0x01;
    const PUNCH_HOLE: u32 = 0x02;
    const COLLAPSE_RANGE: u32 = 0x08;
    const ZERO_RANGE: u32 = 0x10;
    const INSERT_RANGE: u32 = 0x20;
    const UNSHARE_RANGE: u32 = 0x40;
    let file = file_arg(task, args, 0)?;
    let mode = args.uint(1);
    let (offset, len) = (args.long(2), args.long(3));
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL.into());
    }
    if mode & !(KEEP_SIZE | PUNCH_HOLE | COLLAPSE_RANGE | ZERO_RANGE | INSERT_RANGE | UNSHARE_RANGE)
        != 0
    {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let punch = mode & PUNCH_HOLE != 0;
    if punch && (mode & KEEP_SIZE == 0 || mode & ZERO_RANGE != 0) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    if file.inode().is_swap_file() {
        return Err(Errno::ETXTBSY.into());
    }
    match file.inode().kind() {
        FileType::Regular => {}
        FileType::Fifo => return Err(Errno::ESPIPE.into()),
        FileType::Directory => return Err(Errno::EISDIR.into()),
        _ => return Err(Errno::ENODEV.into()),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)? as u64;
    let inode = file.inode();
    if inode.huge_pages().is_some() {
        // The pool is empty, and so are holes.
        return match mode & !KEEP_SIZE {
            0 => Err(Errno::ENOSPC.into()),
            PUNCH_HOLE => Ok(0),
            _ => Err(Errno::EOPNOTSUPP.into()),
        };
    }
    let cache = inode.page_cache().ok_or(Errno::EOPNOTSUPP)?;
    let grows = mode & KEEP_SIZE == 0 && end > inode.stat()?.size;
    if grows {
        check_size(task, inode, end)?;
    }
    match mode & !KEEP_SIZE {
        0 => inode.allocate(offset as u64..end)?,
        PUNCH_HOLE => {
            file.check_write_seal()?;
            cache.punch_hole(offset as u64..end)?;
        }
        ZERO_RANGE => {
            file.check_write_seal()?;
            cache.punch_hole(offset as u64..end)?;
        }
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    if grows {
        let caller = Caller::new(task);
        caller.vfs.truncate_open(&caller.creds, &file, end)?;
    }
    inode.touch(Touch::MTIME | Touch::CTIME);
    Ok(0)
}

fn sys_sync(task: &Rc<Task>, _args: Args) -> SysResult {
    // sync(2) cannot fail; what was not written stays dirty.
    let _ = task.kernel().vfs().sync();
    Ok(0)
}

fn sys_syncfs(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    file.inode().file_system().sync()?;
    Ok(0)
}

fn sys_fsync(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    match file.inode().kind() {
        FileType::Regular | FileType::Directory | FileType::BlockDevice => file.sync()?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// Writing is done when the call returns: only whom to tell of failures is left of waiting.
const SYNC_FILE_RANGE_WAIT_BEFORE: u32 = 1;
const SYNC_FILE_RANGE_WRITE: u32 = 2;
const SYNC_FILE_RANGE_WAIT_AFTER: u32 = 4;

fn sys_sync_file_range(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let (offset, len) = (args.long(1), args.long(2));
    if args.uint(3) & !7 != 0
        || offset < 0
        || offset.checked_add(len).is_none_or(|end| end < offset)
    {
        return Err(Errno::EINVAL.into());
    }
    match file.inode().kind() {
        FileType::Regular | FileType::Directory => {}
        _ => return Err(Errno::ESPIPE.into()),
    }
    if let Some(cache) = file.inode().page_cache() {
        if args.uint(3) & SYNC_FILE_RANGE_WRITE != 0 {
            let end = if len == 0 { u64::MAX } else { (offset + len) as u64 };
            // Who waits is told of a failure.
            let _ = cache.write_back(offset as u64..end);
        }
        if args.uint(3) & (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER) != 0 {
            file.check_write_back()?;
        }
    }
    Ok(0)
}

fn sys_readahead(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    if file.inode().kind() != FileType::Regular {
        return Err(Errno::EINVAL.into());
    }
    // Reading ahead is a hint: pages come when they are asked for.
    Ok(0)
}

fn sys_fadvise64(task: &Rc<Task>, args: Args) -> SysResult {
    const DONTNEED: u32 = 4;
    let file = file_arg(task, args, 0)?;
    if file.inode().kind() == FileType::Fifo {
        return Err(Errno::ESPIPE.into());
    }
    if args.uint(3) > 5 || args.long(2) < 0 {
        return Err(Errno::EINVAL.into());
    }
    if args.uint(3) == DONTNEED
        && let Some(cache) = file.inode().page_cache()
    {
        cache.evict();
    }
    Ok(0)
}

/// Longest name of an extended attribute.
const XATTR_NAME_MAX: usize = 255;
/// Longest value.
const XATTR_SIZE_MAX: u64 = 65536;

async fn by_path(task: &Rc<Task>, args: Args, last: LastLink) -> Result<Path, Errno> {
    place_of(task, AT_FDCWD, args.addr(0), 0, last).await
}

async fn name_arg(task: &Rc<Task>, addr: VirtAddr) -> Result<Vec<u8>, Errno> {
    let name = task.read_cstr(addr, XATTR_NAME_MAX + 1).await;
    match name {
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        name => name,
    }
}

async fn set(task: &Rc<Task>, place: &Path, args: Args) -> SysResult {
    let mode = match args.uint(4) {
        0 => XattrMode::Either,
        1 => XattrMode::Create,
        2 => XattrMode::Replace,
        _ => return Err(Errno::EINVAL.into()),
    };
    let name = name_arg(task, args.addr(1)).await?;
    if args.raw(3) > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    let mut value = vec![0; args.raw(3) as usize];
    task.copy_in(args.addr(2), &mut value).await?;
    let caller = Caller::new(task);
    caller.vfs.set_xattr(&caller.creds, place, &name, &value, mode)?;
    Ok(0)
}

/// Copies an answer out as `getxattr` and `listxattr` do: size 0 only asks how long it is.
async fn answer(task: &Rc<Task>, bytes: &[u8], to: VirtAddr, size: u64) -> SysResult {
    if size != 0 {
        if (bytes.len() as u64) > size {
            return Err(Errno::ERANGE.into());
        }
        task.copy_out(to, bytes).await?;
    }
    Ok(bytes.len() as u64)
}

async fn get(task: &Rc<Task>, place: &Path, args: Args) -> SysResult {
    let name = name_arg(task, args.addr(1)).await?;
    let caller = Caller::new(task);
    let value = caller.vfs.get_xattr(&caller.creds, place.inode(), &name)?;
    answer(task, &value, args.addr(2), args.raw(3)).await
}

async fn list(task: &Rc<Task>, place: &Path, args: Args) -> SysResult {
    let mut names = Vec::new();
    for name in place.inode().list_xattr()? {
        names.extend_from_slice(&name);
        names.push(0);
    }
    answer(task, &names, args.addr(1), args.raw(2)).await
}

async fn remove(task: &Rc<Task>, place: &Path, args: Args) -> SysResult {
    let name = name_arg(task, args.addr(1)).await?;
    let caller = Caller::new(task);
    caller.vfs.remove_xattr(&caller.creds, place, &name)?;
    Ok(0)
}

macro_rules! xattr_calls {
    ($($by_path:ident, $by_link:ident, $by_fd:ident => $does:ident;)*) => {$(
        async fn $by_path(task: &Rc<Task>, args: Args) -> SysResult {
            $does(task, &by_path(task, args, LastLink::Follow).await?, args).await
        }

        async fn $by_link(task: &Rc<Task>, args: Args) -> SysResult {
            $does(task, &by_path(task, args, LastLink::Keep).await?, args).await
        }

        async fn $by_fd(task: &Rc<Task>, args: Args) -> SysResult {
            let file = file_arg(task, args, 0)?;
            $does(task, file.path(), args).await
        }
    )*};
}

xattr_calls! {
    sys_setxattr, sys_lsetxattr, sys_fsetxattr => set;
    sys_getxattr, sys_lgetxattr, sys_fgetxattr => get;
    sys_listxattr, sys_llistxattr, sys_flistxattr => list;
    sys_removexattr, sys_lremovexattr, sys_fremovexattr => remove;
}
