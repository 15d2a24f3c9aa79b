//! Futexes: tasks that wait for a word of user memory to change (Linux kernel/futex).
//!
//! [`Futexes`] holds a queue of waiters for each word, named by what the memory manager says the
//! word is ([`FutexKey`]): private words by address space and address, shared ones by page. Tasks
//! with a real-time priority stand before the others, who come first come first served.
//!
//! [`pi`] holds the words that say who owns a lock (`FUTEX_LOCK_PI` and its like). Neighbours:
//! `crate::syscall::futex` holds the call, `crate::task::exit` the death of owners.

pub(crate) mod pi;
mod wake_op;

use crate::sched::SysError;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::task::Task;
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::{FutexKey, FutexScope};
use pi::PiState;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
pub(crate) use wake_op::WakeOp;

/// Matches every waiter.
pub(crate) const MATCH_ANY: u32 = u32::MAX;
/// Where everyone without a real-time priority stands (`MAX_RT_PRIO`).
const NO_PRIORITY: i32 = 100;

/// What a waiter waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// To be woken.
    Plain,
    /// To own the lock that the word is.
    Owner,
    /// To be moved to this lock, or to own it at once (`FUTEX_WAIT_REQUEUE_PI`).
    Requeue(FutexKey),
}

/// What became of a waiter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Waits,
    /// Woken; who waited to own a lock owns it, and the word says so.
    Woken,
    /// Owns the lock of somebody who died: the word does not say so yet.
    Inherits,
}

struct Waiter {
    task: Rc<Task>,
    bitset: u32,
    priority: i32,
    /// The word it waits for now; requeueing changes it.
    key: Cell<FutexKey>,
    role: Cell<Role>,
    fate: Cell<Fate>,
}

impl Waiter {
    fn end(&self, fate: Fate) {
        self.fate.set(fate);
        self.task.pi_blocked_on.set(None);
        self.task.waker().wake();
    }
}

type Queue = VecDeque<Rc<Waiter>>;

/// All futex waiters of the machine.
#[derive(Default)]
pub(crate) struct Futexes {
    queues: RefCell<BTreeMap<FutexKey, Queue>>,
    /// Who owns the locks that somebody waits for.
    locks: RefCell<BTreeMap<FutexKey, PiState>>,
}

/// A word that is to be waited for, and what it must contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expectation {
    pub(crate) addr: VirtAddr,
    pub(crate) scope: FutexScope,
    pub(crate) value: u32,
    pub(crate) bitset: u32,
}

impl Futexes {
    /// Wakes up to `count` waiters of the word at `addr`, shared or private; a word that cannot
    /// be named wakes nobody.
    pub(crate) fn wake_at(&self, task: &Task, addr: VirtAddr, count: u32) {
        let Some(mm) = task.mm() else { return };
        if let Ok(key) = mm.futex_key(&task.caller(), addr, FutexScope::Shared) {
            // Who waits to own a lock is not woken this way.
            let _ = self.wake(key, count, MATCH_ANY);
        }
    }

    /// Wakes up to `count` waiters whose bits match; answers how many.
    ///
    /// # Errors
    /// EINVAL when somebody waits there to own a lock; who stood before is woken all the same.
    pub(crate) fn wake(&self, key: FutexKey, count: u32, bitset: u32) -> Result<u32, Errno> {
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.get_mut(&key) else { return Ok(0) };
        let (mut woken, mut mixed) = (0, false);
        queue.retain(|waiter| {
            if woken == count || mixed {
                return true;
            }
            mixed = waiter.role.get() != Role::Plain;
            if mixed || waiter.bitset & bitset == 0 {
                return true;
            }
            woken += 1;
            waiter.end(Fate::Woken);
            false
        });
        if queue.is_empty() {
            queues.remove(&key);
        }
        if mixed { Err(Errno::EINVAL) } else { Ok(woken) }
    }

    /// Wakes up to `wake` waiters of `from` and moves up to `requeue` others to `to`; answers how
    /// many that were together.
    ///
    /// # Errors
    /// EINVAL when somebody waits there to own a lock; who stood before is served all the same.
    pub(crate) fn requeue(
        &self,
        from: FutexKey,
        to: FutexKey,
        wake: u32,
        requeue: u32,
    ) -> Result<u32, Errno> {
        let Some(queue) = self.queues.borrow_mut().remove(&from) else { return Ok(0) };
        let most = u64::from(wake) + u64::from(requeue);
        let (mut stay, mut moved) = (Queue::new(), Vec::new());
        let (mut served, mut mixed) = (0, false);
        for waiter in queue {
            mixed |= u64::from(served) < most && waiter.role.get() != Role::Plain;
            if mixed || u64::from(served) == most {
                stay.push_back(waiter);
                continue;
            }
            served += 1;
            if served <= wake {
                waiter.end(Fate::Woken);
            } else if from == to {
                stay.push_back(waiter);
            } else {
                moved.push(waiter);
            }
        }
        if !stay.is_empty() {
            self.queues.borrow_mut().insert(from, stay);
        }
        for waiter in moved {
            self.enqueue(to, waiter);
        }
        if mixed { Err(Errno::EINVAL) } else { Ok(served) }
    }

