//! timerfd: a timer that is read.
//!
//! Source: Linux 6.18 fs/timerfd.c. Neighbours: [`crate::time::timers`] fires it.

use crate::fs::file::{FileOps, OpenFile, PollEvents};
use crate::kernel::Kernel;
use crate::sched::wait::WaitQueue;
use crate::time::{Nanos, TimerId};
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::Cell;
use std::rc::{Rc, Weak};

struct State {
    kernel: Weak<Kernel>,
    clock: i32,
    /// When it fires next, monotonic time.
    next: Cell<Option<Nanos>>,
    interval: Cell<Nanos>,
    /// Expirations not read yet.
    expired: Cell<u64>,
    timer: Cell<Option<TimerId>>,
    queue: WaitQueue,
}

/// A timer.
pub(crate) struct TimerFd(Rc<State>);

impl TimerFd {
    /// A timer that is not set; `clock` is the one absolute times mean.
    pub(crate) fn new(kernel: &Rc<Kernel>, clock: i32) -> Self {
        Self(Rc::new(State {
            kernel: Rc::downgrade(kernel),
            clock,
            next: Cell::new(None),
            interval: Cell::new(0),
            expired: Cell::new(0),
            timer: Cell::new(None),
            queue: WaitQueue::new(),
        }))
    }

    /// The clock it was made for.
    pub(crate) fn clock(&self) -> i32 {
        self.0.clock
    }

    /// Interval, and time to the next expiry (0: not set).
    pub(crate) fn left(&self, kernel: &Kernel) -> (Nanos, Nanos) {
        let left = self.0.next.get().map_or(0, |next| next.saturating_sub(kernel.now()).max(1));
        (self.0.interval.get(), left)
    }

    /// Fires at `next`, then every `interval` (0: once); `None` disarms it.
    pub(crate) fn set(&self, kernel: &Kernel, next: Option<Nanos>, interval: Nanos) {
        self.0.disarm(kernel);
        self.0.expired.set(0);
        self.0.interval.set(interval);
        self.0.next.set(next);
        State::arm(&self.0, kernel);
    }
}

impl State {
    fn disarm(&self, kernel: &Kernel) {
        if let Some(timer) = self.timer.take() {
            kernel.timers().cancel(timer);
        }
    }

    fn arm(this: &Rc<Self>, kernel: &Kernel) {
        let Some(next) = this.next.get() else { return };
        let state = Rc::downgrade(this);
        let fire = Box::new(move |kernel: &Kernel| {
            if let Some(state) = state.upgrade() {
                Self::fire(&state, kernel);
            }
        });
        this.timer.set(Some(kernel.timers().start(next, fire)));
    }

    fn fire(this: &Rc<Self>, kernel: &Kernel) {
        let interval = this.interval.get();
        let late = this.next.get().map_or(0, |next| kernel.now().saturating_sub(next));
        let periods = late.checked_div(interval).unwrap_or(0) + 1;
        this.expired.set(this.expired.get().saturating_add(periods));
        let next = this.next.get().filter(|_| interval > 0);
        this.next.set(next.map(|next| next.saturating_add(periods.saturating_mul(interval))));
        this.timer.set(None);
        Self::arm(this, kernel);
        this.queue.wake_all();
    }
}

impl FileOps for TimerFd {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if into.len() < 8 {
            return Err(Errno::EINVAL);
        }
        match self.0.expired.take() {
            0 => Err(Errno::EAGAIN),
            expired => {
                into[..8].copy_from_slice(&expired.to_le_bytes());
                Ok(8)
            }
        }
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        if self.0.expired.get() > 0 { PollEvents::IN } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.0.queue.clone())
    }

    fn release(&self, _file: &OpenFile) {
        if let Some(kernel) = self.0.kernel.upgrade() {
            self.0.disarm(&kernel);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
