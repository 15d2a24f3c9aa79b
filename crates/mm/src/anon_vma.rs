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

use crate::percpu::{Handle, Handles, PerCpu};
use crate::rmap::interval::{IntervalTree, NodeShape};
use crate::rmap::snapshot::RmapArea;
use crate::rmap::walk::VisitPlace;
use crate::{Host, Mm, VmaRef};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{AddrRange, PAGE_SHIFT, VirtAddr, VmFlags};
use lock_api::Mutex;
use once_cell::race::OnceBox;

/// What the anonymous pages of one area, and of the areas forked from it, belong to.
pub struct AnonVma<H: Host> {
    id: u32,
    parent: Option<Arc<AnonVma<H>>>,
    /// The first of its line of parents; none when it is that itself.
    root: Option<Arc<AnonVma<H>>>,
    links: Mutex<H::RawMutex, AnonLinks<H>>,
    /// Where it is known by number.
    registry: Option<Handle<Arc<Registry<H>>>>,
    /// How its pages are read ahead in swap ([`crate::swap::readahead::VmaWindow`]).
    pub(crate) swap_readahead: AtomicU64,
}

/// What is reached from an [`AnonVma`].
struct AnonLinks<H: Host> {
    areas: IntervalTree<(u64, VirtAddr), AnonArea<H>>,
    /// Those whose parent it is, by number.
    children: BTreeMap<u32, Weak<AnonVma<H>>>,
}

/// An area whose private pages belong to an [`AnonVma`].
struct AnonArea<H: Host> {
    mm: Handle<Weak<Mm<H>>>,
    range: AddrRange,
    flags: VmFlags,
}

impl<H: Host> AnonVma<H> {
    /// A new identity that no frame's metadata can name; `parent` is that of the area this one's
    /// is forked from.
    pub fn new(id: u32, parent: Option<Arc<Self>>) -> Arc<Self> {
        let made = Arc::new(Self::with_registry(id, parent, None));
        made.note_parent();
        made
    }

    fn with_registry(
        id: u32,
        parent: Option<Arc<Self>>,
        registry: Option<Handle<Arc<Registry<H>>>>,
    ) -> Self {
        let root = parent.as_ref().map(|parent| parent.root.as_ref().unwrap_or(parent).clone());
        let links = AnonLinks { areas: IntervalTree::default(), children: BTreeMap::new() };
        let links = Mutex::new(links);
        let swap_readahead = AtomicU64::new(0);
        Self { id, parent, root, links, registry, swap_readahead }
    }

    /// Tells its parent, if it has one.
    fn note_parent(self: &Arc<Self>) {
        if let Some(parent) = &self.parent {
            parent.links.lock().children.insert(self.id, Arc::downgrade(self));
        }
    }

    /// An area has this for its `AnonVma` now.
    pub(crate) fn link(&self, mm: &Mm<H>, vma: VmaRef<'_, H>) {
        let (range, first) = (vma.range, vma.pgoff);
        let area = AnonArea { mm: mm.handle(), range, flags: vma.flags };
        let last = first + (range.pages() - 1);
        self.links.lock().areas.insert(first, last, (mm.id(), range.start()), area);
    }

    /// An area is gone, or has another range.
    pub(crate) fn unlink(&self, mm: &Mm<H>, range: AddrRange, pgoff: u64) {
        // An area that took over a neighbour's AnonVma is not linked under its old range.
        self.links.lock().areas.remove(pgoff, (mm.id(), range.start()));
    }

    /// An area has other flags now.
    pub(crate) fn reflag(&self, mm: &Mm<H>, vma: VmaRef<'_, H>) {
        if let Some(area) = self.links.lock().areas.get_mut(vma.pgoff, (mm.id(), vma.start())) {
            area.flags = vma.flags;
        }
    }

    /// The flags an area is linked with, if it is, for checking.
    pub(crate) fn flags_of(&self, mm: u64, range: AddrRange, pgoff: u64) -> Option<VmFlags> {
        let links = self.links.lock();
        let area = links.areas.get(pgoff, (mm, range.start()))?;
        (area.range == range).then_some(area.flags)
    }

