//! Who maps a file: its areas by page offset (Linux `address_space.i_mmap`).

use crate::{Host, Mm};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr};

/// The areas that map a file, of all address spaces.
pub(crate) struct IMmap<H: Host> {
    areas: BTreeMap<Key, MappingArea<H>>,
    /// Areas whose pages may be written through them (Linux `i_mmap_writable`, by area).
    writable: u64,
}

/// Ordered by page offset first, so that areas past a page are skipped.
type Key = (u64, u64, VirtAddr);

/// One area that maps a file.
pub(crate) struct MappingArea<H: Host> {
    pub(crate) mm: Weak<Mm<H>>,
    pub(crate) range: AddrRange,
    pub(crate) pgoff: u64,
    writable: bool,
}

impl<H: Host> Default for IMmap<H> {
    fn default() -> Self {
        Self { areas: BTreeMap::new(), writable: 0 }
    }
}

impl<H: Host> IMmap<H> {
    /// Adds an area; `writable` says whether it is shared and may become writable.
    pub(crate) fn link(&mut self, mm: &Mm<H>, range: AddrRange, pgoff: u64, writable: bool) {
        let area = MappingArea { mm: mm.weak(), range, pgoff, writable };
        self.writable += u64::from(writable);
        let before = self.areas.insert((pgoff, mm.id(), range.start()), area);
        debug_assert!(before.is_none(), "an area is linked once");
    }

    /// Takes an area out.
    pub(crate) fn unlink(&mut self, mm: &Mm<H>, range: AddrRange, pgoff: u64) {
        let area = self.areas.remove(&(pgoff, mm.id(), range.start()));
        debug_assert!(area.as_ref().is_some_and(|area| area.range == range), "linked before");
        self.writable -= u64::from(area.is_some_and(|area| area.writable));
    }

    /// Number of areas.
    pub(crate) fn len(&self) -> usize {
        self.areas.len()
    }

    /// Whether the area is linked, for checking.
    pub(crate) fn contains(&self, mm: u64, range: AddrRange, pgoff: u64) -> bool {
        self.areas.get(&(pgoff, mm, range.start())).is_some_and(|area| area.range == range)
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
        alive: &mut alloc::vec::Vec<Arc<Mm<H>>>,
        mut visit: impl FnMut(&Mm<H>, AddrRange),
    ) {
        for area in self.areas.range(..=(last, u64::MAX, VirtAddr::MAX)).map(|(_, area)| area) {
            let area_last = area.pgoff + (area.range.pages() - 1);
            if area_last < first {
                continue;
            }
            let from = first.max(area.pgoff) - area.pgoff;
            let to = last.min(area_last) - area.pgoff;
            let start = area.range.start().get();
            let part = AddrRange::with_len(
                VirtAddr::new(start + (from << PAGE_SHIFT)),
                (to - from + 1) << PAGE_SHIFT,
            );
            if let (Some(mm), Some(part)) = (area.mm.upgrade(), part) {
                visit(&mm, part);
                alive.push(mm);
            }
        }
    }
}
