//! Pages that leave the cache to make room, and how they come back
//! (Linux 6.18 mm/vmscan.c: `__remove_mapping`; mm/shmem.c: `shmem_swapin_folio`).
//!
//! A page of a file leaves a shadow in its place, a page of shared memory its slot of swap:
//!
//! ```text
//!   file            page --remove_clean--> (empty) --keep_shadow--> Value::Shadow --add_page--> page
//!   shared memory   page --replace_by_slot--> Value::Swap --page_from_swap--> page
//!                        <----put_back-------  the slot could not be written
//! ```

use super::tree::Value;
use super::{AddressSpace, Content, Found};
use crate::Host;
use crate::frames::FrameState;
use crate::page_cache::page::PageRef;
use crate::policy::{FirstUse, Shadow};
use crate::swap::readahead::Together;
use crate::swap::{NotBack, SwapEntry, Taken};
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use kilburn_addr::{Errno, Pfn};
use kilburn_paging::PhysMem;

impl<H: Host> AddressSpace<H> {
    /// Writes page `index`, which is dirty and which nobody maps, to the store.
    ///
    /// # Errors
    /// What the store answers; the page stays dirty.
    pub(crate) fn write_out(&self, index: u64, pfn: Pfn) -> Result<(), Errno> {
        match &self.content {
            Content::Store(store) => self.write_page(store.as_ref(), index, pfn),
            Content::Shmem(_) => Ok(()),
        }
    }

    /// Takes page `index` out, if it is this frame, clean, and held by nobody but the cache and the
    /// caller; whether it was.
    pub(crate) fn remove_clean(&self, index: u64, pfn: Pfn) -> bool {
        let mut pages = self.pages.lock();
        if !self.is_idle(&pages, index, pfn) || pages.is_dirty(index) {
            return false;
        }
        pages.remove(index);
        drop(pages);
        let left = self.memory.meta(pfn).put();
        debug_assert!(left > 0, "the caller holds a reference");
        true
    }

    /// Takes page `index` of shared memory out, if it is this frame, which holds zeros, and held by
    /// nobody but the cache and the caller: its place is a hole again; whether it was.
    pub(crate) fn remove_untouched(&self, index: u64, pfn: Pfn) -> bool {
        let mut pages = self.pages.lock();
        if !self.is_idle(&pages, index, pfn) || self.memory.meta(pfn).is_dirty_shmem() {
            return false;
        }
        pages.remove(index);
        drop(pages);
        self.uncharge_pages(1);
        let left = self.memory.meta(pfn).put();
        debug_assert!(left > 0, "the caller holds a reference");
        true
    }

    fn is_idle(&self, pages: &super::PageTree, index: u64, pfn: Pfn) -> bool {
        let meta = self.memory.meta(pfn);
        pages.get(index) == Some(pfn) && meta.refs() == 2 && meta.maps() == 0
    }

    /// Leaves what the policy remembers in the place of a page that was evicted.
    pub(crate) fn keep_shadow(&self, index: u64, shadow: Shadow) {
        let mut pages = self.pages.lock();
        if index < self.size_pages() && pages.get(index).is_none() && pages.value(index).is_none() {
            pages.set_value(index, Value::Shadow(shadow));
            return;
        }
        drop(pages);
        self.memory.forget_shadow(shadow);
    }

    /// Puts a slot in the place of page `index`, if it is this frame, held by nobody but the cache
    /// and the caller. The cache's reference to the frame is kept until it is known whether the slot
    /// could be written.
    pub(crate) fn replace_by_slot(&self, index: u64, pfn: Pfn, entry: SwapEntry) -> bool {
        let mut pages = self.pages.lock();
        if !self.is_idle(&pages, index, pfn) {
            return false;
        }
        pages.remove(index);
        pages.set_value(index, Value::Swap(entry));
        true
    }

    /// The slot could not be written: the page takes its place again; whether it is still wanted.
    pub(crate) fn put_back(&self, index: u64, pfn: Pfn, entry: SwapEntry) -> bool {
        let mut pages = self.pages.lock();
        if pages.value(index) != Some(Value::Swap(entry)) {
            return false;
        }
        pages.insert(index, pfn);
        drop(pages);
        self.memory.swap_free(entry);
        true
    }

