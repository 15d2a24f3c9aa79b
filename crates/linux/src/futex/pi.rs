//! Futex words that say who owns a lock: `FUTEX_LOCK_PI` and its like (Linux 6.18
//! kernel/futex/pi.c, requeue.c).
//!
//! The word holds the owner's id and two flags. As long as somebody waits, [`PiState`] says who the
//! kernel holds to be the owner; where the word says otherwise the program has meddled with it, and
//! gets EINVAL. A lock is handed over: who releases it writes the next owner into the word. Only the
//! heir of a dead owner does that itself, in its own address space.
//!
//! DIVERGENCE(priority-not-inherited): an owner's priority is not raised while others wait, as all
//! tasks take turns whatever their priority; who waits longest, or with the highest priority, is next.

use super::{Fate, Futexes, MATCH_ANY, Role, Standing};
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::sched::{Restart, SysError};
use crate::task::{Task, Tid};
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::{FutexKey, FutexScope};
use std::rc::Rc;

/// `FUTEX_TID_MASK`: the owner's id.
pub(crate) const TID_MASK: u32 = 0x3fff_ffff;
/// `FUTEX_OWNER_DIED`
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;
/// `FUTEX_WAITERS`: to release the lock is the kernel's business.
pub(crate) const WAITERS: u32 = 0x8000_0000;
/// Longest chain of owners that wait for each other (`max_lock_depth`).
const MAX_LOCK_DEPTH: usize = 1024;

/// The owner of a lock that somebody waits for.
pub(super) struct PiState {
    /// `None`: it died, and its heir has not yet taken over.
    owner: Option<Rc<Task>>,
}

/// A lock's word in the caller's address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    pub(crate) addr: VirtAddr,
    pub(crate) scope: FutexScope,
}

/// What to do when the lock is not free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// Wait, until this moment if there is one.
    Wait(Option<Nanos>),
    /// Answer EAGAIN.
    None,
}

/// Whether the word is to send its owner into the kernel to release it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Others {
    Wait,
    Absent,
}

/// What an attempt to take a lock came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    Taken,
    MustWait,
}

impl Word {
    fn key(self, task: &Task) -> Result<FutexKey, Errno> {
        let mm = task.mm().ok_or(Errno::EFAULT)?;
        mm.futex_key(&task.caller(), self.addr, self.scope)
    }

    fn load(self, task: &Task) -> Result<u32, Errno> {
        let mm = task.mm().ok_or(Errno::EFAULT)?;
        mm.load_u32(&task.caller(), self.addr).map_err(|_| Errno::EFAULT)
    }

    /// Replaces `old`; answers what was there.
    fn exchange(self, task: &Task, old: u32, new: u32) -> Result<u32, Errno> {
        let mm = task.mm().ok_or(Errno::EFAULT)?;
        mm.compare_exchange_u32(&task.caller(), self.addr, old, new).map_err(|_| Errno::EFAULT)
    }

    /// Makes the word what `new` makes of it; answers what it was.
    fn update(self, task: &Task, new: impl Fn(u32) -> u32) -> Result<u32, Errno> {
        let mut old = self.load(task)?;
        loop {
            let found = self.exchange(task, old, new(old))?;
            if found == old {
                return Ok(old);
            }
            old = found;
        }
    }
}

