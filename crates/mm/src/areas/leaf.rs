//! Leaves of the area tree: up to `N` areas in order, each in 29 bytes.
//!
//! ```text
//!  line 0 | ends ...   | base, end, prev     what a search compares
//!  line 1 | starts ... | max_gap, len, next
//!  line 2 | high_flags | flags ...
//!  rest   | slots ...  | owners ...
//! ```
//!
//! Pages are counted from the leaf's `base`, which makes 32 bits of them: the areas of a leaf start
//! within 2^31 pages (8 TiB) of each other. An area that starts farther away goes into another leaf
//! ([`Leaf::admits`]); so the few leaves that stay emptier than others are at most two for each
//! 8 TiB. The last area may be longer than that: its end is kept apart.

use super::node::{
    Span, Summary, UNUSED, base_for, count_up_to, replaced_max, shift_down, shift_up,
};
use core::array;
use core::mem;
use kilburn_addr::VmFlags;

/// What the tree keeps of an area besides its range.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Head<A> {
    /// `VM_*` flags.
    pub(super) flags: VmFlags,
    /// Where the rest of the area lies, if it has any.
    pub(super) slot: u32,
    /// Whom its anonymous pages belong to.
    pub(super) owner: A,
}

/// The end of an area that ends farther away than can be said: [`Leaf::end`] has it.
const FAR: i32 = UNUSED - 1;
/// Highest page that a search compares.
const MAX_SEARCHED: u64 = FAR as u64 - 1;
/// Highest page that an area starts at.
const MAX_START: u64 = MAX_SEARCHED - 1;

/// Flags above the lowest 32 bits are these four.
const HIGH_SHIFT: u32 = 40;
const HIGH_BITS: u32 = 4;
const HIGH_MASK: u64 = (1 << HIGH_BITS) - 1;
const _: () = {
    let kept = u32::MAX as u64 | HIGH_MASK << HIGH_SHIFT;
    assert!(VmFlags::all().bits() & !kept == 0, "a leaf keeps every flag there is");
};

/// Areas in order, at most `N`, each with an owner `A`.
#[repr(C, align(64))]
pub(super) struct Leaf<const N: usize, A> {
    ends: [i32; N],
    /// The leaf before this one; `u32::MAX` for none.
    pub(super) prev: u32,
    base: u64,
    /// End of the last area.
    end: u64,
    starts: [i32; N],
    len: u32,
    max_gap: u64,
    /// The leaf after this one; `u32::MAX` for none.
    pub(super) next: u32,
    /// Four bits each, the first entry's lowest.
    high_flags: u64,
    flags: [u32; N],
    slots: [u32; N],
    owners: [A; N],
}

impl<const N: usize, A: Default> Default for Leaf<N, A> {
    fn default() -> Self {
        const { assert!(N >= 4 && N as u32 * HIGH_BITS < u64::BITS) };
        Self {
            ends: [UNUSED; N],
            prev: u32::MAX,
            base: 0,
            end: 0,
            starts: [0; N],
            len: 0,
            max_gap: 0,
            next: u32::MAX,
            high_flags: 0,
            flags: [0; N],
            slots: [0; N],
            owners: array::from_fn(|_| A::default()),
        }
    }
}

