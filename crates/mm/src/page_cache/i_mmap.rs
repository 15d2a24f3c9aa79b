//! Who maps a file: its areas by page offset (Linux `address_space.i_mmap`).

use crate::rmap::interval::{IntervalTree, NodeShape};
use crate::rmap::snapshot::RmapArea;
use crate::rmap::walk::VisitPlace;
use crate::{Host, Mm, VmaRef};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::ControlFlow;
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};

/// The areas that map a file, of all address spaces.
pub(crate) struct IMmap<H: Host> {
    areas: IntervalTree<(u64, VirtAddr), MappingArea<H>>,
    /// Areas whose pages may be written through them (Linux `i_mmap_writable`, by area).
    writable: u64,
}

/// One area that maps a file.
pub(crate) struct MappingArea<H: Host> {
    pub(crate) mm: Weak<Mm<H>>,
    pub(crate) range: AddrRange,
    pub(crate) pgoff: u64,
    pub(crate) flags: VmFlags,
}

impl<H: Host> MappingArea<H> {
    /// Where the area maps pages `first..=last`, at least one of which it does.
    fn part(&self, first: u64, last: u64) -> Option<AddrRange> {
        let from = first.max(self.pgoff) - self.pgoff;
        let to = last.min(self.pgoff + (self.range.pages() - 1)) - self.pgoff;
        let start = self.range.start().get() + (from << PAGE_SHIFT);
        AddrRange::with_len(VirtAddr::new(start), (to - from + 1) << PAGE_SHIFT)
    }
}

/// Whether pages may be written through such an area: shared, and may become writable.
fn is_writable(flags: VmFlags) -> bool {
    flags.contains(VmFlags::SHARED | VmFlags::MAYWRITE)
}

impl<H: Host> Default for IMmap<H> {
    fn default() -> Self {
        Self { areas: IntervalTree::default(), writable: 0 }
    }
}

impl<H: Host> IMmap<H> {
    /// Adds an area.
    pub(crate) fn link(&mut self, mm: &Mm<H>, vma: VmaRef<'_, H>) {
        let (range, pgoff, flags) = (vma.range, vma.pgoff, vma.flags);
        self.writable += u64::from(is_writable(flags));
        let area = MappingArea { mm: mm.weak(), range, pgoff, flags };
        let last = pgoff + (range.pages() - 1);
        let before = self.areas.insert(pgoff, last, (mm.id(), range.start()), area);
        debug_assert!(before.is_none(), "an area is linked once");
    }

    /// Takes an area out.
    pub(crate) fn unlink(&mut self, mm: &Mm<H>, range: AddrRange, pgoff: u64) {
        let area = self.areas.remove(pgoff, (mm.id(), range.start()));
        debug_assert!(area.as_ref().is_some_and(|area| area.range == range), "linked before");
        self.writable -= u64::from(area.is_some_and(|area| is_writable(area.flags)));
    }

    /// An area has other flags now.
    pub(crate) fn reflag(&mut self, mm: &Mm<H>, vma: VmaRef<'_, H>) {
        if let Some(area) = self.areas.get_mut(vma.pgoff, (mm.id(), vma.start())) {
            self.writable -= u64::from(is_writable(area.flags));
            self.writable += u64::from(is_writable(vma.flags));
            area.flags = vma.flags;
        }
    }

    /// Number of areas.
    pub(crate) fn len(&self) -> usize {
        self.areas.len()
    }

    /// The flags an area is linked with, if it is, for checking.
    pub(crate) fn flags_of(&self, mm: u64, range: AddrRange, pgoff: u64) -> Option<VmFlags> {
        let area = self.areas.get(pgoff, (mm, range.start()))?;
        (area.range == range).then_some(area.flags)
    }

    /// Every area, and how the tree links them.
    pub(crate) fn told(&self) -> Vec<RmapArea> {
        let told = |node: &NodeShape<'_, (u64, VirtAddr), MappingArea<H>>| {
            node.told(node.value.range, node.value.flags)
        };
        self.areas.shape().iter().map(told).collect()
    }

    /// Whether no area maps the file.
    pub(crate) fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Number of areas through which the file may be written.
    pub(crate) fn writable(&self) -> u64 {
        self.writable
    }

    /// Calls `visit` for every part of an area that maps pages `first..=last`. The address spaces
    /// visited are kept in `alive` until the caller, who holds the lock of this, has let it go:
    /// the last reference to one may not be dropped under it.
    pub(crate) fn for_each_overlap(
        &self,
        first: u64,
        last: u64,
        alive: &mut Vec<Arc<Mm<H>>>,
        mut visit: impl FnMut(&Mm<H>, AddrRange),
    ) {
        let _ = self.areas.for_each_overlap::<()>(first, last, |_, _, area| {
            if let (Some(mm), Some(part)) = (area.mm.upgrade(), area.part(first, last)) {
                visit(&mm, part);
                alive.push(mm);
            }
            ControlFlow::Continue(())
        });
    }

    /// Calls `visit` with each place where page `index` would be mapped and its area's flags, until
    /// it breaks. `alive` as in [`Self::for_each_overlap`].
    pub(crate) fn for_each_place(
        &self,
        index: u64,
        alive: &mut Vec<Arc<Mm<H>>>,
        visit: &mut VisitPlace<'_, H>,
    ) -> ControlFlow<()> {
        self.areas.for_each_overlap(index, index, |_, _, area| {
            let (Some(mm), Some(part)) = (area.mm.upgrade(), area.part(index, index)) else {
                return ControlFlow::Continue(());
            };
            let flow = visit(&mm, part.start(), area.flags);
            alive.push(mm);
            flow
        })
    }
}
