//! Which task runs where and when.
//!
//! - [`executor`]: the loop. [`cpu`]: the harts and their clocks.
//! - [`ready`]: the FIFO of tasks that can run. [`wait`]: how tasks sleep.
//! - [`SysError`]: how a call ends other than with a value; it is here because waiting causes it.

pub(crate) mod cpu;
pub(crate) mod executor;
pub(crate) mod psi;
pub(crate) mod ready;
pub(crate) mod wait;

use kilburn_addr::Errno;

/// How a system call ends other than with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SysError {
    /// The guest sees this error.
    Errno(Errno),
    /// A signal interrupted the call; what the guest sees depends on the signal's handler.
    Restart(Restart),
}

/// What becomes of an interrupted call (Linux include/linux/errno.h, 512 to 516).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restart {
    /// `ERESTARTSYS`: again if no handler runs or it has `SA_RESTART`; else EINTR.
    Sys,
    /// `ERESTARTNOHAND`: again if no handler runs; else EINTR.
    NoHand,
    /// `ERESTARTNOINTR`: again whatever the handler says.
    NoIntr,
    /// `ERESTART_RESTARTBLOCK`: as `NoHand`, but resumed through `restart_syscall` with what the
    /// call left in `Task::set_restart`.
    Block,
}

impl SysError {
    /// `ERESTARTSYS`.
    pub(crate) const RESTART_SYS: Self = Self::Restart(Restart::Sys);
    /// `ERESTARTNOHAND`.
    pub(crate) const RESTART_NOHAND: Self = Self::Restart(Restart::NoHand);
}

impl From<Errno> for SysError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}
