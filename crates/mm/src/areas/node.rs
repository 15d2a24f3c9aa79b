//! Nodes of the area tree: wide, in order, each knowing the largest gap below it.
//!
//! ```text
//!  Leaf   | start end slot | start end slot | ...      one entry an area
//!  Inner  | start end gap child | ...                  one entry a node below
//! ```
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

/// An area as the tree sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// First address.
    pub(super) start: u64,
    /// First address past it.
    pub(super) end: u64,
    /// Where its value lies.
    pub(super) slot: u32,
}

/// Number of leading `ends` that are at most `addr`: the index of the first entry that ends above.
#[inline]
pub(super) fn first_ending_above(ends: &[u64], addr: u64) -> usize {
    let mut base = 0;
    let mut size = ends.len();
    while size > 1 {
        let half = size / 2;
        // A select, not a branch: the outcome of a random look-up cannot be predicted.
        base = if ends[base + half - 1] <= addr { base + half } else { base };
        size -= half;
    }
    if size == 1 && ends[base] <= addr { base + 1 } else { base }
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

/// Areas in order.
#[derive(Clone)]
pub(super) struct Leaf<const N: usize> {
    len: u8,
    /// The leaf after this one; `u32::MAX` for none.
    pub(super) next: u32,
    /// The leaf before this one; `u32::MAX` for none.
    pub(super) prev: u32,
    max_gap: u64,
    starts: [u64; N],
    ends: [u64; N],
    slots: [u32; N],
}

impl<const N: usize> Leaf<N> {
    pub(super) const fn new() -> Self {
        const { assert!(N >= 4 && N <= 255) };
        Self {
            len: 0,
            next: u32::MAX,
            prev: u32::MAX,
            max_gap: 0,
            starts: [0; N],
            ends: [0; N],
            slots: [0; N],
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn ends(&self) -> &[u64] {
        &self.ends[..self.len()]
    }

    #[inline]
    pub(super) fn slot(&self, at: usize) -> u32 {
        self.slots[at]
    }

    #[inline]
    pub(super) fn end(&self, at: usize) -> u64 {
        self.ends[at]
    }

    #[inline]
    pub(super) fn start(&self, at: usize) -> u64 {
        self.starts[at]
    }

    pub(super) fn span(&self, at: usize) -> Span {
        Span { start: self.starts[at], end: self.ends[at], slot: self.slots[at] }
    }

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

    pub(super) fn rescan(&mut self) {
        self.max_gap = self.scan_gaps();
    }

    fn put(&mut self, at: usize, span: Span) {
        self.starts[at] = span.start;
        self.ends[at] = span.end;
        self.slots[at] = span.slot;
    }

    /// Adds an entry; there is room.
    pub(super) fn insert(&mut self, at: usize, span: Span) {
        let len = self.len();
        let old = self.gap_before(at);
        self.starts.copy_within(at..len, at + 1);
        self.ends.copy_within(at..len, at + 1);
        self.slots.copy_within(at..len, at + 1);
        self.len += 1;
        self.put(at, span);
        let new = self.gap_before(at).max(self.gap_before(at + 1));
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: usize) -> Span {
        let len = self.len();
        let span = self.span(at);
        let old = self.gap_before(at).max(self.gap_before(at + 1));
        self.starts.copy_within(at + 1..len, at);
        self.ends.copy_within(at + 1..len, at);
        self.slots.copy_within(at + 1..len, at);
        self.len -= 1;
        let new = self.gap_before(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
        span
    }

    /// Replaces an entry's range; the order stays.
    pub(super) fn set_range(&mut self, at: usize, start: u64, end: u64) {
        let old = self.gap_before(at).max(self.gap_before(at + 1));
        self.starts[at] = start;
        self.ends[at] = end;
        let new = self.gap_before(at).max(self.gap_before(at + 1));
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    /// Moves the entries from `at` on into an empty leaf.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::new();
        for from in at..self.len() {
            upper.put(from - at, self.span(from));
            upper.len += 1;
        }
        self.len = at as u8;
        self.rescan();
        upper.rescan();
        upper
    }

    /// Appends all entries of the leaf that follows; there is room.
    pub(super) fn append(&mut self, upper: &Self) {
        for from in 0..upper.len() {
            self.put(self.len(), upper.span(from));
            self.len += 1;
        }
        self.rescan();
    }
}

/// Nodes in order.
#[derive(Clone)]
pub(super) struct Inner<const N: usize> {
    len: u8,
    max_gap: u64,
    starts: [u64; N],
    ends: [u64; N],
    gaps: [u64; N],
    children: [u32; N],
}

impl<const N: usize> Inner<N> {
    pub(super) const fn new() -> Self {
        Self { len: 0, max_gap: 0, starts: [0; N], ends: [0; N], gaps: [0; N], children: [0; N] }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn ends(&self) -> &[u64] {
        &self.ends[..self.len()]
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
        self.len -= 1;
        self.max_gap = self.scan_gaps();
        child
    }

    /// Moves the children from `at` on into a new node.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::new();
        for from in at..self.len() {
            upper.put(from - at, self.children[from], self.summary_of(from));
            upper.len += 1;
        }
        self.len = at as u8;
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
        self.max_gap = self.scan_gaps();
    }
}
