//! Taking back what a task shares with others (Linux kernel/fork.c: `ksys_unshare`).

use crate::syscall::{Args, Entry, Support, SysResult, now};
use crate::task::clone::CloneFlags;
use crate::task::{Capability, Task};
use kilburn_addr::Errno;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] =
    &[now(97, "unshare", Support::Partial("no namespaces: EINVAL"), sys_unshare)];

fn sys_unshare(task: &Rc<Task>, args: Args) -> SysResult {
    let mut flags = CloneFlags::from_bits(args.raw(0)).ok_or(Errno::EINVAL)?;
    let mine = CloneFlags::FS | CloneFlags::FILES | CloneFlags::SYSVSEM;
    let shared = CloneFlags::THREAD | CloneFlags::VM | CloneFlags::SIGHAND;
    if !(mine | shared | CloneFlags::NAMESPACES).contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    if flags.intersects(CloneFlags::NAMESPACES - CloneFlags::NEWUSER) {
        task.require(Capability::SysAdmin)?;
    }
    if flags.intersects(CloneFlags::NAMESPACES) {
        // As clone: a kernel built without them.
        return Err(Errno::EINVAL.into());
    }
    // An address space or handlers shared with other threads cannot be taken back.
    if flags.intersects(shared) && task.group().threads.borrow().len() > 1 {
        return Err(Errno::EINVAL.into());
    }
    flags &= mine;
    if flags.contains(CloneFlags::FILES) {
        let own = task.files().fork_copy()?;
        task.replace_files(Some(own));
    }
    if flags.contains(CloneFlags::FS) {
        task.replace_fs(task.fs().fork_copy());
    }
    Ok(0)
}
