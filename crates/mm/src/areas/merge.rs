//! Which areas belong together (Linux 6.18 mm/vma.c).
//!
//! Two neighbours become one when everything about them is equal, their offsets continue, and
//! their anonymous pages may share an owner. The last rule keeps areas of a forked child apart
//! from areas that have no owner yet: joining them would make the short-lived child's pages hang
//! off the parent's owner (`vma_is_fork_child`).

use super::Areas;
use super::tree::Cursor;
use super::vma::{VmaName, VmaRef};
use crate::Host;
use crate::anon_vma::AnonVma;
use crate::mappable::MappedFile;
use crate::userfault::Userfaultfd;
use alloc::sync::Arc;
use kilburn_addr::{AddrRange, VmFlags};

/// Flags that do not keep areas apart (`VM_IGNORE_MERGE`).
const IGNORED: VmFlags = STICKY;
/// Flags that a merged area has when one of its parts had them (`VM_STICKY`).
pub(super) const STICKY: VmFlags = VmFlags::SOFTDIRTY.union(VmFlags::MAYBE_GUARD);

/// Whether a proposed area comes from one that already has pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// A new area, or more room for one.
    New,
    /// An area that is being changed or moved: its pages come along.
    Existing,
}

/// A range as it would be on its own (Linux `struct vma_merge_struct`).
pub(super) struct Proposed<'a, H: Host> {
    pub(super) range: AddrRange,
    pub(super) pgoff: u64,
    pub(super) flags: VmFlags,
    pub(super) file: Option<&'a Arc<dyn MappedFile<H>>>,
    pub(super) anon_vma: Option<&'a Arc<AnonVma<H>>>,
    pub(super) name: &'a VmaName,
    pub(super) userfault: Option<&'a Arc<Userfaultfd<H>>>,
    pub(super) source: Source,
}

impl<H: Host> Areas<H> {
    /// Whether the area at `cursor` may be one with one of such flags: what can be said without
    /// looking at more of it.
    pub(super) fn may_merge(&self, cursor: Cursor, flags: VmFlags) -> bool {
        (self.tree.flags(cursor) ^ flags).difference(IGNORED).is_empty()
    }
}

impl<'a, H: Host> VmaRef<'a, H> {
    /// Whether the area must be told when it goes, and so never disappears into another
    /// (`vm_ops->close`; Linux 6.18 mm/vma.c: `can_merge_remove_vma`).
    pub(super) fn has_close(self) -> bool {
        self.is_special() || self.file.is_some_and(|file| file.ops().is_some())
    }

    /// Whether this is a mapping the kernel installed, which is never split
    /// (`special_mapping_split`).
    pub(super) fn is_special(self) -> bool {
        matches!(self.name(), VmaName::Special(_))
    }

    /// The area itself as a proposal.
    pub(super) fn proposed(self, source: Source) -> Proposed<'a, H> {
        Proposed {
            range: self.range,
            pgoff: self.pgoff,
            flags: self.flags,
            file: self.file,
            anon_vma: self.anon_vma.get(),
            name: self.name(),
            userfault: self.userfault(),
            source,
        }
    }

    /// Whether `proposed` could be added right after this area (`can_vma_merge_after`).
    pub(super) fn continues_into(self, proposed: &Proposed<'_, H>) -> bool {
        self.is_mergeable(proposed)
            && self.anon_is_mergeable(proposed)
            && self.pgoff.wrapping_add(self.range.pages()) == proposed.pgoff
    }

    /// Whether `proposed` could be added right before this area (`can_vma_merge_before`).
    pub(super) fn continues_from(self, proposed: &Proposed<'_, H>) -> bool {
        self.is_mergeable(proposed)
            && self.anon_is_mergeable(proposed)
            && proposed.pgoff.wrapping_add(proposed.range.pages()) == self.pgoff
    }

    /// `is_mergeable_vma`: flags, file, name and userfaultfd are equal.
    fn is_mergeable(self, proposed: &Proposed<'_, H>) -> bool {
        (self.flags ^ proposed.flags).difference(IGNORED).is_empty()
            && same_file(self.file, proposed.file)
            && *self.name() == *proposed.name
            && match (self.userfault(), proposed.userfault) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }

    /// `is_mergeable_anon_vma`: this area is the target, `proposed` the source.
    fn anon_is_mergeable(self, proposed: &Proposed<'_, H>) -> bool {
        match (self.anon_vma.get(), proposed.anon_vma) {
            (None, None) => true,
            (None, Some(theirs)) => proposed.source == Source::New || !theirs.is_forked(),
            (Some(ours), None) => !ours.is_forked(),
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
        }
    }

    /// Whether this area and `next`, both able to take the one between them, may also become one.
    pub(super) fn anon_joins(self, next: Self) -> bool {
        match (self.anon_vma.get(), next.anon_vma.get()) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => true,
        }
    }

    /// Whether a first write in one of two adjacent areas may use the other's `AnonVma`: they
    /// differ only in what mprotect changes (`anon_vma_compatible`).
    pub(super) fn may_share_anon_with_next(self, next: Self) -> bool {
        self.end() == next.start()
            && same_file(self.file, next.file)
            && (self.flags ^ next.flags).difference(VmFlags::ACCESS | IGNORED).is_empty()
            && next.pgoff == self.pgoff.wrapping_add(self.range.pages())
    }
}

fn same_file<H: Host>(
    a: Option<&Arc<dyn MappedFile<H>>>,
    b: Option<&Arc<dyn MappedFile<H>>>,
) -> bool {
    match (a, b) {
        (None, None) => true,
        // The open file, not the inode: two opens of one file never merge. Addresses alone: one
        // object may be known through two vtables.
        (Some(a), Some(b)) => core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)),
        _ => false,
    }
}
