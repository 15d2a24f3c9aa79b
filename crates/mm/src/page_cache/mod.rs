//! The page cache: the pages of a file that are in memory, shared by read, write and mmap.
//!
//! [`AddressSpace`] holds the pages of one file; a file with a [`BackingStore`] can read them
//! again, shared memory (tmpfs, memfd, `MAP_SHARED | MAP_ANONYMOUS`) has only them. One concern a
//! file: copying in and out (`io`), write-back (`writeback`), when it is due (`dirty`) and whom its failures are told
//! (`errors`), truncation (`truncate`), the areas that map the file (`i_mmap`), files that swap lies
//! in (`swap_file`).
//!
//! | field        | guarded by                                                                |
//! |--------------|---------------------------------------------------------------------------|
//! | `size`       | atomic; shrinks only while `invalidate` is held exclusively               |
//! | `pages`      | its own lock, held for a look-up or a change, never while allocating      |
//! | `i_mmap`     | its own lock                                                              |
//! | `invalidate` | shared from looking a page up until a table maps it; exclusive to truncate|

pub(crate) mod dirty;
mod errors;
mod evict;
pub(crate) mod i_mmap;
mod io;
pub(crate) mod page;
pub mod store;
mod swap_file;
pub(crate) mod tree;
mod truncate;
mod writeback;

pub use dirty::DirtyLimits;
pub use errors::ErrorCursor;
pub use store::BackingStore;

use crate::frames::FrameState;
use crate::memory::NoFrame;
use crate::memory::Use;
use crate::policy::FirstUse;
use crate::{Caller, Host, Memory};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use errors::ErrorSequence;
use i_mmap::IMmap;
use kilburn_addr::{Errno, PAGE_SIZE, Pfn};
use kilburn_paging::PhysMem;
use lock_api::{Mutex, RwLock};
use page::PageRef;
use tree::{PageTree, Value};

/// The cached pages of one file, its size, and who maps it (Linux `struct address_space`).
pub struct AddressSpace<H: Host> {
    memory: Arc<Memory<H>>,
    id: u32,
    content: Content,
    size: AtomicU64,
    pub(crate) invalidate: RwLock<H::RawRwLock, ()>,
    pub(crate) i_mmap: Mutex<H::RawMutex, IMmap<H>>,
    pages: Mutex<H::RawMutex, PageTree>,
    /// Failures to write pages back.
    errors: ErrorSequence,
    /// When the first of the pages became dirty that are.
    dirty_since_ns: AtomicU64,
    /// Whether swap lies in the file.
    swap_file: AtomicBool,
}

/// What is behind the cached pages.
enum Content {
    /// A store they can be read from again.
    Store(Box<dyn BackingStore>),
    /// Nothing: shared memory.
    Shmem(Promise),
}

/// How the pages of shared memory count against the commit limit (Linux 6.18 mm/shmem.c:
/// `shmem_acct_size`, `shmem_acct_blocks`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    /// This many were promised when it was made, and are until it goes.
    Whole(u64),
    /// Each page when it comes to be (`VM_NORESERVE`).
    EachPage,
}

/// Whether a page was in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// It was.
    Cached,
    /// It had to be read from the store.
    Read,
}

impl<H: Host> AddressSpace<H> {
    /// The page cache of a file of `size` bytes whose content is in `store`.
    pub fn new(memory: &Arc<Memory<H>>, store: Box<dyn BackingStore>, size: u64) -> Arc<Self> {
        Self::with_content(memory, Content::Store(store), size)
    }

    /// Memory with no store behind it: tmpfs files and memfd. Its pages count as shmem and live
    /// until truncated or dropped.
    pub fn new_shmem(memory: &Arc<Memory<H>>, size: u64) -> Arc<Self> {
        Self::with_content(memory, Content::Shmem(Promise::EachPage), size)
    }

    /// Shared anonymous memory of `size` bytes, promised as a whole unless `reserve` is
    /// [`Promise::EachPage`].
    ///
    /// # Errors
    /// `ENOMEM` when that much may not be promised.
    pub(crate) fn new_shared_anon(
        memory: &Arc<Memory<H>>,
        caller: &Caller,
        total_vm: u64,
        size: u64,
        promise: Promise,
    ) -> Result<Arc<Self>, Errno> {
        if let Promise::Whole(pages) = promise {
            memory.charge(caller, total_vm, pages)?;
        }
        Ok(Self::with_content(memory, Content::Shmem(promise), size))
    }

    fn with_content(memory: &Arc<Memory<H>>, content: Content, size: u64) -> Arc<Self> {
        let id = memory.next_mapping_id();
        let this = Arc::new(Self {
            memory: memory.clone(),
            id,
            content,
            size: AtomicU64::new(size),
            invalidate: RwLock::new(()),
            i_mmap: Mutex::new(IMmap::default()),
            pages: Mutex::new(PageTree::default()),
            errors: ErrorSequence::default(),
            dirty_since_ns: AtomicU64::new(0),
            swap_file: AtomicBool::new(false),
        });
        memory.register_mapping(id, Arc::downgrade(&this));
        this
    }

