//! What the kernel itself maps: shared anonymous memory and its own pages.

use crate::mappable::{DeviceFault, FileIdentity, Mappable, MappedFile};
use crate::{AddressSpace, Host};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kilburn_addr::{Access, AddrRange, Errno, Pfn, VmFlags};

/// The object behind `MAP_SHARED | MAP_ANONYMOUS`: an unlinked file of the kernel's own tmpfs.
pub(crate) struct SharedAnon<H: Host> {
    mapping: Arc<AddressSpace<H>>,
    inode: u64,
}

impl<H: Host> SharedAnon<H> {
    pub(crate) fn new(mapping: Arc<AddressSpace<H>>, inode: u64) -> Self {
        Self { mapping, inode }
    }
}

impl<H: Host> MappedFile<H> for SharedAnon<H> {
    fn mapping(&self) -> Option<&Arc<AddressSpace<H>>> {
        Some(&self.mapping)
    }

    fn identity(&self) -> FileIdentity {
        FileIdentity { major: 0, minor: 1, inode: self.inode }
    }

    fn path(&self) -> String {
        String::from("/dev/zero (deleted)")
    }
}

/// Pages of the kernel's own that it maps into an address space (Linux `vm_special_mapping`).
pub(crate) struct SpecialPages(pub(crate) Vec<Pfn>);

impl<H: Host> MappedFile<H> for SpecialPages {
    fn mapping(&self) -> Option<&Arc<AddressSpace<H>>> {
        None
    }

    fn ops(&self) -> Option<&dyn Mappable<H>> {
        Some(self)
    }

    fn identity(&self) -> FileIdentity {
        FileIdentity::default()
    }

    fn path(&self) -> String {
        String::new()
    }
}

impl<H: Host> Mappable<H> for SpecialPages {
    fn mmap(&self, _: AddrRange, _: u64, _: VmFlags) -> Result<VmFlags, Errno> {
        Err(Errno::ENODEV)
    }

    fn fault(&self, pgoff: u64, _: Access) -> Result<Pfn, DeviceFault> {
        self.0.get(pgoff as usize).copied().ok_or(DeviceFault::Bus)
    }
}
