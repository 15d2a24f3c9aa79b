//! mount and umount2.

use super::{AT_FDCWD, Caller, PathArg};
use crate::fs::{Depth, LastLink, MountFlags, Unmount};
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::{Capability, Task};
use kilburn_addr::{Errno, PAGE_SIZE, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(39, "umount2", Support::Partial("no MNT_EXPIRE"), sys_umount2),
    waits!(
        40,
        "mount",
        Support::Partial(
            "tmpfs, proc, sysfs, cgroup2, devtmpfs, devpts, bind, remount; no MS_MOVE, no propagation"
        ),
        sys_mount
    ),
];

/// `MS_*` (include/uapi/linux/mount.h).
mod ms {
    pub(super) const RDONLY: u64 = 1;
    pub(super) const NOSUID: u64 = 2;
    pub(super) const NODEV: u64 = 4;
    pub(super) const NOEXEC: u64 = 8;
    pub(super) const REMOUNT: u64 = 0x20;
    pub(super) const BIND: u64 = 0x1000;
    pub(super) const MOVE: u64 = 0x2000;
    pub(super) const REC: u64 = 0x4000;
    pub(super) const UNBINDABLE: u64 = 1 << 17;
    pub(super) const PRIVATE: u64 = 1 << 18;
    pub(super) const SLAVE: u64 = 1 << 19;
    pub(super) const SHARED: u64 = 1 << 20;
    pub(super) const NOUSER: u64 = 1 << 31;
    /// Once marked a new calling convention; the upper half of flags, ignored.
    pub(super) const MGC: u64 = 0xffff_0000;
    pub(super) const MGC_VAL: u64 = 0xc0ed_0000;
}

/// The text at `addr`; `None` for a null pointer.
async fn text_arg(task: &Rc<Task>, addr: VirtAddr) -> Result<Option<Vec<u8>>, Errno> {
    if addr == VirtAddr::ZERO {
        return Ok(None);
    }
    task.read_cstr(addr, PAGE_SIZE as usize).await.map(Some)
}

/// The options at `addr`: up to a page, as far as it can be read.
async fn options_arg(task: &Rc<Task>, addr: VirtAddr) -> Result<Vec<u8>, Errno> {
    if addr == VirtAddr::ZERO {
        return Ok(Vec::new());
    }
    let mut page = vec![0; PAGE_SIZE as usize];
    let got = task.copy_in_partial(addr, &mut page).await;
    if got == 0 {
        return Err(Errno::EFAULT);
    }
    page.truncate(got);
    let end = page.iter().position(|byte| *byte == 0).unwrap_or(got);
    page.truncate(end);
    Ok(page)
}

async fn sys_mount(task: &Rc<Task>, args: Args) -> SysResult {
    let kind = text_arg(task, args.addr(2)).await?;
    let source = text_arg(task, args.addr(0)).await?;
    let options = options_arg(task, args.addr(4)).await?;
    let mut flags = args.raw(3);
    if flags & ms::MGC == ms::MGC_VAL {
        flags &= !ms::MGC;
    }
    let path = PathArg::read(task, AT_FDCWD, args.addr(1)).await?;
    let caller = Caller::new(task);
    let place = caller.vfs.lookup(caller.who(), path.at(), LastLink::Follow)?;
    if flags & ms::NOUSER != 0 {
        return Err(Errno::EINVAL.into());
    }
    if !caller.creds.has_cap(Capability::SysAdmin) {
        return Err(Errno::EPERM.into());
    }
    let how = MountFlags {
        readonly: flags & ms::RDONLY != 0,
        nosuid: flags & ms::NOSUID != 0,
        nodev: flags & ms::NODEV != 0,
        noexec: flags & ms::NOEXEC != 0,
    };
    let propagation = flags & (ms::SHARED | ms::PRIVATE | ms::SLAVE | ms::UNBINDABLE);
    if flags & ms::REMOUNT != 0 {
        caller.vfs.remount(&place, how)?;
    } else if flags & ms::BIND != 0 {
        let source = source.filter(|text| !text.is_empty()).ok_or(Errno::EINVAL)?;
        let at = crate::fs::At { from: &caller.fs.cwd(), text: &source };
        let from = caller.vfs.lookup(caller.who(), at, LastLink::Follow)?;
        let depth = if flags & ms::REC != 0 { Depth::Recursive } else { Depth::Single };
        caller.vfs.bind_mount(place, &from, depth)?;
    } else if propagation != 0 {
        // DIVERGENCE(mount-propagation): mounts are private, and stay so.
        if propagation != ms::PRIVATE || !place.is_mount_root() {
            return Err(Errno::EINVAL.into());
        }
    } else if flags & ms::MOVE != 0 {
        return Err(Errno::EINVAL.into());
    } else {
        let kind = kind.ok_or(Errno::EINVAL)?;
        let source = source.unwrap_or_else(|| b"none".to_vec());
        caller.vfs.mount_new(place, &kind, &source, &options, how)?;
    }
    Ok(0)
}

async fn sys_umount2(task: &Rc<Task>, args: Args) -> SysResult {
    const MNT_FORCE: u32 = 1;
    const MNT_DETACH: u32 = 2;
    const UMOUNT_NOFOLLOW: u32 = 8;
    let flags = args.uint(1);
    if flags & !(MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let last = if flags & UMOUNT_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    let path = PathArg::read(task, AT_FDCWD, args.addr(0)).await?;
    let caller = Caller::new(task);
    let place = caller.vfs.lookup(caller.who(), path.at(), last)?;
    // What the path was relative to may be in the mount.
    drop(path);
    if !caller.creds.has_cap(Capability::SysAdmin) {
        return Err(Errno::EPERM.into());
    }
    let mode = if flags & MNT_DETACH != 0 { Unmount::Detach } else { Unmount::IfIdle };
    caller.vfs.unmount(place, mode)?;
    Ok(0)
}
