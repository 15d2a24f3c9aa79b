//! Swap: pages that are not in RAM (Linux 6.18 mm/swapfile.c, mm/swap_state.c).
//!
//! [`SwapArea`] is the seam to where they are kept: slots in, slots out. `Swap` knows the areas in use
//! by number and priority; each has its `slots::Slots`, which are the swap map and the swap cache in
//! one. A page is in RAM, in a slot, or in both:
//!
//! ```text
//!              evict: slot taken, entries point to it     written        frame let go
//!   in RAM  ------------------------------------> cached ------> cached ---------> in swap
//!              <------------------------------------------------       <---------
//!                        a fault maps the frame again            a fault reads the slot
//! ```
//!
//! A page leaves RAM only after its area has said that it holds it (**nothing-lost**).
//! Neighbours: [`crate::reclaim`] evicts, `fault/swap.rs` brings back, [`areas`] is swapon and
//! swapoff.

pub mod areas;
pub(crate) mod readahead;
pub(crate) mod slots;

use crate::frames::FrameState;
use crate::memcg::MemcgId;
use crate::memory::{NoFrame, Use};
use crate::page_cache::page::PageRef;
use crate::policy::{FirstUse, Shadow};
use crate::{Host, Memory, Mm};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI16, AtomicU64, Ordering};
use kilburn_addr::{Errno, PAGE_SIZE, Pfn};
use kilburn_paging::PhysMem;
use lock_api::Mutex;
use readahead::{ClusterWindow, Reading, Together};
use slots::{Content, Freed, Slots};

/// Most areas in use at once (Linux `MAX_SWAPFILES` is a little less, for entries that are no
/// swap).
pub const AREAS_MAX: usize = 28;

/// Keeps pages in numbered slots.
///
/// A slot is written before it is read, and not read after it was discarded until it is written
/// again. An area may be used by several threads at once, though never for the same slot.
pub trait SwapArea: Send + Sync {
    /// Number of slots, of 4096 bytes each. It does not change.
    fn slots(&self) -> u32;

    /// Reads what was last written to the slot.
    ///
    /// # Errors
    /// `EIO` and the like, also when what is there is not what was written; `into` is not used
    /// then.
    fn read(&self, slot: u32, into: &mut [u8; 4096]) -> Result<(), Errno>;

    /// Writes a slot; once this returns the content may be gone from RAM.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC` and the like: the slot's content is undefined then.
    fn write(&self, slot: u32, from: &[u8; 4096]) -> Result<(), Errno>;

    /// The content of a slot is not needed any more.
    fn discard(&self, slot: u32) {
        let _ = slot;
    }

    /// Time that transfers took since this was last asked, in nanoseconds of the machine's time:
    /// whoever caused them waits that long ([`Memory::take_io_wait`]).
    fn take_wait_ns(&self) -> u64 {
        0
    }

    /// Whether a read takes no longer than a copy, so that nothing is won by reading neighbours with
    /// it (Linux `SWP_SYNCHRONOUS_IO`).
    fn is_synchronous(&self) -> bool {
        false
    }

    /// How /proc/swaps names the kind of area: "file" or "partition".
    fn kind(&self) -> &'static str {
        "partition"
    }
}

/// A page's place in swap (Linux `swp_entry_t`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SwapEntry {
    /// Number of the area.
    pub(crate) area: u8,
    /// Slot in it.
    pub(crate) slot: u32,
}

/// An area in use.
pub(crate) struct Active<H: Host> {
    pub(crate) number: u8,
    pub(crate) name: String,
    /// Changes under the lock of all areas, as others are switched off.
    priority: AtomicI16,
    pub(crate) area: Arc<dyn SwapArea>,
    pub(crate) slots: Mutex<H::RawMutex, Slots>,
    /// Held while the area reads or writes a slot that is `Content::Busy`; others wait here.
    transfer: Mutex<H::RawMutex, ()>,
    /// Whether slots are given out: not while the area is being emptied.
    pub(crate) is_open: AtomicBool,
}

