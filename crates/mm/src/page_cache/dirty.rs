//! How many pages may wait to be written, and when they are (Linux 6.18 mm/page-writeback.c,
//! fs/fs-writeback.c).
//!
//! ```text
//!   dirty pages   0 ....... | background ............ | halfway .......... | limit
//!   flusher       what is old, every so often         |                    |
//!                           | writes until they are no more than this      |
//!   who dirties                                       | is made to wait    | writes them itself
//! ```
//!
//! Time is the embedder's: it tells what time it is ([`Memory::note_time`]), runs the flusher
//! ([`Memory::flush_old`], [`Memory::flush_background`]) and lets a task wait that
//! [`Memory::throttle`] says is to.

use super::AddressSpace;
use crate::memory::Use;
use crate::sysctl::Sysctl;
use crate::{Host, Memory};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kilburn_addr::PAGE_SIZE;

/// Pages a second that a store is thought to take (Linux `INIT_BW`: 100 MB/s).
const BANDWIDTH: u64 = 100 << (20 - 12);
/// Longest wait at once (Linux `MAX_PAUSE`).
const MAX_PAUSE_NS: u64 = 200_000_000;
/// A second in nanoseconds.
const SECOND_NS: u64 = 1_000_000_000;
/// How many pages a call dirties between two looks (Linux `ratelimit_pages`).
const LOOK_EVERY: u64 = 32;

/// From how many dirty pages on something is done, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirtyLimits {
    /// Pages are written in the background.
    pub background: u64,
    /// Nobody dirties more.
    pub limit: u64,
}

impl DirtyLimits {
    /// Where the waiting begins (Linux `dirty_freerun_ceiling`).
    fn halfway(self) -> u64 {
        u64::midpoint(self.background, self.limit)
    }
}

/// What is known of dirty pages besides their number.
#[derive(Default)]
pub(crate) struct Dirtying {
    /// What time it is, in nanoseconds, never 0.
    now_ns: AtomicU64,
    /// Pages dirtied that nobody was made to wait for yet.
    recent: AtomicU64,
    flusher_wanted: AtomicBool,
    /// When it is tried again to write pages that stayed dirty, as their stores failed.
    retry_at_ns: AtomicU64,
}

impl<H: Host> Memory<H> {
    /// When something is done about dirty pages (Linux `domain_dirty_limits`, for who runs at no
    /// elevated priority).
    pub fn dirty_limits(&self) -> DirtyLimits {
        let file = self.uses.get(Use::File);
        // What may become the page cache of a file, and one so that it is not nothing.
        let available = self.frames.free().saturating_sub(self.reclaim.marks.high) + file + 1;
        let pages = |bytes, ratio| match self.tunables.get(bytes) {
            0 => available * self.tunables.get(ratio) / 100,
            bytes => bytes.div_ceil(PAGE_SIZE),
        };
        let limit = pages(Sysctl::DirtyBytes, Sysctl::DirtyRatio);
        let background = pages(Sysctl::DirtyBackgroundBytes, Sysctl::DirtyBackgroundRatio);
        DirtyLimits { limit, background: if background >= limit { limit / 2 } else { background } }
    }

    /// Pages of files that wait to be written.
    pub fn dirty(&self) -> u64 {
        self.uses.get(Use::Dirty)
    }

    /// What time it is, for how old dirty pages are; in nanoseconds since some moment.
    pub fn note_time(&self, now_ns: u64) {
        self.dirtying.now_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// A page became dirty.
    pub(super) fn note_dirtied(&self) {
        self.uses.add(self.cpu(), Use::Dirty, 1);
        self.vm_events.nr_dirtied.fetch_add(1, Ordering::Relaxed);
        self.dirtying.recent.fetch_add(1, Ordering::Relaxed);
    }

    /// How long, in nanoseconds, whoever dirtied the pages that became dirty since this was last asked
    /// is to wait: as long as writing them takes, once too many are dirty (Linux
    /// `balance_dirty_pages`). Wakes the flusher when there is work for it.
    pub fn throttle(&self) -> u64 {
        if self.dirtying.recent.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let dirtied = self.dirtying.recent.swap(0, Ordering::Relaxed);
        let (limits, dirty) = (self.dirty_limits(), self.dirty());
        if dirty > limits.background && self.may_write() {
            self.dirtying.flusher_wanted.store(true, Ordering::Relaxed);
        }
        if dirty <= limits.halfway() {
            return 0;
        }
        Self::store_time_ns(dirtied).min(MAX_PAUSE_NS)
    }

    /// How long a store is thought to take for so many pages, in nanoseconds.
    pub fn store_time_ns(pages: u64) -> u64 {
        pages.saturating_mul(SECOND_NS) / BANDWIDTH
    }

    /// Whether writing is worth trying: not right after stores failed.
    fn may_write(&self) -> bool {
        let dirtying = &self.dirtying;
        let now = dirtying.now_ns.load(Ordering::Relaxed);
        now >= dirtying.retry_at_ns.load(Ordering::Relaxed)
    }

    /// A store failed: writing is tried again in a second.
    fn note_failure(&self) {
        let now = self.dirtying.now_ns.load(Ordering::Relaxed);
        self.dirtying.retry_at_ns.store(now + SECOND_NS, Ordering::Relaxed);
    }

    /// Whether so many pages are dirty that [`Self::flush_background`] is due.
    pub fn is_flusher_wanted(&self) -> bool {
        self.dirtying.flusher_wanted.load(Ordering::Relaxed)
    }

    /// Writes dirty pages until there are no more than the background limit, or all were tried.
    pub fn flush_background(&self) {
        self.dirtying.flusher_wanted.store(false, Ordering::Relaxed);
        if self.dirty() == 0 || !self.may_write() {
            return;
        }
        for (_, mapping) in self.all_mappings() {
            if self.dirty() <= self.dirty_limits().background {
                return;
            }
            // Who has the file open is told of a failure; the page stays dirty.
            if mapping.write_dirty(0..=u64::MAX).is_err() {
                self.note_failure();
            }
        }
    }

    /// Writes the dirty pages of files that have had some for `expire_ns` nanoseconds (Linux
    /// `wb_check_old_data_flush`).
    pub fn flush_old(&self, expire_ns: u64) {
        if self.dirty() == 0 {
            return;
        }
        let now = self.dirtying.now_ns.load(Ordering::Relaxed);
        for (_, mapping) in self.all_mappings() {
            let since = mapping.dirty_since_ns.load(Ordering::Relaxed);
            if since != 0 && now.saturating_sub(since) >= expire_ns {
                let _ = mapping.write_dirty(0..=u64::MAX);
            }
        }
    }
}

impl<H: Host> AddressSpace<H> {
    /// A page became dirty; of `dirty` that are in this file.
    pub(super) fn note_dirtied(&self, dirty: u64) {
        if dirty == 1 {
            let now = self.memory.dirtying.now_ns.load(Ordering::Relaxed);
            self.dirty_since_ns.store(now.max(1), Ordering::Relaxed);
        }
        self.memory.note_dirtied();
    }

    /// In the middle of a call that dirties many pages: once there are too many, it writes its own.
    pub(super) fn write_own_if_too_many(&self) {
        let memory = &self.memory;
        if memory.dirtying.recent.load(Ordering::Relaxed).is_multiple_of(LOOK_EVERY)
            && memory.dirty() > memory.dirty_limits().limit
            && memory.may_write()
            && self.write_dirty(0..=u64::MAX).is_err()
        {
            memory.note_failure();
        }
    }
}