    /// A number no other page cache of the machine has.
    pub fn id(&self) -> u64 {
        u64::from(self.id)
    }

    /// The machine's memory it lives in.
    pub fn memory(&self) -> &Arc<Memory<H>> {
        &self.memory
    }

    /// Whether it is shared memory rather than a cached file (Linux `shmem_mapping`).
    #[inline]
    pub fn is_shmem(&self) -> bool {
        matches!(self.content, Content::Shmem(_))
    }

    /// Size of the file in bytes (Linux `i_size`).
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Number of pages that the file's size covers.
    #[inline]
    pub(crate) fn size_pages(&self) -> u64 {
        self.size().div_ceil(PAGE_SIZE)
    }

    /// Number of pages in memory (Linux `nrpages`).
    pub fn cached_pages(&self) -> u64 {
        self.pages.lock().len()
    }

    /// Number of pages that take memory or swap (Linux `shmem_inode_info.alloced`).
    pub fn allocated_pages(&self) -> u64 {
        let pages = self.pages.lock();
        pages.len() + pages.swapped()
    }

    /// Number of pages that are in swap.
    pub fn swapped_pages(&self) -> u64 {
        self.pages.lock().swapped()
    }

    /// Number of pages that are to be written to the store.
    pub fn dirty_pages(&self) -> u64 {
        self.pages.lock().dirty()
    }

    /// Whether page `index` is in memory.
    pub fn is_cached(&self, index: u64) -> bool {
        self.pages.lock().get(index).is_some()
    }

    /// Whether page `index` need not be made: it is in memory or in swap.
    pub(crate) fn has_page(&self, index: u64) -> bool {
        let pages = self.pages.lock();
        pages.get(index).is_some() || matches!(pages.value(index), Some(Value::Swap(_)))
    }

    /// Whether page `index` is to be written to the store.
    pub fn is_dirty(&self, index: u64) -> bool {
        self.pages.lock().is_dirty(index)
    }

    /// Whether any area maps the file (Linux `mapping_mapped`).
    pub fn is_mapped(&self) -> bool {
        !self.i_mmap.lock().is_empty()
    }

    /// Whether an area maps the file shared and is or may become writable
    /// (Linux `mapping_writably_mapped`).
    pub fn is_writably_mapped(&self) -> bool {
        self.i_mmap.lock().writable() > 0
    }

    /// The frame of page `index`, for checking.
    pub(crate) fn pfn_of(&self, index: u64) -> Option<Pfn> {
        self.pages.lock().get(index)
    }

    /// Pages counted against the commit limit.
    pub(crate) fn promised_pages(&self) -> u64 {
        match self.content {
            Content::Store(_) => 0,
            Content::Shmem(Promise::Whole(pages)) => pages,
            Content::Shmem(Promise::EachPage) => self.allocated_pages(),
        }
    }

    /// How the frames of this mapping are marked.
    fn frame_state(&self) -> FrameState {
        match self.content {
            Content::Store(_) => FrameState::File,
            Content::Shmem(_) => FrameState::Shmem,
        }
    }

    fn used_as(&self) -> Use {
        match self.content {
            Content::Store(_) => Use::File,
            Content::Shmem(_) => Use::Shmem,
        }
    }

