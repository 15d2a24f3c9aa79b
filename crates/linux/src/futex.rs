//! Futexes: tasks that wait for a word of user memory to change (Linux kernel/futex).
//!
//! [`Futexes`] holds a FIFO of waiters for each word, named by what the memory manager says the
//! word is ([`FutexKey`]): private words by address space and address, shared ones by page.
//! Neighbours: `crate::syscall::futex` holds the call.

use crate::host::Mm;
use crate::sched::SysError;
use crate::sched::ready::TaskWaker;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::task::Task;
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::{FutexKey, FutexScope};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Matches every waiter.
pub(crate) const MATCH_ANY: u32 = u32::MAX;

struct Waiter {
    task: Arc<TaskWaker>,
    bitset: u32,
    /// The word it waits for now; requeueing changes it.
    key: Cell<FutexKey>,
    woken: Cell<bool>,
}

/// All futex waiters of the machine.
#[derive(Default)]
pub(crate) struct Futexes {
    queues: RefCell<BTreeMap<FutexKey, VecDeque<Rc<Waiter>>>>,
}

/// A word that is to be waited for, and what it must contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expectation {
    pub(crate) addr: VirtAddr,
    pub(crate) scope: FutexScope,
    pub(crate) value: u32,
    pub(crate) bitset: u32,
}

/// What FUTEX_WAKE_OP does to the second word, and which old values wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WakeOp(pub(crate) u32);

impl Futexes {
    /// Wakes up to `count` waiters of the word at `addr`, shared or private; a word that cannot
    /// be named wakes nobody.
    pub(crate) fn wake_at(&self, task: &Task, addr: VirtAddr, count: u32) {
        let Some(mm) = task.mm() else { return };
        if let Ok(key) = mm.futex_key(&task.caller(), addr, FutexScope::Shared) {
            self.wake(key, count, MATCH_ANY);
        }
    }

    /// Wakes up to `count` waiters whose bits match; answers how many.
    pub(crate) fn wake(&self, key: FutexKey, count: u32, bitset: u32) -> u32 {
        let mut queues = self.queues.borrow_mut();
        let Some(queue) = queues.get_mut(&key) else { return 0 };
        let mut woken = 0;
        queue.retain(|waiter| {
            if woken == count || waiter.bitset & bitset == 0 {
                return true;
            }
            woken += 1;
            waiter.woken.set(true);
            waiter.task.wake();
            false
        });
        if queue.is_empty() {
            queues.remove(&key);
        }
        woken
    }

    /// Wakes up to `wake` waiters of `from` and moves up to `requeue` others to `to`; answers how
    /// many were woken and how many moved.
    pub(crate) fn requeue(
        &self,
        from: FutexKey,
        to: FutexKey,
        wake: u32,
        requeue: u32,
    ) -> (u32, u32) {
        let woken = self.wake(from, wake, MATCH_ANY);
        let mut queues = self.queues.borrow_mut();
        let Some(mut queue) = queues.remove(&from) else { return (woken, 0) };
        let moved = queue.len().min(requeue as usize);
        if from == to {
            queues.insert(from, queue);
            return (woken, moved as u32);
        }
        let rest = queue.split_off(moved);
        if !rest.is_empty() {
            queues.insert(from, rest);
        }
        for waiter in &queue {
            waiter.key.set(to);
        }
        if !queue.is_empty() {
            queues.entry(to).or_default().append(&mut queue);
        }
        (woken, moved as u32)
    }

    fn leave(&self, waiter: &Rc<Waiter>) {
        let mut queues = self.queues.borrow_mut();
        let key = waiter.key.get();
        if let Some(queue) = queues.get_mut(&key) {
            queue.retain(|other| !Rc::ptr_eq(other, waiter));
            if queue.is_empty() {
                queues.remove(&key);
            }
        }
    }

