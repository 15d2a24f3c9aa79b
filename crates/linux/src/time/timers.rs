//! Things to do at a moment of virtual time, in order of moment, then of request.
//!
//! [`Timers`] holds them; the scheduler calls [`Timers::pop_due`] whenever the clock moved, and
//! jumps to [`Timers::next`] when no task can run.

use crate::kernel::Kernel;
use crate::time::Nanos;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// What happens when the moment has come.
pub(crate) type Action = Box<dyn FnOnce(&Kernel)>;

/// Names a started timer; cancelling one that has fired does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerId {
    at: Nanos,
    sequence: u64,
}

/// All pending timers of the machine.
#[derive(Default)]
pub(crate) struct Timers {
    pending: RefCell<BTreeMap<(Nanos, u64), Action>>,
    next_sequence: Cell<u64>,
}

impl Timers {
    /// Calls `action` at `at`, or as soon as the clock is looked at when that is past.
    pub(crate) fn start(&self, at: Nanos, action: Action) -> TimerId {
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence + 1);
        self.pending.borrow_mut().insert((at, sequence), action);
        TimerId { at, sequence }
    }

    /// Forgets a timer.
    pub(crate) fn cancel(&self, timer: TimerId) {
        let action = self.pending.borrow_mut().remove(&(timer.at, timer.sequence));
        // Dropped outside the borrow: what it captured may cancel timers of its own.
        drop(action);
    }

    /// When the next timer fires.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.pending.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out the first timer that is due at `now`.
    pub(crate) fn pop_due(&self, now: Nanos) -> Option<Action> {
        let mut pending = self.pending.borrow_mut();
        let first = pending.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Forgets all timers (the machine ends).
    pub(crate) fn clear(&self) {
        let pending = self.pending.take();
        drop(pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_of_moment_then_request_and_only_when_due() {
        let timers = Timers::default();
        let late = timers.start(20, Box::new(|_| ()));
        timers.start(10, Box::new(|_| ()));
        let second = timers.start(10, Box::new(|_| ()));
        assert_eq!(timers.next(), Some(10));
        assert!(timers.pop_due(9).is_none());
        assert!(timers.pop_due(10).is_some());
        timers.cancel(second);
        timers.cancel(second);
        assert!(timers.pop_due(19).is_none());
        assert_eq!(timers.next(), Some(late.at));
        assert!(timers.pop_due(25).is_some());
        assert_eq!(timers.next(), None);
    }
}