    /// Whether nobody waits: so it must be when the last task has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.borrow().is_empty() && self.locks.borrow().is_empty()
    }

    /// The waiter that is served first.
    fn first(&self, key: FutexKey) -> Option<Rc<Waiter>> {
        self.queues.borrow().get(&key)?.front().cloned()
    }

    /// Puts a waiter behind those of its priority.
    fn enqueue(&self, key: FutexKey, waiter: Rc<Waiter>) {
        waiter.key.set(key);
        if waiter.role.get() == Role::Owner {
            waiter.task.pi_blocked_on.set(Some(key));
        }
        let mut queues = self.queues.borrow_mut();
        let queue = queues.entry(key).or_default();
        let behind = queue.iter().rposition(|other| other.priority <= waiter.priority);
        queue.insert(behind.map_or(0, |at| at + 1), waiter);
    }

    /// Takes a waiter out of its queue, if it stands there.
    fn dequeue(&self, waiter: &Rc<Waiter>) {
        let key = waiter.key.get();
        let mut queues = self.queues.borrow_mut();
        if let Some(queue) = queues.get_mut(&key) {
            queue.retain(|other| !Rc::ptr_eq(other, waiter));
            if queue.is_empty() {
                queues.remove(&key);
            }
        }
    }

    fn join(&self, task: &Rc<Task>, key: FutexKey, bitset: u32, role: Role) -> Standing<'_> {
        let priority = task.rt_priority.get();
        let waiter = Rc::new(Waiter {
            task: Rc::clone(task),
            bitset,
            priority: if priority > 0 { NO_PRIORITY - 1 - priority } else { NO_PRIORITY },
            key: Cell::new(key),
            role: Cell::new(role),
            fate: Cell::new(Fate::Waits),
        });
        self.enqueue(key, Rc::clone(&waiter));
        Standing { futexes: self, waiter }
    }
}

/// Leaves the queue when the wait ends, in whatever way.
struct Standing<'a> {
    futexes: &'a Futexes,
    waiter: Rc<Waiter>,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let waiter = &self.waiter;
        if waiter.fate.get() == Fate::Waits {
            self.futexes.dequeue(waiter);
            waiter.task.pi_blocked_on.set(None);
        }
        if waiter.role.get() == Role::Owner {
            self.futexes.forget_unwanted_lock(waiter.key.get());
        }
    }
}

/// Waits until the word is woken; `Err(ETIMEDOUT)` at `deadline`.
///
/// # Errors
/// EAGAIN when the word does not contain what is expected, EFAULT, EINVAL, ETIMEDOUT; a restart
/// when a signal comes.
pub(crate) async fn wait(
    task: &Rc<Task>,
    what: Expectation,
    deadline: Option<Nanos>,
) -> Result<(), SysError> {
    wait_any(task, &[what], deadline).await.map(drop)
}

/// Waits until one of the words is woken and answers which (Linux `futex_wait_multiple`).
///
/// # Errors
/// As [`wait`]; EAGAIN when one of the words does not contain what is expected.
pub(crate) async fn wait_any(
    task: &Rc<Task>,
    what: &[Expectation],
    deadline: Option<Nanos>,
) -> Result<usize, SysError> {
    let kernel = Rc::clone(task.kernel());
    let mm = task.mm().ok_or(Errno::EFAULT)?;
    let caller = task.caller();
    let mut standing = Vec::new();
    for word in what {
        if word.bitset == 0 {
            return Err(Errno::EINVAL.into());
        }
        let key = mm.futex_key(&caller, word.addr, word.scope)?;
        let found = mm.load_u32(&caller, word.addr).map_err(|_| Errno::EFAULT)?;
        if found != word.value {
            return Err(Errno::EAGAIN.into());
        }
        standing.push(kernel.futexes().join(task, key, word.bitset, Role::Plain));
    }
    // The address space may go while the task sleeps: it must not be kept by this.
    drop(mm);
    let woken = || standing.iter().position(|standing| standing.waiter.fate.get() == Fate::Woken);
    // No queue in the set: the waiters' own marks are what is looked at.
    let mut set = WaitSet::new(task);
    let end = set.wait_until(Sleep::Interruptible, deadline, || woken().is_some()).await;
    match (woken(), end) {
        (Some(index), _) => Ok(index),
        (None, Wake::TimedOut) => Err(Errno::ETIMEDOUT.into()),
        (None, Wake::Woken | Wake::Interrupted) => Err(SysError::RESTART_SYS),
    }
}
