//! Locks that write down who takes them, when, and who had to wait: for measuring what threads share.
//!
//! [`LoggedMutex`] and [`LoggedRwLock`] are `parking_lot`'s, for whoever takes locks through `lock_api`. Nothing is written
//! down but on a thread that is [`recorded`]. Neighbour: `kilburn bench locks`.
#![expect(unsafe_code, reason = "lock_api's traits promise exclusion, which the locks inside give")]

use lock_api::{RawMutex, RawRwLock};
use std::cell::RefCell;
use std::panic::Location;
use std::time::Instant;

/// How a lock is taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// By many at once.
    Shared,
    /// By one alone.
    Exclusive,
}

/// What happened to a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// It was taken; whether somebody else had it at first.
    Taken(Mode, Waited),
    /// It was let go.
    Released,
}

/// Whether somebody waited for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// It was free.
    No,
    /// Somebody else had it.
    Yes,
}

/// Something that happened to a lock, on the thread that is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Nanoseconds since the recording began.
    pub at_ns: u64,
    /// Which lock: its address.
    pub lock: usize,
    /// What happened.
    pub what: What,
    /// The file in which it was taken; empty when it is let go.
    pub file: &'static str,
}

struct Log {
    start: Instant,
    events: Vec<Event>,
}

thread_local! {
    static LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Does `work`; what this thread did to locks meanwhile, and how long it took, in nanoseconds.
///
/// # Panics
/// When called from within itself.
pub fn recorded(work: impl FnOnce()) -> (Vec<Event>, u64) {
    let log = Log { start: Instant::now(), events: Vec::with_capacity(64) };
    let outer = LOG.replace(Some(log));
    assert!(outer.is_none(), "one recording at a time");
    LOG.with_borrow_mut(|log| {
        if let Some(log) = log {
            log.start = Instant::now();
        }
    });
    work();
    LOG.take().map_or((Vec::new(), 0), |log| (log.events, log.start.elapsed().as_nanos() as u64))
}

fn note(lock: usize, what: What, file: &'static str) {
    LOG.with_borrow_mut(|log| {
        if let Some(log) = log {
            let at_ns = log.start.elapsed().as_nanos() as u64;
            log.events.push(Event { at_ns, lock, what, file });
        }
    });
}

/// Takes a lock by `attempt`, or by `wait` if that fails.
#[track_caller]
fn take(lock: usize, mode: Mode, attempt: impl FnOnce() -> bool, wait: impl FnOnce()) {
    let waited = if attempt() {
        Waited::No
    } else {
        wait();
        Waited::Yes
    };
    note(lock, What::Taken(mode, waited), Location::caller().file());
}

/// A mutex that is written down.
pub struct LoggedMutex(parking_lot::RawMutex);

// SAFETY: the lock inside excludes, and every call is handed on to it once.
unsafe impl RawMutex for LoggedMutex {
    const INIT: Self = Self(<parking_lot::RawMutex as RawMutex>::INIT);
    type GuardMarker = <parking_lot::RawMutex as RawMutex>::GuardMarker;

    #[track_caller]
    fn lock(&self) {
        take(address(self), Mode::Exclusive, || self.0.try_lock(), || self.0.lock());
    }

    #[track_caller]
    fn try_lock(&self) -> bool {
        let taken = self.0.try_lock();
        if taken {
            take(address(self), Mode::Exclusive, || true, || {});
        }
        taken
    }

    unsafe fn unlock(&self) {
        note(address(self), What::Released, "");
        // SAFETY: the caller holds the lock, which is the one inside.
        unsafe { self.0.unlock() }
    }
}

/// A read-write lock that is written down.
pub struct LoggedRwLock(parking_lot::RawRwLock);

// SAFETY: the lock inside excludes, and every call is handed on to it once.
unsafe impl RawRwLock for LoggedRwLock {
    const INIT: Self = Self(<parking_lot::RawRwLock as RawRwLock>::INIT);
    type GuardMarker = <parking_lot::RawRwLock as RawRwLock>::GuardMarker;

    #[track_caller]
    fn lock_shared(&self) {
        take(address(self), Mode::Shared, || self.0.try_lock_shared(), || self.0.lock_shared());
    }

    #[track_caller]
    fn try_lock_shared(&self) -> bool {
        let taken = self.0.try_lock_shared();
        if taken {
            take(address(self), Mode::Shared, || true, || {});
        }
        taken
    }

    unsafe fn unlock_shared(&self) {
        note(address(self), What::Released, "");
        // SAFETY: the caller holds the lock shared, which is the one inside.
        unsafe { self.0.unlock_shared() }
    }

    #[track_caller]
    fn lock_exclusive(&self) {
        let wait = || self.0.lock_exclusive();
        take(address(self), Mode::Exclusive, || self.0.try_lock_exclusive(), wait);
    }

    #[track_caller]
    fn try_lock_exclusive(&self) -> bool {
        let taken = self.0.try_lock_exclusive();
        if taken {
            take(address(self), Mode::Exclusive, || true, || {});
        }
        taken
    }

    unsafe fn unlock_exclusive(&self) {
        note(address(self), What::Released, "");
        // SAFETY: the caller holds the lock alone, which is the one inside.
        unsafe { self.0.unlock_exclusive() }
    }
}

fn address<T>(lock: &T) -> usize {
    std::ptr::from_ref(lock).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_api::{Mutex, RwLock};

    #[test]
    fn a_recording_holds_what_its_thread_did_and_where() {
        let mutex: Mutex<LoggedMutex, u8> = Mutex::new(1);
        let shared: RwLock<LoggedRwLock, u8> = RwLock::new(2);
        drop(mutex.lock());
        let (events, took) = recorded(|| {
            let _reader = shared.read();
            *mutex.lock() += 1;
        });
        let taken = |event: &Event| match event.what {
            What::Taken(mode, waited) => Some((mode, waited)),
            What::Released => None,
        };
        let order: Vec<_> = events.iter().map(taken).collect();
        let first = Some((Mode::Shared, Waited::No));
        assert_eq!(order, [first, Some((Mode::Exclusive, Waited::No)), None, None]);
        assert!(events[0].file.ends_with("locks.rs"), "{}", events[0].file);
        assert!(events[1].lock == events[2].lock && events[0].lock == events[3].lock);
        assert!(events.is_sorted_by_key(|event| event.at_ns) && events[3].at_ns <= took);
    }

    #[test]
    fn who_finds_a_lock_taken_waits() {
        let mutex: Mutex<LoggedMutex, ()> = Mutex::new(());
        let guard = mutex.lock();
        std::thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let mutex = &mutex;
            let waiting = scope.spawn(move || {
                recorded(|| {
                    ready.send(mutex.try_lock().is_none()).expect("heard");
                    drop(mutex.lock());
                })
            });
            assert!(is_ready.recv().expect("sent"));
            // It may not wait yet; that it found the lock taken is what counts.
            std::thread::sleep(std::time::Duration::from_millis(20));
            drop(guard);
            let (events, _) = waiting.join().expect("no panic");
            assert_eq!(events.len(), 2);
        });
    }
}
