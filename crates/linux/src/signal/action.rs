//! What a process does on a signal: handlers, defaults (Linux `sighand_struct`).

use crate::sched::wait::WaitQueue;
use crate::signal::{SigSet, Signal};
use std::cell::RefCell;
use std::rc::Rc;

/// `SIG_DFL`
pub(crate) const SIG_DFL: u64 = 0;
/// `SIG_IGN`
pub(crate) const SIG_IGN: u64 = 1;

bitflags::bitflags! {
    /// `SA_*`
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct SaFlags: u64 {
        const NOCLDSTOP = 0x1;
        const NOCLDWAIT = 0x2;
        const SIGINFO = 0x4;
        const ONSTACK = 0x0800_0000;
        const RESTART = 0x1000_0000;
        const NODEFER = 0x4000_0000;
        const RESETHAND = 0x8000_0000;
        /// Flags without effect here are kept and given back, as Linux does for those it knows.
        const _ = 0x400 | 0x800;
    }
}

/// The action for one signal (`struct sigaction` of the kernel, without restorer on riscv).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SigAction {
    pub(crate) handler: u64,
    pub(crate) flags: SaFlags,
    pub(crate) mask: SigSet,
}

/// What happens when no handler is installed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DefaultAction {
    Ignore,
    Terminate,
    /// Terminate with a core dump.
    Core,
    Stop,
    Continue,
}

impl Signal {
    /// Signals no process can catch, block or ignore.
    pub(crate) const UNBLOCKABLE: SigSet = SigSet::of(&[Self::SIGKILL, Self::SIGSTOP]);
    /// Signals whose default is to stop the process.
    pub(crate) const STOPS: SigSet =
        SigSet::of(&[Self::SIGSTOP, Self::SIGTSTP, Self::SIGTTIN, Self::SIGTTOU]);
    /// Signals caused by an instruction; they are delivered before others.
    pub(crate) const SYNCHRONOUS: SigSet = SigSet::of(&[
        Self::SIGSEGV,
        Self::SIGBUS,
        Self::SIGILL,
        Self::SIGTRAP,
        Self::SIGFPE,
        Self::SIGSYS,
    ]);

    /// Linux include/linux/signal.h: `SIG_KERNEL_*_MASK`.
    pub(crate) fn default_action(self) -> DefaultAction {
        match self {
            Self::SIGCONT => DefaultAction::Continue,
            Self::SIGCHLD | Self::SIGWINCH | Self::SIGURG => DefaultAction::Ignore,
            Self::SIGSTOP | Self::SIGTSTP | Self::SIGTTIN | Self::SIGTTOU => DefaultAction::Stop,
            Self::SIGQUIT
            | Self::SIGILL
            | Self::SIGTRAP
            | Self::SIGABRT
            | Self::SIGFPE
            | Self::SIGSEGV
            | Self::SIGBUS
            | Self::SIGSYS
            | Self::SIGXCPU
            | Self::SIGXFSZ => DefaultAction::Core,
            _ => DefaultAction::Terminate,
        }
    }

    /// Whether the default is to do nothing (Linux `sig_kernel_ignore`).
    pub(crate) fn ignored_by_default(self) -> bool {
        matches!(self.default_action(), DefaultAction::Ignore | DefaultAction::Continue)
    }
}

/// The actions of a process, shared by its threads.
pub(crate) struct SigHand {
    /// Woken when a signal arrives, for who reads signals from files (Linux `signalfd_wqh`).
    pub(crate) arrived: WaitQueue,
    actions: RefCell<[SigAction; Signal::MAX as usize]>,
}

impl SigHand {
    /// All default.
    pub(crate) fn new() -> Rc<Self> {
        let actions = RefCell::new([SigAction::default(); Signal::MAX as usize]);
        Rc::new(Self { arrived: WaitQueue::new(), actions })
    }

    /// Every signal ignored: a kernel thread's (Linux `ignore_signals`).
    pub(crate) fn new_ignoring() -> Rc<Self> {
        let ignored = SigAction { handler: SIG_IGN, ..SigAction::default() };
        let actions = RefCell::new([ignored; Signal::MAX as usize]);
        Rc::new(Self { arrived: WaitQueue::new(), actions })
    }

    /// A copy of its own: fork.
    pub(crate) fn fork_copy(&self) -> Rc<Self> {
        Rc::new(Self { arrived: WaitQueue::new(), actions: self.actions.clone() })
    }

    /// What is done on `signal`.
    pub(crate) fn get(&self, signal: Signal) -> SigAction {
        self.actions.borrow()[usize::from(signal.number()) - 1]
    }

    /// Changes what is done on `signal`.
    pub(crate) fn set(&self, signal: Signal, action: SigAction) {
        self.actions.borrow_mut()[usize::from(signal.number()) - 1] = action;
    }

    /// Whether `signal` would be dropped: ignored, or ignored by default.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).handler {
            SIG_IGN => true,
            SIG_DFL => signal.ignored_by_default(),
            _ => false,
        }
    }

    /// Handlers go back to default, ignored signals stay ignored: exec
    /// (Linux `flush_signal_handlers`).
    pub(crate) fn reset_handlers(&self) {
        for action in self.actions.borrow_mut().iter_mut() {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = SigAction { handler, ..SigAction::default() };
        }
    }

    /// Signals ignored and signals caught, as /proc/PID/status shows them.
    pub(crate) fn ignored_and_caught(&self) -> (SigSet, SigSet) {
        let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
        for (i, action) in self.actions.borrow().iter().enumerate() {
            let signal = Signal::new(i as i32 + 1).expect("one of 64");
            match action.handler {
                SIG_IGN => ignored = ignored.with(signal),
                SIG_DFL => (),
                _ => caught = caught.with(signal),
            }
        }
        (ignored, caught)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_keeps_what_is_ignored_and_forgets_handlers() {
        let hand = SigHand::new();
        hand.set(Signal::SIGINT, SigAction { handler: SIG_IGN, ..SigAction::default() });
        hand.set(
            Signal::SIGUSR1,
            SigAction { handler: 0x1000, flags: SaFlags::RESTART, mask: SigSet::ALL },
        );
        hand.reset_handlers();
        assert_eq!(hand.get(Signal::SIGINT).handler, SIG_IGN);
        assert_eq!(hand.get(Signal::SIGUSR1), SigAction::default());
        assert!(hand.ignores(Signal::SIGCHLD) && !hand.ignores(Signal::SIGTERM));
    }
}