    /// The number frame metadata knows it by.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The number of the first of its line: whose pages all of the line may map.
    pub(crate) fn root_id(&self) -> u32 {
        self.root.as_ref().map_or(self.id, |root| root.id)
    }

    /// The first of its line, or itself.
    pub(crate) fn first_of_line(self: &Arc<Self>) -> Arc<Self> {
        self.root.as_ref().unwrap_or(self).clone()
    }

    /// The areas linked to it, and those that were forked from it, by number.
    pub(crate) fn told(&self) -> (Vec<RmapArea>, Vec<Arc<Self>>) {
        let links = self.links.lock();
        let told = |node: &NodeShape<'_, (u64, VirtAddr), AnonArea<H>>| {
            node.told(node.value.range, node.value.flags)
        };
        let areas = links.areas.shape().iter().map(told).collect();
        (areas, links.children.values().filter_map(Weak::upgrade).collect())
    }

    /// Whether it came to be by fork (Linux: `anon_vma_chain` is not singular). Areas of a forked
    /// child are kept apart from areas without an `AnonVma`
    /// (Linux 6.18 mm/vma.c: `vma_is_fork_child`).
    pub fn is_forked(&self) -> bool {
        self.parent.is_some()
    }

    /// Calls `visit` with each place where page `index` of this, or of what was forked from it,
    /// would be mapped, and its area's flags, until it breaks. Whom it meets is put into `alive`,
    /// to be dropped when no lock is held.
    pub(crate) fn for_each_place(
        self: &Arc<Self>,
        index: u64,
        alive: &mut Alive<H>,
        visit: &mut VisitPlace<'_, H>,
    ) -> ControlFlow<()> {
        let mut next = alive.anon_vmas.len();
        alive.anon_vmas.push(self.clone());
        while let Some(anon_vma) = alive.anon_vmas.get(next).cloned() {
            next += 1;
            let links = anon_vma.links.lock();
            links.areas.for_each_overlap(index, index, |first, _, area| {
                let Some(mm) = area.mm.0.upgrade() else { return ControlFlow::Continue(()) };
                let offset = (index - first) << PAGE_SHIFT;
                let va = VirtAddr::new(area.range.start().get() + offset);
                let flow = visit(&mm, va, area.flags);
                alive.mms.push(mm);
                flow
            })?;
            alive.anon_vmas.extend(links.children.values().filter_map(Weak::upgrade));
        }
        ControlFlow::Continue(())
    }
}

impl<H: Host> Drop for AnonVma<H> {
    fn drop(&mut self) {
        if let Some(parent) = &self.parent {
            parent.links.lock().children.remove(&self.id);
        }
        if let Some(registry) = &self.registry {
            registry.0.forget(self.id);
        }
    }
}

/// Whom a walk met: kept until no lock is held, because the last reference to an address space
/// unmaps all of it.
pub(crate) struct Alive<H: Host> {
    pub(crate) mms: Vec<Arc<Mm<H>>>,
    pub(crate) anon_vmas: Vec<Arc<AnonVma<H>>>,
    pub(crate) mappings: Vec<Arc<crate::AddressSpace<H>>>,
}

impl<H: Host> Default for Alive<H> {
    fn default() -> Self {
        Self { mms: Vec::new(), anon_vmas: Vec::new(), mappings: Vec::new() }
    }
}

impl<H: Host> Alive<H> {
    /// Lets all of them go; no lock is held.
    pub(crate) fn clear(&mut self) {
        self.mms.clear();
        self.anon_vmas.clear();
        self.mappings.clear();
    }
}

/// Every [`AnonVma`] of a machine by number, to reach a frame's owner from its metadata. A number is
/// used again once its `AnonVma` is gone, and with it all its pages.
///
/// Each CPU gives out numbers of its own, so that areas used for the first time by two threads have no
/// lock in common: of `n` CPUs, CPU `c` gives out those that leave `c` when divided by `n`.
pub(crate) struct AnonVmas<H: Host>(Handles<Arc<Registry<H>>>);

struct Registry<H: Host>(PerCpu<Mutex<H::RawMutex, Numbers<H>>>);

