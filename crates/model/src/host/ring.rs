//! The memory shared between this process and the oracle's children.
//!
//! Everything is atomic, so that a process which dies at any point leaves nothing half borrowed.
//! What is long, the lines of maps above all, goes through a file in memory that nobody maps: a
//! case that locks all its memory would otherwise bring all of it in.

use super::sys;
use crate::call::{Call, Kind, MAX_ARGS, Step};
use crate::outcome::Counts;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// Steps of a case at most.
pub(super) const MAX_STEPS: usize = 512;
/// Processes of a case at most.
pub(super) const MAX_PROCESSES: usize = 32;

/// What the zygote shall do, or has done ([`Ring::command`]).
pub(super) mod command {
    pub(in crate::host) const STARTING: u32 = 0;
    pub(in crate::host) const IDLE: u32 = 1;
    pub(in crate::host) const RUN: u32 = 2;
    pub(in crate::host) const FAILED: u32 = 3;
    pub(in crate::host) const QUIT: u32 = 4;
}

/// How a step ended ([`Slot::tag`]).
pub(super) mod tag {
    pub(in crate::host) const NOT_MADE: u64 = 0;
    pub(in crate::host) const RETURNED: u64 = 1;
    pub(in crate::host) const SIGNAL: u64 = 2;
}

/// A step and what came of it.
#[repr(C)]
pub(super) struct Slot {
    process: AtomicU64,
    kind: AtomicU64,
    args: [AtomicU64; MAX_ARGS],
    /// One of [`tag`].
    pub(super) tag: AtomicU64,
    /// Return value, or `signo << 32 | si_code`.
    pub(super) value: AtomicU64,
    /// `si_addr`
    pub(super) addr: AtomicU64,
    /// Bytes of the lines of /proc/self/maps; 0 when the areas were not looked at.
    pub(super) maps_len: AtomicU64,
    /// Bytes of the lines of /proc/self/smaps; 0 when the pages were not looked at.
    pub(super) smaps_len: AtomicU64,
    /// `VmSize` and so on: [`Counts`].
    pub(super) counts: [AtomicU64; Counts::COUNT],
    /// Where in the file the data of this step begin: maps, smaps, pagemap and mincore of the
    /// window, one after another.
    pub(super) data_at: AtomicU64,
}

/// The shared memory.
#[repr(C)]
pub(super) struct Ring {
    /// One of [`command`]; a futex.
    pub(super) command: AtomicU32,
    /// The step that is to be made next; a futex.
    pub(super) turn: AtomicU32,
    /// Number of steps.
    pub(super) count: AtomicU32,
    /// Forks made.
    pub(super) forked: AtomicU32,
    /// Bit `n`: process `n` lives.
    pub(super) alive: AtomicU32,
    /// The process ids, by number.
    pub(super) ids: [AtomicU32; MAX_PROCESSES],
    /// Wait status of the first process when it did not end by itself.
    pub(super) died: AtomicU32,
    /// Whether pages are looked at after every step.
    pub(super) look_at_pages: AtomicU32,
    /// The descriptor of the file for data, and how much of it is used.
    pub(super) data_fd: AtomicU32,
    pub(super) data_len: AtomicU64,
    /// What failed in the zygote: an index into [`super::child::FAILURES`].
    pub(super) failure: AtomicU32,
    /// With which errno.
    pub(super) errno: AtomicU32,
    /// The case: window, brk, number of files and their sizes.
    pub(super) window_start: AtomicU64,
    pub(super) window_end: AtomicU64,
    pub(super) brk: AtomicU64,
    pub(super) file_count: AtomicU64,
    pub(super) file_sizes: [AtomicU64; crate::case::MAX_FILES],
    /// [`Counts`] of the first process before the first step.
    pub(super) base: [AtomicU64; Counts::COUNT],
    /// The steps.
    pub(super) slots: [Slot; MAX_STEPS],
}

impl Ring {
    /// Waits while `word` is `value`, 100 ms at most.
    pub(super) fn wait(word: &AtomicU32, value: u32) {
        if word.load(SeqCst) == value {
            sys::futex_wait(word, value);
        }
    }

    /// Appends to the file for data.
    pub(super) fn append(&self, bytes: &[u8]) {
        let at = self.data_len.load(SeqCst);
        sys::pwrite(self.data_fd.load(SeqCst) as i32, bytes, at);
        self.data_len.store(at + bytes.len() as u64, SeqCst);
    }

    /// Sets `word` and wakes all that wait for it.
    pub(super) fn set(word: &AtomicU32, value: u32) {
        word.store(value, SeqCst);
        sys::futex_wake(word);
    }
}

impl Slot {
    pub(super) fn put(&self, step: &Step) {
        self.process.store(u64::from(step.process), SeqCst);
        self.kind.store(step.call.kind as u64, SeqCst);
        for (to, from) in self.args.iter().zip(step.call.args) {
            to.store(from, SeqCst);
        }
        self.tag.store(tag::NOT_MADE, SeqCst);
        self.maps_len.store(0, SeqCst);
        self.smaps_len.store(0, SeqCst);
    }

    pub(super) fn process(&self) -> u64 {
        self.process.load(SeqCst)
    }

    pub(super) fn call(&self) -> Call {
        let kind = Kind::ALL[self.kind.load(SeqCst) as usize % Kind::ALL.len()];
        Call { kind, args: std::array::from_fn(|at| self.args[at].load(SeqCst)) }
    }
}
