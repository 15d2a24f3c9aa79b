//! One area of an address space (Linux `struct vm_area_struct`).

use crate::Host;
use crate::anon_vma::AnonSlot;
use crate::mappable::MappedFile;
use crate::userfault::Userfaultfd;
use alloc::sync::Arc;
use core::fmt;
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};

/// A range of pages with one set of rights and one thing behind them.
pub struct Vma<H: Host> {
    /// Pages it covers; page-aligned, never empty.
    pub range: AddrRange,
    /// `VM_*` flags.
    pub flags: VmFlags,
    /// Offset of the first page in what is mapped, in pages; for private anonymous memory the
    /// virtual page number the area was created at (Linux `vm_pgoff`).
    pub pgoff: u64,
    /// What is mapped; `None` for private anonymous memory.
    pub file: Option<Arc<dyn MappedFile<H>>>,
    /// Whom its anonymous pages belong to.
    pub anon_vma: AnonSlot<H>,
    /// A name other than the file's path.
    pub name: VmaName,
    /// Who resolves its faults in place of the kernel (Linux `vm_userfaultfd_ctx`).
    pub userfault: Option<Arc<Userfaultfd<H>>>,
}

/// Where an area's name comes from when it is not a file's path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VmaName {
    /// None; the maps line may still say `[heap]` or `[stack]` by position.
    #[default]
    None,
    /// Given with `PR_SET_VMA_ANON_NAME`; printed `[anon:NAME]` or `[anon_shmem:NAME]`.
    Anon(Arc<str>),
    /// A mapping the kernel installs: `[vdso]`, `[vvar]` (Linux `vm_special_mapping`).
    Special(&'static str),
}

impl<H: Host> Vma<H> {
    /// First address.
    #[inline]
    pub fn start(&self) -> VirtAddr {
        self.range.start()
    }

    /// First address past the area.
    #[inline]
    pub fn end(&self) -> VirtAddr {
        self.range.end()
    }

    /// Offset in what is mapped, in pages, of the page at `addr`
    /// (Linux `linear_page_index`).
    ///
    /// # Panics
    /// In debug builds, when `addr` is not in the area.
    #[inline]
    pub fn page_index(&self, addr: VirtAddr) -> u64 {
        debug_assert!(self.range.start() <= addr && addr <= self.range.end());
        self.pgoff.wrapping_add((addr.get() - self.range.start().get()) >> PAGE_SHIFT)
    }

    /// Private anonymous memory (Linux `vma_is_anonymous`).
    #[inline]
    pub fn is_anonymous(&self) -> bool {
        self.file.is_none() && !matches!(self.name, VmaName::Special(_))
    }

    /// Whether writes stay in this address space (Linux `is_cow_mapping`): private, and writable
    /// or able to become so.
    #[inline]
    pub fn is_cow(&self) -> bool {
        self.flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE
    }
}

impl<H: Host> Clone for Vma<H> {
    /// The same area again (Linux `vm_area_dup`, `anon_vma_clone`).
    fn clone(&self) -> Self {
        Self {
            range: self.range,
            flags: self.flags,
            pgoff: self.pgoff,
            file: self.file.clone(),
            anon_vma: self.anon_vma.clone(),
            name: self.name.clone(),
            userfault: self.userfault.clone(),
        }
    }
}

impl<H: Host> fmt::Debug for Vma<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vma")
            .field("range", &self.range)
            .field("flags", &self.flags)
            .field("pgoff", &self.pgoff)
            .field("file", &self.file.as_ref().map(|file| file.path()))
            .field("anon_vma", &self.anon_vma)
            .field("name", &self.name)
            .finish()
    }
}
