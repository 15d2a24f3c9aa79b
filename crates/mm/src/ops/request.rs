//! Requests of mmap, put together by name instead of by flag bits.
//!
//! A system call layer fills a [`MmapRequest`] with what the guest's registers hold; an embedder
//! that maps on its own behalf says what it wants:
//!
//! ```
//! use kilburn_addr::Prot;
//! use kilburn_mm::MmapRequest;
//! # use kilburn_mm::testing::TestHost;
//! # let memory = TestHost::memory(64);
//! # let mm = TestHost::mm(&memory);
//! # let caller = kilburn_mm::Caller::ROOT;
//! let at = mm.mmap(&caller, MmapRequest::anonymous(8192).prot(Prot::READ | Prot::WRITE))?;
//! let again = mm.mmap(&caller, MmapRequest::anonymous(4096).shared().at(at).replacing())?;
//! assert_eq!(again, at);
//! # Ok::<(), kilburn_addr::Errno>(())
//! ```

use super::mmap::{FileForMap, MmapRequest};
use crate::Host;
use crate::mappable::MappedFile;
use alloc::sync::Arc;
use core::fmt;
use kilburn_addr::{Prot, VirtAddr};

const MAP_SHARED: u64 = 0x1;
const MAP_PRIVATE: u64 = 0x2;
const MAP_TYPE: u64 = 0xf;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_POPULATE: u64 = 0x8000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

impl<H: Host> MmapRequest<H> {
    /// `len` bytes of memory of one's own, without any right yet
    /// (`MAP_PRIVATE | MAP_ANONYMOUS`, `PROT_NONE`).
    pub fn anonymous(len: u64) -> Self {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        Self { addr: 0, len, prot: 0, flags, file: None, offset: 0 }
    }

    /// `len` bytes of a file from byte `offset` on, private, without any right yet.
    pub fn of_file(file: FileForMap<H>, offset: u64, len: u64) -> Self {
        Self { addr: 0, len, prot: 0, flags: MAP_PRIVATE, file: Some(file), offset }
    }

    /// With these rights.
    pub fn prot(self, prot: Prot) -> Self {
        Self { prot: prot.bits().into(), ..self }
    }

    /// What is written is seen by everyone who maps it (`MAP_SHARED`).
    pub fn shared(self) -> Self {
        Self { flags: self.flags & !MAP_TYPE | MAP_SHARED, ..self }
    }

    /// At `addr` and nowhere else; `EEXIST` when something is there (`MAP_FIXED_NOREPLACE`).
    pub fn at(self, addr: VirtAddr) -> Self {
        Self { addr: addr.get(), flags: self.flags | MAP_FIXED_NOREPLACE, ..self }
    }

    /// What was there goes (`MAP_FIXED`); to be used with [`Self::at`].
    pub fn replacing(self) -> Self {
        Self { flags: self.flags & !MAP_FIXED_NOREPLACE | MAP_FIXED, ..self }
    }

    /// Pages are there at once instead of at the first access (`MAP_POPULATE`).
    pub fn populated(self) -> Self {
        Self { flags: self.flags | MAP_POPULATE, ..self }
    }
}

impl<H: Host> FileForMap<H> {
    /// A file or device opened for reading and writing, on a file system that permits execution.
    pub fn read_write(file: Arc<dyn MappedFile<H>>) -> Self {
        Self { file, readable: true, writable: true, noexec: false, write_sealed: false }
    }

    /// A file or device opened for reading, on a file system that permits execution.
    pub fn read_only(file: Arc<dyn MappedFile<H>>) -> Self {
        Self { writable: false, ..Self::read_write(file) }
    }
}

impl<H: Host> fmt::Debug for FileForMap<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileForMap")
            .field("path", &self.file.path())
            .field("readable", &self.readable)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

impl<H: Host> fmt::Debug for MmapRequest<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addr, len, prot, flags, file, offset } = self;
        write!(f, "mmap({addr:#x}, {len:#x}, {prot:#x}, {flags:#x}, {file:?}, {offset:#x})")
    }
}
