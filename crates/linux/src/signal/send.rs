//! Sending signals: who gets one, what is dropped, who is woken (Linux kernel/signal.c:
//! `send_signal_locked`, `prepare_signal`, `complete_signal`, `force_sig_info_to_task`).

use crate::report::ExitStatus;
use crate::sched::wait::Sleep;
use crate::signal::action::{DefaultAction, SIG_DFL, SIG_IGN, SigAction};
use crate::signal::{SigInfo, SigSet, Signal};
use crate::task::group::StopState;
use crate::task::{Resource, Task, ThreadGroup};
use kilburn_addr::Errno;
use std::rc::Rc;

impl Task {
    /// Whether something waits that ends an interruptible sleep (Linux `signal_pending`).
    pub(crate) fn signal_pending(&self) -> bool {
        let group = self.group();
        let blocked = self.signals.blocked.get();
        let pending = self.signals.pending.set().union(group.pending.set());
        !pending.minus(blocked).is_empty()
            || !pending.intersection(self.signals.waiting_for.get()).is_empty()
            || self.exiting.get().is_some()
            || self.must_stop()
    }

    /// Signals waiting for this thread or its process, blocked ones included.
    pub(crate) fn all_pending(&self) -> SigSet {
        self.signals.pending.set().union(self.group().pending.set())
    }

    /// Whether a killing signal waits (Linux `fatal_signal_pending`).
    pub(crate) fn fatal_signal_pending(&self) -> bool {
        self.signals.pending.set().contains(Signal::SIGKILL) || self.exiting.get().is_some()
    }

    /// Whether its process is being stopped and this thread has not noticed yet.
    pub(crate) fn must_stop(&self) -> bool {
        matches!(self.group().stop.get(), StopState::Stopping(_) | StopState::Stopped(_))
    }

    /// Wakes the task if it sleeps in a way that a signal ends.
    pub(crate) fn signal_wake_up(&self) {
        match self.sleep.get() {
            Some(Sleep::Interruptible) => self.waker().wake(),
            Some(Sleep::Killable) if self.fatal_signal_pending() => self.waker().wake(),
            Some(Sleep::Killable | Sleep::Idle) | None => (),
        }
    }

    /// Sends `signal` to this thread as the kernel does (`SI_KERNEL`): SIGPIPE and the like.
    pub(crate) fn raise(&self, signal: Signal) {
        // Kernel signals ignore the queue limit, so this cannot fail.
        let _ = self.send(SigInfo::kernel(signal));
    }

    /// Sends a signal to this very thread (`tgkill`).
    ///
    /// # Errors
    /// EAGAIN when too many real-time signals are queued.
    pub(crate) fn send(&self, info: SigInfo) -> Result<(), Errno> {
        let group = self.group();
        if !group.prepare(self, info.signal) {
            return Ok(());
        }
        self.check_queue(&info)?;
        self.queue(info);
        Ok(())
    }

    fn queue(&self, info: SigInfo) {
        self.signals.pending.push(info);
        self.sighand().arrived.wake_all();
        if self.wants(info.signal) {
            self.group().complete(self, info.signal);
        }
    }

    /// Sends the signal of a POSIX timer; answers whether it was queued: an ignored one is not.
    pub(crate) fn send_timer(&self, info: SigInfo) -> bool {
        let queued = self.group().prepare(self, info.signal);
        if queued {
            self.queue(info);
        }
        queued
    }

