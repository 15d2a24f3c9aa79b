//! Locks on files: POSIX records, open-file-description records, and `flock`.
//!
//! [`LockTable`] holds all of a machine, by inode. Record locks belong to an [`Owner`]: a
//! descriptor table (`F_SETLK`) or an open file (`F_OFD_SETLK`); `flock` locks are whole-file
//! locks of open files, in a space of their own. A lock that conflicts answers EAGAIN; who wants
//! to wait joins [`LockTable::wait_queue`].
//!
//! Source: Linux 6.18 fs/locks.c. Neighbours: [`crate::fs::fd_table`] lets go on close.

use crate::fs::file::OpenFile;
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Owner(u64);

/// Shared or exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LockKind {
    /// Others may share it.
    Read,
    /// Nobody else may have one.
    Write,
}

/// The two spaces of locks, which do not see each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Space {
    /// `fcntl` locks on byte ranges.
    Record,
    /// `flock`.
    Whole,
}

/// A lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lock {
    /// Whose.
    pub(crate) owner: Owner,
    /// Process that asked for it; -1 for open-file-description locks.
    pub(crate) pid: i32,
    /// Shared or exclusive.
    pub(crate) kind: LockKind,
    /// First byte.
    pub(crate) start: u64,
    /// Last byte; `i64::MAX` to the end of time.
    pub(crate) end: u64,
}

type InodeKey = (u64, u64);

/// All locks of a machine.
#[derive(Default)]
pub(crate) struct LockTable {
    held: RefCell<BTreeMap<(InodeKey, Space), Vec<Lock>>>,
    /// Who waits for which lock, for the detection of deadlocks.
    waiting: RefCell<BTreeMap<Owner, (InodeKey, Lock)>>,
    next_owner: Cell<u64>,
    queue: WaitQueue,
}

fn key_of(file: &OpenFile) -> Option<InodeKey> {
    let stat = file.inode().stat().ok()?;
    Some((stat.dev.encode(), stat.ino))
}

impl LockTable {
    /// An owner no lock belongs to yet.
    pub(crate) fn new_owner(&self) -> Owner {
        self.next_owner.set(self.next_owner.get() + 1);
        Owner(self.next_owner.get())
    }

    /// Woken whenever a lock goes.
    pub(crate) fn wait_queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// The first lock that keeps `wanted` away.
    ///
    /// # Errors
    /// EBADF when the file has no identity.
    pub(crate) fn conflict(
        &self,
        file: &OpenFile,
        space: Space,
        wanted: &Lock,
    ) -> Result<Option<Lock>, Errno> {
        let key = key_of(file).ok_or(Errno::EBADF)?;
        let held = self.held.borrow();
        let locks = held.get(&(key, space)).map(Vec::as_slice).unwrap_or_default();
        Ok(locks.iter().find(|lock| lock.conflicts(wanted)).copied())
    }

    /// Sets `wanted`, replacing what its owner held of that range.
    ///
    /// # Errors
    /// EAGAIN when another owner's lock is in the way.
    pub(crate) fn set(&self, file: &OpenFile, space: Space, wanted: Lock) -> Result<(), Errno> {
        if self.conflict(file, space, &wanted)?.is_some() {
            return Err(Errno::EAGAIN);
        }
        let key = key_of(file).ok_or(Errno::EBADF)?;
        let mut held = self.held.borrow_mut();
        let locks = held.entry((key, space)).or_default();
        cut(locks, wanted.owner, wanted.start, wanted.end);
        locks.push(wanted);
        join(locks);
        drop(held);
        // A downgrade lets readers in.
        self.queue.wake_all();
        Ok(())
    }

    /// Lets go of a range.
    ///
    /// # Errors
    /// EBADF when the file has no identity.
    pub(crate) fn clear(
        &self,
        file: &OpenFile,
        space: Space,
        owner: Owner,
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        let key = key_of(file).ok_or(Errno::EBADF)?;
        let mut held = self.held.borrow_mut();
        if let Some(locks) = held.get_mut(&(key, space)) {
            cut(locks, owner, start, end);
            if locks.is_empty() {
                held.remove(&(key, space));
            }
            drop(held);
            self.queue.wake_all();
        }
        Ok(())
    }

    /// `owner` closed a descriptor of `file`: its record locks on it go.
    pub(crate) fn close_by(&self, owner: Owner, file: &OpenFile) {
        if !self.held.borrow().is_empty() {
            let _ = self.clear(file, Space::Record, owner, 0, u64::MAX);
        }
    }

