//! The contents of regular files: the memory manager's page cache.
//!
//! [`PageCache`] is one file's, shared by read, write and mmap; [`PageCaches`] makes them in the
//! machine's memory. Neighbours: `kilburn_mm::AddressSpace` does the work.

use crate::host::{MachineHost, Memory};
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::{AddressSpace, BackingStore};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Makes page caches in one machine's memory.
#[derive(Clone)]
pub(crate) struct PageCaches(Arc<Memory>);

impl PageCaches {
    /// Page caches that take frames of `memory`.
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self(Arc::clone(memory))
    }

    /// Contents that live in memory only.
    pub(crate) fn in_memory(&self, size: u64) -> PageCache {
        PageCache(AddressSpace::new_shmem(&self.0, size))
    }

    /// Contents kept in `store`.
    pub(crate) fn backed(&self, store: Box<dyn BackingStore>, size: u64) -> PageCache {
        PageCache(AddressSpace::new(&self.0, store, size))
    }
}

/// One file's contents.
#[derive(Clone)]
pub(crate) struct PageCache(Arc<AddressSpace<MachineHost>>);

impl PageCache {
    /// What mappings hold.
    pub(crate) fn address_space(&self) -> &Arc<AddressSpace<MachineHost>> {
        &self.0
    }

    /// Memory it takes, in units of 512 bytes.
    pub(crate) fn blocks(&self) -> u64 {
        self.0.allocated_pages() * (PAGE_SIZE / 512)
    }

    /// Writes everything that is dirty to the store.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn sync(&self, bytes: Range<u64>) -> Result<(), Errno> {
        self.0.sync(bytes)
    }
}

impl Deref for PageCache {
    type Target = AddressSpace<MachineHost>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
