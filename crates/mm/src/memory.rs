//! The machine's memory: frames, the zero page, commit accounting, the registry of owners.

use crate::{AddressSpace, Host, MemoryConfig, MemoryError, Mm};
use alloc::sync::Arc;

/// Everything the address spaces of one machine share.
pub struct Memory<H: Host> {
    host: H,
    config: MemoryConfig,
}

/// Counts of frames, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryCounts {
    /// All frames the memory manager was given.
    pub total: u64,
    /// Frames not in use.
    pub free: u64,
    /// Most frames in use at once so far.
    pub peak_used: u64,
    /// Frames that hold page tables.
    pub page_tables: u64,
    /// Frames of anonymous memory.
    pub anon: u64,
    /// Frames of the page cache, shared memory included (meminfo `Cached`).
    pub cached: u64,
    /// Frames of shared memory and tmpfs.
    pub shmem: u64,
    /// Frames of the page cache that some address space maps (meminfo `Mapped`).
    pub mapped: u64,
    /// Frames of the page cache that are to be written to their store.
    pub dirty: u64,
    /// Frames held by the kernel itself: the zero page, the vdso.
    pub kernel: u64,
    /// Pages promised (meminfo `Committed_AS`).
    pub committed: u64,
    /// Most pages that may be promised in overcommit mode 2 (meminfo `CommitLimit`).
    pub commit_limit: u64,
}

/// A broken invariant, found by [`Memory::check`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was found.
    pub detail: alloc::string::String,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl<H: Host> Memory<H> {
    /// Takes over the frames that `config` names.
    ///
    /// # Errors
    /// [`MemoryError`] when there are too few or too many.
    pub fn new(host: H, config: MemoryConfig) -> Result<Arc<Self>, MemoryError> {
        Ok(Arc::new(Self { host, config }))
    }

    /// The embedder.
    #[inline]
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The settings it was made with.
    #[inline]
    pub fn config(&self) -> &MemoryConfig {
        &self.config
    }

    /// Counts of frames now.
    pub fn counts(&self) -> MemoryCounts {
        MemoryCounts::default()
    }

    /// Walks everything and compares it with what is counted. `mms` and `files` are all that
    /// exist.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check(&self, mms: &[&Mm<H>], files: &[&AddressSpace<H>]) -> Result<(), Violation> {
        let _ = (mms, files);
        Ok(())
    }
}

impl<H: Host> Memory<H> {
    /// Zeroed frames for the kernel's own use, such as the vdso; `None` when there are too few.
    pub fn alloc_kernel_pages(&self, count: usize) -> Option<alloc::vec::Vec<kilburn_addr::Pfn>> {
        let _ = count;
        None
    }
}