    /// Whether nobody waits: so it must be when the last task has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.borrow().is_empty()
    }

    fn join(&self, task: &Task, key: FutexKey, bitset: u32) -> Rc<Waiter> {
        let waiter = Rc::new(Waiter {
            task: Arc::clone(task.waker()),
            bitset,
            key: Cell::new(key),
            woken: Cell::new(false),
        });
        self.queues.borrow_mut().entry(key).or_default().push_back(Rc::clone(&waiter));
        waiter
    }
}

/// Leaves the queue when the wait ends, in whatever way.
struct Standing<'a> {
    futexes: &'a Futexes,
    waiter: Rc<Waiter>,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.futexes.leave(&self.waiter);
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
        let waiter = kernel.futexes().join(task, key, word.bitset);
        standing.push(Standing { futexes: kernel.futexes(), waiter });
    }
    // The address space may go while the task sleeps: it must not be kept by this.
    drop(mm);
    let woken = || standing.iter().position(|standing| standing.waiter.woken.get());
    // No queue in the set: the waiters' own marks are what is looked at.
    let mut set = WaitSet::new(task);
    let end = set.wait_until(Sleep::Interruptible, deadline, || woken().is_some()).await;
    match (woken(), end) {
        (Some(index), _) => Ok(index),
        (None, Wake::TimedOut) => Err(Errno::ETIMEDOUT.into()),
        (None, Wake::Woken | Wake::Interrupted) => Err(SysError::RESTART_SYS),
    }
}

impl WakeOp {
    fn argument(self) -> u32 {
        // 12 bits, signed.
        let arg = (((self.0 >> 12 & 0xfff) << 20) as i32 >> 20) as u32;
        if self.0 >> 28 & 8 != 0 { 1_u32.wrapping_shl(arg & 31) } else { arg }
    }

    /// The new value of the word; `None` for an operation there is not.
    fn apply(self, old: u32) -> Option<u32> {
        let arg = self.argument();
        Some(match self.0 >> 28 & 7 {
            0 => arg,
            1 => old.wrapping_add(arg),
            2 => old | arg,
            3 => old & !arg,
            4 => old ^ arg,
            _ => return None,
        })
    }

    fn matches(self, old: u32) -> Option<bool> {
        let (old, arg) = (old as i32, ((self.0 & 0xfff) << 20) as i32 >> 20);
        Some(match self.0 >> 24 & 0xf {
            0 => old == arg,
            1 => old != arg,
            2 => old < arg,
            3 => old <= arg,
            4 => old > arg,
            5 => old >= arg,
            _ => return None,
        })
    }

    /// Changes the word and says whether its old value wakes.
    ///
    /// # Errors
    /// ENOSYS for an unknown operation or comparison, EFAULT.
    pub(crate) fn perform(self, mm: &Mm, task: &Task, addr: VirtAddr) -> Result<bool, Errno> {
        let caller = task.caller();
        let mut old = mm.load_u32(&caller, addr).map_err(|_| Errno::EFAULT)?;
        loop {
            let new = self.apply(old).ok_or(Errno::ENOSYS)?;
            let found =
                mm.compare_exchange_u32(&caller, addr, old, new).map_err(|_| Errno::EFAULT)?;
            if found == old {
                return self.matches(old).ok_or(Errno::ENOSYS);
            }
            old = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_op_decodes_operation_comparison_and_signed_arguments() {
        // FUTEX_OP(FUTEX_OP_ADD, -1, FUTEX_OP_CMP_GT, 1): glibc's condition variables used it.
        let op = WakeOp(1 << 28 | 4 << 24 | 0xfff << 12 | 1);
        assert_eq!(op.apply(5), Some(4));
        assert_eq!(op.matches(2), Some(true));
        assert_eq!(op.matches(1), Some(false));
        // Shifted argument: OR with 1 << 5.
        let op = WakeOp((8 | 2) << 28 | 5 << 12);
        assert_eq!(op.apply(1), Some(33));
        assert_eq!(WakeOp(7 << 28).apply(0), None);
        assert_eq!(WakeOp(9 << 24).matches(0), None);
    }
}
