//! Changing a file's size and punching holes, against live mappings (Linux 6.18 mm/truncate.c,
//! mm/memory.c: `unmap_mapping_range`).

use super::page::PageRef;
use super::{AddressSpace, Content};
use crate::Host;
use crate::zap::Copies;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};
use core::sync::atomic::Ordering;
use kilburn_addr::{Errno, PAGE_SIZE, PhysAddr};
use kilburn_paging::PhysMem;

impl<H: Host> AddressSpace<H> {
    /// Changes the size. Pages past the new end are unmapped everywhere, private copies included,
    /// and dropped; the rest of the last page is zeroed.
    ///
    /// # Errors
    /// What the store answers; `ETXTBSY` for a file that swap lies in, unless it grows. Nothing has
    /// changed then.
    pub fn truncate(&self, size: u64) -> Result<(), Errno> {
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let _exclusive = self.invalidate.write();
        // As `inode_newsize_ok` has it: what swap lies in stays.
        if size <= self.size() {
            self.check_writable()?;
        }
        // It stays while it is held: what can fail comes first.
        let _last = self.page_to_zero(size)?;
        if let Content::Store(store) = &self.content {
            store.set_size(size)?;
        }
        let before = self.size.swap(size, Ordering::AcqRel);
        if size < before {
            self.drop_pages(size.div_ceil(PAGE_SIZE)..=u64::MAX, Copies::Too);
            self.zero_part(size / PAGE_SIZE, size % PAGE_SIZE..PAGE_SIZE);
        }
        Ok(())
    }

    /// Makes `bytes` read as zeros and drops the whole pages among them
    /// (`FALLOC_FL_PUNCH_HOLE`). Private copies stay.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a file with a store; `EIO`, `ENOMEM` when a page of which a part goes cannot
    /// be brought back from swap.
    pub fn punch_hole(&self, bytes: Range<u64>) -> Result<(), Errno> {
        if !self.is_shmem() {
            return Err(Errno::EOPNOTSUPP);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let _exclusive = self.invalidate.write();
        let (first, last) = (bytes.start / PAGE_SIZE, bytes.end / PAGE_SIZE);
        let _parts = (self.page_to_zero(bytes.start)?, self.page_to_zero(bytes.end)?);
        let whole = bytes.start.div_ceil(PAGE_SIZE)..last;
        if !whole.is_empty() {
            self.drop_pages(whole.start..=whole.end - 1, Copies::Stay);
        }
        let (head, tail) = (bytes.start % PAGE_SIZE, bytes.end % PAGE_SIZE);
        if first == last {
            self.zero_part(first, head..tail);
        } else {
            if head != 0 {
                self.zero_part(first, head..PAGE_SIZE);
            }
            self.zero_part(last, 0..tail);
        }
        Ok(())
    }

    /// Unmaps the pages `indices` everywhere and takes them out of the cache. `invalidate` is held
    /// exclusively.
    fn drop_pages(&self, indices: RangeInclusive<u64>, copies: Copies) {
        let (first, last) = (*indices.start(), *indices.end());
        let mut alive = Vec::new();
        let i_mmap = self.i_mmap.lock();
        i_mmap.for_each_overlap(first, last, &mut alive, |mm, part| {
            mm.zap_for_truncate(part, copies);
        });
        drop(i_mmap);
        drop(alive);
        let gone: Vec<u64> = self.pages.lock().range(indices).map(|(index, _)| index).collect();
        for index in gone {
            self.remove_page(index);
        }
        self.drop_values(first..=last);
    }

    /// The page of which a part is to be zeroed at `pos`, brought back if it is in swap.
    fn page_to_zero(&self, pos: u64) -> Result<Option<PageRef<'_, H>>, Errno> {
        if pos.is_multiple_of(PAGE_SIZE) || !self.is_shmem() {
            return Ok(None);
        }
        self.existing_page(pos / PAGE_SIZE)
    }

    fn zero_part(&self, index: u64, part: Range<u64>) {
        if part.is_empty() || part.start == 0 && part.end == PAGE_SIZE {
            return;
        }
        if let Some(page) = self.cached_page(index) {
            let at = PhysAddr::new(page.pfn().base().get() + part.start);
            let zeros = [0; PAGE_SIZE as usize];
            self.memory.host().mem().write(at, &zeros[..(part.end - part.start) as usize]);
            self.mark_dirty(index);
        }
    }
}
