//! userfaultfd, and the ioctls on what it and `/dev/userfaultfd` give.

use super::install;
use crate::fs::{Monitor, MonitorDevice, OpenFile, OpenFlags};
use crate::syscall::{Args, Entry, Support, SysResult, now};
use crate::task::{Capability, Task};
use kilburn_addr::Errno;
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[now(
    282,
    "userfaultfd",
    Support::Partial("missing and minor faults, poison, move; no events, no write protection"),
    sys_userfaultfd,
)];

/// `UFFD_USER_MODE_ONLY`
const USER_MODE_ONLY: u32 = 1;
/// `USERFAULTFD_IOC_NEW`
const IOC_NEW: u32 = 0xaa00;

fn sys_userfaultfd(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = args.uint(0);
    let allowed = flags & USER_MODE_ONLY != 0
        || task.kernel().userfaults.unprivileged.get()
        || task.creds().has_cap(Capability::SysPtrace);
    if allowed { new_monitor(task, flags) } else { Err(Errno::EPERM.into()) }
}

fn new_monitor(task: &Rc<Task>, flags: u32) -> SysResult {
    let mm = task.mm().ok_or(Errno::EINVAL)?;
    let kernel = task.kernel();
    let monitor = Monitor::new(&mm, flags, &kernel.userfaults.woken)?;
    let flags = OpenFlags::from_bits_truncate(flags);
    let open = OpenFlags::RDWR | flags & OpenFlags::NONBLOCK;
    let file = kernel.vfs().anonymous("[userfaultfd]", Box::new(monitor), open);
    Ok(install(task, file, flags & OpenFlags::CLOEXEC)?)
}

/// An ioctl on a userfaultfd or its device; `None` for any other file.
pub(super) fn ioctl(task: &Rc<Task>, file: &OpenFile, args: Args) -> Option<SysResult> {
    if file.ops_as::<MonitorDevice>().is_some() {
        return Some(match args.uint(1) {
            IOC_NEW => new_monitor(task, args.uint(2)),
            _ => Err(Errno::EINVAL.into()),
        });
    }
    let monitor = file.ops_as::<Monitor>()?;
    let Some(mm) = task.mm() else { return Some(Err(Errno::EINVAL.into())) };
    let done = monitor.context().ioctl(&mm, &task.caller(), args.uint(1), args.addr(2));
    Some(done.map(|()| 0).map_err(Into::into))
}
