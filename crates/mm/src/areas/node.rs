//! Nodes above the leaves of the area tree: in order, each knowing the largest gap below it.
//!
//! ```text
//!  Inner  | line ends ... | ends ... | children ... | starts ... | gaps ... |
//! ```
//!
//! What a search compares lies together. Unused ends are [`UNUSED`], which lets a search look at all
//! of them and never at the length. Everything is counted in pages.
//!
//! A *gap* runs from an area's end to the next one's start. A node's `max_gap` is the largest gap
//! between two areas below it; gaps before its first and after its last area belong to the node
//! above. So a node's summary depends on nothing outside it.

/// What a node tells the one above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Summary {
    /// Start of the first area.
    pub(super) start: u64,
    /// End of the last area.
    pub(super) end: u64,
    /// Largest gap between two areas below.
    pub(super) gap: u64,
}

/// The pages of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// First page.
    pub(super) start: u64,
    /// First page past it.
    pub(super) end: u64,
}

/// The end of an entry that is not there: above every page of a user.
const UNUSED: u64 = i64::MAX as u64;

/// Ends in a cache line.
const LINE: usize = 8;
/// Most lines of ends in an inner node.
const LINES: usize = 16;

/// Number of leading ends that are at most `page`: the index of the first entry that ends above;
/// `N`, or that of an unused entry, when there is none.
///
/// No branch depends on what is compared: the outcome of a random look-up cannot be predicted. All
/// ends are below 2^63, so the sign of a difference tells; the baseline x86-64 has vectors of sums
/// and shifts of 64 bits, but none of comparisons.
#[inline]
fn first_ending_above<const N: usize>(ends: &[u64; N], page: u64) -> usize {
    let page = page.min(UNUSED - 1);
    N - ends.iter().map(|&end| page.wrapping_sub(end) >> 63).sum::<u64>() as usize
}

/// The largest of a set whose maximum was `max`, after `old` was replaced by `new` in it.
#[inline]
pub(super) fn replaced_max(max: u64, old: u64, new: u64, rescan: impl FnOnce() -> u64) -> u64 {
    if new >= max {
        new
    } else if old == max {
        rescan()
    } else {
        max
    }
}

/// Nodes in order, at most `N`.
#[repr(C, align(64))]
pub(super) struct Inner<const N: usize> {
    /// The last end of each line of `ends`: which line to search.
    line_ends: [u64; LINES],
    ends: [u64; N],
    children: [u32; N],
    starts: [u64; N],
    gaps: [u64; N],
    max_gap: u64,
    len: u32,
}

impl<const N: usize> Default for Inner<N> {
    fn default() -> Self {
        const { assert!(N >= 4 && N <= LINE * LINES) };
        Self {
            line_ends: [UNUSED; LINES],
            ends: [UNUSED; N],
            children: [0; N],
            starts: [0; N],
            gaps: [0; N],
            max_gap: 0,
            len: 0,
        }
    }
}

impl<const N: usize> Inner<N> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Index of the first child that ends above `page`; the length, when there is none.
    #[inline]
    pub(super) fn first_ending_above(&self, page: u64) -> usize {
        let line = first_ending_above(&self.line_ends, page);
        let at = match self.ends.as_chunks::<LINE>().0.get(line) {
            Some(ends) => line * LINE + first_ending_above(ends, page),
            // The line that is not full, in nodes smaller than one.
            None => {
                line * LINE + self.ends.iter().skip(line * LINE).filter(|&&end| end <= page).count()
            }
        };
        at.min(self.len())
    }

    /// Brings `line_ends` up to date with `ends`.
    fn index(&mut self) {
        for (line, ends) in self.line_ends.iter_mut().zip(self.ends.as_chunks::<LINE>().0) {
            *line = ends[LINE - 1];
        }
    }

    #[inline]
    pub(super) fn child(&self, at: usize) -> u32 {
        self.children[at]
    }

    pub(super) fn summary_of(&self, at: usize) -> Summary {
        Summary { start: self.starts[at], end: self.ends[at], gap: self.gaps[at] }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary { start: self.starts[0], end: self.ends[self.len() - 1], gap: self.max_gap }
    }

    /// The largest gap that entry `at` takes part in: inside, before and after it.
    #[inline]
    fn gap_around(&self, at: usize) -> u64 {
        let mut max = 0;
        if at < self.len() {
            max = self.gaps[at];
            if at > 0 {
                max = max.max(self.starts[at] - self.ends[at - 1]);
            }
            if at + 1 < self.len() {
                max = max.max(self.starts[at + 1] - self.ends[at]);
            }
        }
        max
    }

    pub(super) fn scan_gaps(&self) -> u64 {
        let mut max = 0;
        let mut end = self.starts[0];
        for at in 0..self.len() {
            max = max.max(self.gaps[at]).max(self.starts[at] - end);
            end = self.ends[at];
        }
        max
    }

    fn put(&mut self, at: usize, child: u32, summary: Summary) {
        self.starts[at] = summary.start;
        self.ends[at] = summary.end;
        self.gaps[at] = summary.gap;
        self.children[at] = child;
    }

    /// Records what the child at `at` now tells.
    pub(super) fn set_summary(&mut self, at: usize, summary: Summary) {
        let old = self.gap_around(at);
        self.put(at, self.children[at], summary);
        if at % LINE == LINE - 1 {
            self.line_ends[at / LINE] = summary.end;
        }
        let new = self.gap_around(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    /// Adds a child; there is room.
    pub(super) fn insert(&mut self, at: usize, child: u32, summary: Summary) {
        let len = self.len();
        self.starts.copy_within(at..len, at + 1);
        self.ends.copy_within(at..len, at + 1);
        self.gaps.copy_within(at..len, at + 1);
        self.children.copy_within(at..len, at + 1);
        self.len += 1;
        self.put(at, child, summary);
        self.index();
        self.max_gap = self.scan_gaps();
    }

    /// Takes a child out.
    pub(super) fn remove(&mut self, at: usize) -> u32 {
        let len = self.len();
        let child = self.children[at];
        self.starts.copy_within(at + 1..len, at);
        self.ends.copy_within(at + 1..len, at);
        self.gaps.copy_within(at + 1..len, at);
        self.children.copy_within(at + 1..len, at);
        self.ends[len - 1] = UNUSED;
        self.len -= 1;
        self.index();
        self.max_gap = self.scan_gaps();
        child
    }

    /// Moves the children from `at` on into a new node.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::default();
        for from in at..self.len() {
            upper.put(from - at, self.children[from], self.summary_of(from));
            upper.len += 1;
        }
        self.len = at as u32;
        self.ends[at..].fill(UNUSED);
        self.index();
        upper.index();
        self.max_gap = self.scan_gaps();
        upper.max_gap = upper.scan_gaps();
        upper
    }

    /// Appends all children of the node that follows; there is room.
    pub(super) fn append(&mut self, upper: &Self) {
        for from in 0..upper.len() {
            self.put(self.len(), upper.children[from], upper.summary_of(from));
            self.len += 1;
        }
        self.index();
        self.max_gap = self.scan_gaps();
    }
}
