//! Searching the tree for free room: the lowest or the highest gap that is long enough.
//!
//! Limits clip the gaps at either edge, so at most two subtrees a level are entered in vain. Guard
//! gaps are the caller's: whether one is in the way is known only of the area above a gap that was
//! found.

use super::node::Summary;
use super::tree::Tree;

/// What is searched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// Pages, at least 1.
    pub(super) len: u64,
    /// Nothing below may be used.
    pub(super) low: u64,
    /// Nothing from here on may be used.
    pub(super) high: u64,
}

impl Wanted {
    /// The part of the gap from `start` to `end` that may be used, when that is enough.
    #[inline]
    fn clip(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (start, end) = (start.max(self.low), end.min(self.high));
        (end.saturating_sub(start) >= self.len).then_some((start, end))
    }
}

impl<const LEAF: usize, const FAN: usize, A: Default> Tree<LEAF, FAN, A> {
    /// The usable part of the highest gap with enough room, as start and end.
    pub(super) fn highest_gap(&self, wanted: Wanted) -> Option<(u64, u64)> {
        let Some(Summary { start, end, gap }) = self.extent() else {
            return wanted.clip(0, u64::MAX);
        };
        let within = || self.highest_below(self.root, self.height, wanted);
        wanted
            .clip(end, u64::MAX)
            .or_else(|| if gap < wanted.len { None } else { within() })
            .or_else(|| wanted.clip(0, start))
    }

    /// The usable part of the lowest gap with enough room, as start and end.
    pub(super) fn lowest_gap(&self, wanted: Wanted) -> Option<(u64, u64)> {
        let Some(Summary { start, end, gap }) = self.extent() else {
            return wanted.clip(0, u64::MAX);
        };
        let within = || self.lowest_below(self.root, self.height, wanted);
        wanted
            .clip(0, start)
            .or_else(|| if gap < wanted.len { None } else { within() })
            .or_else(|| wanted.clip(end, u64::MAX))
    }

    /// Start of the first and end of the last area, and the largest gap between.
    fn extent(&self) -> Option<Summary> {
        if self.len() == 0 {
            return None;
        }
        let summary = if self.height == 0 {
            self.leaf(self.root).summary()
        } else {
            self.inner(self.root).summary()
        };
        Some(summary)
    }

    fn highest_below(&self, node: u32, height: usize, wanted: Wanted) -> Option<(u64, u64)> {
        if height == 0 {
            let leaf = self.leaf(node);
            let mut start = leaf.start(leaf.len() - 1);
            for at in (0..leaf.len() - 1).rev() {
                let end = leaf.end(at);
                if let Some(found) = wanted.clip(end, start) {
                    return Some(found);
                }
                if end <= wanted.low {
                    return None;
                }
                start = leaf.start(at);
            }
            return None;
        }
        let inner = self.inner(node);
        let mut start = 0;
        for at in (0..inner.len()).rev() {
            let child = inner.summary_of(at);
            if let Some(found) = wanted.clip(child.end, start) {
                return Some(found);
            }
            if child.end <= wanted.low {
                return None;
            }
            if child.gap >= wanted.len && child.start < wanted.high {
                let found = self.highest_below(inner.child(at), height - 1, wanted);
                if found.is_some() {
                    return found;
                }
            }
            start = child.start;
        }
        None
    }

    fn lowest_below(&self, node: u32, height: usize, wanted: Wanted) -> Option<(u64, u64)> {
        if height == 0 {
            let leaf = self.leaf(node);
            let mut end = leaf.end(0);
            for at in 1..leaf.len() {
                let start = leaf.start(at);
                if let Some(found) = wanted.clip(end, start) {
                    return Some(found);
                }
                end = leaf.end(at);
                if end >= wanted.high {
                    return None;
                }
            }
            return None;
        }
        let inner = self.inner(node);
        let mut end = u64::MAX;
        for at in 0..inner.len() {
            let child = inner.summary_of(at);
            if let Some(found) = wanted.clip(end, child.start) {
                return Some(found);
            }
            if child.gap >= wanted.len && child.end > wanted.low {
                let found = self.lowest_below(inner.child(at), height - 1, wanted);
                if found.is_some() {
                    return found;
                }
            }
            end = child.end;
            if end >= wanted.high {
                return None;
            }
        }
        None
    }
}
