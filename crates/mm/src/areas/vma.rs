//! One area of an address space (Linux `struct vm_area_struct`).

use crate::Host;
use crate::anon_vma::AnonSlot;
use crate::mappable::MappedFile;
use crate::userfault::Userfaultfd;
use alloc::boxed::Box;
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
    /// What few areas have.
    pub extra: VmaExtra<H>,
}

/// What few areas have, out of the way of the others: an area is one cache line.
pub struct VmaExtra<H: Host>(Option<Box<Extra<H>>>);

struct Extra<H: Host> {
    name: VmaName,
    userfault: Option<Arc<Userfaultfd<H>>>,
}

impl<H: Host> VmaExtra<H> {
    /// Nothing.
    pub const NONE: Self = Self(None);

    /// A name.
    pub fn named(name: VmaName) -> Self {
        Self::of(name, None)
    }

    fn of(name: VmaName, userfault: Option<Arc<Userfaultfd<H>>>) -> Self {
        let bare = name == VmaName::None && userfault.is_none();
        Self((!bare).then(|| Box::new(Extra { name, userfault })))
    }
}

impl<H: Host> Clone for VmaExtra<H> {
    fn clone(&self) -> Self {
        match &self.0 {
            Some(extra) => Self::of(extra.name.clone(), extra.userfault.clone()),
            None => Self::NONE,
        }
    }
}

const NO_PAGES: AddrRange = AddrRange::new(VirtAddr::ZERO, VirtAddr::ZERO).expect("in order");

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
    /// What lies where no area is.
    pub(super) const fn vacant() -> Self {
        // Whoever makes the area larger than this should have a reason.
        const { assert!(size_of::<Self>() == 64) }
        Self {
            range: NO_PAGES,
            flags: VmFlags::empty(),
            pgoff: 0,
            file: None,
            anon_vma: AnonSlot::empty(),
            extra: VmaExtra::NONE,
        }
    }

    /// A name other than the file's path.
    #[inline]
    pub fn name(&self) -> &VmaName {
        self.extra.0.as_ref().map_or(&VmaName::None, |extra| &extra.name)
    }

    /// Gives it a name, or takes it away.
    pub fn set_name(&mut self, name: VmaName) {
        self.extra = VmaExtra::of(name, self.userfault().cloned());
    }

    /// Who resolves its faults in place of the kernel (Linux `vm_userfaultfd_ctx`).
    #[inline]
    pub fn userfault(&self) -> Option<&Arc<Userfaultfd<H>>> {
        self.extra.0.as_ref()?.userfault.as_ref()
    }

    /// Says who resolves its faults.
    pub fn set_userfault(&mut self, userfault: Option<Arc<Userfaultfd<H>>>) {
        self.extra = VmaExtra::of(self.name().clone(), userfault);
    }

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
        self.file.is_none() && !matches!(self.name(), VmaName::Special(_))
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
            extra: self.extra.clone(),
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
            .field("name", self.name())
            .finish()
    }
}
