//! What is known about each frame: 32 bytes, all atomic (Linux `struct page`, 64 bytes).
//!
//! ```text
//!   0        4        8        12       16                24       28     32
//!   | refs   | maps   | state  | owner  | index           | prev   | next |
//! ```
//!
//! | state  | refs                      | owner            | index             | prev, next     |
//! |--------|---------------------------|------------------|-------------------|----------------|
//! | Free   | 0                         | -                | order of a block  | free list      |
//! | Table  | 1                         | -                | level             | -              |
//! | Anon   | PTEs + swap cache + pins  | `AnonVma::id`    | page offset       | swap area, slot|
//! | File   | PTEs + 1 (cache) + pins   | `AddressSpace`   | page offset       | -              |
//! | Shmem  | PTEs + 1 (cache) + pins   | `AddressSpace`   | page offset       | -              |
//! | Kernel | 1 + PTEs                  | -                | -                 | -              |
//!
//! `maps` counts the page-table entries that map the frame (Linux `_mapcount + 1`). The upper half of
//! `state` is the number of the group the frame is charged to.

use crate::memcg::MemcgId;
use crate::policy::PageKind;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum FrameState {
    /// Not in use, not the first frame of a free block.
    Free = 0,
    /// First frame of a free block of the buddy allocator.
    FreeBlock = 1,
    /// Given out, use not yet known; or inside a block larger than a frame.
    Allocated = 2,
    /// A page table.
    Table = 3,
    /// Anonymous memory.
    Anon = 4,
    /// The page cache of a file with a store.
    File = 5,
    /// Shared memory: page cache without a store.
    Shmem = 6,
    /// The kernel's own: the zero page, the vdso.
    Kernel = 7,
}

impl FrameState {
    const MASK: u32 = 0xf;

    fn from_bits(bits: u32) -> Self {
        match bits & Self::MASK {
            0 => Self::Free,
            1 => Self::FreeBlock,
            2 => Self::Allocated,
            3 => Self::Table,
            4 => Self::Anon,
            5 => Self::File,
            6 => Self::Shmem,
            _ => Self::Kernel,
        }
    }
}

/// Linux `PageAnonExclusive`: one page table maps the frame and may write it without a copy.
const EXCLUSIVE: u32 = 1 << 4;

/// The content of an anonymous page may be dropped while nobody writes it (MADV_FREE; Linux: not
/// `PageSwapBacked`).
const LAZY_FREE: u32 = 1 << 5;

/// A page of shared memory was written (Linux `PG_dirty`). Those of files with a store are noted in
/// their page cache, which writes them back.
const DIRTY_SHMEM: u32 = 1 << 12;

/// The replacement policy knows the frame.
const KNOWN: u32 = 1 << 6;

/// The content is newer than what is in swap (Linux `PG_dirty`); asked of frames in the swap cache.
const DIRTY: u32 = 1 << 7;

/// The frame is in the swap cache: `prev` and `next` say which slot is its own.
const SWAP_CACHE: u32 = 1 << 8;

/// Somebody moves the page between RAM and swap (Linux `PG_locked`): one at a time. Nobody waits for
/// it; who does not get it leaves the page as it is.
const LOCKED: u32 = 1 << 9;

/// The page was read from swap before anybody needed it (Linux `PG_readahead`).
const READAHEAD: u32 = 1 << 13;

/// The content of a frame not in use is zeros: it was an empty table.
const ZEROED: u32 = 1 << 14;

/// The group the frame is charged to (Linux `memcg_data`).
const MEMCG_SHIFT: u32 = 16;
const MEMCG: u32 = 0xffff << MEMCG_SHIFT;

/// Metadata of one frame.
#[derive(Default)]
pub(crate) struct FrameMeta {
    refs: AtomicU32,
    maps: AtomicU32,
    state: AtomicU32,
    owner: AtomicU32,
    index: AtomicU64,
    prev: AtomicU32,
    next: AtomicU32,
}

