//! Half-open ranges of virtual addresses.

use crate::{PAGE_SHIFT, VirtAddr};
use core::fmt;

/// `start..end` of virtual addresses, `start <= end`, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AddrRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl AddrRange {
    /// The range `start..end`; `None` when `end` is below `start`.
    #[inline]
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Option<Self> {
        if end.get() < start.get() { None } else { Some(Self { start, end }) }
    }

    /// `len` bytes from `start`; `None` when the end wraps.
    #[inline]
    pub const fn with_len(start: VirtAddr, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// First address.
    #[inline]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// First address past the range.
    #[inline]
    pub const fn end(self) -> VirtAddr {
        self.end
    }

    /// Length in bytes.
    #[inline]
    pub const fn len(self) -> u64 {
        self.end.get() - self.start.get()
    }

    /// Length in whole pages (a partial page at the end does not count).
    #[inline]
    pub const fn pages(self) -> u64 {
        self.len() >> PAGE_SHIFT
    }

    /// Whether no address is inside.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.start.get() == self.end.get()
    }

    /// Whether `addr` is inside.
    #[inline]
    pub const fn contains(self, addr: VirtAddr) -> bool {
        self.start.get() <= addr.get() && addr.get() < self.end.get()
    }

    /// Whether all of `other` is inside.
    #[inline]
    pub const fn contains_range(self, other: Self) -> bool {
        self.start.get() <= other.start.get() && other.end.get() <= self.end.get()
    }

    /// Whether the two share an address.
    #[inline]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.get() < other.end.get() && other.start.get() < self.end.get()
    }

    /// What the two share; `None` when nothing.
    #[inline]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.get(), self.end.get())
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.start.get(), self.end.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> AddrRange {
        AddrRange::new(VirtAddr::new(start), VirtAddr::new(end)).expect("ordered")
    }

    #[test]
    fn touching_ranges_share_nothing() {
        assert!(!range(0, 10).overlaps(range(10, 20)));
        assert_eq!(range(0, 10).intersection(range(10, 20)), None);
        assert_eq!(range(0, 11).intersection(range(10, 20)), Some(range(10, 11)));
    }

    #[test]
    fn a_range_cannot_wrap() {
        assert_eq!(AddrRange::with_len(VirtAddr::MAX, 1), None);
        assert_eq!(AddrRange::new(VirtAddr::new(2), VirtAddr::new(1)), None);
    }
}
