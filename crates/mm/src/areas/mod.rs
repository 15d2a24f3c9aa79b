//! The areas of one address space: kept in order, found, placed, split and merged as Linux does.
//!
//! [`Areas`] holds them and knows nothing of tables or frames. Changes are decided first by pure
//! functions (`plan_*`, in [`plan`]) and applied afterwards (`commit_*`), which cannot fail. Where
//! Linux leaves something behind when it refuses a call, the refusal says so ([`Refused`]).
//!
//! - `tree`, `node`, `gaps`: a B+-tree that knows the largest gap of every subtree.
//! - `merge`: which areas belong together (Linux 6.18 mm/vma.c: `is_mergeable_vma` and
//!   `is_mergeable_anon_vma`).
//! - [`place`]: where a mapping goes (`get_unmapped_area`).
//!
//! Invariants: **no-vma-overlap**, **gaps-are-exact** ([`Areas::check`]).

mod check;
mod gaps;
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
pub use vma::{Vma, VmaName};

use crate::Host;
use crate::layout::STACK_GUARD_GAP_BYTES;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};
use node::Span;
use tree::{Cursor, Tree};

/// The areas of an address space.
pub struct Areas<H: Host> {
    tree: Tree<64>,
    slots: Vec<Option<Vma<H>>>,
    free: Vec<u32>,
    guard_gap_bytes: u64,
    /// Areas that grow down, and so keep a guard gap.
    growing: usize,
    /// Slot of the area found last: most look-ups ask for it again. It may be out of date: then
    /// the slot is empty or its area does not contain the address, because areas never overlap.
    last_found: AtomicU32,
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
        Self {
            tree: Tree::new(),
            slots: Vec::new(),
            free: Vec::new(),
            guard_gap_bytes,
            growing: 0,
            last_found: AtomicU32::new(0),
        }
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
    pub fn containing(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        let last = self.last_found.load(Ordering::Relaxed);
        if let Some(Some(vma)) = self.slots.get(last as usize)
            && vma.range.contains(addr)
        {
            return Some(vma);
        }
        let slot = self.tree.slot(self.tree.find(addr.get())?);
        let vma = self.in_slot(slot);
        if !vma.range.contains(addr) {
            return None;
        }
        self.last_found.store(slot, Ordering::Relaxed);
        Some(vma)
    }

    /// The first area that ends above `addr` (Linux `find_vma`).
    #[inline]
    pub fn find(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        self.tree.find(addr.get()).map(|cursor| self.at(cursor))
    }

    /// The last area that starts below `addr`, which it may contain (Linux `find_vma_prev`'s
    /// neighbour when `addr` is the start of an area or lies in a gap).
    pub fn before(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        self.neighbours(addr).0
    }

    /// The last area that starts below `addr`, and the first one that starts there or above.
    pub fn neighbours(&self, addr: VirtAddr) -> (Option<&Vma<H>>, Option<&Vma<H>>) {
        let Some(found) = self.tree.find(addr.get()) else {
            return (self.tree.last().map(|cursor| self.at(cursor)), None);
        };
        let vma = self.at(found);
        let (before, after) = if vma.start() < addr {
            (Some(found), self.tree.next(found))
        } else {
            (self.tree.prev(found), Some(found))
        };
        (before.map(|cursor| self.at(cursor)), after.map(|cursor| self.at(cursor)))
    }

