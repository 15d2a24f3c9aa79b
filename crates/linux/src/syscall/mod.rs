//! System calls: the table, what a call answers, and the call itself.
//!
//! A call is an [`Entry`]: number, name, how much of it there is ([`Support`]), and its handler.
//! Each module below owns a `TABLE` of the calls it implements; [`table`] merges them. A handler
//! gets the calling task and raw [`Args`]; everything in them is untrusted.
//!
//! Neighbours: [`crate::task::run`] makes the call on an `ecall`; `syscall/fs` holds all calls on
//! descriptors and paths.

pub(crate) mod fs;
pub(crate) mod futex;
pub(crate) mod ids;
pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod pidfd;
pub(crate) mod posix_timers;
pub(crate) mod process;
pub(crate) mod sched;
pub(crate) mod shm;
pub(crate) mod signal;
pub(crate) mod system;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod unshare;

use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

pub(crate) use crate::sched::SysError;

/// Number of `rt_sigreturn`, which sets all registers.
pub(crate) const RT_SIGRETURN: u64 = 139;
/// Numbers of `execve` and `execveat`: when they succeed nobody is there to get an answer.
pub(crate) const EXECS: [u64; 2] = [221, 281];

/// What a system call answers.
pub(crate) type SysResult = Result<u64, SysError>;

/// A handler's future.
pub(crate) type SysFuture<'a> = Pin<Box<dyn Future<Output = SysResult> + 'a>>;

/// The six argument registers as the guest left them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Args(pub(crate) [u64; 6]);

impl Args {
    /// All 64 bits of argument `i`.
    pub(crate) fn raw(&self, i: usize) -> u64 {
        self.0[i]
    }

    /// Argument `i` as a user address.
    pub(crate) fn addr(&self, i: usize) -> VirtAddr {
        VirtAddr::new(self.0[i])
    }

    /// Argument `i` as a C `int`: the upper half does not count.
    pub(crate) fn int(&self, i: usize) -> i32 {
        self.0[i] as i32
    }

    /// Argument `i` as a C `unsigned int`.
    pub(crate) fn uint(&self, i: usize) -> u32 {
        self.0[i] as u32
    }

    /// Argument `i` as a C `long`.
    pub(crate) fn long(&self, i: usize) -> i64 {
        self.0[i] as i64
    }
}

/// How much of a call there is; printed in the docs and in the run's summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// Everything programs can ask of it.
    Full,
    /// Some flags or commands answer "not supported"; says which.
    Partial(&'static str),
    /// Known and deliberately answered as a kernel without it does; says why.
    Absent(&'static str),
}

/// The code behind a call.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Never waits and touches no user memory.
    Now(fn(&Rc<Task>, Args) -> SysResult),
    /// May wait.
    Waits(for<'a> fn(&'a Rc<Task>, Args) -> SysFuture<'a>),
}

/// One system call.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// Number in a7.
    pub(crate) number: u16,
    /// Linux's name.
    pub(crate) name: &'static str,
    /// How much of it there is.
    pub(crate) support: Support,
    /// The code.
    pub(crate) handler: Handler,
}

/// An [`Entry`] whose handler is `fn(&Rc<Task>, Args) -> SysResult`.
pub(crate) const fn now(
    number: u16,
    name: &'static str,
    support: Support,
    handler: fn(&Rc<Task>, Args) -> SysResult,
) -> Entry {
    Entry { number, name, support, handler: Handler::Now(handler) }
}

/// An [`Entry`] whose handler is an `async fn(&Rc<Task>, Args) -> SysResult`:
/// `waits!(63, "read", Support::Full, sys_read)`.
macro_rules! waits {
    ($number:expr, $name:expr, $support:expr, $handler:expr) => {
        $crate::syscall::Entry {
            number: $number,
            name: $name,
            support: $support,
            handler: $crate::syscall::Handler::Waits(|task, args| Box::pin($handler(task, args))),
        }
    };
}
pub(crate) use waits;

/// Makes system call `number` for `task`. Counting is the caller's.
pub(crate) async fn dispatch(task: &Rc<Task>, number: u64, args: Args) -> SysResult {
    match table::lookup(number) {
        Some(entry) => match entry.handler {
            Handler::Now(handler) => handler(task, args),
            Handler::Waits(handler) => handler(task, args).await,
        },
        None => Err(Errno::ENOSYS.into()),
    }
}
