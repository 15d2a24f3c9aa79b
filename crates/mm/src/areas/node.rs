//! Nodes above the leaves of the area tree: in order, each knowing the largest gap below it.
//!
//! ```text
//!  Inner  | last keys ... | keys ..., children ... | keys ..., children ... | ... | summaries ... |
//! ```
//!
//! What a search compares lies together. Unused keys are [`UNUSED`], which lets a search look at all
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

/// Children in a group: their keys and numbers are one cache line.
const GROUP: usize = 8;
/// Groups of an inner node: their last keys, and what else a search looks at first, are two lines.
const GROUPS: usize = 28;
/// Most children of an inner node.
const MOST: usize = GROUP * GROUPS;
/// The key of an entry that is not there.
pub(super) const UNUSED: i32 = i32::MAX;
/// Highest key there is.
const MAX_KEY: u64 = UNUSED as u64 - 1;
/// Bases are multiples of so many pages (256 MiB): what is mapped downwards seldom moves them.
const BASE_STEP: u64 = 1 << 16;

/// What a node whose areas start at `low` counts pages from.
#[inline]
pub(super) fn base_for(low: u64) -> u64 {
    low / BASE_STEP * BASE_STEP
}

/// Number of leading keys that are at most `key`.
///
/// No branch depends on what is compared: the outcome of a random look-up cannot be predicted. Keys
/// are not negative, so the sign of a difference tells; a sum of signs becomes a few vectors.
#[inline]
pub(super) fn count_up_to<const N: usize>(keys: &[i32; N], key: i32) -> usize {
    N - keys.iter().map(|&each| key.wrapping_sub(each) as u32 >> 31).sum::<u32>() as usize
}

/// Moves what lies from `at` on one place up, over the last, and puts `value` there. Short arrays of
/// a fixed length: a few vectors, where a move of unknown length would be a call.
#[inline]
pub(super) fn shift_up<T: Copy, const N: usize>(values: &mut [T; N], at: usize, value: T) {
    let old = *values;
    for to in 1..N {
        values[to] = if to > at { old[to - 1] } else { old[to] };
    }
    values[at] = value;
}

/// Moves what lies above `at` one place down; `unused` comes in at the top.
#[inline]
pub(super) fn shift_down<T: Copy, const N: usize>(values: &mut [T; N], at: usize, unused: T) {
    let old = *values;
    for to in 0..N - 1 {
        values[to] = if to < at { old[to] } else { old[to + 1] };
    }
    values[N - 1] = unused;
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

/// Some children of a node, and what a search compares.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Group {
    keys: [i32; GROUP],
    children: [u32; GROUP],
}

const EMPTY: Group = Group { keys: [UNUSED; GROUP], children: [0; GROUP] };

/// Nodes in order, at most `N`.
///
/// Searches compare keys: ends, counted from `base`. Where ends are too far apart for that (8 TiB),
/// which near the root of a large address space they may be, the node is `wide`, and whole ends are
/// compared.
#[repr(C, align(64))]
pub(super) struct Inner<const N: usize> {
    base: u64,
    len: u32,
    wide: bool,
    /// The last key of each group: which one to search.
    last_keys: [i32; GROUPS],
    groups: [Group; GROUPS],
    max_gap: u64,
    summaries: [Summary; N],
}

impl<const N: usize> Default for Inner<N> {
    fn default() -> Self {
        const { assert!(N >= 4 && N <= MOST) };
        Self {
            last_keys: [UNUSED; GROUPS],
            groups: [EMPTY; GROUPS],
            base: 0,
            len: 0,
            wide: false,
            max_gap: 0,
            summaries: [Summary { start: 0, end: 0, gap: 0 }; N],
        }
    }
}

