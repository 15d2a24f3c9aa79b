//! mincore (Linux 6.18 mm/mincore.c).

use crate::pte::SwapPte;
use crate::{Host, Mm, VmaRef};
use alloc::vec::Vec;
use kilburn_addr::{AddrRange, Errno, PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use kilburn_paging::Entry;

/// Pages looked at with `mmap_lock` held, as many as Linux's page of results holds.
const CHUNK_PAGES: u64 = PAGE_SIZE;

impl<H: Host> Mm<H> {
    /// Tells for each page whether it is in memory, a byte a page appended to `out`: mapped here,
    /// or in the page cache of the file. On an error `out` holds what was found before it.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned address; `ENOMEM` for a range past user space or a gap.
    pub fn mincore(&self, addr: VirtAddr, len: u64, out: &mut Vec<u8>) -> Result<(), Errno> {
        if !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        if !self.in_task(addr, len) {
            return Err(Errno::ENOMEM);
        }
        let mut left = len.div_ceil(PAGE_SIZE);
        let mut at = addr;
        while left > 0 {
            let state = self.mmap_read_lock();
            let vma = state.areas.containing(at).ok_or(Errno::ENOMEM)?;
            let in_area = (vma.end().get() - at.get()) >> PAGE_SHIFT;
            let pages = left.min(in_area).min(CHUNK_PAGES);
            let part = AddrRange::with_len(at, pages << PAGE_SHIFT).ok_or(Errno::ENOMEM)?;
            self.mincore_part(vma, part, out);
            at = part.end();
            left -= pages;
        }
        Ok(())
    }

    /// Whether an entry's page is in memory: mapped, or in the swap cache.
    fn is_incore(&self, entry: Entry) -> bool {
        match entry {
            Entry::Leaf(_) => true,
            Entry::Software(payload) => SwapPte::from_payload(payload)
                .is_some_and(|swapped| self.memory().is_swap_cached(swapped.entry)),
            Entry::None | Entry::Table(_) => false,
        }
    }

    fn mincore_part(&self, vma: VmaRef<'_, H>, part: AddrRange, out: &mut Vec<u8>) {
        let first = out.len();
        out.resize(first + part.pages() as usize, 0);
        let found = &mut out[first..];
        self.for_each_leaf(part, |guard, span| {
            for (va, at) in span.entries() {
                let page = (va.get() - part.start().get()) >> PAGE_SHIFT;
                found[page as usize] = u8::from(self.is_incore(guard.entry(at)));
            }
        });
        if let Some(mapping) = vma.file.and_then(|file| file.mapping()) {
            let index = vma.page_index(part.start());
            mapping.for_each_cached(index..=index + (part.pages() - 1), |cached, _| {
                found[(cached - index) as usize] = 1;
            });
            // Shared memory that was read ahead is in the swap cache (Linux `filemap_get_incore_folio`).
            for (cached, entry) in mapping.swap_entries(index..=index + (part.pages() - 1)) {
                found[(cached - index) as usize] |= u8::from(self.memory().is_swap_cached(entry));
            }
        }
    }
}
