//! Anonymous memory used for the first time (Linux 6.18 mm/memory.c: `do_anonymous_page`).

use super::{Fault, FaultDone, FaultKind, Site};
use crate::accounting::RssKind;
use crate::memory::Use;
use crate::mm::State;
use crate::policy::FirstUse;
use crate::rmap::Links;
use crate::{Host, Mm, VmaRef, pte};
use kilburn_addr::{Pfn, VirtAddr, VmFlags};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags};

impl<H: Host> Mm<H> {
    pub(super) fn anon_fault(&self, site: &Site<'_, H>) -> Result<FaultDone, Fault> {
        if site.is_write() {
            self.prepare_anon_vma(site.state, site.vma);
            let pfn = self.memory().alloc_zeroed_for(self.memcg())?;
            return self.map_new_anon(site, pfn, FaultKind::DemandZero);
        }
        // Reads share one frame of zeros, which belongs to nobody and is not counted.
        let table = self.ensure_leaf_table(site.va)?;
        let guard = self.lock_leaf(site.va);
        let at = entry_addr(table, self.format().index(site.va, 0));
        if guard.entry(at) != Entry::None {
            return Ok(FaultDone::minor(FaultKind::Spurious));
        }
        let flags = pte::read_only(site.vma.flags) | LeafFlags::SPECIAL;
        guard.set_leaf(at, site.va, Leaf { pfn: self.memory().zero_frame(), flags });
        Ok(FaultDone::minor(FaultKind::ZeroPage))
    }

    /// Maps a frame just filled as a private page, where there is none yet.
    pub(super) fn map_new_anon(
        &self,
        site: &Site<'_, H>,
        pfn: Pfn,
        kind: FaultKind,
    ) -> Result<FaultDone, Fault> {
        let table = match self.ensure_leaf_table(site.va) {
            Ok(table) => table,
            Err(no_table) => {
                self.memory().discard(pfn);
                return Err(no_table.into());
            }
        };
        let guard = self.lock_leaf(site.va);
        let at = entry_addr(table, self.format().index(site.va, 0));
        if guard.entry(at) != Entry::None {
            drop(guard);
            self.memory().discard(pfn);
            return Ok(FaultDone::minor(FaultKind::Spurious));
        }
        self.begin_anon(site.vma, site.va, pfn);
        self.counts.add(self.memory().cpu(), RssKind::Anon, 1);
        guard.set_leaf(at, site.va, Leaf { pfn, flags: pte::written(site.vma.flags) });
        Ok(FaultDone::minor(kind))
    }

    /// The frame becomes a private page of the area, mapped once.
    pub(crate) fn begin_anon(&self, vma: VmaRef<'_, H>, va: VirtAddr, pfn: Pfn) {
        let anon_vma = vma.anon_vma.get().expect("prepared before a private page is made");
        self.memory().meta(pfn).begin_anon_mapped(anon_vma.id(), vma.page_index(va));
        self.memory().uses.add(self.memory().cpu(), Use::Anon, 1);
        if vma.flags.contains(VmFlags::DROPPABLE) {
            self.memory().mark_lazy_free(pfn);
        }
        self.memory().note_arrival(pfn, FirstUse::Mapped, None);
    }

    /// Sees to it that the area has an `AnonVma` (Linux `__anon_vma_prepare`): a neighbour's, if
    /// the two may become one area later, or one of its own.
    #[inline]
    pub(crate) fn prepare_anon_vma(&self, state: &State<H>, vma: VmaRef<'_, H>) {
        if vma.anon_vma.get().is_none() {
            self.prepare_anon_vma_slow(state, vma);
        }
    }

    #[cold]
    fn prepare_anon_vma_slow(&self, state: &State<H>, vma: VmaRef<'_, H>) {
        // Faults of two threads in neighbouring areas shall not both find the other's missing; in one
        // area, that without an AnonVma.
        let alone = !state.areas.has_neighbour(vma.range);
        let _upper = (!alone).then(|| self.lock_upper());
        let _first = self.lock_leaf(vma.start());
        if vma.anon_vma.get().is_some() {
            return;
        }
        let anon_vma = vma.anon_vma.get_or_fill(|| {
            let shared = if alone { None } else { state.areas.anon_vma_to_share(vma.start()) };
            shared.unwrap_or_else(|| self.memory().anon_vmas.make(self.memory().cpu(), None))
        });
        Links::link_anon(self, vma, anon_vma);
    }
}