const _: () = assert!(size_of::<FrameMeta>() == 32);

impl FrameMeta {
    /// What the frame is used for.
    #[inline]
    pub(crate) fn state(&self) -> FrameState {
        FrameState::from_bits(self.state.load(Ordering::Relaxed))
    }

    /// Begins a use of a frame just allocated: one reference, no mapping, not exclusive. Who is
    /// charged for it stays.
    #[inline]
    pub(crate) fn begin(&self, state: FrameState, owner: u32, index: u64) {
        self.owner.store(owner, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
        self.maps.store(0, Ordering::Relaxed);
        let memcg = self.state.load(Ordering::Relaxed) & MEMCG;
        self.state.store(state as u32 | memcg, Ordering::Relaxed);
        self.refs.store(1, Ordering::Release);
    }

    /// Begins the use as a private anonymous page that one page table entry maps, exclusively.
    #[inline]
    pub(crate) fn begin_anon_mapped(&self, anon_vma: u32, index: u64) {
        self.owner.store(anon_vma, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
        self.maps.store(1, Ordering::Relaxed);
        let memcg = self.state.load(Ordering::Relaxed) & MEMCG;
        self.state.store(FrameState::Anon as u32 | EXCLUSIVE | memcg, Ordering::Relaxed);
        self.refs.store(1, Ordering::Release);
    }

    /// The group a frame just allocated is charged to.
    pub(crate) fn set_memcg(&self, memcg: MemcgId) {
        let bits = u32::from(memcg.to_bits()) << MEMCG_SHIFT;
        let state = self.state.load(Ordering::Relaxed);
        self.state.store(state & !MEMCG | bits, Ordering::Relaxed);
    }

    /// The group the frame is charged to; the root: none.
    #[inline]
    pub(crate) fn memcg(&self) -> MemcgId {
        MemcgId::from_bits((self.state.load(Ordering::Relaxed) >> MEMCG_SHIFT) as u16)
    }

    /// What stands behind the page, for who chooses which goes; `None`: it cannot go. What may be
    /// dropped needs no swap, as a file's pages do not (Linux `folio_is_file_lru`).
    pub(crate) fn kind(&self) -> Option<PageKind> {
        let state = self.state.load(Ordering::Relaxed);
        match FrameState::from_bits(state) {
            FrameState::Anon if state & LAZY_FREE != 0 => Some(PageKind::File),
            FrameState::Anon | FrameState::Shmem => Some(PageKind::Anon),
            FrameState::File => Some(PageKind::File),
            _ => None,
        }
    }

    /// The frame is being given back.
    #[inline]
    pub(crate) fn end(&self, state: FrameState) {
        self.refs.store(0, Ordering::Relaxed);
        self.maps.store(0, Ordering::Relaxed);
        self.state.store(state as u32, Ordering::Release);
    }

    /// The frame is being given back, full of zeros.
    #[inline]
    pub(crate) fn end_zeroed(&self) {
        self.refs.store(0, Ordering::Relaxed);
        self.maps.store(0, Ordering::Relaxed);
        self.state.store(FrameState::Free as u32 | ZEROED, Ordering::Release);
    }

    /// Whether a frame just allocated is full of zeros already.
    #[inline]
    pub(crate) fn is_zeroed(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ZEROED != 0
    }

    /// Number of references.
    #[inline]
    pub(crate) fn refs(&self) -> u32 {
        self.refs.load(Ordering::Acquire)
    }

    /// Takes a reference; the caller knows of one that stays meanwhile.
    #[inline]
    pub(crate) fn get(&self) {
        let before = self.refs.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a reference to a free frame");
    }

    /// Drops a reference; how many are left.
    #[inline]
    #[must_use]
    pub(crate) fn put(&self) -> u32 {
        let before = self.refs.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a reference dropped twice");
        before.wrapping_sub(1)
    }

    /// Number of page-table entries that map the frame.
    #[inline]
    pub(crate) fn maps(&self) -> u32 {
        self.maps.load(Ordering::Relaxed)
    }

    /// One more entry maps the frame; how many did before.
    #[inline]
    pub(crate) fn add_map(&self) -> u32 {
        self.maps.fetch_add(1, Ordering::Relaxed)
    }

    /// One entry less maps the frame; how many are left.
    #[inline]
    pub(crate) fn remove_map(&self) -> u32 {
        let before = self.maps.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a mapping removed twice");
        before.wrapping_sub(1)
    }

    /// Removes the mapping of an exclusive frame, which has no other; whether it is one. The caller
    /// holds the lock of the one table that maps it, so nobody adds another meanwhile.
    #[inline]
    pub(crate) fn remove_only_map(&self) -> bool {
        let exclusive = self.is_exclusive();
        if exclusive {
            debug_assert_eq!(self.maps(), 1, "an exclusive frame is mapped once");
            self.maps.store(0, Ordering::Release);
        }
        exclusive
    }

    /// Whether one page table maps the anonymous frame and may write it without a copy.
    #[inline]
    pub(crate) fn is_exclusive(&self) -> bool {
        self.state.load(Ordering::Relaxed) & EXCLUSIVE != 0
    }

    /// The frame's only user may write it from now on.
    #[inline]
    pub(crate) fn set_exclusive(&self) {
        self.state.fetch_or(EXCLUSIVE, Ordering::Relaxed);
    }

    /// The frame is shared from now on.
    #[inline]
    pub(crate) fn clear_exclusive(&self) {
        if self.is_exclusive() {
            self.state.fetch_and(!EXCLUSIVE, Ordering::Relaxed);
        }
    }

    /// Whether the content may be dropped while nobody writes it.
    pub(crate) fn is_lazy_free(&self) -> bool {
        self.state.load(Ordering::Relaxed) & LAZY_FREE != 0
    }

    /// The content may be dropped from now on, while nobody writes it.
    pub(crate) fn set_lazy_free(&self) {
        self.state.fetch_or(LAZY_FREE, Ordering::Relaxed);
    }

    /// Whether the page of shared memory was written, as far as is noted.
    pub(crate) fn is_dirty_shmem(&self) -> bool {
        self.state.load(Ordering::Relaxed) & DIRTY_SHMEM != 0
    }

    /// The page of shared memory was written.
    #[inline]
    pub(crate) fn set_dirty_shmem(&self) {
        if !self.is_dirty_shmem() {
            self.state.fetch_or(DIRTY_SHMEM, Ordering::Relaxed);
        }
    }

    /// The content may no longer be dropped.
    pub(crate) fn clear_lazy_free(&self) {
        self.state.fetch_and(!LAZY_FREE, Ordering::Relaxed);
    }

    /// Takes a reference, unless the frame is on its way to be freed.
    pub(crate) fn try_get(&self) -> bool {
        let more = |refs: u32| (refs > 0).then(|| refs + 1);
        self.refs.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Whether the replacement policy knows the frame.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.state.load(Ordering::Relaxed) & KNOWN != 0
    }

    /// The replacement policy knows the frame from now on.
    pub(crate) fn set_known(&self) {
        self.state.fetch_or(KNOWN, Ordering::Relaxed);
    }

    /// The replacement policy does not know the frame any more.
    pub(crate) fn clear_known(&self) {
        self.state.fetch_and(!KNOWN, Ordering::Relaxed);
    }

    /// Whether the content is newer than what is in swap.
    pub(crate) fn is_dirty(&self) -> bool {
        self.state.load(Ordering::Acquire) & DIRTY != 0
    }

    /// The content is newer than what is in swap.
    pub(crate) fn set_dirty(&self) {
        self.state.fetch_or(DIRTY, Ordering::Release);
    }

    /// What is in swap is about to be the content; whether it was not.
    pub(crate) fn take_dirty(&self) -> bool {
        self.state.fetch_and(!DIRTY, Ordering::AcqRel) & DIRTY != 0
    }

    /// Locks the page, to which the caller has a reference; whether nobody else had.
    #[must_use]
    pub(crate) fn try_lock(&self) -> bool {
        self.state.fetch_or(LOCKED, Ordering::Acquire) & LOCKED == 0
    }

    /// Whether somebody has locked the page.
    pub(crate) fn is_locked(&self) -> bool {
        self.state.load(Ordering::Acquire) & LOCKED != 0
    }

    /// Ends what [`Self::try_lock`] began.
    pub(crate) fn unlock(&self) {
        let before = self.state.fetch_and(!LOCKED, Ordering::Release);
        debug_assert!(before & LOCKED != 0, "a page unlocked that was not locked");
    }

    /// Whether the frame is in the swap cache.
    #[inline]
    pub(crate) fn is_swap_cached(&self) -> bool {
        self.state.load(Ordering::Acquire) & SWAP_CACHE != 0
    }

    /// The slot the frame is in the swap cache for: number of the area, slot.
    pub(crate) fn swap_slot(&self) -> Option<(u8, u32)> {
        self.is_swap_cached().then(|| (self.prev() as u8, self.next()))
    }

    /// Puts the frame, which has a use, into the swap cache. The area's slots are locked.
    pub(crate) fn begin_swap_cached(&self, area: u8, slot: u32) {
        self.set_prev(u32::from(area));
        self.set_next(slot);
        self.state.fetch_or(SWAP_CACHE, Ordering::Release);
    }

    /// Takes the frame out of the swap cache. The area's slots are locked.
    pub(crate) fn end_swap_cached(&self) {
        self.state.fetch_and(!SWAP_CACHE, Ordering::AcqRel);
    }

    /// The page was read from swap before anybody needed it.
    pub(crate) fn set_read_ahead(&self) {
        self.state.fetch_or(READAHEAD, Ordering::Relaxed);
    }

    /// Somebody needs the page; whether it was read before that, and nobody needed it so far.
    pub(crate) fn take_read_ahead(&self) -> bool {
        self.state.load(Ordering::Relaxed) & READAHEAD != 0
            && self.state.fetch_and(!READAHEAD, Ordering::Relaxed) & READAHEAD != 0
    }

    /// A page of the swap cache, which the caller has locked and holds the only other reference to,
    /// becomes page `index` of the shared memory `owner`; the swap cache's reference is that one's now.
    pub(crate) fn turn_into_shmem(&self, owner: u32, index: u64) {
        debug_assert_eq!(self.maps(), 0, "a page of shared memory is mapped by its file alone");
        self.owner.store(owner, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
        let gone = FrameState::MASK | DIRTY | SWAP_CACHE | READAHEAD;
        let turn = |state: u32| Some(state & !gone | FrameState::Shmem as u32 | DIRTY_SHMEM);
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, turn);
    }

    /// Number of whom the frame belongs to: an `AnonVma` or an `AddressSpace`.
    #[inline]
    pub(crate) fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Says whose an anonymous page is that nobody mapped so far.
    pub(crate) fn set_place(&self, owner: u32, index: u64) {
        self.index.store(index, Ordering::Relaxed);
        self.owner.store(owner, Ordering::Release);
    }

    /// Gives an anonymous frame to another `AnonVma` (Linux `folio_move_anon_rmap`).
    #[inline]
    pub(crate) fn set_owner(&self, owner: u32) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Page offset in the owner; order of a free block; level of a table.
    #[inline]
    pub(crate) fn index(&self) -> u64 {
        self.index.load(Ordering::Relaxed)
    }

    /// Sets the page offset in the owner; the order of a free block.
    #[inline]
    pub(crate) fn set_index(&self, index: u64) {
        self.index.store(index, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn prev(&self) -> u32 {
        self.prev.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_prev(&self, frame: u32) {
        self.prev.store(frame, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_next(&self, frame: u32) {
        self.next.store(frame, Ordering::Relaxed);
    }
}
