//! Signals that were sent and not yet taken (Linux `struct sigpending`).

use crate::signal::info::{Payload, SigInfo};
use crate::signal::{SigSet, Signal};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Pending signals of a thread, or those of a process that any of its threads may take.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    set: Cell<SigSet>,
    queue: RefCell<VecDeque<SigInfo>>,
}

impl Pending {
    /// The signals that are pending.
    pub(crate) fn set(&self) -> SigSet {
        self.set.get()
    }

    /// Queued instances.
    pub(crate) fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Adds a signal. A standard signal that is pending already is dropped.
    pub(crate) fn push(&self, info: SigInfo) {
        if self.set.get().contains(info.signal) && !info.signal.is_realtime() {
            return;
        }
        self.set.set(self.set.get().with(info.signal));
        self.queue.borrow_mut().push_back(info);
    }

    /// Marks `signal` pending without an instance of its own: thread group exit.
    pub(crate) fn mark(&self, signal: Signal) {
        self.set.set(self.set.get().with(signal));
    }

    /// Takes the signal that comes first among those not in `blocked`: synchronous ones, then by
    /// number, then in order of sending (Linux `next_signal`, `collect_signal`).
    pub(crate) fn take(&self, blocked: SigSet) -> Option<SigInfo> {
        let ready = self.set.get().minus(blocked);
        let signal = ready.intersection(Signal::SYNCHRONOUS).first().or(ready.first())?;
        Some(self.take_one(signal))
    }

    fn take_one(&self, signal: Signal) -> SigInfo {
        let mut queue = self.queue.borrow_mut();
        let info = queue
            .iter()
            .position(|info| info.signal == signal)
            .and_then(|at| queue.remove(at))
            // Marked only: as a signal whose siginfo could not be queued.
            .unwrap_or(SigInfo { code: 0, ..SigInfo::kernel(signal) });
        if !queue.iter().any(|other| other.signal == signal) {
            self.set.set(self.set.get().without(signal));
        }
        info
    }

    /// Drops the signal of the timer with this id.
    pub(crate) fn remove_timer(&self, timer: i32) {
        let of_timer =
            |info: &SigInfo| matches!(info.payload, Payload::Timer { id, .. } if id == timer);
        let mut queue = self.queue.borrow_mut();
        let Some(at) = queue.iter().position(of_timer) else { return };
        let Some(gone) = queue.remove(at) else { return };
        if !queue.iter().any(|other| other.signal == gone.signal) {
            self.set.set(self.set.get().without(gone.signal));
        }
    }

    /// Drops all instances of the signals in `which` (Linux `flush_sigqueue_mask`).
    pub(crate) fn remove(&self, which: SigSet) {
        if !self.set.get().intersection(which).is_empty() {
            self.set.set(self.set.get().minus(which));
            self.queue.borrow_mut().retain(|info| !which.contains(info.signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rt(n: i32, pid: u32) -> SigInfo {
        let payload = Payload::Sender { pid, uid: 0 };
        SigInfo { signal: Signal::new(n).expect("valid"), code: -1, payload }
    }

    #[test]
    fn standard_signals_merge_and_real_time_signals_queue_in_order() {
        let pending = Pending::default();
        for pid in 1..=2 {
            pending.push(rt(10, pid));
            pending.push(rt(40, pid));
        }
        assert_eq!(pending.len(), 3);
        assert_eq!(pending.take(SigSet::EMPTY), Some(rt(10, 1)));
        assert_eq!(pending.take(SigSet::EMPTY), Some(rt(40, 1)));
        assert!(pending.set().contains(Signal::new(40).expect("valid")));
        assert_eq!(pending.take(SigSet::EMPTY), Some(rt(40, 2)));
        assert_eq!(pending.take(SigSet::EMPTY), None);
        assert!(pending.set().is_empty());
    }

    #[test]
    fn faults_come_before_lower_numbers_and_blocked_signals_stay() {
        let pending = Pending::default();
        pending.push(rt(1, 1));
        pending.push(rt(11, 1));
        assert_eq!(pending.take(SigSet::EMPTY), Some(rt(11, 1)));
        assert_eq!(pending.take(SigSet::of(&[Signal::SIGHUP])), None);
        pending.remove(SigSet::ALL);
        assert_eq!(pending.take(SigSet::EMPTY), None);
    }
}