    fn check_queue(&self, info: &SigInfo) -> Result<(), Errno> {
        let queued = self.signals.pending.len() + self.group().pending.len();
        let full = queued as u64 >= self.rlimit(Resource::Sigpending);
        let explicit = info.signal.is_realtime() && info.is_from_user() && info.code != 0;
        if full && explicit { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// Whether this thread would take `signal` now (Linux `wants_signal`).
    fn wants(&self, signal: Signal) -> bool {
        if self.exiting.get().is_some() {
            return false;
        }
        if signal == Signal::SIGKILL {
            return true;
        }
        // One that is stopped looks at its signals when it goes on.
        !matches!(self.group().stop.get(), StopState::Stopped(_))
            && (!self.signals.blocked.get().contains(signal)
                || self.signals.waiting_for.get().contains(signal))
    }

    /// A signal that must not be missed: a fault, or the kernel's own decision. A handler that is
    /// blocked or ignored is replaced by the default (Linux `force_sig_info_to_task`).
    pub(crate) fn force(&self, info: SigInfo) {
        let sighand = self.sighand();
        let action = sighand.get(info.signal);
        let blocked = self.signals.blocked.get().contains(info.signal);
        if blocked || action.handler == SIG_IGN {
            sighand.set(info.signal, SigAction { handler: SIG_DFL, ..action });
            self.signals.blocked.set(self.signals.blocked.get().without(info.signal));
        }
        if sighand.get(info.signal).handler == SIG_DFL {
            self.group().unkillable.set(false);
        }
        let _ = self.send(info);
    }

    /// A signal that kills, whatever is installed for it (Linux `force_fatal_sig`).
    pub(crate) fn force_fatal(&self, signal: Signal) {
        let sighand = self.sighand();
        sighand.set(signal, SigAction::default());
        self.signals.blocked.set(self.signals.blocked.get().without(signal));
        self.group().unkillable.set(false);
        let _ = self.send(SigInfo::kernel(signal));
    }
}

impl ThreadGroup {
    /// Sends a signal to the process: any thread may take it.
    ///
    /// # Errors
    /// EAGAIN when too many real-time signals are queued.
    pub(crate) fn send(&self, info: SigInfo) -> Result<(), Errno> {
        let Some(first) = self.first_thread() else {
            // A zombie: it exists, and nothing happens.
            return Ok(());
        };
        if !self.prepare(&first, info.signal) {
            return Ok(());
        }
        first.check_queue(&info)?;
        self.queue(&first, info);
        Ok(())
    }

    fn queue(&self, first: &Task, info: SigInfo) {
        self.pending.push(info);
        first.sighand().arrived.wake_all();
        let threads = self.living();
        if let Some(target) = threads.iter().find(|thread| thread.wants(info.signal)) {
            self.complete(target, info.signal);
        }
    }

    /// As [`Task::send_timer`], to the process.
    pub(crate) fn send_timer(&self, info: SigInfo) -> bool {
        let Some(first) = self.first_thread() else { return false };
        let queued = self.prepare(&first, info.signal);
        if queued {
            self.queue(&first, info);
        }
        queued
    }

    /// What sending does by itself: stop and continue signals cancel each other, SIGCONT resumes.
    /// Answers whether the signal is to be queued.
    fn prepare(&self, target: &Task, signal: Signal) -> bool {
        if self.group_exit.get().is_some() {
            return signal == Signal::SIGKILL;
        }
        // A kernel thread takes none (Linux `ignore_signals`).
        if self.kernel_thread.get().is_some() {
            return false;
        }
        if Signal::STOPS.contains(signal) {
            self.drop_pending(SigSet::of(&[Signal::SIGCONT]));
        } else if signal == Signal::SIGCONT {
            self.drop_pending(Signal::STOPS);
            self.resume();
        }
        !target.ignores(signal)
    }

    fn drop_pending(&self, which: SigSet) {
        self.pending.remove(which);
        for thread in self.threads.borrow().iter() {
            thread.signals.pending.remove(which);
        }
    }

    /// Finds who takes the signal; a killing one ends the whole group at once.
    fn complete(&self, target: &Task, signal: Signal) {
        let fatal = match target.sighand().get(signal).handler {
            SIG_DFL => signal.default_action() == DefaultAction::Terminate,
            _ => false,
        };
        let blocked = target.signals.blocked.get().contains(signal);
        let spared = self.unkillable.get() && signal != Signal::SIGKILL;
        // Who is traced is shown the signal first.
        let shown = target.kernel().tracer.is_some() && signal != Signal::SIGKILL;
        if fatal && !blocked && !spared && !shown {
            self.kill_all(ExitStatus::Killed(signal.number()));
            return;
        }
        target.signal_wake_up();
    }

    /// Ends every thread with `status` (Linux `zap_other_threads`, `SIGNAL_GROUP_EXIT`).
    pub(crate) fn kill_all(&self, status: ExitStatus) {
        if self.group_exit.get().is_none() {
            self.group_exit.set(Some(status));
        }
        self.stop.set(StopState::Running);
        for thread in self.threads.borrow().iter() {
            thread.signals.pending.mark(Signal::SIGKILL);
            thread.signal_wake_up();
        }
        self.resumed.wake_all();
    }
}

impl Task {
    /// Whether sending `signal` would have no effect at all (Linux `sig_ignored`). A blocked
    /// signal is kept: its action may change before it is unblocked.
    fn ignores(&self, signal: Signal) -> bool {
        if self.signals.blocked.get().contains(signal)
            || self.signals.waiting_for.get().contains(signal)
        {
            return false;
        }
        // Who is traced is shown signals it would not notice otherwise.
        if self.kernel().tracer.is_some() && signal != Signal::SIGKILL {
            return false;
        }
        let action = self.sighand().get(signal);
        if self.group().unkillable.get() && action.handler == SIG_DFL {
            return true;
        }
        signal != Signal::SIGKILL && signal != Signal::SIGSTOP && self.sighand().ignores(signal)
    }
}

/// Sends to every process in `groups`; answers the first error unless one succeeded.
pub(crate) fn send_to_all(groups: &[Rc<ThreadGroup>], info: SigInfo) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    for group in groups {
        let sent = group.send(info);
        if sent.is_ok() || result == Err(Errno::ESRCH) {
            result = sent;
        }
    }
    result
}
