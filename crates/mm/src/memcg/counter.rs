//! A count of pages with a limit and a peak (Linux 6.18 mm/page_counter.c: `struct page_counter`).

use core::sync::atomic::{AtomicU64, Ordering};

/// Pages in use of those that may be.
#[derive(Debug)]
pub struct PageCounter {
    usage: AtomicU64,
    max: AtomicU64,
    peak: AtomicU64,
}

impl Default for PageCounter {
    fn default() -> Self {
        Self {
            usage: AtomicU64::new(0),
            max: AtomicU64::new(Self::NO_LIMIT),
            peak: AtomicU64::new(0),
        }
    }
}

impl PageCounter {
    /// The limit of who has none.
    pub const NO_LIMIT: u64 = u64::MAX;

    /// Pages in use.
    pub fn usage(&self) -> u64 {
        self.usage.load(Ordering::Relaxed)
    }

    /// Most pages that may be in use.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Sets the limit. What is in use above it stays in use.
    pub fn set_max(&self, pages: u64) {
        self.max.store(pages, Ordering::Relaxed);
    }

    /// Most pages in use so far.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Pages that may still come into use.
    pub(crate) fn margin(&self) -> u64 {
        self.max().saturating_sub(self.usage())
    }

    /// One page more, unless the limit is in the way; whether it is in use now.
    pub(super) fn try_charge(&self) -> bool {
        let now = self.usage.fetch_add(1, Ordering::Relaxed) + 1;
        if now > self.max() {
            self.uncharge();
            return false;
        }
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
        true
    }

    /// One page less.
    pub(super) fn uncharge(&self) {
        let before = self.usage.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a page uncharged twice");
    }
}