    /// Whether waiting for what keeps `wanted` away would close a circle of waiting owners.
    ///
    /// # Errors
    /// EBADF when the file has no identity.
    pub(crate) fn would_deadlock(&self, file: &OpenFile, wanted: &Lock) -> Result<bool, Errno> {
        if wanted.pid < 0 {
            // Open files do not wait; processes do.
            return Ok(false);
        }
        let waiting = self.waiting.borrow();
        let mut blocker = self.conflict(file, Space::Record, wanted)?;
        for _ in 0..=waiting.len() {
            let Some(holder) = blocker else { return Ok(false) };
            if holder.owner == wanted.owner {
                return Ok(true);
            }
            let Some((key, lock)) = waiting.get(&holder.owner) else { return Ok(false) };
            let held = self.held.borrow();
            let locks = held.get(&(*key, Space::Record)).map(Vec::as_slice).unwrap_or_default();
            blocker = locks.iter().find(|held| held.conflicts(lock)).copied();
        }
        Ok(false)
    }

    /// Notes that the owner of `wanted` waits for it, until the answer is dropped.
    pub(crate) fn note_waiting(self: &Rc<Self>, file: &OpenFile, wanted: Lock) -> Option<Waiting> {
        let key = key_of(file)?;
        self.waiting.borrow_mut().insert(wanted.owner, (key, wanted));
        Some(Waiting { table: Rc::clone(self), owner: wanted.owner })
    }

    /// An open file went: its own locks go.
    pub(crate) fn release(&self, owner: Owner, file: &OpenFile) {
        let _ = self.clear(file, Space::Record, owner, 0, u64::MAX);
        let _ = self.clear(file, Space::Whole, owner, 0, u64::MAX);
    }
}

/// Somebody waits for a lock; no longer when dropped.
pub(crate) struct Waiting {
    table: Rc<LockTable>,
    owner: Owner,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.table.waiting.borrow_mut().remove(&self.owner);
    }
}

impl Lock {
    fn conflicts(&self, other: &Self) -> bool {
        let overlap = self.start <= other.end && other.start <= self.end;
        let exclusive = self.kind == LockKind::Write || other.kind == LockKind::Write;
        self.owner != other.owner && overlap && exclusive
    }
}

/// Takes `start..=end` out of the locks of `owner`.
fn cut(locks: &mut Vec<Lock>, owner: Owner, start: u64, end: u64) {
    let mut pieces = Vec::new();
    locks.retain(|lock| {
        if lock.owner != owner || lock.end < start || end < lock.start {
            return true;
        }
        if lock.start < start {
            pieces.push(Lock { end: start - 1, ..*lock });
        }
        if end < lock.end {
            pieces.push(Lock { start: end + 1, ..*lock });
        }
        false
    });
    locks.append(&mut pieces);
}

/// Joins neighbouring locks of one owner and kind, and sorts.
fn join(locks: &mut Vec<Lock>) {
    locks.sort_by_key(|lock| (lock.owner, lock.start));
    locks.dedup_by(|next, lock| {
        let touch = lock.owner == next.owner
            && lock.kind == next.kind
            && lock.end.checked_add(1).is_none_or(|after| next.start <= after);
        if touch {
            lock.end = lock.end.max(next.end);
        }
        touch
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: u64, kind: LockKind, start: u64, end: u64) -> Lock {
        Lock { owner: Owner(owner), pid: 1, kind, start, end }
    }

    #[test]
    fn cutting_the_middle_leaves_both_ends() {
        let mut locks = vec![lock(1, LockKind::Write, 0, 99), lock(2, LockKind::Read, 0, 99)];
        cut(&mut locks, Owner(1), 10, 19);
        join(&mut locks);
        let ranges: Vec<_> = locks.iter().map(|l| (l.owner.0, l.start, l.end)).collect();
        assert_eq!(ranges, [(1, 0, 9), (1, 20, 99), (2, 0, 99)]);
    }

    #[test]
    fn neighbours_of_one_kind_join_and_of_two_do_not() {
        let mut locks = vec![
            lock(1, LockKind::Read, 10, 19),
            lock(1, LockKind::Read, 0, 9),
            lock(1, LockKind::Write, 20, 29),
        ];
        join(&mut locks);
        let ranges: Vec<_> = locks.iter().map(|l| (l.start, l.end)).collect();
        assert_eq!(ranges, [(0, 19), (20, 29)]);
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let read = lock(1, LockKind::Read, 0, 9);
        assert!(!read.conflicts(&lock(2, LockKind::Read, 0, 9)));
        assert!(read.conflicts(&lock(2, LockKind::Write, 9, 9)));
        assert!(!read.conflicts(&lock(2, LockKind::Write, 10, 10)));
        assert!(!read.conflicts(&lock(1, LockKind::Write, 0, 9)));
    }
}