/// The areas in use, and the address spaces that have pages there.
pub(crate) struct Swap<H: Host> {
    pub(crate) areas: Mutex<H::RawMutex, areas::InUse<H>>,
    /// Address spaces that have, or had, entries in swap (Linux `mmlist`).
    pub(crate) mms: Mutex<H::RawMutex, BTreeMap<u64, Weak<Mm<H>>>>,
    /// Slots of all areas, and those of them that are free.
    pub(crate) total: AtomicU64,
    pub(crate) free: AtomicU64,
    /// Frames in the swap cache.
    pub(crate) cached: AtomicU64,
    /// Time that transfers to and from swap took and nobody waited for yet.
    wait_ns: AtomicU64,
    /// As much of files.
    pub(crate) file_wait_ns: AtomicU64,
    /// How pages of shared memory are read ahead.
    cluster_window: ClusterWindow,
}

impl<H: Host> Default for Swap<H> {
    fn default() -> Self {
        Self {
            areas: Mutex::new(areas::InUse::default()),
            mms: Mutex::new(BTreeMap::new()),
            total: AtomicU64::new(0),
            free: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            wait_ns: AtomicU64::new(0),
            file_wait_ns: AtomicU64::new(0),
            cluster_window: ClusterWindow::default(),
        }
    }
}

/// Why a page could not be brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotBack {
    /// The entry stands for nothing any more: somebody else was faster.
    Stale,
    /// There is no frame for it.
    NoFrame,
    /// The area failed.
    Store(Errno),
}

/// Whose a page is that is brought back, for its frame's metadata.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    /// An `AnonVma`'s number.
    pub(crate) anon_vma: u32,
    /// Page offset in it.
    pub(crate) index: u64,
}

impl<H: Host> Memory<H> {
    /// The area in use with this number.
    pub(crate) fn swap_area(&self, number: u8) -> Option<Arc<Active<H>>> {
        self.swap.areas.lock().by_number.get(usize::from(number))?.clone()
    }

    /// A frame's distance from the first.
    pub(crate) fn frame_number(&self, pfn: Pfn) -> u32 {
        (pfn.get() - self.frames.first().get()) as u32
    }

    /// The frame with this distance from the first.
    pub(crate) fn frame_at(&self, frame: u32) -> Pfn {
        Pfn::new(self.frames.first().get() + u64::from(frame))
    }

    /// A free slot of the area with the highest priority that has one, charged to `whose`. `content`
    /// says what holds it.
    pub(crate) fn take_slot(&self, content: Content, whose: MemcgId) -> Option<SwapEntry> {
        if self.swap.free.load(Ordering::Relaxed) == 0 {
            self.note_no_slot(whose);
            return None;
        }
        if !self.charge_swap(whose) {
            return None;
        }
        let taken = self.swap.areas.lock().in_turn(|active| {
            let mut slots = active.slots.lock();
            let slot = slots.allocate(content)?;
            slots.set_memcg(slot, whose);
            self.swap.free.fetch_sub(1, Ordering::Relaxed);
            Some(SwapEntry { area: active.number, slot })
        });
        if taken.is_none() {
            self.uncharge_swap(whose);
        }
        taken
    }

    /// Takes a slot for an anonymous page and puts the page into the swap cache under it: dirty,
    /// with no reference to the slot yet (Linux `folio_alloc_swap`). The caller holds a reference
    /// to the frame.
    pub(crate) fn add_to_swap(&self, pfn: Pfn) -> Option<SwapEntry> {
        let frame = self.frame_number(pfn);
        let meta = self.meta(pfn);
        let entry = self.take_slot(Content::Frame(frame), meta.memcg())?;
        meta.set_dirty();
        meta.get();
        meta.begin_swap_cached(entry.area, entry.slot);
        self.swap.cached.fetch_add(1, Ordering::Relaxed);
        Some(entry)
    }

    /// One more refers to the slot.
    pub(crate) fn swap_duplicate(&self, entry: SwapEntry) {
        if let Some(active) = self.swap_area(entry.area) {
            active.slots.lock().add_reference(entry.slot);
        }
    }

    /// One less refers to the slot; without any it is free, and so is a frame that only the swap
    /// cache kept (Linux `free_swap_and_cache`).
    pub(crate) fn swap_free(&self, entry: SwapEntry) {
        let Some(active) = self.swap_area(entry.area) else { return };
        let freed = active.slots.lock().drop_reference(entry.slot);
        self.after_free(&active, entry.slot, freed);
        if freed == Freed::No {
            self.drop_idle_frame(&active, entry.slot);
        }
    }