    /// Page `index` if it is in memory.
    #[inline]
    pub(crate) fn cached_page(&self, index: u64) -> Option<PageRef<'_, H>> {
        let pages = self.pages.lock();
        let pfn = pages.get(index)?;
        self.memory.meta(pfn).get();
        Some(PageRef::from_held(&self.memory, pfn))
    }

    /// The pages among `indices` that are in memory; `visit` gets each with a reference that it
    /// takes over. The tree is locked meanwhile.
    pub(crate) fn for_each_cached(
        &self,
        indices: RangeInclusive<u64>,
        mut visit: impl FnMut(u64, Pfn),
    ) {
        let pages = self.pages.lock();
        for (index, pfn) in pages.range(indices) {
            visit(index, pfn);
        }
    }

    /// Page `index`, brought into memory if need be.
    ///
    /// # Errors
    /// What the store answers; `ENOMEM` without a frame.
    pub(crate) fn page(&self, index: u64) -> Result<(PageRef<'_, H>, Found), Errno> {
        if let Some(page) = self.cached_page(index) {
            return Ok((page, Found::Cached));
        }
        match &self.content {
            Content::Store(store) => {
                let mut buffer = [0; PAGE_SIZE as usize];
                let read = store.read_page(index, &mut buffer);
                self.memory.note_file_wait(store.take_wait_ns());
                read?;
                self.memory.count_page_in();
                Ok((self.add_page(index, &buffer, FirstUse::Mapped)?, Found::Read))
            }
            Content::Shmem(_) => match self.page_from_swap(index)? {
                Some(found) => Ok(found),
                None => Ok((self.add_page(index, &[], FirstUse::Mapped)?, Found::Cached)),
            },
        }
    }

    /// Reads the pages among `indices` that are missing from the store; failures are left to
    /// whoever needs the page.
    pub(crate) fn read_ahead(&self, indices: RangeInclusive<u64>) {
        if let Content::Store(_) = self.content {
            for index in indices {
                if self.page(index).is_err() {
                    return;
                }
            }
        }
    }

    /// Puts a new page that starts with `bytes`, zeros after them, in the place of page `index`;
    /// if another came first, that one counts and `bytes` are ignored.
    fn add_page(
        &self,
        index: u64,
        bytes: &[u8],
        first_use: FirstUse,
    ) -> Result<PageRef<'_, H>, Errno> {
        if let Content::Shmem(Promise::EachPage) = self.content {
            self.memory.charge(&Caller::KERNEL, 0, 1)?;
        }
        let pfn = match self.filled_frame(bytes) {
            Ok(pfn) => pfn,
            Err(NoFrame) => {
                self.uncharge_pages(1);
                return Err(Errno::ENOMEM);
            }
        };
        let mut pages = self.pages.lock();
        if let Some(other) = pages.get(index) {
            self.memory.meta(other).get();
            drop(pages);
            self.memory.discard(pfn);
            self.uncharge_pages(1);
            return Ok(PageRef::from_held(&self.memory, other));
        }
        let meta = self.memory.meta(pfn);
        meta.begin(self.frame_state(), self.id, index);
        meta.get();
        let value = pages.insert(index, pfn);
        drop(pages);
        self.memory.uses.add(self.memory.cpu(), self.used_as(), 1);
        let shadow = match value {
            None => None,
            Some(Value::Shadow(shadow)) => Some(shadow),
            // Overwritten as a whole without having been read.
            Some(Value::Swap(entry)) => {
                self.uncharge_pages(1);
                self.memory.swap_free(entry);
                None
            }
        };
        self.memory.note_arrival(pfn, first_use, shadow);
        Ok(PageRef::from_held(&self.memory, pfn))
    }

    fn filled_frame(&self, bytes: &[u8]) -> Result<Pfn, NoFrame> {
        let whose = self.memory.host().current_memcg();
        if bytes.len() == PAGE_SIZE as usize {
            let pfn = self.memory.alloc_for(whose)?;
            self.memory.host().mem().write(pfn.base(), bytes);
            Ok(pfn)
        } else {
            let pfn = self.memory.alloc_zeroed_for(whose)?;
            self.memory.host().mem().write(pfn.base(), bytes);
            Ok(pfn)
        }
    }

    fn uncharge_pages(&self, pages: u64) {
        if let Content::Shmem(Promise::EachPage) = self.content {
            self.memory.uncharge(pages);
        }
    }

    /// Marks page `index` dirty (Linux `folio_mark_dirty`). Only what has a store is written back
    /// and counted.
    pub(crate) fn mark_dirty(&self, index: u64) {
        let mut pages = self.pages.lock();
        if self.is_shmem() {
            if let Some(pfn) = pages.get(index) {
                self.memory.meta(pfn).set_dirty_shmem();
            }
        } else if pages.set_dirty(index) {
            let dirty = pages.dirty();
            drop(pages);
            self.note_dirtied(dirty);
        }
    }

    /// Takes page `index` out of the cache. The caller sees to it that no table maps it.
    fn remove_page(&self, index: u64) {
        let removed = self.pages.lock().remove(index);
        if let Some((pfn, dirty)) = removed {
            self.memory.uses.add(self.memory.cpu(), Use::Dirty, -i64::from(dirty));
            self.uncharge_pages(1);
            self.memory.put(pfn);
        }
    }

    /// Drops clean pages that nobody maps or uses. Shared memory has no clean pages.
    pub fn evict(&self) {
        if self.is_shmem() {
            return;
        }
        let mut pages = self.pages.lock();
        let idle: alloc::vec::Vec<u64> = pages
            .range(0..=u64::MAX)
            .filter(|&(index, pfn)| !pages.is_dirty(index) && self.memory.meta(pfn).refs() == 1)
            .map(|(index, _)| index)
            .collect();
        for index in idle {
            if let Some((pfn, _)) = pages.remove(index) {
                self.memory.put(pfn);
            }
        }
    }
}

impl<H: Host> Drop for AddressSpace<H> {
    /// The inode goes: what is dirty is written, what is cached is freed. A store that fails now
    /// has nobody left to tell.
    fn drop(&mut self) {
        self.memory.forget_mapping(self.id);
        let _ = self.write_dirty(0..=u64::MAX);
        let held: alloc::vec::Vec<u64> =
            self.pages.lock().range(0..=u64::MAX).map(|(index, _)| index).collect();
        for index in held {
            self.remove_page(index);
        }
        self.drop_values(0..=u64::MAX);
        if let Content::Shmem(Promise::Whole(pages)) = self.content {
            self.memory.uncharge(pages);
        }
    }
}

impl<H: Host> fmt::Debug for AddressSpace<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace")
            .field("id", &self.id)
            .field("shmem", &self.is_shmem())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}
