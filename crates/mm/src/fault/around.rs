//! Mapping cached file pages around a faulting one (Linux 6.18 mm/memory.c: `do_fault_around`;
//! mm/filemap.c: `filemap_map_pages`).
//!
//! The window is aligned, and never leaves the area, the file or the leaf table:
//!
//! ```text
//!   leaf table  |................................................|
//!   windows     |       0       |       1       |       2    ... |     16 pages each
//!   area                   [--------------------------)
//!   mapped                      [---------------]                   a fault in window 1
//! ```

use super::Site;
use crate::accounting::RssDelta;
use crate::mm::TableGuard;
use crate::page_cache::AddressSpace;
use crate::{Host, Mm};
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;
use kilburn_addr::{PAGE_SHIFT, Pfn, VirtAddr};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags};

/// The pages around a faulting one.
pub(super) struct Around {
    first_index: u64,
    last_index: u64,
    /// Address of the page `first_index`.
    start: VirtAddr,
}

impl Around {
    /// Their offsets in the file.
    pub(super) fn indices(&self) -> RangeInclusive<u64> {
        self.first_index..=self.last_index
    }
}

impl<H: Host> Mm<H> {
    /// The window around the fault. The page itself lies in the file.
    pub(super) fn around(&self, site: &Site<'_, H>, mapping: &AddressSpace<H>) -> Around {
        let pages = self.memory().fixed_config().fault_around_bytes >> PAGE_SHIFT;
        let pages = pages.clamp(1, H::Format::ENTRIES as u64);
        let slot = self.format().index(site.va, 0) as u64;
        let index = site.index();
        let in_area = (site.va.get() - site.vma.start().get()) >> PAGE_SHIFT;
        let from = (slot / pages * pages).max(slot - slot.min(in_area));
        let to = (from + pages)
            .min(H::Format::ENTRIES as u64)
            .min(slot + site.vma.range.pages() - in_area)
            - 1;
        let first_index = index - (slot - from);
        let last_index = (index + (to - slot)).min(mapping.size_pages().max(1) - 1).max(index);
        let start = VirtAddr::new(site.va.get() - ((slot - from) << PAGE_SHIFT));
        Around { first_index, last_index, start }
    }

    /// Maps the cached pages of the window that are not mapped, all in `table`.
    pub(super) fn map_around(
        &self,
        guard: &TableGuard<'_, H>,
        table: Pfn,
        mapping: &AddressSpace<H>,
        around: &Around,
        flags: LeafFlags,
    ) {
        let mut rss = RssDelta::default();
        let mut mapped = 0;
        mapping.for_each_cached(around.indices(), |index, pfn| {
            let va =
                VirtAddr::new(around.start.get() + ((index - around.first_index) << PAGE_SHIFT));
            let at = entry_addr(table, self.format().index(va, 0));
            if guard.entry(at) != Entry::None {
                return;
            }
            self.memory().meta(pfn).get();
            rss.add(self.note_mapping_of(pfn), 1);
            guard.set_leaf(at, va, Leaf { pfn, flags });
            mapped += 1;
        });
        self.counts.apply(self.memory().cpu(), rss);
        if mapped > 0 {
            self.counts.fault_around.fetch_add(mapped, Ordering::Relaxed);
        }
    }
}
