//! The kernel's access to user memory: copies in and out, futex words, other processes' memory.

use crate::fault::Fault;
use crate::{Caller, Host, Mm};
use kilburn_addr::{Errno, VirtAddr};

/// A copy that stopped short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partial {
    /// Bytes copied before the fault.
    pub done: usize,
    /// What stopped it.
    pub fault: Fault,
}

/// What `access_remote` may override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoteRights {
    /// The area must permit the access.
    AsMapped,
    /// As ptrace: what the area *may* become permits it (Linux `FOLL_FORCE`).
    Forced,
}

/// Who shares a futex word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FutexScope {
    /// Threads of one address space (`FUTEX_PRIVATE_FLAG`).
    Private,
    /// Everyone who maps the page.
    Shared,
}

/// What identifies a futex word; equal keys are the same word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FutexKey {
    /// Private memory: address space and address.
    Private {
        /// [`Mm::id`]
        mm: u64,
        /// The word's address.
        addr: VirtAddr,
    },
    /// A shared page: its page cache and the byte offset in it.
    Shared {
        /// [`crate::AddressSpace::id`]
        mapping: u64,
        /// Byte offset.
        offset: u64,
    },
}

impl<H: Host> Mm<H> {
    /// Copies from user memory, faulting pages in (Linux `copy_from_user`).
    ///
    /// # Errors
    /// [`Partial`] at the first address that cannot be read.
    pub fn read(&self, caller: &Caller, addr: VirtAddr, into: &mut [u8]) -> Result<(), Partial> {
        let _ = (caller, addr, into);
        Err(Partial { done: 0, fault: Fault::Oom })
    }

    /// Copies to user memory, faulting pages in (Linux `copy_to_user`).
    ///
    /// # Errors
    /// [`Partial`] at the first address that cannot be written.
    pub fn write(&self, caller: &Caller, addr: VirtAddr, from: &[u8]) -> Result<(), Partial> {
        let _ = (caller, addr, from);
        Err(Partial { done: 0, fault: Fault::Oom })
    }

    /// Reads another task's memory (Linux `access_remote_vm`); answers how many bytes could be.
    pub fn read_remote(&self, addr: VirtAddr, into: &mut [u8], rights: RemoteRights) -> usize {
        let _ = (addr, into, rights);
        0
    }

    /// Writes another task's memory (Linux `access_remote_vm`); answers how many bytes could be.
    pub fn write_remote(&self, addr: VirtAddr, from: &[u8], rights: RemoteRights) -> usize {
        let _ = (addr, from, rights);
        0
    }

    /// Reads the aligned 32-bit word at `addr`, atomically.
    ///
    /// # Errors
    /// The fault, when it cannot be read.
    pub fn load_u32(&self, caller: &Caller, addr: VirtAddr) -> Result<u32, Fault> {
        let _ = (caller, addr);
        Err(Fault::Oom)
    }

    /// Replaces the aligned 32-bit word at `addr` when it is `current`; answers what was there.
    ///
    /// # Errors
    /// The fault, when it cannot be written.
    pub fn compare_exchange_u32(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        current: u32,
        new: u32,
    ) -> Result<u32, Fault> {
        let _ = (caller, addr, current, new);
        Err(Fault::Oom)
    }

    /// The identity of the futex word at `addr` (Linux `get_futex_key`).
    ///
    /// # Errors
    /// `EINVAL` when not aligned to 4, `EFAULT` when the word is not accessible.
    pub fn futex_key(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        scope: FutexScope,
    ) -> Result<FutexKey, Errno> {
        let _ = (caller, addr, scope);
        Err(Errno::ENOSYS)
    }
}
