//! Nodes of the area tree: in order, each knowing the largest gap below it.
//!
//! ```text
//!  Leaf   | ends ... | values ... | starts ... |              one of each an area
//!  Inner  | ends ... | children ... | starts ... | gaps ... |  one of each a node below
//! ```
//!
//! What a search compares lies together: the ends of a leaf are two cache lines. Unused ends are
//! [`UNUSED`], which lets a search look at all of them and never at the length.
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

/// Where an area lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// First address.
    pub(super) start: u64,
    /// First address past it.
    pub(super) end: u64,
}

/// The end of an entry that is not there: above every address of a user.
const UNUSED: u64 = i64::MAX as u64;

/// Ends in a cache line.
const LINE: usize = 8;
/// Most lines of ends in an inner node.
const LINES: usize = 16;

/// Number of leading ends that are at most `addr`: the index of the first entry that ends above;
/// `N`, or that of an unused entry, when there is none.
///
/// No branch depends on what is compared: the outcome of a random look-up cannot be predicted. All
/// ends are below 2^63, so the sign of a difference tells; the baseline x86-64 has vectors of sums
/// and shifts of 64 bits, but none of comparisons.
#[inline]
fn first_ending_above<const N: usize>(ends: &[u64; N], addr: u64) -> usize {
    let addr = addr.min(UNUSED - 1);
    N - ends.iter().map(|&end| addr.wrapping_sub(end) >> 63).sum::<u64>() as usize
}

/// The largest of a set whose maximum was `max`, after `old` was replaced by `new` in it.
#[inline]
fn replaced_max(max: u64, old: u64, new: u64, rescan: impl FnOnce() -> u64) -> u64 {
    if new >= max {
        new
    } else if old == max {
        rescan()
    } else {
        max
    }
}

/// Areas in order, at most `N`.
#[repr(C, align(64))]
pub(super) struct Leaf<V, const N: usize> {
    ends: [u64; N],
    values: [V; N],
    starts: [u64; N],
    max_gap: u64,
    /// The leaf after this one; `u32::MAX` for none.
    pub(super) next: u32,
    /// The leaf before this one; `u32::MAX` for none.
    pub(super) prev: u32,
    len: u32,
}

impl<V: Copy + Default, const N: usize> Default for Leaf<V, N> {
    fn default() -> Self {
        const { assert!(N >= 4) };
        Self {
            ends: [UNUSED; N],
            values: [V::default(); N],
            starts: [0; N],
            max_gap: 0,
            next: u32::MAX,
            prev: u32::MAX,
            len: 0,
        }
    }
}

impl<V: Copy + Default, const N: usize> Leaf<V, N> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Index of the first entry that ends above `addr`.
    #[inline]
    pub(super) fn first_ending_above(&self, addr: u64) -> Option<usize> {
        let at = first_ending_above(&self.ends, addr);
        // The length would be one more cache line.
        (*self.ends.get(at)? != UNUSED).then_some(at)
    }

    /// Index of the entry that a span starting at `start` goes before.
    #[inline]
    pub(super) fn place_for(&self, start: u64) -> usize {
        self.first_ending_above(start).unwrap_or(self.len())
    }

    #[inline]
    pub(super) fn value(&self, at: usize) -> V {
        self.values[at]
    }

    #[inline]
    pub(super) fn set_value(&mut self, at: usize, value: V) {
        self.values[at] = value;
    }

    #[inline]
    pub(super) fn end(&self, at: usize) -> u64 {
        self.ends[at]
    }

    #[inline]
    pub(super) fn start(&self, at: usize) -> u64 {
        self.starts[at]
    }

    #[inline]
    pub(super) fn span(&self, at: usize) -> Span {
        Span { start: self.starts[at], end: self.ends[at] }
    }

    /// What the leaf, which is not empty, tells the node above.
    #[inline]
    pub(super) fn summary(&self) -> Summary {
        Summary { start: self.starts[0], end: self.ends[self.len() - 1], gap: self.max_gap }
    }

    /// The gap before entry `at`, within this leaf.
    #[inline]
    fn gap_before(&self, at: usize) -> u64 {
        if at == 0 || at >= self.len() { 0 } else { self.starts[at] - self.ends[at - 1] }
    }

    pub(super) fn scan_gaps(&self) -> u64 {
        (1..self.len()).map(|at| self.gap_before(at)).max().unwrap_or(0)
    }

    fn put(&mut self, at: usize, span: Span, value: V) {
        (self.starts[at], self.ends[at], self.values[at]) = (span.start, span.end, value);
    }

    /// Adds an entry; there is room.
    pub(super) fn insert(&mut self, at: usize, span: Span, value: V) {
        let len = self.len();
        let old = self.gap_before(at);
        self.starts.copy_within(at..len, at + 1);
        self.ends.copy_within(at..len, at + 1);
        self.values.copy_within(at..len, at + 1);
        self.len += 1;
        self.put(at, span, value);
        let new = self.gap_before(at).max(self.gap_before(at + 1));
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: usize) -> (Span, V) {
        let len = self.len();
        let removed = (self.span(at), self.values[at]);
        let old = self.gap_before(at).max(self.gap_before(at + 1));
        self.starts.copy_within(at + 1..len, at);
        self.ends.copy_within(at + 1..len, at);
        self.values.copy_within(at + 1..len, at);
        self.ends[len - 1] = UNUSED;
        self.len -= 1;
        let new = self.gap_before(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
        removed
    }

    /// Replaces an entry's range; the order stays.
    pub(super) fn set_range(&mut self, at: usize, span: Span) {
        let old = self.gap_before(at).max(self.gap_before(at + 1));
        (self.starts[at], self.ends[at]) = (span.start, span.end);
        let new = self.gap_before(at).max(self.gap_before(at + 1));
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    /// Moves the entries from `at` on into a leaf of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::default();
        for from in at..self.len() {
            upper.put(from - at, self.span(from), self.values[from]);
            upper.len += 1;
        }
        self.len = at as u32;
        self.ends[at..].fill(UNUSED);
        self.max_gap = self.scan_gaps();
        upper.max_gap = upper.scan_gaps();
        upper
    }

    /// Appends all entries of the leaf that follows; there is room.
    pub(super) fn append(&mut self, upper: &Self) {
        for from in 0..upper.len() {
            self.put(self.len(), upper.span(from), upper.values[from]);
            self.len += 1;
        }
        self.max_gap = self.scan_gaps();
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

    /// Index of the first child that ends above `addr`; the length, when there is none.
    #[inline]
    pub(super) fn first_ending_above(&self, addr: u64) -> usize {
        let line = first_ending_above(&self.line_ends, addr);
        let at = match self.ends.as_chunks::<LINE>().0.get(line) {
            Some(ends) => line * LINE + first_ending_above(ends, addr),
            // The line that is not full, in nodes smaller than one.
            None => {
                line * LINE + self.ends.iter().skip(line * LINE).filter(|&&end| end <= addr).count()
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
