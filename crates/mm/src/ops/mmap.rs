//! mmap (Linux 6.18 mm/mmap.c: `ksys_mmap_pgoff`, `do_mmap`).

use crate::mappable::MappedFile;
use crate::{Caller, Host, Mm};
use alloc::sync::Arc;
use kilburn_addr::{Errno, VirtAddr};

/// The arguments of mmap as the guest gave them.
pub struct MmapRequest<H: Host> {
    /// Hint or, with `MAP_FIXED`, the address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_*`
    pub prot: u64,
    /// `MAP_*`
    pub flags: u64,
    /// The file of the descriptor; ignored with `MAP_ANONYMOUS`. The caller answers `EBADF` itself
    /// when a file is needed and there is none.
    pub file: Option<FileForMap<H>>,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// What mmap needs to know of an open file.
pub struct FileForMap<H: Host> {
    /// What is mapped.
    pub file: Arc<dyn MappedFile<H>>,
    /// Opened for reading (`FMODE_READ`).
    pub readable: bool,
    /// Opened for writing (`FMODE_WRITE`).
    pub writable: bool,
    /// Its file system is mounted `noexec`.
    pub noexec: bool,
    /// Seals and the like forbid shared writable mappings for ever (`F_SEAL_WRITE`).
    pub write_sealed: bool,
}

impl<H: Host> Mm<H> {
    /// Maps a file or anonymous memory; answers where.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn mmap(&self, caller: &Caller, request: MmapRequest<H>) -> Result<VirtAddr, Errno> {
        let _ = (caller, request);
        Err(Errno::ENOSYS)
    }
}