impl Futexes {
    /// Takes the lock at `word` for `taker`, or says that it must wait (Linux
    /// `futex_lock_pi_atomic`). `task` is who asks, and in whose address space the word is.
    fn attempt(
        &self,
        task: &Task,
        word: Word,
        key: FutexKey,
        taker: &Rc<Task>,
        others: Others,
    ) -> Result<Attempt, Errno> {
        let value = word.load(task)?;
        let owner = value & TID_MASK;
        if owner == taker.tid() {
            return Err(Errno::EDEADLK);
        }
        if let Some(first) = self.first(key) {
            if first.role.get() != Role::Owner {
                return Err(Errno::EINVAL);
            }
            return self.join_lock(key, value).map(|()| Attempt::MustWait);
        }
        if owner == 0 {
            let waiters = if others == Others::Wait { WAITERS } else { 0 };
            word.update(task, |old| old & OWNER_DIED | taker.tid() | waiters)?;
            if others == Others::Wait {
                self.note_owner(key, Some(taker));
            }
            return Ok(Attempt::Taken);
        }
        word.update(task, |old| old | WAITERS)?;
        let owner = task.kernel().task(owner).filter(|owner| !owner.left_futexes.get());
        self.note_owner(key, Some(&owner.ok_or(Errno::ESRCH)?));
        Ok(Attempt::MustWait)
    }

