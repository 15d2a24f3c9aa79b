//! Evicting a page of a file, or of shared memory (Linux 6.18 mm/vmscan.c: `__remove_mapping`,
//! `pageout`; mm/shmem.c: `shmem_writeout`).

use super::anon::Unmapped;
use super::{Home, Outcome};
use crate::anon_vma::Alive;
use crate::frames::FrameState;
use crate::host::FlushReason;
use crate::policy::PutBack;
use crate::swap::slots::Content;
use crate::{Host, Memory};
use core::ops::ControlFlow;
use kilburn_addr::{PAGE_SIZE, Pfn, VmFlags};
use kilburn_paging::{Entry, LeafFlags, PhysMem, tables};

impl<H: Host> Memory<H> {
    /// The caller holds a reference to the page, and has locked it.
    pub(super) fn evict_file(&self, pfn: Pfn, alive: &mut Alive<H>) -> Outcome<H> {
        let meta = self.meta(pfn);
        let index = meta.index();
        let Some(mapping) = self.mapping(meta.owner()) else {
            return Outcome::Kept(PutBack::Later);
        };
        alive.mappings.push(mapping.clone());
        match self.unmap_file(pfn, alive) {
            Unmapped::Fully => {}
            Unmapped::Partly => return Outcome::Kept(PutBack::Used),
            Unmapped::Locked => return Outcome::Locked,
        }
        if mapping.pfn_of(index) != Some(pfn) || meta.refs() != 2 {
            return Outcome::Kept(PutBack::Later);
        }
        if mapping.is_dirty(index) && mapping.write_out(index, pfn).is_err() {
            return Outcome::Kept(PutBack::Later);
        }
        if mapping.remove_clean(index, pfn) {
            Outcome::Gone(Home::File(mapping, index))
        } else {
            Outcome::Kept(PutBack::Used)
        }
    }

    /// The caller holds a reference to the page, and has locked it.
    pub(super) fn evict_shmem(&self, pfn: Pfn, alive: &mut Alive<H>) -> Outcome<H> {
        let meta = self.meta(pfn);
        let index = meta.index();
        let Some(mapping) = self.mapping(meta.owner()) else {
            return Outcome::Kept(PutBack::Later);
        };
        alive.mappings.push(mapping.clone());
        match self.unmap_file(pfn, alive) {
            Unmapped::Fully => {}
            Unmapped::Partly => return Outcome::Kept(PutBack::Used),
            Unmapped::Locked => return Outcome::Locked,
        }
        if meta.refs() != 2 {
            return Outcome::Kept(PutBack::Later);
        }
        // What nobody wrote to is a hole again, and takes no slot.
        if !meta.is_dirty_shmem() && self.is_zeroed(pfn) && mapping.remove_untouched(index, pfn) {
            return Outcome::Gone(Home::Nowhere);
        }
        let Some(entry) = self.take_slot(Content::Busy, meta.memcg()) else {
            return Outcome::Kept(PutBack::Later);
        };
        self.swap_duplicate(entry);
        // From here on whoever looks for the page finds the slot, and waits until it is written.
        if !mapping.replace_by_slot(index, pfn, entry) {
            self.swap_free(entry);
            self.end_busy(entry);
            return Outcome::Kept(PutBack::Used);
        }
        if self.write_busy_slot(entry, pfn).is_ok() {
            let left = meta.put();
            debug_assert!(left > 0, "the cache's reference goes, the caller's is left");
            return Outcome::Gone(Home::Slot(entry));
        }
        let outcome = if mapping.put_back(index, pfn, entry) {
            Outcome::Kept(PutBack::Later)
        } else {
            // Truncated meanwhile.
            let left = meta.put();
            debug_assert!(left > 0);
            Outcome::Gone(Home::Nowhere)
        };
        self.end_busy(entry);
        outcome
    }

    fn is_zeroed(&self, pfn: Pfn) -> bool {
        let mut bytes = [0; PAGE_SIZE as usize];
        self.host().mem().read(pfn.base(), &mut bytes);
        bytes == [0; PAGE_SIZE as usize]
    }

    /// Takes a page of a page cache out of all tables.
    fn unmap_file(&self, pfn: Pfn, alive: &mut Alive<H>) -> Unmapped {
        let mut locked = false;
        self.for_each_mapping(pfn, alive, |mapping| {
            if mapping.area.contains(VmFlags::LOCKED) {
                locked = true;
                return ControlFlow::Break(());
            }
            let mm = mapping.mm;
            let taken = tables::take(mm.mem(), mm.format(), mapping.at);
            debug_assert!(matches!(taken, Entry::Leaf(_)), "the tables are locked");
            if let Entry::Leaf(leaf) = taken
                && leaf.flags.contains(LeafFlags::DIRTY)
                && self.meta(pfn).state() == FrameState::Shmem
            {
                self.meta(pfn).set_dirty_shmem();
            }
            mm.flush_page(mapping.va, FlushReason::Reclaim);
            self.unmapped(mapping);
            ControlFlow::Continue(())
        });
        match (locked, self.meta(pfn).maps()) {
            (true, _) => Unmapped::Locked,
            (false, 0) => Unmapped::Fully,
            (false, _) => Unmapped::Partly,
        }
    }
}
