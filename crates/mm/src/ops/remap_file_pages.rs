//! remap_file_pages, as a new mapping of the same file (Linux 6.18 mm/mmap.c).

use super::mmap::{FileForMap, MapFlags, MmapRequest, SHARED};
use crate::mm::State;
use crate::{Caller, Host, Mm, VmaRef};
use alloc::sync::Arc;
use kilburn_addr::{Errno, PAGE_MASK, PAGE_SHIFT, VirtAddr, VmFlags};

impl<H: Host> Mm<H> {
    /// Rearranges a shared mapping: `size` bytes at `addr` show its file from page `pgoff` on.
    ///
    /// # Errors
    /// As remap_file_pages(2).
    pub fn remap_file_pages(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        size: u64,
        prot: u64,
        pgoff: u64,
        flags: u64,
    ) -> Result<(), Errno> {
        let (start, size) = (addr.page_down(), size & PAGE_MASK);
        let end = start.checked_add(size).filter(|end| *end > start).ok_or(Errno::EINVAL)?;
        if prot != 0 || pgoff.checked_add(size >> PAGE_SHIFT).is_none() {
            return Err(Errno::EINVAL);
        }
        let request = {
            let state = self.mmap_read_lock();
            let vma = shared_at(&state, start, end)?;
            let mut raw = MapFlags::from_bits_truncate(flags) & MapFlags::NONBLOCK;
            raw |= MapFlags::FIXED | MapFlags::POPULATE;
            if vma.flags.contains(VmFlags::LOCKED) {
                raw |= MapFlags::LOCKED;
            }
            let file = vma.file.ok_or(Errno::EINVAL)?;
            MmapRequest {
                addr: start.get(),
                len: size,
                prot: u64::from(vma.flags.prot().bits()),
                flags: raw.bits() | SHARED,
                // VM_SHARED is there only for files opened for reading and writing.
                file: Some(FileForMap {
                    file: file.clone(),
                    readable: true,
                    writable: true,
                    noexec: !vma.flags.contains(VmFlags::MAYEXEC),
                    write_sealed: !vma.flags.contains(VmFlags::MAYWRITE),
                }),
                offset: pgoff.checked_mul(1 << PAGE_SHIFT).ok_or(Errno::EOVERFLOW)?,
            }
        };
        self.mmap(caller, request).map(|_| ())
    }
}

/// The shared area at `start`, when it and others just like it reach `end`.
fn shared_at<H: Host>(
    state: &State<H>,
    start: VirtAddr,
    end: VirtAddr,
) -> Result<VmaRef<'_, H>, Errno> {
    let first = state.areas.containing(start).ok_or(Errno::EINVAL)?;
    if !first.flags.contains(VmFlags::SHARED) {
        return Err(Errno::EINVAL);
    }
    let mut reached = first.end();
    while reached < end {
        let next = state.areas.containing(reached).ok_or(Errno::EINVAL)?;
        let same_file = match (&next.file, &first.file) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if !same_file || next.flags != first.flags {
            return Err(Errno::EINVAL);
        }
        reached = next.end();
    }
    Ok(first)
}
