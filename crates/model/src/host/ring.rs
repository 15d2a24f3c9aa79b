//! The memory shared between this process and the oracle's children.
//!
//! Everything is atomic, so that a process which dies at any point leaves nothing half borrowed.

use super::sys;
use crate::call::{Call, Kind, MAX_ARGS, Step};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// Steps of a case at most.
pub(super) const MAX_STEPS: usize = 512;
/// Room for the maps lines of a step, in 8-byte words.
pub(super) const TEXT_WORDS: usize = 1536;

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
    /// Bytes of `text`; 0 when the areas were not looked at.
    pub(super) text_len: AtomicU64,
    /// Lines of /proc/self/maps, the window's among them.
    pub(super) text: [AtomicU64; TEXT_WORDS],
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
    /// Wait status of the first process when it did not end by itself.
    pub(super) died: AtomicU32,
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
        self.text_len.store(0, SeqCst);
    }

    pub(super) fn process(&self) -> u64 {
        self.process.load(SeqCst)
    }

    pub(super) fn call(&self) -> Call {
        let kind = Kind::ALL[self.kind.load(SeqCst) as usize % Kind::ALL.len()];
        Call { kind, args: std::array::from_fn(|at| self.args[at].load(SeqCst)) }
    }

    /// The text, as bytes.
    pub(super) fn text(&self) -> Vec<u8> {
        let len = (self.text_len.load(SeqCst) as usize).min(TEXT_WORDS * 8);
        let words = self.text[..len.div_ceil(8)].iter();
        let mut bytes: Vec<u8> = words.flat_map(|word| word.load(SeqCst).to_ne_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}
