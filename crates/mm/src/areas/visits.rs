//! Counting visited nodes, so that tests can hold the cost of an operation without a clock.

use core::sync::atomic::{AtomicU64, Ordering};

/// Nodes visited since the last [`Visits::take`].
#[derive(Default)]
pub(super) struct Visits(AtomicU64);

impl Visits {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Clone for Visits {
    fn clone(&self) -> Self {
        Self::new()
    }
}
