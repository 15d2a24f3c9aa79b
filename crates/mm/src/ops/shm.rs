//! System V shared memory, as far as it concerns an address space (Linux 6.18 ipc/shm.c).
//!
//! A segment is shared memory with a size of its own; who keeps it by key and id is the embedder.
//! [`Mm::new_segment`] makes its pages' home, [`Mm::shmat`] maps it, [`Mm::shmdt`] unmaps every
//! piece of it that is left. What is mapped is a [`crate::MappedFile`] that has both a mapping and
//! [`crate::Mappable`] operations, whose `open` and `close` count the areas.

use super::mmap::MapFlags;
use crate::page_cache::{AddressSpace, Promise};
use crate::{Caller, Host, Mm, MmapRequest, VmaRef};
use alloc::sync::Arc;
use kilburn_addr::{Errno, PAGE_SHIFT, PAGE_SIZE, VirtAddr};

/// How a segment's memory counts against the commit limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserve {
    /// As a whole, until the segment goes.
    Whole,
    /// Each page when it comes to be (`SHM_NORESERVE`); the overcommit mode that never
    /// overcommits does not grant it.
    EachPage,
}

/// What is to happen to areas that are where a segment is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occupied {
    /// They go (`SHM_REMAP`).
    Replace,
    /// The call is refused.
    Refuse,
}

impl<H: Host> Mm<H> {
    /// The pages of a new segment of `size` bytes, made by a task of this address space
    /// (`newseg`, mm/shmem.c: `shmem_kernel_file_setup`).
    ///
    /// # Errors
    /// `EINVAL` when no file can be that large, `ENOMEM` when that much may not be promised.
    pub fn new_segment(
        &self,
        caller: &Caller,
        size: u64,
        reserve: Reserve,
    ) -> Result<Arc<AddressSpace<H>>, Errno> {
        if size > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let memory = self.memory();
        let never = matches!(memory.tunables.overcommit(), crate::Overcommit::Never(_));
        let promise = match reserve {
            Reserve::EachPage if !never => Promise::EachPage,
            _ => Promise::Whole(size.div_ceil(PAGE_SIZE)),
        };
        let total_vm = self.mmap_read_lock().vm.total;
        AddressSpace::new_shared_anon(memory, caller, total_vm, size, promise)
    }

    /// Attaches a segment: `request` maps it whole, with `MAP_FIXED` where an address is asked
    /// for (`do_shmat`).
    ///
    /// # Errors
    /// `EINVAL` when something is there already and stays; else as mmap.
    pub fn shmat(
        &self,
        caller: &Caller,
        request: MmapRequest<H>,
        occupied: Occupied,
    ) -> Result<VirtAddr, Errno> {
        let (addr, size) = (VirtAddr::new(request.addr), request.len);
        let fixed = MapFlags::from_bits_truncate(request.flags).contains(MapFlags::FIXED);
        self.mmap_if(caller, request, |areas| {
            if !fixed || occupied == Occupied::Replace {
                return Ok(());
            }
            let end = addr.checked_add(size).ok_or(Errno::EINVAL)?;
            match areas.find(addr) {
                Some(vma) if vma.start() < end => Err(Errno::EINVAL),
                _ => Ok(()),
            }
        })
    }

    /// Detaches the segment whose first page is, or was, at `addr`: every piece of it that was
    /// not moved goes (`ksys_shmdt`).
    ///
    /// # Errors
    /// `EINVAL` when there is none.
    pub fn shmdt(&self, addr: VirtAddr) -> Result<(), Errno> {
        if !addr.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let mut state = self.mmap_write_lock();
        let mut first = state.areas.find(addr);
        while first.is_some_and(|vma| !is_piece_at(vma, addr)) {
            first = first.and_then(|vma| state.areas.find(vma.end()));
        }
        let Some(vma) = first else { return Err(Errno::EINVAL) };
        let file = vma.file.cloned().ok_or(Errno::EINVAL)?;
        let size = file.mapping().map_or(0, |mapping| mapping.size());
        let size = size.next_multiple_of(PAGE_SIZE);
        let mut gone = vma.range;
        // What is sealed stays, and the call succeeds all the same: Linux does not look.
        let _ = self.unmap_locked(&mut state, gone);
        while let Some(vma) = state.areas.find(gone.end()) {
            if vma.end().get() - addr.get() > size {
                break;
            }
            let same = vma
                .file
                .is_some_and(|other| core::ptr::addr_eq(Arc::as_ptr(other), Arc::as_ptr(&file)));
            gone = vma.range;
            if same && is_piece_at(vma, addr) {
                let _ = self.unmap_locked(&mut state, gone);
            }
        }
        drop(state);
        Ok(())
    }
}

/// Whether the area maps a segment at the place it has when the segment starts at `addr`.
fn is_piece_at<H: Host>(vma: VmaRef<'_, H>, addr: VirtAddr) -> bool {
    let ops = vma.file.and_then(|file| file.ops());
    ops.is_some_and(crate::Mappable::is_segment)
        && (vma.start().get().wrapping_sub(addr.get())) >> PAGE_SHIFT == vma.pgoff
}
