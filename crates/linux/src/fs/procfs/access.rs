//! Who may look into another process (Linux 6.18 kernel/ptrace.c: `__ptrace_may_access`).
//!
//! [`may_inspect`] guards what procfs shows of a process's memory and files, and the calls that
//! read and write it. Neighbours: [`crate::syscall::memory`], [`super`].

use crate::task::{Capability, Task};
use std::rc::Rc;

/// A process that its own user may look into (`PR_SET_DUMPABLE` 1).
pub(super) const SUID_DUMP_USER: u32 = 1;

/// Whose ids count on the side of who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ids {
    /// Those for files, as opening a file of `/proc` goes by (`PTRACE_MODE_FSCREDS`).
    FileSystem,
    /// The real ones, as system calls go by (`PTRACE_MODE_REALCREDS`).
    Real,
}

/// Whether `caller` may look into `target`: itself, a dumpable process wholly of the same user
/// and group, or with `CAP_SYS_PTRACE` any.
pub(crate) fn may_inspect(caller: &Task, target: &Task, ids: Ids) -> bool {
    if Rc::ptr_eq(caller.group(), target.group()) {
        return true;
    }
    let (own, other) = (caller.creds(), target.creds());
    let (uid, gid) = match ids {
        Ids::FileSystem => (own.fsuid, own.fsgid),
        Ids::Real => (own.uid, own.gid),
    };
    let same = [other.uid, other.euid, other.suid].iter().all(|id| *id == uid)
        && [other.gid, other.egid, other.sgid].iter().all(|id| *id == gid);
    let dumpable = target.group().dumpable.get() == SUID_DUMP_USER;
    same && dumpable || own.has_cap(Capability::SysPtrace)
}
