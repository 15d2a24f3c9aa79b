//! Faulting a whole range in (Linux 6.18 mm/gup.c: `__mm_populate`, `populate_vma_page_range`).

use crate::fault::Fault;
use crate::mm::State;
use crate::{Host, Mm, VmaRef};
use kilburn_addr::{Access, AddrRange, Errno, PAGE_SIZE, VirtAddr, VmFlags};
use kilburn_paging::{Entry, LeafFlags};

/// What a page that cannot be had means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnError {
    /// The next area is tried.
    GoOn,
    /// The call fails.
    Stop,
}

impl<H: Host> Mm<H> {
    /// Faults in the pages of `range`, as the areas' rights suggest: private writable ones for
    /// writing, the rest for reading.
    ///
    /// # Errors
    /// `ENOMEM` for a gap or without memory, `EFAULT` for a page that cannot be had.
    pub(super) fn populate(&self, range: AddrRange, on_error: OnError) -> Result<(), Errno> {
        self.populate_locked(&self.mmap_read_lock(), range, on_error)
    }

    /// As [`Self::populate`], with `mmap_lock` held.
    ///
    /// # Errors
    /// As [`Self::populate`].
    pub(super) fn populate_locked(
        &self,
        state: &State<H>,
        range: AddrRange,
        on_error: OnError,
    ) -> Result<(), Errno> {
        let mut at = range.start();
        for vma in state.areas.overlapping(range) {
            if on_error == OnError::Stop && vma.start() > at {
                return Err(Errno::ENOMEM);
            }
            at = vma.end();
            if vma.flags.intersects(VmFlags::IO | VmFlags::PFNMAP) {
                continue;
            }
            let Some(part) = vma.range.intersection(range) else { continue };
            let result = self.populate_area(state, vma, part);
            if on_error == OnError::Stop {
                result?;
            }
        }
        if on_error == OnError::Stop && at < range.end() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn populate_area(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        part: AddrRange,
    ) -> Result<(), Errno> {
        if vma.flags.contains(VmFlags::LOCKONFAULT) {
            return Ok(());
        }
        let private_writable = VmFlags::WRITE | VmFlags::SHARED;
        let access = if vma.flags & private_writable == VmFlags::WRITE {
            Access::Write
        } else {
            Access::Read
        };
        // An area without rights is not forced (vma_is_accessible).
        if !vma.flags.intersects(VmFlags::ACCESS) {
            return Err(Errno::EFAULT);
        }
        self.fault_in_part(state, vma, part, access).map_err(|fault| match fault {
            Fault::Oom => Errno::ENOMEM,
            _ => Errno::EFAULT,
        })
    }

    /// Faults in every page of `part`, which lies in `vma`.
    pub(super) fn fault_in_part(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        part: AddrRange,
        access: Access,
    ) -> Result<(), Fault> {
        let mut va = part.start();
        while va < part.end() {
            if !self.is_present(va, access) {
                self.fault_in(state, vma, va, access)?;
            }
            va = VirtAddr::new(va.get() + PAGE_SIZE);
        }
        Ok(())
    }

    fn is_present(&self, va: VirtAddr, access: Access) -> bool {
        match self.lock_leaf(va).tables.query(va) {
            Entry::Leaf(leaf) if access == Access::Write => {
                let writable = leaf.flags.contains(LeafFlags::WRITE);
                if writable {
                    self.note_unseen_write(leaf);
                }
                writable
            }
            Entry::Leaf(_) => true,
            _ => false,
        }
    }
}
