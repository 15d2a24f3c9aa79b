//! The areas of one address space: kept in order, found, placed, split and merged as Linux does.
//!
//! [`Areas`] holds them and knows nothing of tables or frames. Changes are decided first by pure
//! functions (`plan_*`, in [`plan`]) and applied afterwards (`commit_*`), which cannot fail. Where
//! Linux leaves something behind when it refuses a call, the refusal says so ([`Refused`]).
//!
//! - `tree`, `leaf`, `node`, `gaps`: a B+-tree of ranges and rights that knows the largest gap of every
//!   subtree. `arena`: where its nodes lie, and the areas.
//! - `merge`: which areas belong together (Linux 6.18 mm/vma.c: `is_mergeable_vma` and
//!   `is_mergeable_anon_vma`).
//! - [`place`]: where a mapping goes (`get_unmapped_area`).
//!
//! Invariants: **no-vma-overlap**, **gaps-are-exact** ([`Areas::check`]).

mod arena;
mod check;
mod gaps;
mod leaf;
mod merge;
mod node;
pub mod place;
pub mod plan;
mod tree;
#[cfg(test)]
mod visits;
pub mod vma;

#[cfg(test)]
mod tests;

pub use place::{Backing, PlaceRequest, Placement, Window};
pub use plan::{
    AreaWatch, Change, InsertPlan, ModifyPlan, Neighbours, Refused, StackGrowth, UnmapPlan,
};
pub use vma::{Vma, VmaExtra, VmaName, VmaRef};

use crate::Host;
use crate::anon_vma::AnonSlot;
use crate::layout::STACK_GUARD_GAP_BYTES;
use crate::userfault::Userfaultfd;
use alloc::string::String;
use alloc::sync::Arc;
use arena::Arena;
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};
use leaf::Head;
use node::Span;
use tree::{Cursor, NONE, Tree};
use vma::Rest;

/// Areas in a leaf: a search reads three cache lines, a change all five. docs/decisions/0005 has
/// figures.
const LEAF: usize = 11;
/// Children of a node above the leaves: with 224, two levels hold 200,000 areas.
const FAN: usize = 224;

/// The areas of an address space.
///
/// The tree's leaves keep of each area what most questions are about, and all there is about private
/// anonymous memory that is where it was made. What other areas have lies apart.
pub struct Areas<H: Host> {
    tree: Tree<LEAF, FAN, AnonSlot<H>>,
    rests: Arena<Rest<H>, 128>,
    guard_gap_bytes: u64,
    /// Areas that grow down, and so keep a guard gap.
    growing: usize,
}

/// An area's range and flags, without the rest of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaHead {
    /// Pages it covers.
    pub range: AddrRange,
    /// `VM_*` flags.
    pub flags: VmFlags,
}

/// Where an area was found, until areas change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found(Cursor);

/// A part of an address space that can be leased.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeaseWindow {
    /// Where areas may be: all areas in it lie wholly within.
    pub(crate) range: AddrRange,
    /// Whether no area ends where it starts.
    pub(crate) is_open_below: bool,
    /// Up to where tables may be freed: a stack's guard gap is no area.
    pub(crate) ceiling: VirtAddr,
}

impl<H: Host> Default for Areas<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Host> Areas<H> {
    /// No areas; growing stacks keep Linux's default guard gap.
    pub const fn new() -> Self {
        Self::with_guard_gap(STACK_GUARD_GAP_BYTES)
    }

    /// No areas; growing stacks keep `guard_gap_bytes` free below them (Linux `stack_guard_gap`).
    pub const fn with_guard_gap(guard_gap_bytes: u64) -> Self {
        Self { tree: Tree::new(), rests: Arena::new(), guard_gap_bytes, growing: 0 }
    }

    /// Bytes kept free below growing stacks.
    pub const fn guard_gap_bytes(&self) -> u64 {
        self.guard_gap_bytes
    }

