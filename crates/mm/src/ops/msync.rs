//! msync (Linux 6.18 mm/msync.c).

use crate::{Host, Mm};
use kilburn_addr::{Errno, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VirtAddr, VmFlags};

const MS_ASYNC: i32 = 1;
const MS_INVALIDATE: i32 = 2;
const MS_SYNC: i32 = 4;

impl<H: Host> Mm<H> {
    /// Writes shared mappings back. `MS_ASYNC` starts nothing: dirty pages are written in time
    /// anyway, as on Linux.
    ///
    /// # Errors
    /// As msync(2).
    pub fn msync(&self, addr: VirtAddr, len: u64, flags: i32) -> Result<(), Errno> {
        let both = MS_ASYNC | MS_SYNC;
        if flags & !(both | MS_INVALIDATE) != 0 || !addr.is_page_aligned() || flags & both == both {
            return Err(Errno::EINVAL);
        }
        let len = len.wrapping_add(PAGE_SIZE - 1) & PAGE_MASK;
        let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
        let mut at = addr;
        let mut gaps = Ok(());
        while at < end {
            let state = self.mmap_read_lock();
            let vma = state.areas.find(at).ok_or(Errno::ENOMEM)?;
            if at < vma.start() {
                if flags == MS_ASYNC || vma.start() >= end {
                    return Err(Errno::ENOMEM);
                }
                at = vma.start();
                gaps = Err(Errno::ENOMEM);
            }
            if flags & MS_INVALIDATE != 0 && vma.flags.contains(VmFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            let first = vma.page_index(at);
            let part_end = end.min(vma.end());
            let pages = (part_end.get() - at.get()) >> PAGE_SHIFT;
            at = vma.end();
            if flags & MS_SYNC != 0
                && vma.flags.contains(VmFlags::SHARED)
                && let Some(file) = vma.file.cloned()
            {
                // The store may take its time: nothing is locked meanwhile.
                drop(state);
                if let Some(mapping) = file.mapping() {
                    let end = first.saturating_add(pages).saturating_mul(PAGE_SIZE);
                    let synced = mapping.sync(first << PAGE_SHIFT..end);
                    if let Some(cursor) = file.error_cursor() {
                        mapping.check_errors(cursor)?;
                    }
                    synced?;
                }
            }
        }
        gaps
    }
}
