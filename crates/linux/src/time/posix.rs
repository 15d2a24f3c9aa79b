//! POSIX timers of a process (Linux kernel/time/posix-timers.c, posix-cpu-timers.c).
//!
//! A [`PosixTimer`] has at most one signal on its way. When the signal is taken the periods that
//! passed meanwhile become its overrun count, and a periodic timer is started again. Timers on CPU
//! clocks are looked at whenever a thread of the process goes back to user mode, the others are
//! started in [`crate::time::Timers`]. Neighbours: `syscall/posix_timers.rs` holds the calls.

use crate::kernel::Kernel;
use crate::signal::info::{Payload, SigInfo, code};
use crate::signal::{SigSet, Signal};
use crate::syscall::time::ClockId;
use crate::task::{Task, ThreadGroup};
use crate::time::{Nanos, TimerId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

/// `TICK_NSEC`: a timer whose signal is ignored fires no more often.
const TICK: Nanos = 4_000_000;

/// What happens at expiry (`struct sigevent`).
#[derive(Clone)]
pub(crate) enum Notify {
    /// `SIGEV_NONE`
    Nothing,
    /// `SIGEV_SIGNAL`, to the process.
    Process(Signal, u64),
    /// `SIGEV_THREAD_ID`, to one thread.
    Thread(Weak<Task>, Signal, u64),
}

/// One timer.
pub(crate) struct PosixTimer {
    id: i32,
    clock: ClockId,
    /// Whose CPU time the clock shows; `None` for real clocks.
    cpu: Option<CpuClock>,
    notify: Notify,
    /// When it expires next, in the time of [`PosixTimer::now`].
    next: Cell<Option<Nanos>>,
    interval: Cell<Nanos>,
    /// Its signal was sent and not taken.
    signal_sent: Cell<bool>,
    /// Of the signal taken last.
    overrun: Cell<i32>,
    started: Cell<Option<TimerId>>,
}

/// CPU time of a process or a thread.
#[derive(Clone)]
pub(crate) enum CpuClock {
    /// All threads of the process, user and system time.
    Process(Weak<ThreadGroup>),
    /// One thread.
    Thread(Weak<Task>),
}

impl CpuClock {
    /// The time it shows; what has ended shows no time any more.
    pub(crate) fn read(&self) -> Option<Nanos> {
        match self {
            Self::Process(group) => group.upgrade().map(|group| group.cpu_time()),
            Self::Thread(task) => task.upgrade().map(|task| task.cpu_time()),
        }
    }

    /// The process whose threads make it go.
    pub(crate) fn group(&self) -> Option<Rc<ThreadGroup>> {
        match self {
            Self::Process(group) => group.upgrade(),
            Self::Thread(task) => task.upgrade().map(|task| Rc::clone(task.group())),
        }
    }
}

/// Timers of one process, by id.
#[derive(Default)]
pub(crate) struct PosixTimers {
    timers: RefCell<BTreeMap<i32, Rc<PosixTimer>>>,
    next_id: Cell<i32>,
}

impl PosixTimers {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.timers.borrow().len()
    }

    /// A new timer, stopped; `notify` gets its id.
    pub(crate) fn create(
        &self,
        clock: ClockId,
        cpu: Option<CpuClock>,
        notify: impl FnOnce(i32) -> Notify,
    ) -> Rc<PosixTimer> {
        let mut timers = self.timers.borrow_mut();
        let mut id = self.next_id.get();
        while timers.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(0);
        }
        self.next_id.set(id.checked_add(1).unwrap_or(0));
        let timer = Rc::new(PosixTimer {
            id,
            clock,
            cpu,
            notify: notify(id),
            next: Cell::new(None),
            interval: Cell::new(0),
            signal_sent: Cell::new(false),
            overrun: Cell::new(0),
            started: Cell::new(None),
        });
        timers.insert(id, Rc::clone(&timer));
        timer
    }

    /// The timer with this id.
    pub(crate) fn get(&self, id: i32) -> Option<Rc<PosixTimer>> {
        self.timers.borrow().get(&id).cloned()
    }

    fn all(&self) -> Vec<Rc<PosixTimer>> {
        self.timers.borrow().values().cloned().collect()
    }
}

impl PosixTimer {
    /// Its id.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// The clock it was made for.
    pub(crate) fn clock(&self) -> ClockId {
        self.clock
    }

    /// Expirations that the signal taken last stands for, beyond its own.
    pub(crate) fn overrun(&self) -> i32 {
        self.overrun.get()
    }

    /// The present moment as the timer counts: monotonic or CPU time.
    pub(crate) fn now(&self, kernel: &Kernel) -> Nanos {
        self.cpu.as_ref().map_or_else(|| kernel.now(), |cpu| cpu.read().unwrap_or(0))
    }

    /// Interval, and time to the next expiry (0: stopped).
    pub(crate) fn left(&self, kernel: &Kernel) -> (Nanos, Nanos) {
        let now = self.now(kernel);
        let interval = self.interval.get();
        let left = match self.next.get() {
            None => 0,
            Some(next) if next > now => next - now,
            // Its signal is on the way, or nobody is told: the period it would be in.
            Some(next) if interval > 0 => interval - (now - next) % interval,
            Some(_) if matches!(self.notify, Notify::Nothing) => 0,
            // Due, not fired yet; 0 would mean stopped.
            Some(_) => 1,
        };
        (interval, left)
    }

