//! What an area maps: an open file as mmap sees it, and pages supplied by a device.
//!
//! [`MappedFile`] is implemented by the file layer, [`Mappable`] by whoever supplies pages itself
//! (Linux `struct file` and `struct vm_operations_struct`). Neighbours: [`crate::AddressSpace`] is
//! the page cache most files answer with.

use crate::{AddressSpace, ErrorCursor, Host};
use alloc::string::String;
use alloc::sync::Arc;
use kilburn_addr::{Access, AddrRange, Errno, Pfn, VmFlags};

/// An open file (or device) that areas map. The area keeps it open.
pub trait MappedFile<H: Host>: Send + Sync {
    /// The page cache of the file; `None` for a device, which then supplies [`Self::ops`].
    fn mapping(&self) -> Option<&Arc<AddressSpace<H>>>;

    /// Operations of a mapping that supplies its pages itself, or that wants to be told of the
    /// areas that map it. With a [`Self::mapping`] the pages come from there.
    fn ops(&self) -> Option<&dyn Mappable<H>> {
        None
    }

    /// What the open file was told of failed write-back, for msync to tell it more.
    fn error_cursor(&self) -> Option<&ErrorCursor> {
        None
    }

    /// Whether this is `/dev/zero`: mapped shared it is memory of its own, mapped private it is
    /// anonymous memory (Linux 6.18 drivers/char/mem.c: `mmap_zero`).
    fn is_zero_device(&self) -> bool {
        false
    }

    /// Device and inode of the maps line.
    fn identity(&self) -> FileIdentity;

    /// The path of the maps line, as Linux `d_path` prints it, ` (deleted)` included.
    fn path(&self) -> String;
}

/// Device and inode number of a mapped file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FileIdentity {
    /// Major number of the file system's device.
    pub major: u32,
    /// Minor number of the file system's device.
    pub minor: u32,
    /// Inode number.
    pub inode: u64,
}

/// Supplies the pages of a device mapping, or counts its areas (Linux `vm_operations_struct`).
pub trait Mappable<H: Host>: Send + Sync {
    /// Judges a new mapping and names the flags it adds (`VM_IO | VM_PFNMAP | ...`), as a driver's
    /// `mmap` method does.
    ///
    /// # Errors
    /// Whatever mmap shall answer.
    fn mmap(&self, range: AddrRange, pgoff: u64, flags: VmFlags) -> Result<VmFlags, Errno>;

    /// An area that maps this came to be: by mmap, fork, split or mremap. (A Linux driver's mmap
    /// counts its first area itself; here every area that is closed was opened.)
    fn open(&self, range: AddrRange) {
        let _ = range;
    }

    /// An area that maps this is gone.
    fn close(&self, range: AddrRange) {
        let _ = range;
    }

    /// The frame for page `pgoff`, outside the frames [`crate::Memory`] hands out.
    ///
    /// # Errors
    /// [`DeviceFault`], which becomes the access's fault.
    fn fault(&self, pgoff: u64, access: Access) -> Result<Pfn, DeviceFault>;

    /// Whether this is an attached System V segment, which shmdt finds
    /// (Linux 6.18 ipc/shm.c: `shm_vm_ops`).
    fn is_segment(&self) -> bool {
        false
    }

    /// A page is about to become writable (Linux `pfn_mkwrite`).
    ///
    /// # Errors
    /// [`DeviceFault`], which becomes the access's fault.
    fn page_mkwrite(&self, pgoff: u64) -> Result<(), DeviceFault> {
        let _ = pgoff;
        Ok(())
    }
}

/// Why a device supplies no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceFault {
    /// Nothing is behind that page: SIGBUS.
    Bus,
    /// No memory.
    Oom,
}
