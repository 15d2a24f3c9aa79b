//! From a frame to the entries that map it (Linux 6.18 mm/rmap.c: `rmap_walk`,
//! `folio_referenced`).
//!
//! ```text
//!   FrameMeta --owner--> AnonVma and those forked from it --areas--> mm, address --> entry
//!             --owner--> AddressSpace ------------i_mmap--> mm, address --> entry
//! ```
//!
//! A walk runs inside an allocation, whose caller may hold locks: those it needs are tried, never
//! waited for. It may so miss entries; whoever relies on having found all compares with
//! [`FrameMeta::maps`](crate::frames::FrameMeta).

use crate::anon_vma::Alive;
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::mm::TableGuard;
use crate::policy::References;
use crate::{Host, Memory, Mm};
use core::ops::ControlFlow;
use kilburn_addr::{Pfn, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::{Entry, Leaf, LeafFlags};

/// Is shown a place where a page may be mapped: address space, address, the area's flags.
pub(crate) type VisitPlace<'a, H> = dyn FnMut(&Mm<H>, VirtAddr, VmFlags) -> ControlFlow<()> + 'a;

/// An entry that maps a frame, its tables locked.
pub(crate) struct Mapping<'a, H: Host> {
    pub(crate) mm: &'a Mm<H>,
    pub(crate) guard: &'a TableGuard<'a, H>,
    pub(crate) at: PhysAddr,
    pub(crate) va: VirtAddr,
    pub(crate) leaf: Leaf,
    /// Of the area it lies in.
    pub(crate) area: VmFlags,
}

impl<H: Host> Memory<H> {
    /// Calls `visit` with each entry found that maps `pfn`, until it breaks. Address spaces met are
    /// put into `alive`, to be let go when the caller holds no lock.
    pub(crate) fn for_each_mapping(
        &self,
        pfn: Pfn,
        alive: &mut Alive<H>,
        mut visit: impl FnMut(&Mapping<'_, H>) -> ControlFlow<()>,
    ) {
        let meta = self.meta(pfn);
        if meta.maps() == 0 {
            return;
        }
        let mut at_place = |mm: &Mm<H>, va: VirtAddr, area: VmFlags| {
            let Some(guard) = mm.try_lock_path(va) else { return ControlFlow::Continue(()) };
            let Some(at) = guard.tables.entry_at(va) else { return ControlFlow::Continue(()) };
            match guard.entry(at) {
                Entry::Leaf(leaf)
                    if leaf.pfn == pfn && !leaf.flags.contains(LeafFlags::SPECIAL) =>
                {
                    visit(&Mapping { mm, guard: &guard, at, va, leaf, area })
                }
                _ => ControlFlow::Continue(()),
            }
        };
        let _ = match meta.state() {
            FrameState::Anon => {
                let Some(anon_vma) = self.anon_vmas.get(meta.owner()) else { return };
                anon_vma.for_each_place(meta.index(), alive, &mut at_place)
            }
            FrameState::File | FrameState::Shmem => {
                let Some(mapping) = self.mapping(meta.owner()) else { return };
                let flow = match mapping.i_mmap.try_lock() {
                    Some(i_mmap) => {
                        i_mmap.for_each_place(meta.index(), &mut alive.mms, &mut at_place)
                    }
                    None => ControlFlow::Continue(()),
                };
                alive.mappings.push(mapping);
                flow
            }
            _ => return,
        };
    }

    /// Reads and clears the accessed bits of all entries that map `pfn`
    /// (Linux `folio_referenced`). A page some area locks counts as used.
    pub(crate) fn test_and_clear_accessed(&self, pfn: Pfn, alive: &mut Alive<H>) -> References {
        let mut found = References::NONE;
        self.for_each_mapping(pfn, alive, |mapping| {
            if !mapping.leaf.flags.contains(LeafFlags::ACCESSED) {
                return ControlFlow::Continue(());
            }
            mapping.guard.update(mapping.at, |leaf| Leaf {
                flags: leaf.flags - LeafFlags::ACCESSED,
                ..leaf
            });
            mapping.mm.flush_page(mapping.va, FlushReason::Clean);
            found.entries += 1;
            found.executable |= mapping.area.contains(VmFlags::EXEC);
            ControlFlow::Continue(())
        });
        found
    }
}
