//! A page that is in swap (Linux 6.18 mm/memory.c: `do_swap_page`).
//!
//! ```text
//!   the entry's slot   in the swap cache?  no --> read it into a frame (major), and neighbours
//!   tables locked      the same entry still?  no --> somebody was faster
//!                      the slot loses this entry's reference
//!                      nobody else has the page?  writable, and the slot is given up
//!                      otherwise                  mapped as it was; a write copies
//! ```

use super::{Fault, FaultDone, FaultKind, Site};
use crate::accounting::RssKind;
use crate::mm::State;
use crate::page_cache::page::PageRef;
use crate::pte::{SwapFlags, SwapPte};
use crate::swap::readahead::{Together, VmaWindow};
use crate::swap::{NotBack, Owner, Source};
use crate::{Host, Mm, pte};
use core::ops::Range;
use kilburn_addr::{Access, Errno, PAGE_SHIFT, Pfn, VirtAddr, VmFlags};
use kilburn_paging::{Entry, Format, Leaf, LeafFlags};

impl<H: Host> Mm<H> {
    pub(super) fn swap_fault(
        &self,
        site: &Site<'_, H>,
        swapped: SwapPte,
    ) -> Result<FaultDone, Fault> {
        self.prepare_anon_vma(site.state, site.vma);
        let anon_vma = site.vma.anon_vma.get().expect("just prepared");
        let owner = Owner::of_line(anon_vma.root_id(), site.index());
        let (page, source) = match self.swap_in_with_neighbours(site, swapped, owner) {
            Ok(found) => found,
            Err(NotBack::Stale) => return Ok(FaultDone::minor(FaultKind::Spurious)),
            Err(NotBack::NoFrame) => return Err(Fault::Oom),
            Err(NotBack::Store(_)) => return Err(Fault::Bus),
        };
        let (pfn, major) = (page.pfn(), source == Source::Area);
        let guard = self.lock_leaf(site.va);
        let same = Entry::Software(swapped.payload());
        let at = guard.tables.entry_at(site.va).filter(|&at| guard.entry(at) == same);
        let Some(at) = at else {
            return Ok(FaultDone { kind: FaultKind::Spurious, major });
        };
        // The entry's reference to the slot becomes one to the frame.
        let meta = self.memory().meta(pfn);
        meta.get();
        if meta.maps() == 0 {
            // It was read for a neighbour, who did not know whose it is.
            meta.set_place(owner.anon_vma, owner.index);
        }
        self.memory().swap_free(swapped.entry);
        self.counts.swapped_in(1);
        self.counts.add(self.memory().cpu(), RssKind::Anon, 1);
        let leaf = self.leaf_of(site, swapped, pfn);
        self.note_mapping_of(pfn);
        guard.set_leaf(at, site.va, leaf);
        drop(guard);
        // Let go before a copy is made, so that a last sharer keeps the page instead.
        drop(page);
        if site.is_write() && !leaf.flags.contains(LeafFlags::WRITE) {
            self.write_protected(site, leaf)?;
        }
        Ok(FaultDone { kind: FaultKind::Swap, major })
    }

    /// The page of an entry; if it had to be read, those around it are read as well.
    fn swap_in_with_neighbours(
        &self,
        site: &Site<'_, H>,
        swapped: SwapPte,
        owner: Owner,
    ) -> Result<(PageRef<'_, H>, Source), NotBack> {
        let memory = self.memory();
        let mut together = Together::default();
        let has_readahead = memory.has_readahead(swapped.entry);
        let (page, source) = memory.swap_in(swapped.entry, owner, &mut together)?;
        let remembered = &site.vma.anon_vma.get().expect("prepared").swap_readahead;
        match source {
            Source::Cache => {
                let ahead = memory.take_read_ahead(page.pfn());
                VmaWindow::note_found(remembered, site.va.vpn(), ahead);
            }
            Source::Area if has_readahead => {
                let cluster = memory.tunables.page_cluster();
                if let Some(window) = VmaWindow::next(remembered, site.va.vpn(), cluster) {
                    self.read_ahead_around(site, window, owner, &mut together);
                }
            }
            Source::Area => {}
        }
        Ok((page, source))
    }

    /// Reads the pages of `window` that are in swap, as far as they are in the area and share a
    /// table with the one that is needed. The caller holds that one (Linux `swap_vma_readahead`).
    fn read_ahead_around(
        &self,
        site: &Site<'_, H>,
        window: Range<u64>,
        owner: Owner,
        together: &mut Together,
    ) {
        let table = self.format().span_shift(1) - PAGE_SHIFT;
        let first = site.va.vpn() >> table << table;
        let start = window.start.max(site.vma.start().vpn()).max(first);
        let end = window.end.min(site.vma.end().vpn()).min(first + (1 << table));
        for page in start..end {
            let va = VirtAddr::new(page << PAGE_SHIFT);
            // Not under the lock of tables: a slot that is not this page's any more is read in vain.
            let Entry::Software(payload) = self.tables().query(va) else { continue };
            let Some(swapped) = SwapPte::from_payload(payload).filter(|_| va != site.va) else {
                continue;
            };
            let owner = Owner { index: site.vma.page_index(va), ..owner };
            if self.memory().read_ahead(swapped.entry, owner, together) == Err(NotBack::NoFrame) {
                return;
            }
        }
    }

    /// Brings the page at `va` back if it is in swap.
    pub(crate) fn bring_back(&self, state: &State<H>, va: VirtAddr) -> Result<(), Errno> {
        let entry = self.lock_leaf(va).tables.query(va);
        match (entry, state.areas.containing(va)) {
            (Entry::Software(payload), Some(vma)) if SwapPte::from_payload(payload).is_some() => {
                self.fault_in(state, vma, va, Access::Read).map(|_| ()).map_err(|fault| match fault
                {
                    Fault::Oom => Errno::ENOMEM,
                    _ => Errno::EFAULT,
                })
            }
            _ => Ok(()),
        }
    }

    /// How the page is mapped again; whose it is from now on. Its frame is referred to by the swap
    /// cache, perhaps, by the caller, and by the entry about to be made.
    fn leaf_of(&self, site: &Site<'_, H>, swapped: SwapPte, pfn: Pfn) -> Leaf {
        let memory = self.memory();
        let meta = memory.meta(pfn);
        let give_up =
            site.is_write() || memory.swap_is_scarce() || site.vma.flags.contains(VmFlags::LOCKED);
        // Not in the swap cache any more, and nobody but us holds it.
        let alone = give_up && memory.try_free_swap(pfn) && meta.refs() == 2 && meta.maps() == 0;
        let exclusive = swapped.flags.contains(SwapFlags::EXCLUSIVE) || alone;
        let mut flags = pte::read_only(site.vma.flags);
        if exclusive {
            meta.set_owner(site.vma.anon_vma.get().expect("prepared").id());
            meta.set_exclusive();
            if site.vma.flags.contains(VmFlags::WRITE) {
                flags |= LeafFlags::WRITE;
            }
            if site.is_write() {
                flags = pte::written(site.vma.flags);
            }
        }
        if swapped.flags.contains(SwapFlags::SOFT_DIRTY) {
            flags |= LeafFlags::SOFT_DIRTY;
        }
        Leaf { pfn, flags }
    }
}