    /// Page `index` of shared memory if it is in memory or in swap.
    ///
    /// # Errors
    /// `EIO` when it cannot be read, `ENOMEM` without a frame.
    pub(crate) fn existing_page(&self, index: u64) -> Result<Option<PageRef<'_, H>>, Errno> {
        match self.cached_page(index) {
            Some(page) => Ok(Some(page)),
            None => Ok(self.page_from_swap(index)?.map(|(page, _)| page)),
        }
    }

    /// Page `index` of shared memory if it is in swap, brought back, and whether it had to be read: not
    /// when it had been read ahead.
    ///
    /// # Errors
    /// `EIO` when it cannot be read, `ENOMEM` without a frame.
    pub(super) fn page_from_swap(
        &self,
        index: u64,
    ) -> Result<Option<(PageRef<'_, H>, Found)>, Errno> {
        loop {
            let found = self.pages.lock().value(index);
            let Some(Value::Swap(entry)) = found else {
                // Somebody else may have brought it back meanwhile.
                return Ok(self.cached_page(index).map(|page| (page, Found::Cached)));
            };
            let mut together = Together::default();
            let taken = match self.memory.take_from_swap(entry, &mut together) {
                Ok(taken) => taken,
                Err(NotBack::Stale) => continue,
                Err(why) => return Err(why.into()),
            };
            match taken {
                Taken::Read(pfn, shadow) => {
                    if let Some(page) = self.put_read_page(index, entry, pfn, shadow) {
                        self.memory.read_ahead_cluster(entry, &mut together);
                        return Ok(Some((page, Found::Read)));
                    }
                }
                Taken::Cached(cached) => {
                    self.memory.note_cluster_use(cached.pfn());
                    if let Some(page) = self.put_cached_page(index, entry, cached)? {
                        return Ok(Some((page, Found::Cached)));
                    }
                }
            }
        }
    }

    /// Puts a frame that holds what is in a slot in the place of page `index`, if that is the slot's;
    /// the slot is given up.
    fn put_read_page(
        &self,
        index: u64,
        entry: SwapEntry,
        pfn: Pfn,
        shadow: Option<Shadow>,
    ) -> Option<PageRef<'_, H>> {
        let mut pages = self.pages.lock();
        if pages.value(index) != Some(Value::Swap(entry)) {
            drop(pages);
            self.memory.discard(pfn);
            return None;
        }
        let meta = self.memory.meta(pfn);
        meta.begin(FrameState::Shmem, self.id, index);
        meta.get();
        // Its slot is given up.
        meta.set_dirty_shmem();
        pages.insert(index, pfn);
        drop(pages);
        self.memory.uses.add(self.memory.cpu(), self.used_as(), 1);
        self.memory.swap_free(entry);
        self.memory.note_arrival(pfn, FirstUse::Mapped, shadow);
        Some(PageRef::from_held(&self.memory, pfn))
    }

    /// As [`Self::put_read_page`], for a page that is in the swap cache: its frame becomes the file's,
    /// or a copy does while somebody else looks at it.
    ///
    /// # Errors
    /// `ENOMEM` without a frame for the copy.
    fn put_cached_page<'m>(
        &'m self,
        index: u64,
        entry: SwapEntry,
        cached: PageRef<'m, H>,
    ) -> Result<Option<PageRef<'m, H>>, Errno> {
        let pfn = cached.pfn();
        let mut pages = self.pages.lock();
        if pages.value(index) != Some(Value::Swap(entry)) {
            return Ok(None);
        }
        if self.memory.move_to_shmem(pfn, self.id, index) {
            pages.insert(index, pfn);
            drop(pages);
            self.memory.swap_free(entry);
            return Ok(Some(cached));
        }
        drop(pages);
        let copy = self.memory.alloc_for(self.memory.meta(pfn).memcg())?;
        self.memory.host().mem().copy(pfn, copy);
        drop(cached);
        Ok(self.put_read_page(index, entry, copy, None))
    }

    /// Forgets slots and shadows among `indices`: the pages are gone for good.
    pub(super) fn drop_values(&self, indices: RangeInclusive<u64>) {
        let values: Vec<(u64, Value)> = {
            let mut pages = self.pages.lock();
            let values: Vec<_> = pages.values(indices).collect();
            for &(index, _) in &values {
                pages.take_value(index);
            }
            values
        };
        for (_, value) in values {
            match value {
                Value::Swap(entry) => {
                    self.uncharge_pages(1);
                    self.memory.swap_free(entry);
                }
                Value::Shadow(shadow) => self.memory.forget_shadow(shadow),
            }
        }
    }

    /// Brings all pages back that are in area `number` of swap (Linux `shmem_unuse`).
    pub(crate) fn bring_home(&self, number: u8) -> Result<(), Errno> {
        let swapped: Vec<u64> = {
            let pages = self.pages.lock();
            let in_area = |value| matches!(value, Value::Swap(entry) if entry.is_in(number));
            pages.values(0..=u64::MAX).filter(|&(_, v)| in_area(v)).map(|(i, _)| i).collect()
        };
        for index in swapped {
            self.page_from_swap(index)?;
        }
        Ok(())
    }

    /// How many of the pages `indices` are in swap (Linux `shmem_partial_swap_usage`).
    pub(crate) fn swapped_among(&self, indices: RangeInclusive<u64>) -> u64 {
        let pages = self.pages.lock();
        let swapped = |&(_, value): &(u64, Value)| matches!(value, Value::Swap(_));
        pages.values(indices).filter(swapped).count() as u64
    }

    /// Which of the pages `indices` are in swap, and where.
    pub(crate) fn swap_entries(&self, indices: RangeInclusive<u64>) -> Vec<(u64, SwapEntry)> {
        let pages = self.pages.lock();
        let slot = |(index, value)| match value {
            Value::Swap(entry) => Some((index, entry)),
            Value::Shadow(_) => None,
        };
        pages.values(indices).filter_map(slot).collect()
    }
}
