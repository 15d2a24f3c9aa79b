//! Wait queues: how a task sleeps until something happens, a signal comes, or time runs out.
//!
//! [`WaitQueue`] is a handle (clone it freely; `Send + Sync`, so that an inode can hold one) on a
//! FIFO of sleepers. A task that waits for one queue calls [`WaitQueue::wait_interruptible`]; one
//! that waits for several, or with a timeout, fills a [`WaitSet`] (`poll`, `select`, `epoll_wait`).
//!
//! There is one host thread and a task gives up the processor only at an `.await` that really
//! suspends. So "test the condition, then wait" loses no wake-up as long as nothing suspends in
//! between:
//!
//! ```text
//! loop {
//!     if let Some(result) = try_it() { return result; }
//!     queue.wait_interruptible(task).await?;      // registers and suspends in one step
//! }
//! ```
//!
//! Neighbours: [`crate::sched`] runs who was woken; [`crate::time::timers`] ends waits by time.

use crate::sched::SysError;
use crate::sched::ready::TaskWaker;
use crate::task::Task;
use crate::time::{Nanos, TimerId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;

/// A wait ended because a signal is pending (or the task is being killed).
///
/// Becomes `ERESTARTSYS` through `?` in a system call: the call restarts or answers EINTR as
/// `SA_RESTART` says. Map it yourself where Linux always answers EINTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interrupted;

impl From<Interrupted> for SysError {
    fn from(_: Interrupted) -> Self {
        Self::RESTART_SYS
    }
}

/// What ended a [`WaitSet::wait`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    /// A queue of the set was woken.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal that this sleep reacts to is pending.
    Interrupted,
}

/// Which signals end a sleep (Linux task states).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sleep {
    /// `TASK_INTERRUPTIBLE`: any deliverable signal.
    Interruptible,
    /// `TASK_KILLABLE`: only a signal that kills.
    Killable,
    /// `TASK_IDLE`: none.
    Idle,
}

/// One sleep of one task; shared by all queues it stands in.
struct Waiter {
    task: Arc<TaskWaker>,
    woken: AtomicBool,
}

#[derive(Default)]
struct Queue {
    /// By ticket: order of arrival.
    sleepers: BTreeMap<u64, Arc<Waiter>>,
    next_ticket: u64,
    /// Wake-ups so far.
    sequence: u64,
}

/// A FIFO of tasks waiting for one thing.
#[derive(Clone, Default)]
pub(crate) struct WaitQueue(Arc<Mutex<Queue>>);

impl WaitQueue {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Wakes every sleeper (Linux `wake_up_all`), in order of arrival.
    pub(crate) fn wake_all(&self) {
        let mut queue = self.0.lock();
        queue.sequence += 1;
        for waiter in std::mem::take(&mut queue.sleepers).into_values() {
            waiter.woken.store(true, Ordering::Relaxed);
            waiter.task.wake();
        }
    }

    /// How many times this queue was woken; who polls compares it (EPOLLET).
    pub(crate) fn sequence(&self) -> u64 {
        self.0.lock().sequence
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().sleepers.is_empty()
    }

    fn join(&self, sleeper: Arc<Waiter>) -> Place {
        let mut queue = self.0.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.sleepers.insert(ticket, sleeper);
        Place { queue: Arc::downgrade(&self.0), ticket }
    }

    /// Sleeps until this queue is woken.
    ///
    /// # Errors
    /// [`Interrupted`] when a signal is pending, at once if it already is.
    pub(crate) async fn wait_interruptible(&self, task: &Rc<Task>) -> Result<(), Interrupted> {
        let mut set = WaitSet::new(task);
        set.add(self);
        match set.wait(Sleep::Interruptible, None).await {
            Wake::Interrupted => Err(Interrupted),
            Wake::Woken | Wake::TimedOut => Ok(()),
        }
    }
}

/// A place in a queue; left when dropped.
struct Place {
    queue: Weak<Mutex<Queue>>,
    ticket: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.lock().sleepers.remove(&self.ticket);
        }
    }
}

/// One task waiting in any number of queues, possibly with a deadline (Linux `poll_wqueues`).
pub(crate) struct WaitSet {
    task: Rc<Task>,
    waiter: Arc<Waiter>,
    places: Vec<Place>,
    timer: Option<(Nanos, TimerId)>,
}

impl WaitSet {
    /// An empty set for `task`.
    pub(crate) fn new(task: &Rc<Task>) -> Self {
        let waiter =
            Arc::new(Waiter { task: Arc::clone(task.waker()), woken: AtomicBool::new(false) });
        Self { task: Rc::clone(task), waiter, places: Vec::new(), timer: None }
    }

    /// Joins `queue`; each wake-up of it from now on ends the wait, even one before `wait`.
    pub(crate) fn add(&mut self, queue: &WaitQueue) {
        self.places.push(queue.join(Arc::clone(&self.waiter)));
    }

    /// Whether a queue was woken since the set was made or reset.
    pub(crate) fn is_woken(&self) -> bool {
        self.waiter.woken.load(Ordering::Relaxed)
    }

    /// Sleeps until a queue is woken, `deadline` (monotonic time) passes, or a signal comes.
    ///
    /// A wake-up wins over a signal, a signal over the deadline. With no queue in the set this
    /// is a plain sleep.
    pub(crate) async fn wait(&mut self, sleep: Sleep, deadline: Option<Nanos>) -> Wake {
        self.wait_until(sleep, deadline, || false).await
    }

    /// As [`wait`](Self::wait), and ends as woken also when `condition` holds; whoever makes it
    /// hold wakes the task.
    pub(crate) async fn wait_until(
        &mut self,
        sleep: Sleep,
        deadline: Option<Nanos>,
        condition: impl Fn() -> bool,
    ) -> Wake {
        let end = poll_fn(|_| {
            if self.is_woken() || condition() {
                return Poll::Ready(Wake::Woken);
            }
            let interrupted = match sleep {
                Sleep::Interruptible => self.task.signal_pending(),
                Sleep::Killable => self.task.fatal_signal_pending(),
                Sleep::Idle => false,
            };
            if interrupted {
                return Poll::Ready(Wake::Interrupted);
            }
            if let Some(deadline) = deadline {
                if self.task.kernel().now() >= deadline {
                    return Poll::Ready(Wake::TimedOut);
                }
                self.arm(deadline);
            }
            self.task.set_sleep(Some(sleep));
            Poll::Pending
        })
        .await;
        self.task.set_sleep(None);
        end
    }

    fn arm(&mut self, deadline: Nanos) {
        if self.timer.as_ref().is_some_and(|(at, _)| *at == deadline) {
            return;
        }
        self.disarm();
        let waker = Arc::clone(self.task.waker());
        let timer = self.task.kernel().timers().start(deadline, Box::new(move |_| waker.wake()));
        self.timer = Some((deadline, timer));
    }

    fn disarm(&mut self) {
        if let Some((_, timer)) = self.timer.take() {
            self.task.kernel().timers().cancel(timer);
        }
    }
}

impl Drop for WaitSet {
    fn drop(&mut self) {
        self.disarm();
    }
}
