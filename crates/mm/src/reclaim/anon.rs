//! Evicting an anonymous page (Linux 6.18 mm/vmscan.c: `shrink_folio_list`; mm/rmap.c:
//! `try_to_unmap`).

use super::{Home, Outcome};
use crate::anon_vma::Alive;
use crate::host::FlushReason;
use crate::policy::PutBack;
use crate::pte::{SwapFlags, SwapPte};
use crate::rmap::walk::Mapping;
use crate::swap::SwapEntry;
use crate::{Host, Memory};
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use kilburn_addr::{Pfn, VmFlags};
use kilburn_paging::{Entry, LeafFlags, tables};

/// How taking a page out of tables ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unmapped {
    /// No table maps it any more.
    Fully,
    /// Some table still does.
    Partly,
    /// It lies in a locked area.
    Locked,
}

impl<H: Host> Memory<H> {
    /// The caller holds a reference to the page, and has locked it.
    pub(super) fn evict_anon(&self, pfn: Pfn, alive: &mut Alive<H>) -> Outcome<H> {
        let meta = self.meta(pfn);
        if meta.is_lazy_free()
            && !meta.is_swap_cached()
            && let Some(outcome) = self.drop_lazy(pfn, alive)
        {
            return outcome;
        }
        let entry = match meta.swap_slot() {
            Some((area, slot)) => SwapEntry { area, slot },
            // Nobody maps it and it is in no cache: it is being freed.
            None if meta.maps() == 0 => return Outcome::Kept(PutBack::Later),
            None => match self.add_to_swap(pfn) {
                Some(entry) => entry,
                None => return Outcome::Kept(PutBack::Later),
            },
        };
        match self.unmap_to_swap(pfn, entry, alive) {
            Unmapped::Fully => {}
            Unmapped::Partly => return Outcome::Kept(PutBack::Used),
            Unmapped::Locked => return self.stay_locked(pfn),
        }
        // Whoever has a reference besides the swap cache and us uses the page.
        if meta.refs() != 2 {
            return Outcome::Kept(PutBack::Later);
        }
        if meta.take_dirty() && self.write_slot(entry, pfn).is_err() {
            meta.set_dirty();
            return Outcome::Kept(PutBack::Later);
        }
        if self.remove_clean_from_swap_cache(pfn) {
            Outcome::Gone(Home::Slot(entry))
        } else {
            Outcome::Kept(PutBack::Used)
        }
    }

    /// A locked page gives its slot back, if it may.
    fn stay_locked(&self, pfn: Pfn) -> Outcome<H> {
        self.free_swap_of_locked(pfn);
        Outcome::Locked
    }

    /// Replaces the entries that map a page by ones for its slot.
    fn unmap_to_swap(&self, pfn: Pfn, entry: SwapEntry, alive: &mut Alive<H>) -> Unmapped {
        let mut locked = false;
        self.for_each_mapping(pfn, alive, |mapping| {
            if mapping.area.contains(VmFlags::LOCKED) {
                locked = true;
                return ControlFlow::Break(());
            }
            self.swap_out_entry(mapping, entry);
            ControlFlow::Continue(())
        });
        match (locked, self.meta(pfn).maps()) {
            (true, _) => Unmapped::Locked,
            (false, 0) => Unmapped::Fully,
            (false, _) => Unmapped::Partly,
        }
    }

    fn swap_out_entry(&self, mapping: &Mapping<'_, H>, entry: SwapEntry) {
        let mm = mapping.mm;
        let Entry::Leaf(leaf) = tables::take(mm.mem(), mm.format(), mapping.at) else { return };
        mm.flush_page(mapping.va, FlushReason::Reclaim);
        let meta = self.meta(leaf.pfn);
        if leaf.flags.contains(LeafFlags::DIRTY) {
            meta.set_dirty();
        }
        let mut flags = SwapFlags::empty();
        if meta.is_exclusive() {
            flags |= SwapFlags::EXCLUSIVE;
            meta.clear_exclusive();
        }
        if leaf.flags.contains(LeafFlags::SOFT_DIRTY) {
            flags |= SwapFlags::SOFT_DIRTY;
        }
        self.swap_duplicate(entry);
        mapping.guard.set(mapping.at, Entry::Software(SwapPte { entry, flags }.payload()));
        mm.counts.swapped_out(1);
        mm.note_swapped();
        self.unmapped(mapping);
    }

    /// An entry that mapped a page is gone: counts follow.
    pub(super) fn unmapped(&self, mapping: &Mapping<'_, H>) {
        let kind = mapping.mm.forget_mapping_of(mapping.leaf.pfn);
        mapping.mm.counts.note_peak(mapping.mm.memory().cpu());
        mapping.mm.counts.add(mapping.mm.memory().cpu(), kind, -1);
        // Not the last: the caller of the eviction has one.
        let left = self.meta(mapping.leaf.pfn).put();
        debug_assert!(left > 0);
    }

    /// Drops a page whose content its owner gave up, unless it was written since; that of a droppable
    /// area even then. `None`: it was, and is like any other.
    fn drop_lazy(&self, pfn: Pfn, alive: &mut Alive<H>) -> Option<Outcome<H>> {
        let meta = self.meta(pfn);
        let mut written = meta.is_dirty();
        let mut locked = false;
        self.for_each_mapping(pfn, alive, |mapping| {
            locked |= mapping.area.contains(VmFlags::LOCKED);
            let droppable = mapping.area.contains(VmFlags::DROPPABLE);
            written |= mapping.leaf.flags.contains(LeafFlags::DIRTY) && !droppable;
            if locked || written {
                return ControlFlow::Break(());
            }
            let mm = mapping.mm;
            let Entry::Leaf(leaf) = tables::take(mm.mem(), mm.format(), mapping.at) else {
                return ControlFlow::Continue(());
            };
            mm.flush_page(mapping.va, FlushReason::Reclaim);
            if leaf.flags.contains(LeafFlags::DIRTY) && !droppable {
                // Hardware was faster.
                mapping.guard.set_leaf(mapping.at, mapping.va, leaf);
                written = true;
                return ControlFlow::Break(());
            }
            self.unmapped(mapping);
            ControlFlow::Continue(())
        });
        if locked {
            return Some(Outcome::Locked);
        }
        if written {
            meta.clear_lazy_free();
            return None;
        }
        if meta.maps() == 0 && meta.refs() == 1 {
            self.vm_events.pglazyfreed.fetch_add(1, Ordering::Relaxed);
            if let Some(memcg) = self.memcg(meta.memcg()) {
                memcg.count(|vm| &vm.pglazyfreed);
            }
            return Some(Outcome::Gone(Home::Nowhere));
        }
        Some(Outcome::Kept(PutBack::Later))
    }
}
