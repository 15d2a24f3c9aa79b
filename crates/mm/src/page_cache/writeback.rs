//! Dirty pages to the store (Linux 6.18 mm/page-writeback.c, mm/rmap.c: `folio_mkclean`).
//!
//! A page is marked clean, then write-protected in every table that maps it, then copied out:
//! whatever writes to it afterwards faults and marks it dirty again.

use super::{AddressSpace, Content};
use crate::memory::Use;
use crate::{Host, Memory};
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use core::sync::atomic::Ordering;
use kilburn_addr::{Errno, PAGE_SIZE, Pfn};
use kilburn_paging::PhysMem;

/// Pages written between two looks at the tree.
const BATCH: usize = 256;

impl<H: Host> Memory<H> {
    /// Counts that unused dentries and inodes were to be dropped: an embedder keeps them, in no frame.
    pub fn note_drop_slab(&self) {
        self.vm_events.drop_slab.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops clean pages of files that nobody maps or uses (Linux 6.18 fs/drop_caches.c:
    /// `drop_pagecache_sb`).
    pub fn drop_page_cache(&self) {
        self.vm_events.drop_pagecache.fetch_add(1, Ordering::Relaxed);
        for (_, mapping) in self.all_mappings() {
            mapping.evict();
        }
    }
}

impl<H: Host> AddressSpace<H> {
    /// Writes the dirty pages among `bytes` to the store and waits until it has them.
    ///
    /// # Errors
    /// What the store answers; pages that could not be written stay dirty, and whoever has the file
    /// open is told ([`Self::check_errors`]).
    pub fn sync(&self, bytes: Range<u64>) -> Result<(), Errno> {
        let Content::Store(store) = &self.content else { return Ok(()) };
        self.write_back(bytes)?;
        store.sync()
    }

    /// Writes the dirty pages among `bytes` to the store.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn write_back(&self, bytes: Range<u64>) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.write_dirty(bytes.start / PAGE_SIZE..=(bytes.end - 1) / PAGE_SIZE)
    }

    /// Writes the dirty pages among `indices`; goes on after a failure.
    pub(super) fn write_dirty(&self, indices: RangeInclusive<u64>) -> Result<(), Errno> {
        let Content::Store(store) = &self.content else { return Ok(()) };
        let mut result = Ok(());
        let (mut next, last) = indices.into_inner();
        loop {
            let batch: Vec<(u64, Pfn)> = {
                let pages = self.pages.lock();
                let batch: Vec<_> = pages.dirty_range(next..=last).take(BATCH).collect();
                for &(_, pfn) in &batch {
                    self.memory.meta(pfn).get();
                }
                batch
            };
            let Some(&(highest, _)) = batch.last() else { return result };
            for (index, pfn) in batch {
                let written = self.write_page(store.as_ref(), index, pfn);
                self.memory.put(pfn);
                result = result.and(written);
            }
            match highest.checked_add(1) {
                Some(after) if after <= last => next = after,
                _ => return result,
            }
        }
    }

    pub(super) fn write_page(
        &self,
        store: &dyn super::BackingStore,
        index: u64,
        pfn: Pfn,
    ) -> Result<(), Errno> {
        if !self.pages.lock().clear_dirty(index) {
            return Ok(());
        }
        self.memory.uses.add(self.memory.cpu(), Use::Dirty, -1);
        self.write_protect(index, pfn);
        let left = self.size().saturating_sub(index * PAGE_SIZE);
        if left == 0 {
            return Ok(());
        }
        let mut buffer = [0; PAGE_SIZE as usize];
        let bytes = &mut buffer[..left.min(PAGE_SIZE) as usize];
        self.memory.host().mem().read(pfn.base(), bytes);
        let written = store.write_page(index, bytes);
        self.memory.note_file_wait(store.take_wait_ns());
        if written.is_ok() {
            self.memory.vm_events.nr_written.fetch_add(1, Ordering::Relaxed);
            self.memory.count_page_out();
        }
        // DIVERGENCE(failed-write-back-stays-dirty): Linux's file systems forget such a page, and its
        // content when it is evicted.
        written.inspect_err(|&errno| {
            self.mark_dirty(index);
            self.errors.note(errno);
        })
    }

    /// Makes the next write to page `index`, through whatever table, fault.
    fn write_protect(&self, index: u64, pfn: Pfn) {
        if self.memory.meta(pfn).maps() == 0 {
            return;
        }
        let mut alive = Vec::new();
        let i_mmap = self.i_mmap.lock();
        i_mmap.for_each_overlap(index, index, &mut alive, |mm, part| {
            mm.clean_page(part.start(), pfn);
        });
        drop(i_mmap);
    }
}