    /// Number of areas (Linux `map_count`).
    #[inline]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tree.len() == 0
    }

    /// The area that contains `addr` (Linux `vma_lookup`).
    #[inline]
    pub fn containing(&self, addr: VirtAddr) -> Option<VmaRef<'_, H>> {
        self.cursor_containing(addr).map(|cursor| self.at(cursor))
    }

    /// The first area that ends above `addr` (Linux `find_vma`).
    #[inline]
    pub fn find(&self, addr: VirtAddr) -> Option<VmaRef<'_, H>> {
        self.tree.near(addr.vpn()).map(|cursor| self.at(cursor))
    }

    /// Where the first area is that ends above `addr`. For many threads at once: nothing is written, not
    /// even a note of where the area was found.
    #[inline]
    pub(crate) fn locate_shared(&self, addr: VirtAddr) -> Option<Found> {
        self.tree.find(addr.vpn()).map(Found)
    }

    /// The area that was found there, nothing having changed since.
    #[inline]
    pub(crate) fn found(&self, Found(cursor): Found) -> VmaRef<'_, H> {
        self.at(cursor)
    }

    /// Range and flags of the first area that ends above `addr`: a good deal cheaper than
    /// [`Self::find`] when there are many areas.
    #[inline]
    pub fn head(&self, addr: VirtAddr) -> Option<AreaHead> {
        self.tree.near(addr.vpn()).map(|cursor| self.head_at(cursor))
    }

    /// The last area that starts below `addr`, which it may contain (Linux `find_vma_prev`'s
    /// neighbour when `addr` is the start of an area or lies in a gap).
    pub fn before(&self, addr: VirtAddr) -> Option<VmaRef<'_, H>> {
        self.neighbours(addr).0
    }

    /// The last area that starts below `addr`, and the first one that starts there or above.
    pub fn neighbours(&self, addr: VirtAddr) -> (Option<VmaRef<'_, H>>, Option<VmaRef<'_, H>>) {
        let (before, after) = self.around(addr);
        (before.map(|cursor| self.at(cursor)), after.map(|cursor| self.at(cursor)))
    }

    /// Whether an area ends where `range`, that of an area, starts, or starts where it ends. For many
    /// threads at once.
    pub(crate) fn has_neighbour(&self, range: AddrRange) -> bool {
        let Some(cursor) = self.tree.find(range.start().vpn()) else { return false };
        let (before, after) = (self.tree.prev(cursor), self.tree.next(cursor));
        before.is_some_and(|before| self.range_at(before).end() == range.start())
            || after.is_some_and(|after| self.range_at(after).start() == range.end())
    }

    /// As [`Self::neighbours`], range and flags alone.
    pub fn neighbour_heads(&self, addr: VirtAddr) -> (Option<AreaHead>, Option<AreaHead>) {
        let (before, after) = self.around(addr);
        (before.map(|cursor| self.head_at(cursor)), after.map(|cursor| self.head_at(cursor)))
    }

    /// What can be leased around `range`: as much of `region` as has no area of more than the region,
    /// no stack that grows, and at most `most` areas on either side of where `range` begins.
    pub(crate) fn lease_window(
        &self,
        range: AddrRange,
        region: AddrRange,
        most: usize,
    ) -> LeaseWindow {
        let (mut below, mut above) = self.around(range.start());
        let (mut start, mut end, mut ceiling) = (region.start(), region.end(), region.end());
        let mut is_open_below = true;
        let stays = |area: &AreaHead, left: usize| {
            left == 0
                || !region.contains_range(area.range)
                || area.flags.contains(VmFlags::GROWSDOWN)
        };
        for left in (0..=most).rev() {
            let Some(area) = below.map(|cursor| self.head_at(cursor)) else { break };
            if stays(&area, left) {
                is_open_below = area.range.end() < start;
                start = start.max(area.range.end());
                break;
            }
            below = below.and_then(|cursor| self.tree.prev(cursor));
        }
        for left in (0..=most).rev() {
            let Some(area) = above.map(|cursor| self.head_at(cursor)) else { break };
            if stays(&area, left) {
                end = end.min(VirtAddr::new(self.guarded_start(&area)));
                ceiling = ceiling.min(area.range.start());
                break;
            }
            above = above.and_then(|cursor| self.tree.next(cursor));
        }
        LeaseWindow {
            range: AddrRange::new(start, end).unwrap_or_default(),
            is_open_below,
            ceiling,
        }
    }

    fn around(&self, addr: VirtAddr) -> (Option<Cursor>, Option<Cursor>) {
        let Some(found) = self.tree.near(addr.vpn()) else {
            return (self.tree.last(), None);
        };
        if self.range_at(found).start() < addr {
            (Some(found), self.tree.next(found))
        } else {
            (self.tree.prev(found), Some(found))
        }
    }

    /// Where the area that contains `addr` is.
    #[inline]
    fn cursor_containing(&self, addr: VirtAddr) -> Option<Cursor> {
        let cursor = self.tree.near(addr.vpn())?;
        (self.tree.span(cursor).start <= addr.vpn()).then_some(cursor)
    }

    /// The areas that share an address with `range`, in order.
    pub fn overlapping(&self, range: AddrRange) -> impl Iterator<Item = VmaRef<'_, H>> {
        self.cursors_in(range).map(|cursor| self.at(cursor))
    }

    /// As [`Self::overlapping`], range and flags alone.
    pub fn heads_overlapping(&self, range: AddrRange) -> impl Iterator<Item = AreaHead> {
        self.cursors_in(range).map(|cursor| self.head_at(cursor))
    }

    fn cursors_in(&self, range: AddrRange) -> impl Iterator<Item = Cursor> {
        core::iter::successors(self.first_in(range), |&cursor| self.tree.next(cursor))
            .take_while(move |&cursor| self.range_at(cursor).start() < range.end())
    }

    /// Where the first area is that shares an address with `range`.
    #[inline]
    fn first_in(&self, range: AddrRange) -> Option<Cursor> {
        let first = self.tree.near(range.start().vpn())?;
        (self.range_at(first).start() < range.end() && !range.is_empty()).then_some(first)
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl Iterator<Item = VmaRef<'_, H>> {
        core::iter::successors(self.tree.find(0), |&cursor| self.tree.next(cursor))
            .map(|cursor| self.at(cursor))
    }

    /// Adds an area.
    ///
    /// # Panics
    /// When it is empty or overlaps another: the caller's plan was wrong.
    pub fn insert(&mut self, vma: Vma<H>) {
        assert!(self.is_free(vma.range), "areas do not overlap");
        self.place(vma);
    }

    /// Adds an area to a range that a plan has found free; where it is then.
    fn place(&mut self, vma: Vma<H>) -> Cursor {
        assert!(!vma.range.is_empty(), "an area is never empty");
        debug_assert!(self.is_free(vma.range), "areas do not overlap");
        let span = span(vma.range);
        let head = self.keep(vma);
        self.tree.insert(span, head)
    }

    /// Puts what the tree does not keep of an area where it belongs; what it does keep.
    fn keep(&mut self, vma: Vma<H>) -> Head<AnonSlot<H>> {
        let Vma { range, flags, pgoff, file, anon_vma, extra } = vma;
        self.growing += usize::from(flags.contains(VmFlags::GROWSDOWN));
        let slot = self.keep_rest(Rest { pgoff, file, extra }, range.start().vpn());
        Head { flags, slot, owner: anon_vma }
    }

    /// Keeps what an area that starts at page `vpn` has, if anything; where.
    #[inline]
    fn keep_rest(&mut self, rest: Rest<H>, vpn: u64) -> u32 {
        if rest.is_plain(vpn) { NONE } else { self.rests.place(rest) }
    }

    /// Takes out what an area that starts at page `vpn` has.
    #[inline]
    fn take_rest(&mut self, slot: u32, vpn: u64) -> Rest<H> {
        if slot == NONE { Rest::plain(vpn) } else { self.rests.take(slot, Rest::plain(vpn)) }
    }

    /// Takes out the area that starts at `start`.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove(&mut self, start: VirtAddr) -> Vma<H> {
        let cursor = self.starting_at(start).expect("an area starts there");
        self.remove_at(cursor)
    }

    fn remove_at(&mut self, cursor: Cursor) -> Vma<H> {
        let (span, Head { flags, slot, owner: anon_vma }) = self.tree.remove(cursor);
        let Rest { pgoff, file, extra } = self.take_rest(slot, span.start);
        self.growing -= usize::from(flags.contains(VmFlags::GROWSDOWN));
        Vma { range: range(span), flags, pgoff, file, anon_vma, extra }
    }

    /// The lowest address that a mapping below `vma` may not reach (Linux `vm_start_gap`).
    fn guarded_start(&self, area: &AreaHead) -> u64 {
        let grows = area.flags.contains(VmFlags::GROWSDOWN);
        area.range.start().get().saturating_sub(if grows { self.guard_gap_bytes } else { 0 })
    }

    /// Gives the area that starts at `start` the range `to`; its page offset moves along with its
    /// start.
    ///
    /// # Panics
    /// When no area starts there, or another lies in the new range or in between.
    pub fn resize(&mut self, start: VirtAddr, to: AddrRange) {
        let cursor = self.starting_at(start).expect("an area starts there");
        self.resize_at(cursor, to);
    }

    /// As [`Self::resize`]; where the area is then.
    fn resize_at(&mut self, cursor: Cursor, to: AddrRange) -> Cursor {
        let from = self.range_at(cursor);
        if !from.contains_range(to) {
            let above = self.tree.prev(cursor).map_or(VirtAddr::ZERO, |c| self.range_at(c).end());
            let below = self.tree.next(cursor).map_or(VirtAddr::MAX, |c| self.range_at(c).start());
            assert!(above <= to.start() && to.end() <= below, "areas do not overlap");
        }
        assert!(!to.is_empty(), "an area is never empty");
        let slot = self.tree.slot(cursor);
        if slot != NONE {
            let pgoff = &mut self.rests[slot].pgoff;
            *pgoff = pgoff.wrapping_add(to.start().vpn().wrapping_sub(from.start().vpn()));
        }
        self.tree.set_range(cursor, span(to))
    }

    /// Cuts the area at `cursor`: its upper part, from the end of `hole` on, becomes an area of its
    /// own, and nothing has the pages of `hole` any more, if it has any. Answers where the parts are.
    fn cut_at(&mut self, cursor: Cursor, hole: AddrRange) -> (Cursor, Cursor) {
        let whole = self.at(cursor);
        let owner = whole.anon_vma.clone();
        let slot = match self.tree.slot(cursor) {
            NONE => NONE,
            slot => {
                let rest = Rest { pgoff: whole.page_index(hole.end()), ..self.rests[slot].clone() };
                self.rests.place(rest)
            }
        };
        let flags = self.tree.flags(cursor);
        self.growing += usize::from(flags.contains(VmFlags::GROWSDOWN));
        let upper = self.tree.cut(cursor, span(hole), Head { flags, slot, owner });
        (self.tree.prev(upper).expect("the lower part"), upper)
    }

    /// The area that starts at `start`, to change anything but its range and its page offset.
    pub fn get_mut(&mut self, start: VirtAddr) -> Option<VmaMut<'_, H>> {
        let cursor = self.starting_at(start)?;
        Some(VmaMut { areas: self, cursor })
    }

    /// Whether no area shares an address with `range` (Linux `find_vma_intersection`).
    pub fn is_free(&self, range: AddrRange) -> bool {
        self.head(range.start()).is_none_or(|next| range.end() <= next.range.start())
    }

    /// Checks order, gaps and values; the error says what is wrong.
    ///
    /// # Errors
    /// A broken invariant, by name.
    pub fn check(&self) -> Result<(), String> {
        self.tree.check()?;
        let (mut growing, mut rests) = (0, 0);
        let mut cursor = self.tree.find(0);
        while let Some(at) = cursor {
            let (span, vma) = (self.tree.span(at), self.at(at));
            growing += usize::from(vma.flags.contains(VmFlags::GROWSDOWN));
            match self.tree.slot(at) {
                NONE => {}
                slot if self.rests[slot].is_plain(span.start) => {
                    return Err(alloc::format!("{vma:?} is plain, and kept as if it were not"));
                }
                _ => rests += 1,
            }
            cursor = self.tree.next(at);
        }
        if self.rests.len() != rests {
            return Err(alloc::format!("{rests} areas have more, of {} kept", self.rests.len()));
        }
        if growing != self.growing {
            return Err(alloc::format!("{growing} areas grow, {} known", self.growing));
        }
        Ok(())
    }

    fn starting_at(&self, start: VirtAddr) -> Option<Cursor> {
        let cursor = self.tree.near(start.vpn())?;
        (self.range_at(cursor).start() == start).then_some(cursor)
    }

    #[inline]
    fn at(&self, cursor: Cursor) -> VmaRef<'_, H> {
        let AreaHead { range, flags } = self.head_at(cursor);
        let rest = match self.tree.slot(cursor) {
            NONE => None,
            slot => Some(&self.rests[slot]),
        };
        VmaRef::of(range, flags, self.tree.owner(cursor), rest)
    }

    #[inline]
    fn range_at(&self, cursor: Cursor) -> AddrRange {
        range(self.tree.span(cursor))
    }

    #[inline]
    fn head_at(&self, cursor: Cursor) -> AreaHead {
        AreaHead { range: self.range_at(cursor), flags: self.tree.flags(cursor) }
    }
}

