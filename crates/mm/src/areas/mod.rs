//! The areas of one address space, in order, with the gaps between them.
//!
//! [`Areas`] holds them; it knows nothing of tables or frames. Its primitive changes ([`insert`],
//! [`remove`], [`resize`]) cannot fail; what they shall be is decided first by the pure rules of
//! merging and placing.
//!
//! [`insert`]: Areas::insert
//! [`remove`]: Areas::remove
//! [`resize`]: Areas::resize

pub mod vma;

pub use vma::{Vma, VmaName};

use crate::Host;
use alloc::collections::BTreeMap;
use core::ops::Bound;
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr};

/// The areas of an address space.
pub struct Areas<H: Host> {
    by_start: BTreeMap<VirtAddr, Vma<H>>,
}

impl<H: Host> Default for Areas<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Host> Areas<H> {
    /// No areas.
    pub const fn new() -> Self {
        Self { by_start: BTreeMap::new() }
    }

    /// Number of areas (Linux `map_count`).
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The area that contains `addr` (Linux `vma_lookup`).
    pub fn containing(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        self.last_starting_by(addr).filter(|vma| vma.range.contains(addr))
    }

    /// The first area that ends above `addr` (Linux `find_vma`).
    pub fn find(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        self.containing(addr).or_else(|| self.starting_from(addr).next())
    }

    /// The last area that starts below `addr`, which it may contain (Linux `find_vma_prev`'s
    /// neighbour when `addr` is the start of an area or lies in a gap).
    pub fn before(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        self.by_start.range(..addr).next_back().map(|(_, vma)| vma)
    }

    /// The areas that share an address with `range`, in order.
    pub fn overlapping(&self, range: AddrRange) -> impl Iterator<Item = &Vma<H>> {
        let first = self.containing(range.start()).map_or(range.start(), Vma::start);
        self.starting_from(first).take_while(move |vma| vma.start() < range.end())
    }

    /// All areas, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma<H>> {
        self.by_start.values()
    }

    /// Adds an area.
    ///
    /// # Panics
    /// When it overlaps another: the caller's plan was wrong.
    pub fn insert(&mut self, vma: Vma<H>) {
        assert!(!vma.range.is_empty(), "an area is never empty");
        assert!(self.overlapping(vma.range).next().is_none(), "areas do not overlap");
        self.by_start.insert(vma.start(), vma);
    }

    /// Takes out the area that starts at `start`.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove(&mut self, start: VirtAddr) -> Vma<H> {
        self.by_start.remove(&start).expect("an area starts there")
    }

    /// Gives the area that starts at `start` the range `to`; its page offset moves along with its
    /// start.
    ///
    /// # Panics
    /// When no area starts there, or another lies in the new range.
    pub fn resize(&mut self, start: VirtAddr, to: AddrRange) {
        let mut vma = self.remove(start);
        let moved = (to.start().get() as i64).wrapping_sub(start.get() as i64) >> PAGE_SHIFT;
        vma.pgoff = vma.pgoff.wrapping_add(moved as u64);
        vma.range = to;
        self.insert(vma);
    }

    /// The area that starts at `start`, to change anything but its range and page offset.
    pub fn get_mut(&mut self, start: VirtAddr) -> Option<&mut Vma<H>> {
        self.by_start.get_mut(&start)
    }

    fn last_starting_by(&self, addr: VirtAddr) -> Option<&Vma<H>> {
        self.by_start.range(..=addr).next_back().map(|(_, vma)| vma)
    }

    fn starting_from(&self, addr: VirtAddr) -> impl Iterator<Item = &Vma<H>> {
        self.by_start.range((Bound::Included(addr), Bound::Unbounded)).map(|(_, vma)| vma)
    }
}