    /// Does what is due when a slot was freed. No lock of the area is held.
    pub(crate) fn after_free(&self, active: &Active<H>, slot: u32, freed: Freed) {
        let Freed::Yes(shadow, memcg) = freed else { return };
        active.area.discard(slot);
        self.uncharge_swap(memcg);
        // A closed area's free slots are not counted: nobody can have them.
        if active.is_open.load(Ordering::Acquire) {
            self.swap.free.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(shadow) = shadow {
            self.forget_shadow(shadow);
        }
    }

    /// Drops the frame of a slot that nothing refers to, if the swap cache alone keeps it.
    fn drop_idle_frame(&self, active: &Active<H>, slot: u32) {
        let mut slots = active.slots.lock();
        if slot >= slots.len() || slots.references(slot) > 0 {
            return;
        }
        let Content::Frame(frame) = slots.content(slot) else { return };
        let pfn = self.frame_at(frame);
        let meta = self.meta(pfn);
        if meta.refs() != 1 {
            return;
        }
        meta.end_swap_cached();
        self.swap.cached.fetch_sub(1, Ordering::Relaxed);
        let freed = slots.set_content(slot, Content::Nothing);
        drop(slots);
        self.after_free(active, slot, freed);
        self.put(pfn);
    }

    /// Only one reference to the frame is left, perhaps that of the swap cache. The frame may be
    /// somebody else's by now, so everything is looked at again under the area's lock.
    #[cold]
    pub(crate) fn drop_if_only_swap_cached(&self, pfn: Pfn) {
        let Some((area, slot)) = self.meta(pfn).swap_slot() else { return };
        let Some(active) = self.swap_area(area) else { return };
        let frame = self.frame_number(pfn);
        let is_its = {
            let slots = active.slots.lock();
            slot < slots.len() && slots.content(slot) == Content::Frame(frame)
        };
        if is_its {
            self.drop_idle_frame(&active, slot);
        }
    }

    /// Takes a frame out of the swap cache if nothing refers to its slot (Linux
    /// `folio_free_swap`): it is the only copy then. The caller holds a reference. Whether it is
    /// not in the swap cache afterwards; it may be when somebody is about to evict it.
    pub(crate) fn try_free_swap(&self, pfn: Pfn) -> bool {
        let meta = self.meta(pfn);
        if !meta.is_swap_cached() {
            return true;
        }
        if !meta.try_lock() {
            return false;
        }
        let freed = self.free_swap_of_locked(pfn);
        meta.unlock();
        freed
    }

    /// As [`Self::try_free_swap`], by who has locked the page.
    pub(crate) fn free_swap_of_locked(&self, pfn: Pfn) -> bool {
        let meta = self.meta(pfn);
        let Some((area, slot)) = meta.swap_slot() else { return true };
        let Some(active) = self.swap_area(area) else { return false };
        let mut slots = active.slots.lock();
        if !meta.is_swap_cached() {
            return true;
        }
        if slots.references(slot) > 0 {
            return false;
        }
        meta.end_swap_cached();
        self.swap.cached.fetch_sub(1, Ordering::Relaxed);
        meta.set_dirty();
        let freed = slots.set_content(slot, Content::Nothing);
        drop(slots);
        self.after_free(&active, slot, freed);
        let left = meta.put();
        debug_assert!(left > 0, "the caller holds a reference");
        true
    }

    /// Whether the page of an entry is in the swap cache.
    pub(crate) fn is_swap_cached(&self, entry: SwapEntry) -> bool {
        self.swap_area(entry.area).is_some_and(|active| {
            let slots = active.slots.lock();
            entry.slot < slots.len() && matches!(slots.content(entry.slot), Content::Frame(_))
        })
    }

    /// How many refer to the slot of an entry (Linux `swp_swapcount`).
    pub(crate) fn swap_references(&self, entry: SwapEntry) -> u32 {
        self.swap_area(entry.area).map_or(0, |active| {
            let slots = active.slots.lock();
            if entry.slot < slots.len() { slots.references(entry.slot) } else { 0 }
        })
    }

    /// Whether more than half of swap is in use (Linux `vm_swap_full`): slots of pages in RAM are
    /// given up early then.
    pub(crate) fn swap_is_scarce(&self) -> bool {
        self.swap.free.load(Ordering::Relaxed) * 2 < self.swap.total.load(Ordering::Relaxed)
    }

    /// The page of an entry, brought into the swap cache if need be, and how it came there.
    pub(crate) fn swap_in(
        &self,
        entry: SwapEntry,
        owner: Owner,
        together: &mut Together,
    ) -> Result<(PageRef<'_, H>, Source), NotBack> {
        let active = self.swap_area(entry.area).ok_or(NotBack::Stale)?;
        loop {
            match self.look_up(&active, entry.slot)? {
                LookUp::Cached(page) => return Ok((page, Source::Cache)),
                LookUp::Wait => drop(active.transfer.lock()),
                LookUp::Ours(shadow) => {
                    let how = (Reading::Needed, together);
                    let page = self.read_slot(&active, entry, owner, shadow, how)?;
                    return Ok((page, Source::Area));
                }
            }
        }
    }

    fn look_up(&self, active: &Active<H>, slot: u32) -> Result<LookUp<'_, H>, NotBack> {
        let mut slots = active.slots.lock();
        if slot >= slots.len() || slots.references(slot) == 0 {
            return Err(NotBack::Stale);
        }
        let shadow = match slots.content(slot) {
            Content::Frame(frame) => {
                let pfn = self.frame_at(frame);
                self.meta(pfn).get();
                return Ok(LookUp::Cached(PageRef::from_held(self, pfn)));
            }
            Content::Busy => return Ok(LookUp::Wait),
            Content::Shadow(shadow) => Some(shadow),
            Content::Nothing => None,
        };
        let freed = slots.set_content(slot, Content::Busy);
        debug_assert_eq!(freed, Freed::No);
        Ok(LookUp::Ours(shadow))
    }

