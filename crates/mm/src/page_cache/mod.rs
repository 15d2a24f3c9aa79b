//! The page cache: the pages of a file that are in memory, shared by read, write and mmap.

pub mod store;

pub use store::BackingStore;

use crate::{Host, Memory};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range;
use kilburn_addr::Errno;

/// The cached pages of one file, its size, and who maps it (Linux `struct address_space`).
pub struct AddressSpace<H: Host> {
    memory: Arc<Memory<H>>,
    id: u64,
    store: Option<Box<dyn BackingStore>>,
}

impl<H: Host> AddressSpace<H> {
    /// The page cache of a file of `size` bytes whose content is in `store`.
    pub fn new(memory: &Arc<Memory<H>>, store: Box<dyn BackingStore>, size: u64) -> Arc<Self> {
        let _ = size;
        Arc::new(Self { memory: memory.clone(), id: 0, store: Some(store) })
    }

    /// Memory with no store behind it: tmpfs files, memfd, shared anonymous memory. Its pages
    /// count as shmem and live until truncated or dropped.
    pub fn new_shmem(memory: &Arc<Memory<H>>, size: u64) -> Arc<Self> {
        let _ = size;
        Arc::new(Self { memory: memory.clone(), id: 0, store: None })
    }

    /// A number no other page cache of the machine has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The machine's memory it lives in.
    pub fn memory(&self) -> &Arc<Memory<H>> {
        &self.memory
    }

    /// Whether it is shared memory (tmpfs) rather than a cached file.
    pub fn is_shmem(&self) -> bool {
        self.store.is_none()
    }

    /// Size of the file in bytes (Linux `i_size`).
    pub fn size(&self) -> u64 {
        0
    }

    /// Reads from `pos` through the cache; stops at the end of the file. Answers how many bytes.
    ///
    /// # Errors
    /// `EIO` when the store fails, `ENOMEM` when there is no frame; only if nothing was read.
    pub fn read_at(&self, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let _ = (pos, into);
        Err(Errno::ENOSYS)
    }

    /// Writes at `pos` through the cache; the file grows. Answers how many bytes.
    ///
    /// # Errors
    /// `EIO` when the store fails, `ENOMEM`/`ENOSPC` when there is no frame; only if nothing was
    /// written.
    pub fn write_at(&self, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let _ = (pos, from);
        Err(Errno::ENOSYS)
    }

    /// Changes the size. Pages past the new end are unmapped everywhere, private copies included,
    /// and dropped; the rest of the last page is zeroed.
    ///
    /// # Errors
    /// What the store answers.
    pub fn truncate(&self, size: u64) -> Result<(), Errno> {
        let _ = size;
        Err(Errno::ENOSYS)
    }

    /// Writes the dirty pages among `bytes` to the store and waits until it has them.
    ///
    /// # Errors
    /// What the store answers; pages that could not be written stay dirty.
    pub fn sync(&self, bytes: Range<u64>) -> Result<(), Errno> {
        let _ = bytes;
        Err(Errno::ENOSYS)
    }

    /// Drops clean pages that nobody maps.
    pub fn evict(&self) {}
}
