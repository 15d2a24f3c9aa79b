//! A page that is in swap (Linux 6.18 mm/memory.c: `do_swap_page`).
//!
//! ```text
//!   the entry's slot   in the swap cache?  no --> read it into a frame (major)
//!   tables locked      the same entry still?  no --> somebody was faster
//!                      the slot loses this entry's reference
//!                      nobody else has the page?  writable, and the slot is given up
//!                      otherwise                  mapped as it was; a write copies
//! ```

use super::{Fault, FaultDone, FaultKind, Site};
use crate::accounting::RssKind;
use crate::mm::State;
use crate::pte::{SwapFlags, SwapPte};
use crate::swap::{NotBack, Owner};
use crate::{Host, Mm, pte};
use kilburn_addr::{Access, Errno, Pfn, VirtAddr, VmFlags};
use kilburn_paging::{Entry, Leaf, LeafFlags};

impl<H: Host> Mm<H> {
    pub(super) fn swap_fault(
        &self,
        site: &Site<'_, H>,
        swapped: SwapPte,
    ) -> Result<FaultDone, Fault> {
        self.prepare_anon_vma(site.state, site.vma);
        let anon_vma = site.vma.anon_vma.get().expect("just prepared");
        let owner = Owner::of_line(anon_vma.root_id(), site.index());
        let (page, major) = match self.memory().swap_in(swapped.entry, owner) {
            Ok(found) => found,
            Err(NotBack::Stale) => return Ok(FaultDone::minor(FaultKind::Spurious)),
            Err(NotBack::NoFrame) => return Err(Fault::Oom),
            Err(NotBack::Store(_)) => return Err(Fault::Bus),
        };
        let pfn = page.pfn();
        let guard = self.lock_tables();
        let same = Entry::Software(swapped.payload());
        let at = guard.tables.entry_at(site.va).filter(|&at| guard.entry(at) == same);
        let Some(at) = at else {
            return Ok(FaultDone { kind: FaultKind::Spurious, major });
        };
        // The entry's reference to the slot becomes one to the frame.
        self.memory().meta(pfn).get();
        self.memory().swap_free(swapped.entry);
        self.rss.swapped_in(1);
        self.rss.add(RssKind::Anon, 1);
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

    /// Brings the page at `va` back if it is in swap.
    pub(crate) fn bring_back(&self, state: &State<H>, va: VirtAddr) -> Result<(), Errno> {
        let entry = self.lock_tables().tables.query(va);
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