    /// Whether the word agrees with who the kernel holds to be the owner (`attach_to_pi_state`).
    fn join_lock(&self, key: FutexKey, value: u32) -> Result<(), Errno> {
        let locks = self.locks.borrow();
        let owner = locks.get(&key).and_then(|state| state.owner.as_ref()).map(|o| o.tid());
        let said = value & TID_MASK;
        let agrees = match owner {
            None => value & OWNER_DIED != 0 && said == 0,
            Some(owner) => owner == said || value & OWNER_DIED != 0 && said == 0,
        };
        if agrees { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn note_owner(&self, key: FutexKey, owner: Option<&Rc<Task>>) {
        self.locks.borrow_mut().insert(key, PiState { owner: owner.cloned() });
    }

    fn is_owner(&self, key: FutexKey, task: &Rc<Task>) -> bool {
        let locks = self.locks.borrow();
        let owner = locks.get(&key).and_then(|state| state.owner.as_ref());
        owner.is_some_and(|owner| Rc::ptr_eq(owner, task))
    }

    /// Nobody waits for the lock any more: who owns it is for the word alone to say.
    pub(super) fn forget_unwanted_lock(&self, key: FutexKey) {
        if self.first(key).is_none_or(|first| first.role.get() != Role::Owner) {
            self.locks.borrow_mut().remove(&key);
        }
    }

    /// Whether `task` would wait for itself (Linux `rt_mutex_adjust_prio_chain`).
    fn would_deadlock(&self, task: &Rc<Task>, key: FutexKey) -> bool {
        let locks = self.locks.borrow();
        let mut key = key;
        for _ in 0..MAX_LOCK_DEPTH {
            let Some(owner) = locks.get(&key).and_then(|state| state.owner.as_ref()) else {
                return false;
            };
            if Rc::ptr_eq(owner, task) {
                return true;
            }
            let Some(next) = owner.pi_blocked_on.get() else { return false };
            key = next;
        }
        true
    }

    /// `task` ends, or gives up its address space: its locks go to who waits for them (Linux
    /// `exit_pi_state_list`).
    pub(crate) fn release_locks_of(&self, task: &Rc<Task>) {
        let owned: Vec<FutexKey> = {
            let locks = self.locks.borrow();
            let is_task = |owner: &Rc<Task>| Rc::ptr_eq(owner, task);
            let of_task = locks.iter().filter(|(_, s)| s.owner.as_ref().is_some_and(is_task));
            of_task.map(|(key, _)| *key).collect()
        };
        for key in owned {
            self.note_owner(key, None);
            match self.first(key) {
                Some(heir) if heir.role.get() == Role::Owner => {
                    self.dequeue(&heir);
                    heir.end(Fate::Inherits);
                }
                _ => self.forget_unwanted_lock(key),
            }
        }
    }
}

/// FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI.
///
/// # Errors
/// EDEADLK, ESRCH when the word names nobody, EINVAL when word and waiters do not agree, EAGAIN or
/// ETIMEDOUT when the lock is not free in time, EFAULT; a restart when a signal comes.
pub(crate) async fn lock(task: &Rc<Task>, word: Word, patience: Patience) -> Result<(), SysError> {
    let kernel = Rc::clone(task.kernel());
    let futexes = kernel.futexes();
    let key = word.key(task)?;
    if futexes.attempt(task, word, key, task, Others::Absent)? == Attempt::Taken {
        return Ok(());
    }
    let deadline = match patience {
        Patience::Wait(deadline) => deadline,
        Patience::None => {
            futexes.forget_unwanted_lock(key);
            return Err(Errno::EAGAIN.into());
        }
    };
    if futexes.would_deadlock(task, key) {
        futexes.forget_unwanted_lock(key);
        return Err(Errno::EDEADLK.into());
    }
    let standing = futexes.join(task, key, MATCH_ANY, Role::Owner);
    match sleep(task, &standing, deadline).await {
        None => Ok(take_over(task, &standing, word)?),
        Some(Wake::TimedOut) => Err(Errno::ETIMEDOUT.into()),
        Some(Wake::Woken | Wake::Interrupted) => Err(SysError::Restart(Restart::NoIntr)),
    }
}

/// Sleeps until the waiter's fate is decided (`None`), or something else ends the wait.
async fn sleep(task: &Rc<Task>, standing: &Standing<'_>, deadline: Option<Nanos>) -> Option<Wake> {
    let decided = || standing.waiter.fate.get() != Fate::Waits;
    let end = WaitSet::new(task).wait_until(Sleep::Interruptible, deadline, decided).await;
    (!decided()).then_some(end)
}

/// The lock is ours. Who inherited it says so in the word (Linux `fixup_pi_state_owner`).
fn take_over(task: &Rc<Task>, standing: &Standing<'_>, word: Word) -> Result<(), Errno> {
    if standing.waiter.fate.get() != Fate::Inherits {
        return Ok(());
    }
    let futexes = standing.futexes;
    let key = standing.waiter.key.get();
    if futexes.locks.borrow().contains_key(&key) {
        futexes.note_owner(key, Some(task));
    }
    word.update(task, |_| task.tid() | WAITERS | OWNER_DIED).map(drop)
}

/// FUTEX_UNLOCK_PI.
///
/// # Errors
/// EPERM when the word does not name the caller, EINVAL when word and waiters do not agree, EAGAIN
/// when the word changed meanwhile, EFAULT.
pub(crate) async fn unlock(task: &Rc<Task>, word: Word) -> Result<(), Errno> {
    // Before the word is found to be misaligned, as in Linux.
    let value: u32 = task.read_struct(word.addr).await?;
    if value & TID_MASK != task.tid() {
        return Err(Errno::EPERM);
    }
    let key = word.key(task)?;
    let futexes = task.kernel().futexes();
    let Some(next) = futexes.first(key) else {
        let found = word.exchange(task, value, 0)?;
        return if found == value { Ok(()) } else { Err(Errno::EAGAIN) };
    };
    if next.role.get() != Role::Owner || !futexes.is_owner(key, task) {
        return Err(Errno::EINVAL);
    }
    if word.exchange(task, value, next.task.tid() | WAITERS)? != value {
        return Err(Errno::EINVAL);
    }
    futexes.note_owner(key, Some(&next.task));
    futexes.dequeue(&next);
    next.end(Fate::Woken);
    futexes.forget_unwanted_lock(key);
    Ok(())
}

/// FUTEX_WAIT_REQUEUE_PI: waits at `from` to be moved to the lock `to`, and for that.
///
/// # Errors
/// EAGAIN when the word does not contain `value`, or a signal came after the move; EINVAL when both
/// are one, ETIMEDOUT, EFAULT; a restart when a signal comes before the move.
pub(crate) async fn wait_requeue(
    task: &Rc<Task>,
    from: Word,
    value: u32,
    to: Word,
    deadline: Option<Nanos>,
) -> Result<(), SysError> {
    if from.addr == to.addr {
        return Err(Errno::EINVAL.into());
    }
    let target = to.key(task)?;
    let key = from.key(task)?;
    if from.load(task)? != value {
        return Err(Errno::EAGAIN.into());
    }
    if key == target {
        return Err(Errno::EINVAL.into());
    }
    let kernel = Rc::clone(task.kernel());
    let standing = kernel.futexes().join(task, key, MATCH_ANY, Role::Requeue(target));
    match (sleep(task, &standing, deadline).await, standing.waiter.role.get()) {
        (None, _) => Ok(take_over(task, &standing, to)?),
        (Some(Wake::TimedOut), _) => Err(Errno::ETIMEDOUT.into()),
        // A second call would find the word changed.
        (Some(_), Role::Owner) => Err(Errno::EAGAIN.into()),
        (Some(_), _) => Err(SysError::Restart(Restart::NoIntr)),
    }
}

/// FUTEX_CMP_REQUEUE_PI: gives the first who waits at `from` the lock `to`, if it is free, and
/// moves up to `requeue` others (all, if it is not free: one more) there; answers how many.
///
/// # Errors
/// EAGAIN when the word does not contain `value`; EINVAL when both words are one or who waits there
/// did not ask for `to`; as [`lock`].
pub(crate) fn requeue(
    task: &Rc<Task>,
    from: Word,
    value: u32,
    to: Word,
    requeue: u32,
) -> Result<u32, Errno> {
    let futexes = task.kernel().futexes();
    let (word, target) = (from, to.key(task)?);
    let from = word.key(task)?;
    if from == target {
        return Err(Errno::EINVAL);
    }
    if word.load(task)? != value {
        return Err(Errno::EAGAIN);
    }
    let Some(first) = futexes.first(from) else { return Ok(0) };
    if first.role.get() != Role::Requeue(target) {
        return Err(Errno::EINVAL);
    }
    let others = if requeue > 0 { Others::Wait } else { Others::Absent };
    let mut served = 0;
    if futexes.attempt(task, to, target, &first.task, others)? == Attempt::Taken {
        futexes.dequeue(&first);
        first.end(Fate::Woken);
        served = 1;
    }
    let mut answer = Ok(());
    while served <= requeue
        && let Some(waiter) = futexes.first(from)
    {
        if waiter.role.get() != Role::Requeue(target) {
            answer = Err(Errno::EINVAL);
            break;
        }
        if futexes.would_deadlock(&waiter.task, target) {
            answer = Err(Errno::EDEADLK);
            break;
        }
        futexes.dequeue(&waiter);
        waiter.role.set(Role::Owner);
        futexes.enqueue(target, waiter);
        served += 1;
    }
    futexes.forget_unwanted_lock(target);
    answer.map(|()| served)
}

/// What a robust list's entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// On the list.
    Listed,
    /// Its owner was about to put it there, or take it away.
    Pending,
}

/// Marks a robust futex as left by its dead owner (Linux `handle_futex_death`). A lock's waiters
/// are told by [`Futexes::release_locks_of`], those of other words here.
///
/// # Errors
/// EINVAL when misaligned, EFAULT: the walk ends.
pub(crate) fn owner_died(
    task: &Rc<Task>,
    addr: VirtAddr,
    is_lock: bool,
    entry: Entry,
) -> Result<(), Errno> {
    if !addr.get().is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let word = Word { addr, scope: FutexScope::Shared };
    let owner: Tid = word.load(task)? & TID_MASK;
    let futexes = task.kernel().futexes();
    if entry == Entry::Pending && !is_lock && owner == 0 {
        futexes.wake_at(task, addr, 1);
        return Ok(());
    }
    if owner != task.tid() {
        return Ok(());
    }
    let old = word.update(task, |old| old & WAITERS | OWNER_DIED)?;
    if !is_lock && old & WAITERS != 0 {
        futexes.wake_at(task, addr, 1);
    }
    Ok(())
}