    /// Starts it anew: at `next`, then every `interval` (0: once); `None` stops it.
    pub(crate) fn set(
        self: &Rc<Self>,
        kernel: &Kernel,
        group: &Rc<ThreadGroup>,
        next: Option<Nanos>,
        interval: Nanos,
    ) {
        self.stop(kernel, group);
        self.interval.set(interval);
        self.next.set(next);
        self.overrun.set(0);
        self.start(kernel, group);
    }

    /// Stops it; a signal on its way is taken back.
    fn stop(&self, kernel: &Kernel, group: &ThreadGroup) {
        if let Some(started) = self.started.take() {
            kernel.timers().cancel(started);
        }
        self.next.set(None);
        if self.signal_sent.take() {
            group.pending.remove_timer(self.id);
            for thread in group.living() {
                thread.signals.pending.remove_timer(self.id);
            }
        }
    }

    fn start(self: &Rc<Self>, kernel: &Kernel, group: &Rc<ThreadGroup>) {
        let Some(next) = self.next.get() else { return };
        if matches!(self.notify, Notify::Nothing) {
            return;
        }
        if let Some(cpu) = &self.cpu {
            if let Some(watched) = cpu.group() {
                watched.watch_cpu_time(group);
            }
            return;
        }
        let (timer, group) = (Rc::downgrade(self), Rc::downgrade(group));
        let fire = Box::new(move |kernel: &Kernel| {
            if let (Some(timer), Some(group)) = (timer.upgrade(), group.upgrade()) {
                timer.started.set(None);
                timer.fire(kernel, &group);
            }
        });
        self.started.set(Some(kernel.timers().start(next, fire)));
    }

    fn fire(self: &Rc<Self>, kernel: &Kernel, group: &Rc<ThreadGroup>) {
        let info = |signal, value| {
            let payload = Payload::Timer { id: self.id, overrun: 0, value };
            SigInfo { signal, code: code::SI_TIMER, payload }
        };
        // A timer's signal has its place in the queue from the start, so it is never refused.
        let sent = match &self.notify {
            Notify::Nothing => return,
            Notify::Process(signal, value) => group.send_timer(info(*signal, *value)),
            Notify::Thread(thread, signal, value) => match thread.upgrade() {
                Some(thread) if group.has_thread(&thread) => {
                    thread.send_timer(info(*signal, *value))
                }
                _ => false,
            },
        };
        if sent {
            self.signal_sent.set(true);
            if self.interval.get() == 0 {
                self.next.set(None);
            }
        } else if self.interval.get() > 0 {
            // Ignored: it goes on, in case the signal is wanted later.
            self.forward(kernel, TICK);
            self.start(kernel, group);
        } else {
            self.next.set(None);
        }
    }

    /// Moves the next expiry past the present; answers how many periods that was.
    fn forward(&self, kernel: &Kernel, least: Nanos) -> u64 {
        let (Some(next), interval) = (self.next.get(), self.interval.get()) else { return 0 };
        let now = self.now(kernel).saturating_add(least);
        if interval == 0 || now < next {
            return 0;
        }
        let periods = (now - next) / interval + 1;
        self.next.set(Some(next.saturating_add(periods.saturating_mul(interval))));
        periods
    }

    /// Its signal was taken: answers the overrun count, and goes on when periodic.
    fn delivered(self: &Rc<Self>, kernel: &Kernel, group: &Rc<ThreadGroup>) -> i32 {
        self.signal_sent.set(false);
        let periods = self.forward(kernel, 0);
        // The first period is the signal itself.
        let overrun = i32::try_from(periods.saturating_sub(1)).unwrap_or(i32::MAX);
        self.overrun.set(overrun);
        if self.interval.get() > 0 {
            self.start(kernel, group);
        }
        overrun
    }
}

impl ThreadGroup {
    /// Forgets a timer; answers whether there was one.
    pub(crate) fn delete_timer(&self, kernel: &Kernel, id: i32) -> bool {
        let timer = self.posix_timers.timers.borrow_mut().remove(&id);
        if let Some(timer) = &timer {
            timer.stop(kernel, self);
        }
        timer.is_some()
    }

    /// Forgets all timers: exec, exit.
    pub(crate) fn delete_timers(&self, kernel: &Kernel) {
        for timer in self.posix_timers.all() {
            self.delete_timer(kernel, timer.id);
        }
    }

    /// CPU time of this process passed, and timers of others (mostly its own) may go by it.
    pub(crate) fn check_posix_cpu_timers(self: &Rc<Self>, kernel: &Kernel) {
        for timer in self.posix_timers.all() {
            let due = timer.cpu.is_some()
                && !timer.signal_sent.get()
                && timer.next.get().is_some_and(|next| timer.now(kernel) >= next);
            if due {
                timer.fire(kernel, self);
            }
        }
    }

    /// Whether a timer that goes by CPU time is running.
    pub(crate) fn has_posix_cpu_timer(&self) -> bool {
        let timers = self.posix_timers.timers.borrow();
        timers.values().any(|timer| timer.cpu.is_some() && timer.next.get().is_some())
    }
}

impl Task {
    /// Takes the next signal that is not in `blocked`: the thread's own before the process's,
    /// faults before all. A timer's signal gets its overrun count now.
    pub(crate) fn dequeue_signal(&self, blocked: SigSet) -> Option<SigInfo> {
        let group = self.group();
        let own = self.signals.pending.take(blocked);
        let mut info = own.or_else(|| group.pending.take(blocked))?;
        if let Payload::Timer { id, overrun, .. } = &mut info.payload
            && let Some(timer) = group.posix_timers.get(*id)
        {
            *overrun = timer.delivered(self.kernel(), group);
        }
        Some(info)
    }
}