struct Numbers<H: Host> {
    /// By number divided by the CPUs.
    known: Vec<Option<Weak<AnonVma<H>>>>,
    free: Vec<u32>,
    /// Identities that nothing has any more, numbers and all: who needs a new one is given one of these.
    spare: Vec<Arc<AnonVma<H>>>,
}

/// Identities that a CPU keeps to give out again.
const SPARE_MAX: usize = 32;

impl<H: Host> Numbers<H> {
    /// Number 0 stands for nobody: its place stays empty.
    fn of_cpu(cpu: usize) -> Self {
        let known = if cpu == 0 { alloc::vec![None] } else { Vec::new() };
        Self { known, free: Vec::new(), spare: Vec::with_capacity(SPARE_MAX) }
    }
}

impl<H: Host> Drop for AnonVmas<H> {
    /// Spare identities and the registry keep each other alive.
    fn drop(&mut self) {
        for numbers in self.0.peek().0.iter() {
            let spare = core::mem::take(&mut numbers.lock().spare);
            drop(spare);
        }
    }
}

impl<H: Host> AnonVmas<H> {
    pub(crate) fn new(cpus: usize) -> Self {
        let mut next = 0;
        let registry = Arc::new(Registry(PerCpu::new(cpus, || {
            next += 1;
            Mutex::new(Numbers::of_cpu(next - 1))
        })));
        Self(Handles::new(cpus, || registry.clone()))
    }

    /// A new identity with a number of its own, for somebody on `cpu`.
    pub(crate) fn make(&self, cpu: usize, parent: Option<Arc<AnonVma<H>>>) -> Arc<AnonVma<H>> {
        let registry = &self.0.peek().0;
        let cpus = registry.len();
        let mut numbers = registry.of(cpu).lock();
        if parent.is_none()
            && let Some(spare) = numbers.spare.pop()
        {
            return spare;
        }
        let place = match numbers.free.pop() {
            Some(place) => place,
            None => {
                numbers.known.push(None);
                numbers.known.len() as u32 - 1
            }
        };
        let id = place * cpus as u32 + (cpu & (cpus - 1)) as u32;
        let made = Arc::new(AnonVma::with_registry(id, parent, Some(self.0.take(cpu))));
        numbers.known[place as usize] = Some(Arc::downgrade(&made));
        drop(numbers);
        made.note_parent();
        made
    }

    /// An area is gone, with its pages: its identity, if nothing else has it, is as good as a new one.
    pub(crate) fn retire(&self, cpu: usize, slot: &AnonSlot<H>) {
        let Some(anon_vma) = slot.get() else { return };
        // Children would hold it. Whoever reaches it by number this moment finds no areas, or those of who
        // has it next, none of which maps the page that the number was read from.
        if anon_vma.is_forked() || anon_vma.registry.is_none() || Arc::strong_count(anon_vma) != 1 {
            return;
        }
        debug_assert!(anon_vma.links.lock().areas.is_empty(), "its last area was unlinked");
        let mut numbers = self.0.peek().0.of(cpu).lock();
        if numbers.spare.len() < SPARE_MAX {
            anon_vma.swap_readahead.store(0, Ordering::Relaxed);
            numbers.spare.push(anon_vma.clone());
        }
    }

    /// Whom a number stands for.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<AnonVma<H>>> {
        let numbers = &self.0.peek().0;
        let known = numbers.of(id as usize).lock();
        known.known.get(id as usize / numbers.len())?.as_ref()?.upgrade()
    }
}

impl<H: Host> Registry<H> {
    fn forget(&self, id: u32) {
        let place = id as usize / self.0.len();
        let mut numbers = self.0.of(id as usize).lock();
        numbers.known[place] = None;
        numbers.free.push(place as u32);
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

    /// Fills the slot.
    ///
    /// # Errors
    /// What it was to be filled with, if somebody else was faster.
    pub fn fill(&self, anon_vma: Arc<AnonVma<H>>) -> Result<(), Arc<AnonVma<H>>> {
        self.0.set(Box::new(anon_vma)).map_err(|refused| *refused)
    }
}

impl<H: Host> Default for AnonSlot<H> {
    fn default() -> Self {
        Self::empty()
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