impl<const N: usize, A: Default> Leaf<N, A> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Index of the first entry that ends above `page`.
    #[inline]
    pub(super) fn first_ending_above(&self, page: u64) -> Option<usize> {
        if page >= self.end {
            return None;
        }
        Some(count_up_to(&self.ends, page.saturating_sub(self.base).min(MAX_SEARCHED) as i32))
    }

    /// Index of the entry that a span starting at `start` goes before.
    #[inline]
    pub(super) fn place_for(&self, start: u64) -> usize {
        self.first_ending_above(start).unwrap_or(self.len())
    }

    #[inline]
    pub(super) fn slot(&self, at: usize) -> u32 {
        self.slots[at]
    }

    #[inline]
    pub(super) fn set_slot(&mut self, at: usize, slot: u32) {
        self.slots[at] = slot;
    }

    #[inline]
    pub(super) fn owner(&self, at: usize) -> &A {
        &self.owners[at]
    }

    #[inline]
    pub(super) fn set_owner(&mut self, at: usize, owner: A) {
        self.owners[at] = owner;
    }

    /// What is kept of entry `at`; its owner is taken out.
    #[inline]
    fn take_head(&mut self, at: usize) -> Head<A> {
        let owner = mem::take(&mut self.owners[at]);
        Head { flags: self.flags(at), slot: self.slots[at], owner }
    }

    #[inline]
    pub(super) fn flags(&self, at: usize) -> VmFlags {
        let high = self.high_flags >> (at as u32 * HIGH_BITS) & HIGH_MASK;
        VmFlags::from_bits_retain(u64::from(self.flags[at]) | high << HIGH_SHIFT)
    }

    #[inline]
    pub(super) fn set_flags(&mut self, at: usize, flags: VmFlags) {
        self.flags[at] = flags.bits() as u32;
        let shift = at as u32 * HIGH_BITS;
        let high = flags.bits() >> HIGH_SHIFT & HIGH_MASK;
        self.high_flags = self.high_flags & !(HIGH_MASK << shift) | high << shift;
    }

    /// Moves flags, slots and owners from `at` on one place up.
    #[inline]
    fn open(&mut self, at: usize, head: Head<A>) {
        shift_up(&mut self.flags, at, 0);
        shift_up(&mut self.slots, at, head.slot);
        let mut owner = head.owner;
        for place in &mut self.owners[at..=self.len as usize] {
            mem::swap(place, &mut owner);
        }
        let below = (1_u64 << (at as u32 * HIGH_BITS)) - 1;
        self.high_flags = self.high_flags & below | (self.high_flags & !below) << HIGH_BITS;
        self.set_flags(at, head.flags);
        self.len += 1;
    }

    /// Moves flags, slots and owners above `at` one place down; the owner there was taken out.
    #[inline]
    fn close(&mut self, at: usize) {
        shift_down(&mut self.flags, at, 0);
        shift_down(&mut self.slots, at, 0);
        let mut owner = A::default();
        for place in self.owners[at..self.len as usize].iter_mut().rev() {
            mem::swap(place, &mut owner);
        }
        let below = (1_u64 << (at as u32 * HIGH_BITS)) - 1;
        self.high_flags = self.high_flags & below | self.high_flags >> HIGH_BITS & !below;
        self.len -= 1;
    }

    #[inline]
    pub(super) fn end(&self, at: usize) -> u64 {
        let end = self.ends[at];
        if end == FAR { self.end } else { self.base + end as u64 }
    }

    #[inline]
    pub(super) fn start(&self, at: usize) -> u64 {
        self.base + self.starts[at] as u64
    }

    #[inline]
    pub(super) fn span(&self, at: usize) -> Span {
        Span { start: self.start(at), end: self.end(at) }
    }

    /// End of the last entry; 0 when there is none.
    #[inline]
    pub(super) fn last_end(&self) -> u64 {
        self.end
    }

    /// What the leaf, which is not empty, tells the node above.
    #[inline]
    pub(super) fn summary(&self) -> Summary {
        Summary { start: self.start(0), end: self.end, gap: self.max_gap }
    }

    /// The gap before entry `at`, within this leaf.
    #[inline]
    fn gap_before(&self, at: usize) -> u64 {
        if at == 0 || at >= self.len() { 0 } else { (self.starts[at] - self.ends[at - 1]) as u64 }
    }

    pub(super) fn scan_gaps(&self) -> u64 {
        // Where nothing is, starts are 0 and ends high: no gap.
        let gaps = self.starts[1..].iter().zip(&self.ends).map(|(start, end)| start - end);
        gaps.fold(0, i32::max) as u64
    }

    /// Whether a span from `start` can be entry `at`, the one that is there moved up or replaced.
    #[inline]
    pub(super) fn admits(&self, at: usize, start: u64, entry: Entry) -> bool {
        let len = self.len();
        let (first, last) = match entry {
            _ if len == 0 => return true,
            Entry::Added => (at == 0, at == len),
            Entry::Replaced => (at == 0, at + 1 == len),
        };
        let low = if first { start } else { self.start(0) };
        let high = if last { start } else { self.start(len - 1) };
        high - base_for(low) <= MAX_START
    }

    /// Whether `start` can be said from the base there is.
    #[inline]
    pub(super) fn reaches(&self, start: u64) -> bool {
        start >= self.base && start - self.base <= MAX_START
    }

    #[inline]
    fn offset_of_end(&self, end: u64) -> i32 {
        (end - self.base).min(FAR as u64) as i32
    }

    /// Adds an entry; there is room, and the leaf admits it.
    pub(super) fn insert(&mut self, at: usize, span: Span, head: Head<A>) {
        if self.len == 0 {
            self.base = base_for(span.start);
        } else if !self.reaches(span.start) {
            self.rebase(span.start.min(self.start(0)));
        }
        if at == self.len() {
            self.end = span.end;
        }
        let old = self.gap_before(at);
        let end = self.offset_of_end(span.end);
        shift_up(&mut self.starts, at, (span.start - self.base) as i32);
        shift_up(&mut self.ends, at, end);
        self.open(at, head);
        let new = self.gap_before(at).max(self.gap_before(at + 1));
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    /// Cuts entry `at` in two around `hole`; the upper part has `head`. There is room, and the base
    /// reaches.
    pub(super) fn cut(&mut self, at: usize, hole: Span, head: Head<A>) {
        // Of the old entry's start and end, the lower part has one, the upper one the other.
        let (end, start) = ((hole.start - self.base) as i32, (hole.end - self.base) as i32);
        shift_up(&mut self.starts, at + 1, start);
        shift_up(&mut self.ends, at, end);
        self.open(at + 1, head);
        self.max_gap = self.max_gap.max(hole.end - hole.start);
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: usize) -> (Span, Head<A>) {
        let removed = (self.span(at), self.take_head(at));
        let old = self.gap_before(at).max(self.gap_before(at + 1));
        if at + 1 == self.len() {
            self.end = if at == 0 { 0 } else { self.end(at - 1) };
        }
        shift_down(&mut self.starts, at, 0);
        shift_down(&mut self.ends, at, UNUSED);
        self.close(at);
        let new = self.gap_before(at);
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
        removed
    }

    /// Replaces an entry's range; the order stays, and the leaf admits it.
    pub(super) fn set_range(&mut self, at: usize, span: Span) {
        if !self.reaches(span.start) {
            // The base has to move, perhaps to where the old range could not be said from.
            let mut moved = Self { prev: self.prev, next: self.next, ..Self::default() };
            for from in 0..self.len() {
                let span = if from == at { span } else { self.span(from) };
                moved.push(span, self.take_head(from));
            }
            *self = moved;
            return;
        }
        let old = self.gap_before(at).max(self.gap_before(at + 1));
        if at + 1 == self.len() {
            self.end = span.end;
        }
        self.starts[at] = (span.start - self.base) as i32;
        self.ends[at] = self.offset_of_end(span.end);
        let new = self.gap_before(at).max(self.gap_before(at + 1));
        self.max_gap = replaced_max(self.max_gap, old, new, || self.scan_gaps());
    }

    fn push(&mut self, span: Span, head: Head<A>) {
        self.insert(self.len(), span, head);
    }

    /// Counts from the base for a leaf that starts at `low`.
    #[cold]
    fn rebase(&mut self, low: u64) {
        let spans: [Span; N] = array::from_fn(|at| self.span(at));
        self.base = base_for(low);
        for (at, span) in spans.into_iter().enumerate().take(self.len()) {
            self.starts[at] = (span.start - self.base) as i32;
            self.ends[at] = self.offset_of_end(span.end);
        }
    }

    /// Moves the entries from `at` on into a leaf of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let moved = self.len() - at;
        let mut upper =
            Self { base: self.base, end: self.end, len: moved as u32, ..Self::default() };
        upper.starts[..moved].copy_from_slice(&self.starts[at..self.len()]);
        upper.ends[..moved].copy_from_slice(&self.ends[at..self.len()]);
        upper.flags[..moved].copy_from_slice(&self.flags[at..self.len()]);
        upper.high_flags = self.high_flags >> (at as u32 * HIGH_BITS);
        upper.slots[..moved].copy_from_slice(&self.slots[at..self.len()]);
        upper.owners[..moved].swap_with_slice(&mut self.owners[at..self.len as usize]);
        self.end = if at == 0 { 0 } else { self.end(at - 1) };
        self.len = at as u32;
        self.starts[at..].fill(0);
        self.ends[at..].fill(UNUSED);
        self.max_gap = self.scan_gaps();
        upper.max_gap = upper.scan_gaps();
        upper
    }

    /// Whether all entries of the leaf that follows can be had as well.
    pub(super) fn admits_all(&self, upper: &Self) -> bool {
        upper.start(upper.len() - 1) - base_for(self.start(0)) <= MAX_START
    }

    /// Appends all entries of the leaf that follows; there is room, and they are admitted.
    pub(super) fn append(&mut self, mut upper: Self) {
        for from in 0..upper.len() {
            self.push(upper.span(from), upper.take_head(from));
        }
    }
}

/// What becomes of an entry of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// It and all above move up.
    Added,
    /// It has another range.
    Replaced,
}