/// An area being changed.
pub struct VmaMut<'a, H: Host> {
    areas: &'a mut Areas<H>,
    cursor: Cursor,
}

impl<H: Host> VmaMut<'_, H> {
    /// As it is now.
    #[inline]
    pub fn as_ref(&self) -> VmaRef<'_, H> {
        self.areas.at(self.cursor)
    }

    /// Gives it other flags; `GROWSDOWN` stays as it is.
    #[inline]
    pub fn set_flags(&mut self, flags: VmFlags) {
        debug_assert!(!(self.as_ref().flags ^ flags).contains(VmFlags::GROWSDOWN));
        self.areas.tree.set_flags(self.cursor, flags);
    }

    /// Says whom its anonymous pages belong to.
    pub fn set_anon_vma(&mut self, anon_vma: AnonSlot<H>) {
        self.areas.tree.set_owner(self.cursor, anon_vma);
    }

    /// Gives it a name, or takes it away.
    pub fn set_name(&mut self, name: VmaName) {
        self.change_rest(|rest| rest.extra.set_name(name));
    }

    /// Says who resolves its faults.
    pub fn set_userfault(&mut self, userfault: Option<Arc<Userfaultfd<H>>>) {
        self.change_rest(|rest| rest.extra.set_userfault(userfault));
    }

    fn change_rest(&mut self, change: impl FnOnce(&mut Rest<H>)) {
        let vpn = self.areas.tree.span(self.cursor).start;
        let mut rest = self.areas.take_rest(self.areas.tree.slot(self.cursor), vpn);
        change(&mut rest);
        let slot = self.areas.keep_rest(rest, vpn);
        self.areas.tree.set_slot(self.cursor, slot);
    }
}

fn span(range: AddrRange) -> Span {
    Span { start: range.start().vpn(), end: range.end().vpn() }
}

#[inline]
fn range(span: Span) -> AddrRange {
    let Span { start, end } = span;
    between(VirtAddr::new(start << PAGE_SHIFT), VirtAddr::new(end << PAGE_SHIFT))
}

/// A range whose ends are known to be in order.
#[inline]
fn between(start: VirtAddr, end: VirtAddr) -> AddrRange {
    AddrRange::new(start, end).expect("ends are in order")
}
