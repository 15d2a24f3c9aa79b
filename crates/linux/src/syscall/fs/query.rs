//! Asking about files: stat and relatives, readlink, access, directory listings.

use super::{
    AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, Caller, file_arg, place_of,
};
use crate::fs::{DirEntry, FileType, LastLink, May, Path};
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::{Creds, Task};
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(43, "statfs", Support::Full, sys_statfs),
    waits!(44, "fstatfs", Support::Full, sys_fstatfs),
    waits!(48, "faccessat", Support::Full, sys_faccessat),
    waits!(61, "getdents64", Support::Full, sys_getdents64),
    waits!(78, "readlinkat", Support::Full, sys_readlinkat),
    waits!(79, "newfstatat", Support::Full, sys_newfstatat),
    waits!(80, "fstat", Support::Full, sys_fstat),
    waits!(291, "statx", Support::Full, sys_statx),
    waits!(439, "faccessat2", Support::Full, sys_faccessat2),
];

async fn sys_fstat(task: &Rc<Task>, args: Args) -> SysResult {
    let file = task.files().get_any(args.int(0))?;
    let stat = file.inode().stat()?;
    task.copy_out(args.addr(1), &stat.to_stat()).await?;
    Ok(0)
}

async fn sys_newfstatat(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.uint(3);
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = place_of(task, args.int(0), args.addr(1), flags, LastLink::Follow).await?;
    let stat = place.inode().stat()?;
    task.copy_out(args.addr(2), &stat.to_stat()).await?;
    Ok(0)
}

async fn sys_statx(task: &Rc<Task>, args: Args) -> SysResult {
    const AT_STATX_SYNC_TYPE: u32 = 0x6000;
    const STATX_RESERVED: u32 = 0x8000_0000;
    let flags = args.uint(2);
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    let both_syncs = flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || both_syncs || args.uint(3) & STATX_RESERVED != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = place_of(task, args.int(0), args.addr(1), flags, LastLink::Follow).await?;
    let stat = place.inode().stat()?;
    let is_mount_root = place.is_mount_root();
    let raw = stat.to_statx(place.mount.id, is_mount_root);
    task.copy_out(args.addr(4), &raw).await?;
    Ok(0)
}

async fn statfs(task: &Rc<Task>, place: &Path, to: VirtAddr) -> SysResult {
    let mut figures = place.inode().file_system().statfs()?;
    figures.flags |= place.mount.flags().statfs_bits();
    task.copy_out(to, &figures.to_statfs()).await?;
    Ok(0)
}

async fn sys_statfs(task: &Rc<Task>, args: Args) -> SysResult {
    let place = place_of(task, AT_FDCWD, args.addr(0), 0, LastLink::Follow).await?;
    statfs(task, &place, args.addr(1)).await
}

async fn sys_fstatfs(task: &Rc<Task>, args: Args) -> SysResult {
    let file = task.files().get_any(args.int(0))?;
    statfs(task, file.path(), args.addr(1)).await
}

async fn sys_readlinkat(task: &Rc<Task>, args: Args) -> SysResult {
    let size = args.int(3);
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let text = task.read_path(args.addr(1)).await?;
    let place = if text.is_empty() {
        // An empty path means the link that the descriptor was opened on with O_PATH.
        let place =
            place_of(task, args.int(0), args.addr(1), AT_EMPTY_PATH, LastLink::Keep).await?;
        if place.inode().kind() != FileType::Symlink {
            return Err(Errno::ENOENT.into());
        }
        place
    } else {
        place_of(task, args.int(0), args.addr(1), 0, LastLink::Keep).await?
    };
    let target = place.inode().read_link()?;
    let target = &target[..target.len().min(size as usize)];
    task.copy_out(args.addr(2), target).await?;
    Ok(target.len() as u64)
}

async fn sys_faccessat(task: &Rc<Task>, args: Args) -> SysResult {
    access(task, args, 0).await
}

async fn sys_faccessat2(task: &Rc<Task>, args: Args) -> SysResult {
    access(task, args, args.uint(3)).await
}

async fn access(task: &Rc<Task>, args: Args, flags: u32) -> SysResult {
    const AT_EACCESS: u32 = 0x200;
    let want = May::from_bits(args.uint(2)).ok_or(Errno::EINVAL)?;
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let place = place_of(task, args.int(0), args.addr(1), flags, LastLink::Follow).await?;
    let caller = Caller::new(task);
    if flags & AT_EACCESS != 0 {
        caller.vfs.access(&caller.creds, &place, want)?;
    } else {
        caller.vfs.access(&with_real_ids(&caller.creds), &place, want)?;
    }
    Ok(0)
}

/// Credentials with which the real user would act (Linux `access_override_creds`).
fn with_real_ids(creds: &Creds) -> Creds {
    let mut real = creds.clone();
    (real.fsuid, real.fsgid) = (creds.uid, creds.gid);
    real.cap_effective = if creds.uid == 0 { creds.cap_permitted } else { 0 };
    real
}

/// Longest directory record: header, name of 255 bytes, zero.
const DIRENT_HEADER: usize = 19;

fn dirent(entry: &DirEntry, next: u64) -> Vec<u8> {
    let len = (DIRENT_HEADER + entry.name.len() + 1).next_multiple_of(8);
    let mut raw = Vec::with_capacity(len);
    raw.extend_from_slice(&entry.ino.to_le_bytes());
    raw.extend_from_slice(&next.to_le_bytes());
    raw.extend_from_slice(&(len as u16).to_le_bytes());
    raw.push(entry.kind.dirent_type());
    raw.extend_from_slice(&entry.name);
    raw.resize(len, 0);
    raw
}

async fn sys_getdents64(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    if file.inode().kind() != FileType::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    let room = args.uint(2) as usize;
    let mut raw = Vec::new();
    let mut refused = false;
    let position = file.ops().read_dir(&file, file.position(), &mut |entry, next| {
        let record = dirent(entry, next);
        if raw.len() + record.len() > room {
            refused = true;
            return false;
        }
        raw.extend_from_slice(&record);
        true
    })?;
    if raw.is_empty() {
        // There is more, but not even one record fits.
        return if refused { Err(Errno::EINVAL.into()) } else { Ok(0) };
    }
    task.copy_out(args.addr(1), &raw).await?;
    file.set_position(position);
    Ok(raw.len() as u64)
}