impl<const N: usize> Inner<N> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The first child that ends above `page`, with its index: the length, when there is none.
    #[inline]
    pub(super) fn first_ending_above(&self, page: u64) -> (usize, u32) {
        if self.wide {
            let children = &self.summaries[..self.len()];
            let at = children.partition_point(|child| child.end <= page);
            return (at, self.child(at.min(MOST - 1)));
        }
        let key = page.saturating_sub(self.base).min(MAX_KEY) as i32;
        let group = count_up_to(&self.last_keys, key);
        match self.groups.get(group) {
            Some(Group { keys, children }) => {
                let at = count_up_to(keys, key);
                // A group whose last key is higher has a key that is higher.
                (group * GROUP + at, children[at % GROUP])
            }
            None => (MOST, 0),
        }
    }

    /// The key of `end`, if it has one from this base.
    #[inline]
    fn key(&self, end: u64) -> Option<i32> {
        // Pages below the base count as 0, which no end may equal.
        let key = end.checked_sub(self.base).filter(|key| (1..=MAX_KEY).contains(key))?;
        (!self.wide).then_some(key as i32)
    }

    /// Makes all keys anew, from another base.
    #[cold]
    fn rekey(&mut self) {
        let len = self.len();
        let was_wide = self.wide;
        self.base = base_for(self.summaries[0].start);
        self.wide = len > 0 && self.summaries[len - 1].end - self.base > MAX_KEY;
        if self.wide && was_wide {
            return;
        }
        for (number, group) in self.groups.iter_mut().enumerate() {
            let children = self.summaries.iter().take(len).skip(number * GROUP);
            group.keys = [UNUSED; GROUP];
            if !self.wide {
                for (key, child) in group.keys.iter_mut().zip(children) {
                    *key = (child.end - self.base) as i32;
                }
            }
            self.last_keys[number] = group.keys[GROUP - 1];
        }
    }

    /// Moves keys and children from `at` on one place up.
    fn open(&mut self, at: usize, key: i32, child: u32) {
        let (first, last) = (at / GROUP, (self.len() / GROUP).min(GROUPS - 1));
        for number in (first + 1..=last).rev() {
            let Group { keys: [.., key], children: [.., child] } = self.groups[number - 1];
            let group = &mut self.groups[number];
            self.last_keys[number] = group.keys[GROUP - 2];
            group.keys.copy_within(..GROUP - 1, 1);
            group.children.copy_within(..GROUP - 1, 1);
            (group.keys[0], group.children[0]) = (key, child);
        }
        let group = &mut self.groups[first];
        shift_up(&mut group.keys, at % GROUP, key);
        shift_up(&mut group.children, at % GROUP, child);
        self.last_keys[first] = group.keys[GROUP - 1];
    }

    /// Moves keys and children above `at` one place down.
    fn close(&mut self, at: usize) {
        let (mut key, mut child) = (UNUSED, 0);
        for number in (at / GROUP..=(self.len() - 1) / GROUP).rev() {
            let from = if number == at / GROUP { at % GROUP } else { 0 };
            let group = &mut self.groups[number];
            let carried = (group.keys[from], group.children[from]);
            shift_down(&mut group.keys, from, key);
            shift_down(&mut group.children, from, child);
            self.last_keys[number] = group.keys[GROUP - 1];
            (key, child) = carried;
        }
    }

    #[inline]
    pub(super) fn child(&self, at: usize) -> u32 {
        self.groups[at / GROUP].children[at % GROUP]
    }

    pub(super) fn summary_of(&self, at: usize) -> Summary {
        self.summaries[at]
    }

    pub(super) fn summary(&self) -> Summary {
        let last = &self.summaries[self.len() - 1];
        Summary { start: self.summaries[0].start, end: last.end, gap: self.max_gap }
    }

    /// The gap between entries `at - 1` and `at`.
    #[inline]
    fn gap_before(&self, at: usize) -> u64 {
        if at == 0 || at >= self.len() {
            return 0;
        }
        self.summaries[at].start - self.summaries[at - 1].end
    }

    /// The largest gap that entry `at` takes part in: inside, before and after it.
    #[inline]
    fn gap_around(&self, at: usize) -> u64 {
        self.summaries[at].gap.max(self.gap_before(at)).max(self.gap_before(at + 1))
    }

    pub(super) fn scan_gaps(&self) -> u64 {
        self.scan_gaps_for(u64::MAX)
    }

    /// The largest gap, which is known to be at most `limit`: where gaps are alike, as those between
    /// stacks are, the first few tell.
    fn scan_gaps_for(&self, limit: u64) -> u64 {
        let mut max = 0;
        let mut end = self.summaries[0].start;
        for child in &self.summaries[..self.len()] {
            max = max.max(child.gap).max(child.start - end);
            if max >= limit {
                break;
            }
            end = child.end;
        }
        max
    }

    /// Records what the child at `at` now tells.
    pub(super) fn set_summary(&mut self, at: usize, summary: Summary) {
        let old = self.gap_around(at);
        self.summaries[at] = summary;
        match self.key(summary.end) {
            Some(key) => {
                self.groups[at / GROUP].keys[at % GROUP] = key;
                if at % GROUP == GROUP - 1 {
                    self.last_keys[at / GROUP] = key;
                }
            }
            None => self.rekey(),
        }
        let new = self.gap_around(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps_for(old));
    }

    /// Adds a child; there is room.
    pub(super) fn insert(&mut self, at: usize, child: u32, summary: Summary) {
        let len = self.len();
        let old = self.gap_before(at);
        self.summaries.copy_within(at..len, at + 1);
        self.summaries[at] = summary;
        let key = self.key(summary.end);
        self.open(at, key.unwrap_or(UNUSED), child);
        self.len += 1;
        if key.is_none() {
            self.rekey();
        }
        let new = self.gap_around(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps_for(old));
    }

    /// Takes a child out.
    pub(super) fn remove(&mut self, at: usize) -> u32 {
        let len = self.len();
        let child = self.child(at);
        let old = self.gap_around(at);
        self.summaries.copy_within(at + 1..len, at);
        self.close(at);
        self.len -= 1;
        if self.wide {
            self.rekey();
        }
        let new = self.gap_before(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps_for(old));
        child
    }

    /// Moves the children from `at` on into a new node.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::default();
        for from in at..self.len() {
            upper.push(self.child(from), self.summaries[from]);
        }
        self.len = at as u32;
        for node in [&mut *self, &mut upper] {
            node.rekey();
            node.max_gap = node.scan_gaps();
        }
        upper
    }

    /// Appends all children of the node that follows; there is room.
    pub(super) fn append(&mut self, upper: &Self) {
        for from in 0..upper.len() {
            self.push(upper.child(from), upper.summaries[from]);
        }
        self.rekey();
        self.max_gap = self.scan_gaps();
    }

    /// Puts a child behind the last; keys and the largest gap are yet to be found.
    fn push(&mut self, child: u32, summary: Summary) {
        let at = self.len();
        self.groups[at / GROUP].children[at % GROUP] = child;
        self.summaries[at] = summary;
        self.len += 1;
    }
}
