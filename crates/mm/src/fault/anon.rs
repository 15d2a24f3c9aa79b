//! Anonymous memory used for the first time (Linux 6.18 mm/memory.c: `do_anonymous_page`).

use super::{Fault, FaultDone, FaultKind, Site};
use crate::accounting::RssKind;
use crate::memory::Use;
use crate::mm::State;
use crate::policy::FirstUse;
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
        // Faults of two threads in neighbouring areas shall not both find the other's missing.
        let upper = state.areas.has_neighbour(vma.range).then(|| self.lock_upper());
        if vma.anon_vma.get().is_some() {
            return;
        }
        let shared = upper.as_ref().and_then(|_| state.areas.anon_vma_to_share(vma.start()));
        let anon_vma =
            shared.unwrap_or_else(|| self.memory().anon_vmas.make(self.memory().cpu(), None));
        // Linked before anybody can see it: from then on pages belong to it.
        anon_vma.link(self, vma);
        if let Err(late) = vma.anon_vma.fill(anon_vma) {
            late.unlink(self, vma.range, vma.pgoff);
        }
    }
}
