//! The ways back of a file, or of a family of `AnonVma`s, as plain data, for who draws them.
//!
//! [`FileRmap`] and [`AnonRmap`] tell the trees as they are linked, the areas in them and the pages
//! in memory with the entries that map them. They are for looking at: taking one costs a walk for
//! each page. Nothing is changed, and what changes meanwhile may be missing.

use crate::anon_vma::{Alive, AnonVma};
use crate::frames::FrameState;
use crate::rmap::interval::NodeShape;
use crate::{AddressSpace, Host, MappedFile, Memory, Mm};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use kilburn_addr::{AddrRange, Pfn, VirtAddr, VmFlags};

/// An area, a node of an interval tree.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RmapArea {
    /// First page that the area maps, counted in what is mapped.
    pub first: u64,
    /// Last page that it maps.
    pub last: u64,
    /// Largest `last` of this node and those below it: what lets a search skip them.
    pub max_last: u64,
    /// The node below with smaller keys, as a place in the list.
    pub left: Option<usize>,
    /// The node below with larger keys, as a place in the list.
    pub right: Option<usize>,
    /// [`Mm::id`] of its address space.
    pub mm: u64,
    /// Where it lies there.
    pub range: AddrRange,
    /// `VM_*` flags.
    pub flags: VmFlags,
}

/// A page in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RmapPage {
    /// Which page of what is mapped.
    pub index: u64,
    /// Its frame.
    pub pfn: Pfn,
    /// Number of entries that map the frame, as counted (Linux `_mapcount` + 1).
    pub maps: u32,
    /// Whether it is to be written back.
    pub is_dirty: bool,
    /// The entries that a walk back found, as [`Mm::id`] and address.
    pub mapped_at: Vec<(u64, VirtAddr)>,
}

/// The ways back of a file: its interval tree (Linux `i_mmap`) and its cached pages.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FileRmap {
    /// [`AddressSpace::id`].
    pub id: u64,
    /// Whether it is shared memory rather than a cached file.
    pub is_shmem: bool,
    /// Number of pages that the file's size covers.
    pub size_pages: u64,
    /// Its areas, in the order of the tree.
    pub areas: Vec<RmapArea>,
    /// Its pages in memory, by index.
    pub pages: Vec<RmapPage>,
}

/// An `AnonVma` of a family.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RmapAnon {
    /// [`AnonVma::id`].
    pub id: u32,
    /// The one it is forked from, as a place in the list.
    pub parent: Option<usize>,
    /// The areas linked to it, in the order of its tree.
    pub areas: Vec<RmapArea>,
    /// The pages in memory that belong to it, by index.
    pub pages: Vec<RmapPage>,
}

/// The ways back of anonymous memory: a line of `AnonVma`s, made by fork, from the first on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AnonRmap {
    /// Parents before children, children by number.
    pub nodes: Vec<RmapAnon>,
}

/// What lies behind an address.
pub enum Mapped<H: Host> {
    /// A file.
    File(Arc<dyn MappedFile<H>>),
    /// Private memory without a file.
    Anon,
}

impl<V> NodeShape<'_, (u64, VirtAddr), V> {
    /// The area whose node this is.
    pub(crate) fn told(&self, range: AddrRange, flags: VmFlags) -> RmapArea {
        let Self { first, last, tie: (mm, _), max_last, left, right, .. } = *self;
        RmapArea { first, last, max_last, left, right, mm, range, flags }
    }
}

impl<H: Host> AddressSpace<H> {
    /// The ways back from this file's pages, as they are.
    pub fn rmap(&self) -> FileRmap {
        let areas = self.i_mmap.lock().told();
        let mut indices = Vec::new();
        self.for_each_cached(0..=u64::MAX, |index, _| indices.push(index));
        let mut alive = Alive::default();
        let page = |&index: &u64| {
            let held = self.cached_page(index)?;
            let mut page = self.memory().rmap_page(index, held.pfn(), &mut alive);
            let is_newer = self.is_shmem() && self.memory().meta(held.pfn()).is_dirty_shmem();
            page.is_dirty = is_newer || self.is_dirty(index);
            Some(page)
        };
        let pages = indices.iter().filter_map(page).collect();
        let size_pages = self.size_pages();
        FileRmap { id: self.id(), is_shmem: self.is_shmem(), size_pages, areas, pages }
    }
}

impl<H: Host> Memory<H> {
    fn rmap_page(&self, index: u64, pfn: Pfn, alive: &mut Alive<H>) -> RmapPage {
        let mut mapped_at = Vec::new();
        self.for_each_mapping(pfn, alive, |mapping| {
            mapped_at.push((mapping.mm.id(), mapping.va));
            ControlFlow::Continue(())
        });
        // No lock is held here.
        alive.clear();
        RmapPage { index, pfn, maps: self.meta(pfn).maps(), is_dirty: false, mapped_at }
    }

    /// The pages that belong to `owners`, each with its owner.
    fn anon_pages(&self, owners: &BTreeSet<u32>) -> Vec<(u32, RmapPage)> {
        let mut alive = Alive::default();
        let mut found = Vec::new();
        for (pfn, meta) in self.frames.iter() {
            if meta.state() == FrameState::Anon && owners.contains(&meta.owner()) {
                let page = self.rmap_page(meta.index(), pfn, &mut alive);
                found.push((meta.owner(), page));
            }
        }
        found
    }
}

impl<H: Host> AnonVma<H> {
    /// The ways back from the pages of this one's whole line: from its first parent down.
    pub fn rmap(self: &Arc<Self>, memory: &Memory<H>) -> AnonRmap {
        let mut nodes = Vec::new();
        // Last in, first out, so that a child follows its parent.
        let mut to_do = alloc::vec![(self.first_of_line(), None)];
        while let Some((anon_vma, parent)) = to_do.pop() {
            let at = nodes.len();
            let (areas, children) = anon_vma.told();
            nodes.push(RmapAnon { id: anon_vma.id(), parent, areas, pages: Vec::new() });
            to_do.extend(children.into_iter().rev().map(|child| (child, Some(at))));
        }
        let places: BTreeMap<u32, usize> =
            nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        for (owner, page) in memory.anon_pages(&places.keys().copied().collect()) {
            nodes[places[&owner]].pages.push(page);
        }
        for node in &mut nodes {
            node.pages.sort_by_key(|page| page.index);
        }
        AnonRmap { nodes }
    }
}

impl<H: Host> Mm<H> {
    /// Calls `each` with the range and file of every area that maps one.
    pub fn for_each_mapped_file(&self, mut each: impl FnMut(AddrRange, &Arc<dyn MappedFile<H>>)) {
        for vma in self.mmap_read_lock().areas.iter() {
            if let Some(file) = vma.file {
                each(vma.range, file);
            }
        }
    }

    /// What lies behind `addr`; `None` outside of all areas.
    pub fn mapped_at(&self, addr: VirtAddr) -> Option<Mapped<H>> {
        let state = self.mmap_read_lock();
        let vma = state.areas.containing(addr)?;
        Some(vma.file.map_or(Mapped::Anon, |file| Mapped::File(file.clone())))
    }

    /// Whom private pages at `addr` belong to; `None` as long as there never was one.
    pub fn anon_vma_at(&self, addr: VirtAddr) -> Option<Arc<AnonVma<H>>> {
        self.mmap_read_lock().areas.containing(addr)?.anon_vma.get().cloned()
    }
}
