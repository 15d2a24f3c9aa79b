//! One area of an address space (Linux `struct vm_area_struct`).
//!
//! [`Vma`] is an area on its own, on its way in or out. Among others it lies in parts, most of it in
//! the tree's leaves ([`super::Areas`]), and is looked at as a [`VmaRef`].

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

/// An area among the others of its address space, as it is now.
///
/// Fields mean what those of [`Vma`] mean.
pub struct VmaRef<'a, H: Host> {
    /// Pages it covers; page-aligned, never empty.
    pub range: AddrRange,
    /// `VM_*` flags.
    pub flags: VmFlags,
    /// Offset of the first page in what is mapped, in pages.
    pub pgoff: u64,
    /// What is mapped; `None` for private anonymous memory.
    pub file: Option<&'a Arc<dyn MappedFile<H>>>,
    /// Whom its anonymous pages belong to.
    pub anon_vma: &'a AnonSlot<H>,
    extra: Option<&'a Extra<H>>,
}

impl<H: Host> Clone for VmaRef<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Host> Copy for VmaRef<'_, H> {}

/// What few areas have, out of the way of the others.
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

    fn name(&self) -> VmaName {
        self.0.as_ref().map_or(VmaName::None, |extra| extra.name.clone())
    }

    fn userfault(&self) -> Option<Arc<Userfaultfd<H>>> {
        self.0.as_ref().and_then(|extra| extra.userfault.clone())
    }

    pub(crate) fn set_name(&mut self, name: VmaName) {
        *self = Self::of(name, self.userfault());
    }

    pub(crate) fn set_userfault(&mut self, userfault: Option<Arc<Userfaultfd<H>>>) {
        *self = Self::of(self.name(), userfault);
    }
}

impl<H: Host> Clone for VmaExtra<H> {
    fn clone(&self) -> Self {
        Self::of(self.name(), self.userfault())
    }
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

/// What an area has that the leaves of the tree do not keep, if it has more than private anonymous
/// memory has that is where it was made.
pub(super) struct Rest<H: Host> {
    pub(super) pgoff: u64,
    pub(super) file: Option<Arc<dyn MappedFile<H>>>,
    pub(super) extra: VmaExtra<H>,
}

impl<H: Host> Rest<H> {
    /// Of private anonymous memory that was made at page `vpn`.
    pub(super) const fn plain(vpn: u64) -> Self {
        const { assert!(size_of::<Self>() == 32, "an area with a file costs so much more") }
        Self { pgoff: vpn, file: None, extra: VmaExtra::NONE }
    }

    /// Whether it is [`Self::plain`] for an area that starts at page `vpn`.
    pub(super) fn is_plain(&self, vpn: u64) -> bool {
        self.pgoff == vpn && self.file.is_none() && self.extra.0.is_none()
    }
}

impl<H: Host> Clone for Rest<H> {
    fn clone(&self) -> Self {
        Self { pgoff: self.pgoff, file: self.file.clone(), extra: self.extra.clone() }
    }
}

impl<H: Host> Vma<H> {
    /// A look at it.
    #[inline]
    pub fn as_ref(&self) -> VmaRef<'_, H> {
        VmaRef {
            range: self.range,
            flags: self.flags,
            pgoff: self.pgoff,
            file: self.file.as_ref(),
            anon_vma: &self.anon_vma,
            extra: self.extra.0.as_deref(),
        }
    }

    /// First address.
    #[inline]
    pub fn start(&self) -> VirtAddr {
        self.range.start()
    }
}

impl<'a, H: Host> VmaRef<'a, H> {
    /// An area in parts; without a rest it is plain.
    #[inline]
    pub(super) fn of(
        range: AddrRange,
        flags: VmFlags,
        anon_vma: &'a AnonSlot<H>,
        rest: Option<&'a Rest<H>>,
    ) -> Self {
        match rest {
            None => {
                let pgoff = range.start().vpn();
                Self { range, flags, pgoff, file: None, anon_vma, extra: None }
            }
            Some(Rest { pgoff, file, extra }) => Self {
                range,
                flags,
                pgoff: *pgoff,
                file: file.as_ref(),
                anon_vma,
                extra: extra.0.as_deref(),
            },
        }
    }

    /// The same area again, on its own (Linux `vm_area_dup`, `anon_vma_clone`).
    pub fn to_vma(self) -> Vma<H> {
        Vma {
            range: self.range,
            flags: self.flags,
            pgoff: self.pgoff,
            file: self.file.cloned(),
            anon_vma: self.anon_vma.clone(),
            extra: match self.extra {
                Some(extra) => VmaExtra::of(extra.name.clone(), extra.userfault.clone()),
                None => VmaExtra::NONE,
            },
        }
    }

    /// A name other than the file's path.
    #[inline]
    pub fn name(self) -> &'a VmaName {
        self.extra.map_or(&VmaName::None, |extra| &extra.name)
    }

    /// Who resolves its faults in place of the kernel (Linux `vm_userfaultfd_ctx`).
    #[inline]
    pub fn userfault(self) -> Option<&'a Arc<Userfaultfd<H>>> {
        self.extra?.userfault.as_ref()
    }

    /// First address.
    #[inline]
    pub fn start(self) -> VirtAddr {
        self.range.start()
    }

    /// First address past the area.
    #[inline]
    pub fn end(self) -> VirtAddr {
        self.range.end()
    }

    /// Offset in what is mapped, in pages, of the page at `addr`
    /// (Linux `linear_page_index`).
    ///
    /// # Panics
    /// In debug builds, when `addr` is not in the area.
    #[inline]
    pub fn page_index(self, addr: VirtAddr) -> u64 {
        debug_assert!(self.range.start() <= addr && addr <= self.range.end());
        self.pgoff.wrapping_add((addr.get() - self.range.start().get()) >> PAGE_SHIFT)
    }

    /// Private anonymous memory (Linux `vma_is_anonymous`).
    #[inline]
    pub fn is_anonymous(self) -> bool {
        self.file.is_none() && !matches!(self.name(), VmaName::Special(_))
    }

    /// Whether writes stay in this address space (Linux `is_cow_mapping`): private, and writable
    /// or able to become so.
    #[inline]
    pub fn is_cow(self) -> bool {
        self.flags & (VmFlags::SHARED | VmFlags::MAYWRITE) == VmFlags::MAYWRITE
    }
}

impl<H: Host> fmt::Debug for VmaRef<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vma")
            .field("range", &self.range)
            .field("flags", &self.flags)
            .field("pgoff", &self.pgoff)
            .field("file", &self.file.map(|file| file.path()))
            .field("anon_vma", &self.anon_vma)
            .field("name", self.name())
            .finish()
    }
}

impl<H: Host> fmt::Debug for Vma<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_ref(), f)
    }
}