    /// The areas that share an address with `range`, in order.
    pub fn overlapping(&self, range: AddrRange) -> impl Iterator<Item = &Vma<H>> {
        let first = if range.is_empty() { None } else { self.tree.find(range.start().get()) };
        self.starting_from(first).take_while(move |vma| vma.start() < range.end())
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma<H>> {
        self.starting_from(self.tree.find(0))
    }

    fn starting_from(&self, first: Option<Cursor>) -> impl Iterator<Item = &Vma<H>> {
        core::iter::successors(first, |&cursor| self.tree.next(cursor))
            .map(|cursor| self.at(cursor))
    }

    /// Adds an area.
    ///
    /// # Panics
    /// When it is empty or overlaps another: the caller's plan was wrong.
    pub fn insert(&mut self, vma: Vma<H>) {
        assert!(!vma.range.is_empty(), "an area is never empty");
        assert!(self.is_free(vma.range), "areas do not overlap");
        let mut span = Span { start: vma.start().get(), end: vma.end().get(), slot: 0 };
        self.growing += usize::from(vma.flags.contains(VmFlags::GROWSDOWN));
        span.slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(vma);
                slot
            }
            None => {
                self.slots.push(Some(vma));
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 areas")
            }
        };
        self.tree.insert(span);
    }

    /// Takes out the area that starts at `start`.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove(&mut self, start: VirtAddr) -> Vma<H> {
        assert!(self.starting_at(start).is_some(), "an area starts there");
        let span = self.tree.remove(start.get());
        self.free.push(span.slot);
        let vma = self.slots[span.slot as usize].take().expect("a slot in the tree is filled");
        self.growing -= usize::from(vma.flags.contains(VmFlags::GROWSDOWN));
        vma
    }

    /// The lowest address that a mapping below `vma` may not reach (Linux `vm_start_gap`).
    fn guarded_start(&self, vma: &Vma<H>) -> u64 {
        let grows = vma.flags.contains(VmFlags::GROWSDOWN);
        vma.start().get().saturating_sub(if grows { self.guard_gap_bytes } else { 0 })
    }

    /// Gives the area that starts at `start` the range `to`; its page offset moves along with its
    /// start.
    ///
    /// # Panics
    /// When no area starts there, or another lies in the new range or in between.
    pub fn resize(&mut self, start: VirtAddr, to: AddrRange) {
        let cursor = self.starting_at(start).expect("an area starts there");
        let above = self.tree.prev(cursor).map_or(0, |prev| self.tree.span(prev).end);
        let below = self.tree.next(cursor).map_or(u64::MAX, |next| self.tree.span(next).start);
        assert!(above <= to.start().get() && to.end().get() <= below, "areas do not overlap");
        assert!(!to.is_empty(), "an area is never empty");
        let vma = self.slots[self.tree.slot(cursor) as usize].as_mut();
        let vma = vma.expect("a slot in the tree is filled");
        let moved = (to.start().get() as i64).wrapping_sub(start.get() as i64) >> PAGE_SHIFT;
        vma.pgoff = vma.pgoff.wrapping_add(moved as u64);
        vma.range = to;
        self.tree.set_range(start.get(), to.start().get(), to.end().get());
    }

    /// The area that starts at `start`, to change anything but its range, its page offset and
    /// `GROWSDOWN`.
    pub fn get_mut(&mut self, start: VirtAddr) -> Option<&mut Vma<H>> {
        let slot = self.tree.slot(self.starting_at(start)?);
        self.slots[slot as usize].as_mut()
    }

    /// Whether no area shares an address with `range` (Linux `find_vma_intersection`).
    pub fn is_free(&self, range: AddrRange) -> bool {
        self.find(range.start()).is_none_or(|vma| range.end() <= vma.start())
    }

    /// Checks order, gaps and values; the error says what is wrong.
    ///
    /// # Errors
    /// A broken invariant, by name.
    pub fn check(&self) -> Result<(), String> {
        self.tree.check()?;
        let mut growing = 0;
        let mut cursor = self.tree.find(0);
        while let Some(at) = cursor {
            let (span, vma) = (self.tree.span(at), self.at(at));
            growing += usize::from(vma.flags.contains(VmFlags::GROWSDOWN));
            if (span.start, span.end) != (vma.start().get(), vma.end().get())
                || !vma.start().is_page_aligned()
                || !vma.end().is_page_aligned()
            {
                return Err(alloc::format!("no-vma-overlap: {vma:?} is kept as {span:x?}"));
            }
            cursor = self.tree.next(at);
        }
        if self.slots.len() - self.free.len() != self.tree.len() {
            return Err("no-vma-overlap: an area is not in the tree".to_string());
        }
        if growing != self.growing {
            return Err(alloc::format!("{growing} areas grow, {} known", self.growing));
        }
        Ok(())
    }

    fn starting_at(&self, start: VirtAddr) -> Option<Cursor> {
        let cursor = self.tree.find(start.get())?;
        (self.at(cursor).start() == start).then_some(cursor)
    }

    #[inline]
    fn at(&self, cursor: Cursor) -> &Vma<H> {
        self.in_slot(self.tree.slot(cursor))
    }

    #[inline]
    fn in_slot(&self, slot: u32) -> &Vma<H> {
        self.slots[slot as usize].as_ref().expect("a slot in the tree is filled")
    }
}