    /// Reads a slot that is busy on our account into a frame of the swap cache.
    fn read_slot(
        &self,
        active: &Active<H>,
        entry: SwapEntry,
        owner: Owner,
        shadow: Option<Shadow>,
        (reading, together): (Reading, &mut Together),
    ) -> Result<PageRef<'_, H>, NotBack> {
        let read = self.read_into_frame(active, entry.slot, together);
        let mut slots = active.slots.lock();
        let (content, result) = match read {
            Ok(pfn) => {
                let meta = self.meta(pfn);
                // One reference is the swap cache's, one the caller's.
                meta.begin(FrameState::Anon, owner.anon_vma, owner.index);
                meta.begin_swap_cached(entry.area, entry.slot);
                if reading == Reading::Ahead {
                    meta.set_read_ahead();
                }
                self.swap.cached.fetch_add(1, Ordering::Relaxed);
                meta.get();
                (Content::Frame(self.frame_number(pfn)), Ok(pfn))
            }
            Err(why) => (shadow.map_or(Content::Nothing, Content::Shadow), Err(why)),
        };
        let freed = slots.set_content(entry.slot, content);
        drop(slots);
        self.after_free(active, entry.slot, freed);
        let pfn = result?;
        self.uses.add(self.cpu(), Use::Anon, 1);
        let first_use = match reading {
            Reading::Needed => FirstUse::Mapped,
            Reading::Ahead => FirstUse::Ahead,
        };
        self.note_arrival(pfn, first_use, shadow);
        Ok(PageRef::from_held(self, pfn))
    }

    /// A new frame that holds what is in the slot; its use is to be begun.
    pub(crate) fn read_into_frame(
        &self,
        active: &Active<H>,
        slot: u32,
        together: &mut Together,
    ) -> Result<Pfn, NotBack> {
        let whose = active.slots.lock().memcg(slot);
        let pfn = self.alloc_for(whose).map_err(|NoFrame| NotBack::NoFrame)?;
        let mut buffer = [0; PAGE_SIZE as usize];
        // Not held while allocating, which may evict to the same area.
        let transfer = active.transfer.lock();
        let read = active.area.read(slot, &mut buffer);
        drop(transfer);
        self.note_io_wait(together.longer_ns(active.area.take_wait_ns()));
        if let Err(errno) = read {
            self.discard(pfn);
            self.vm_events.swap_read_errors.fetch_add(1, Ordering::Relaxed);
            return Err(NotBack::Store(errno));
        }
        self.host().mem().write(pfn.base(), &buffer);
        self.vm_events.pswpin.fetch_add(1, Ordering::Relaxed);
        self.count_page_in();
        Ok(pfn)
    }

    /// Writes a frame's content to a slot.
    pub(crate) fn write_slot(&self, entry: SwapEntry, pfn: Pfn) -> Result<(), Errno> {
        let active = self.swap_area(entry.area).ok_or(Errno::EIO)?;
        let mut buffer = [0; PAGE_SIZE as usize];
        self.host().mem().read(pfn.base(), &mut buffer);
        let written = active.area.write(entry.slot, &buffer);
        self.note_io_wait(active.area.take_wait_ns());
        match written {
            Ok(()) => {
                self.vm_events.pswpout.fetch_add(1, Ordering::Relaxed);
                self.count_page_out();
                Ok(())
            }
            Err(errno) => {
                self.vm_events.swap_write_errors.fetch_add(1, Ordering::Relaxed);
                Err(errno)
            }
        }
    }

    /// Takes a frame out of the swap cache to let it go: nobody but the cache and the caller holds
    /// it, nothing maps it, and its slot has its content. Whether that is so.
    pub(crate) fn remove_clean_from_swap_cache(&self, pfn: Pfn) -> bool {
        let meta = self.meta(pfn);
        let Some((area, slot)) = meta.swap_slot() else { return false };
        let Some(active) = self.swap_area(area) else { return false };
        let mut slots = active.slots.lock();
        if meta.refs() != 2 || meta.maps() != 0 || meta.is_dirty() {
            return false;
        }
        meta.end_swap_cached();
        self.swap.cached.fetch_sub(1, Ordering::Relaxed);
        let freed = slots.set_content(slot, Content::Nothing);
        drop(slots);
        self.after_free(&active, slot, freed);
        let left = meta.put();
        debug_assert!(left > 0, "the caller holds a reference");
        true
    }

    /// Writes a page of shared memory to a slot of its own, which is busy and has one reference;
    /// then only the slot has the content. On an error the slot is free again.
    pub(crate) fn write_busy_slot(&self, entry: SwapEntry, pfn: Pfn) -> Result<(), Errno> {
        let active = self.swap_area(entry.area).ok_or(Errno::EIO)?;
        let transfer = active.transfer.lock();
        let written = self.write_slot(entry, pfn);
        drop(transfer);
        if written.is_ok() {
            self.end_busy(entry);
        }
        written
    }

    /// The slot is not busy any more; its area has the content, or nobody wants it.
    pub(crate) fn end_busy(&self, entry: SwapEntry) {
        let Some(active) = self.swap_area(entry.area) else { return };
        let freed = active.slots.lock().set_content(entry.slot, Content::Nothing);
        self.after_free(&active, entry.slot, freed);
    }

    /// The content of a slot of shared memory, which the caller refers to and gives up then. Of a
    /// page that was not read ahead what the policy remembers comes along.
    pub(crate) fn take_from_swap(
        &self,
        entry: SwapEntry,
        together: &mut Together,
    ) -> Result<Taken<'_, H>, NotBack> {
        let active = self.swap_area(entry.area).ok_or(NotBack::Stale)?;
        loop {
            match self.look_up(&active, entry.slot)? {
                LookUp::Cached(page) => return Ok(Taken::Cached(page)),
                LookUp::Wait => drop(active.transfer.lock()),
                LookUp::Ours(shadow) => {
                    let read = self.read_into_frame(&active, entry.slot, together);
                    let content = match (&read, shadow) {
                        (Err(_), Some(shadow)) => Content::Shadow(shadow),
                        _ => Content::Nothing,
                    };
                    let freed = active.slots.lock().set_content(entry.slot, content);
                    self.after_free(&active, entry.slot, freed);
                    return Ok(Taken::Read(read?, shadow));
                }
            }
        }
    }

    /// Makes a page of the swap cache page `index` of the shared memory `owner`, and its frame that
    /// one's; nobody else holds it but the cache and the caller. Whether that is so.
    pub(crate) fn move_to_shmem(&self, pfn: Pfn, owner: u32, index: u64) -> bool {
        let meta = self.meta(pfn);
        if !meta.try_lock() {
            return false;
        }
        let moved = self.move_locked_to_shmem(pfn, owner, index);
        meta.unlock();
        moved
    }

    fn move_locked_to_shmem(&self, pfn: Pfn, owner: u32, index: u64) -> bool {
        let meta = self.meta(pfn);
        let Some((area, slot)) = meta.swap_slot() else { return false };
        let Some(active) = self.swap_area(area) else { return false };
        let mut slots = active.slots.lock();
        if !meta.is_swap_cached() || meta.refs() != 2 || meta.maps() != 0 {
            return false;
        }
        meta.turn_into_shmem(owner, index);
        self.swap.cached.fetch_sub(1, Ordering::Relaxed);
        let freed = slots.set_content(slot, Content::Nothing);
        drop(slots);
        self.after_free(&active, slot, freed);
        self.uses.add(self.cpu(), Use::Anon, -1);
        self.uses.add(self.cpu(), Use::Shmem, 1);
        true
    }

    /// A page of shared memory that was found in the swap cache is used.
    pub(crate) fn note_cluster_use(&self, pfn: Pfn) {
        if self.take_read_ahead(pfn) {
            self.swap.cluster_window.note_hit();
        }
    }

    /// Keeps what the policy remembers of an evicted page with its slot, if that is still there.
    pub(crate) fn keep_shadow(&self, entry: SwapEntry, shadow: Shadow) {
        let kept = self.swap_area(entry.area).is_some_and(|active| {
            let mut slots = active.slots.lock();
            let waits =
                slots.references(entry.slot) > 0 && slots.content(entry.slot) == Content::Nothing;
            waits && slots.set_content(entry.slot, Content::Shadow(shadow)) == Freed::No
        });
        if !kept {
            self.forget_shadow(shadow);
        }
    }

    /// A transfer to or from swap took so long.
    pub(crate) fn note_io_wait(&self, waited_ns: u64) {
        if waited_ns > 0 {
            self.swap.wait_ns.fetch_add(waited_ns, Ordering::Relaxed);
        }
    }

    /// A transfer to or from a file took so long.
    pub(crate) fn note_file_wait(&self, waited_ns: u64) {
        if waited_ns > 0 {
            self.swap.file_wait_ns.fetch_add(waited_ns, Ordering::Relaxed);
        }
    }

    /// Time that transfers to and from swap and files took since this was last asked. The content is
    /// there already: an embedder lets who caused them wait that long while others run.
    pub fn take_io_wait(&self) -> IoWait {
        let take = |time: &AtomicU64| match time.load(Ordering::Relaxed) {
            0 => 0,
            _ => time.swap(0, Ordering::Relaxed),
        };
        IoWait { swap_ns: take(&self.swap.wait_ns), file_ns: take(&self.swap.file_wait_ns) }
    }

    /// Address spaces that may have entries in swap.
    pub(crate) fn swapped_mms(&self) -> Vec<Arc<Mm<H>>> {
        self.swap.mms.lock().values().filter_map(Weak::upgrade).collect()
    }
}

/// Time that transfers took, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoWait {
    /// To and from swap.
    pub swap_ns: u64,
    /// To and from files.
    pub file_ns: u64,
}

impl IoWait {
    /// All of it.
    pub fn total_ns(self) -> u64 {
        self.swap_ns + self.file_ns
    }
}

/// Where a page was that is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// In the swap cache.
    Cache,
    /// In the area alone.
    Area,
}

/// The content of a slot of shared memory.
pub(crate) enum Taken<'m, H: Host> {
    /// In a frame whose use is to be begun.
    Read(Pfn, Option<Shadow>),
    /// In the swap cache, read ahead.
    Cached(PageRef<'m, H>),
}

/// What was found of a slot.
enum LookUp<'m, H: Host> {
    /// A frame has its content.
    Cached(PageRef<'m, H>),
    /// Somebody is reading it.
    Wait,
    /// Nobody is: it is ours to read, and busy until then.
    Ours(Option<Shadow>),
}
