//! The identity anonymous pages belong to, handed down by fork (Linux `struct anon_vma`).
//!
//! Areas that may share anonymous pages are reached from a page through its `AnonVma`: the areas
//! linked to it and to its descendants. An area gets one at its first private write fault, or at
//! fork, where the child's is a child of the parent's:
//!
//! ```text
//!   parent's area --> A          a page written before the fork belongs to A: walk A and below
//!   child's area  --> B (child   a page written by the child belongs to B: walk B and below
//!                        of A)
//! ```
//!
//! Linux keeps the same relation as a list of `anon_vma_chain` per area; here an area's chain is
//! its `AnonVma` and that one's ancestors.

use crate::{Host, Mm};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::fmt;
use kilburn_addr::{AddrRange, VirtAddr};
use lock_api::Mutex;
use once_cell::race::OnceBox;

/// What the anonymous pages of one area, and of the areas forked from it, belong to.
pub struct AnonVma<H: Host> {
    id: u32,
    parent: Option<Arc<AnonVma<H>>>,
    areas: Mutex<H::RawMutex, AnonAreas<H>>,
}

/// By address space and start.
type AnonAreas<H> = BTreeMap<(u64, VirtAddr), AnonArea<H>>;

/// An area whose private pages belong to an [`AnonVma`].
#[expect(dead_code, reason = "read by the walk from a page to its tables, which reclaim brings")]
struct AnonArea<H: Host> {
    mm: Weak<Mm<H>>,
    range: AddrRange,
    pgoff: u64,
}

impl<H: Host> AnonVma<H> {
    /// A new identity; `parent` is that of the area this one's is forked from.
    pub fn new(id: u32, parent: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { id, parent, areas: Mutex::new(BTreeMap::new()) })
    }

    /// An area has this for its `AnonVma` now.
    pub(crate) fn link(&self, mm: &Mm<H>, range: AddrRange, pgoff: u64) {
        let area = AnonArea { mm: mm.weak(), range, pgoff };
        self.areas.lock().insert((mm.id(), range.start()), area);
    }

    /// An area is gone, or has another range.
    pub(crate) fn unlink(&self, mm: &Mm<H>, range: AddrRange) {
        // An area that took over a neighbour's AnonVma is not linked under its old range.
        self.areas.lock().remove(&(mm.id(), range.start()));
    }

    /// The number frame metadata knows it by.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it came to be by fork (Linux: `anon_vma_chain` is not singular). Areas of a forked
    /// child are kept apart from areas without an `AnonVma`
    /// (Linux 6.18 mm/vma.c: `vma_is_fork_child`).
    pub fn is_forked(&self) -> bool {
        self.parent.is_some()
    }
}

impl<H: Host> fmt::Debug for AnonVma<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnonVma({}", self.id)?;
        if let Some(parent) = &self.parent {
            write!(f, " < {}", parent.id)?;
        }
        f.write_str(")")
    }
}

/// An area's place for its [`AnonVma`]: empty until the first private write fault, which may fill
/// it under the shared `mmap_lock`; never changed while filled.
pub struct AnonSlot<H: Host>(OnceBox<Arc<AnonVma<H>>>);

impl<H: Host> AnonSlot<H> {
    /// An empty slot.
    pub const fn empty() -> Self {
        Self(OnceBox::new())
    }

    /// A slot that holds `anon_vma`, or an empty one.
    pub fn holding(anon_vma: Option<Arc<AnonVma<H>>>) -> Self {
        match anon_vma {
            Some(anon_vma) => Self(OnceBox::with_value(Box::new(anon_vma))),
            None => Self::empty(),
        }
    }

    /// What the slot holds.
    #[inline]
    pub fn get(&self) -> Option<&Arc<AnonVma<H>>> {
        self.0.get()
    }

    /// Fills the slot if it is empty; of two at once the first wins. Answers what it holds then.
    pub fn get_or_fill(&self, make: impl FnOnce() -> Arc<AnonVma<H>>) -> &Arc<AnonVma<H>> {
        self.0.get_or_init(|| Box::new(make()))
    }
}

impl<H: Host> Clone for AnonSlot<H> {
    fn clone(&self) -> Self {
        Self::holding(self.get().cloned())
    }
}

impl<H: Host> PartialEq for AnonSlot<H> {
    /// Whether both are empty or hold the same `AnonVma`.
    fn eq(&self, other: &Self) -> bool {
        match (self.get(), other.get()) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl<H: Host> fmt::Debug for AnonSlot<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}
