//! Calls that are declared and not built yet; each moves to a file of its own.

use crate::{Caller, Host, Mm};
use alloc::vec::Vec;
use kilburn_addr::{Errno, VirtAddr};

impl<H: Host> Mm<H> {
    /// Moves or resizes a mapping.
    ///
    /// # Errors
    /// As mremap(2).
    pub fn mremap(
        &self,
        caller: &Caller,
        old: VirtAddr,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: VirtAddr,
    ) -> Result<VirtAddr, Errno> {
        let _ = (caller, old, old_len, new_len, flags, new_addr);
        Err(Errno::ENOSYS)
    }

    /// Advises on the use of `len` bytes at `addr`.
    ///
    /// # Errors
    /// As madvise(2).
    pub fn madvise(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        advice: i32,
    ) -> Result<(), Errno> {
        let _ = (caller, addr, len, advice);
        Err(Errno::ENOSYS)
    }

    /// Writes shared mappings back.
    ///
    /// # Errors
    /// As msync(2).
    pub fn msync(&self, addr: VirtAddr, len: u64, flags: i32) -> Result<(), Errno> {
        let _ = (addr, len, flags);
        Err(Errno::ENOSYS)
    }

    /// Tells for each page whether it is in memory, a byte a page appended to `out`.
    ///
    /// # Errors
    /// As mincore(2).
    pub fn mincore(&self, addr: VirtAddr, len: u64, out: &mut Vec<u8>) -> Result<(), Errno> {
        let _ = (addr, len, out);
        Err(Errno::ENOSYS)
    }

    /// Locks pages in memory.
    ///
    /// # Errors
    /// As mlock(2).
    pub fn mlock(&self, caller: &Caller, addr: VirtAddr, len: u64) -> Result<(), Errno> {
        let _ = (caller, addr, len);
        Err(Errno::ENOSYS)
    }

    /// Locks pages in memory, at once or as they are faulted in.
    ///
    /// # Errors
    /// As mlock2(2).
    pub fn mlock2(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        len: u64,
        flags: i32,
    ) -> Result<(), Errno> {
        let _ = (caller, addr, len, flags);
        Err(Errno::ENOSYS)
    }

    /// Unlocks pages.
    ///
    /// # Errors
    /// As munlock(2).
    pub fn munlock(&self, addr: VirtAddr, len: u64) -> Result<(), Errno> {
        let _ = (addr, len);
        Err(Errno::ENOSYS)
    }

    /// Locks the whole address space.
    ///
    /// # Errors
    /// As mlockall(2).
    pub fn mlockall(&self, caller: &Caller, flags: i32) -> Result<(), Errno> {
        let _ = (caller, flags);
        Err(Errno::ENOSYS)
    }

    /// Unlocks the whole address space.
    ///
    /// # Errors
    /// As munlockall(2).
    pub fn munlockall(&self) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// Seals mappings against change.
    ///
    /// # Errors
    /// As mseal(2).
    pub fn mseal(&self, addr: VirtAddr, len: u64, flags: u64) -> Result<(), Errno> {
        let _ = (addr, len, flags);
        Err(Errno::ENOSYS)
    }

    /// Rearranges a shared mapping.
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
        let _ = (caller, addr, size, prot, pgoff, flags);
        Err(Errno::ENOSYS)
    }
}
