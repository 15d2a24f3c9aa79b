//! Making frames free (Linux 6.18 mm/vmscan.c).
//!
//! ```text
//!   frames    free ..............| high | low | min ....| 0
//!                                   ^      |     |
//!   kswapd    balance() until here -'      |     |
//!             is_kswapd_wanted() ----------'     |
//!   an allocation reclaims for itself -----------'
//! ```
//!
//! Which page goes next is the [`ReplacementPolicy`]'s choice (`lru`); whether it can, and what it
//! takes, is a matter of its kind: anonymous pages go to swap (`anon`), pages of files to their
//! store, shared memory to swap as well (`file`).
//!
//! Reclaim runs inside allocations, so it waits for no lock that comes before the tables in the
//! crate's lock order, and allocates no frame. Tables are allocated under the lock of tables, where
//! nothing can be reclaimed: they may use what is below `min`.

mod anon;
mod file;
mod instances;
mod lists;
mod lru;

use crate::anon_vma::Alive;
use crate::event_counts::event_counts;
use crate::frames::FrameState;
use crate::memcg::MemcgId;
use crate::memory::Use;
use crate::percpu::PerCpu;
use crate::policy::{Builtin, FirstUse, PutBack, ReplacementPolicy, Shadow, Wanted};
use crate::swap::SwapEntry;
use crate::{AddressSpace, Host, Memory};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use kilburn_addr::Pfn;
pub use lists::LruCounts;
use lock_api::Mutex;
pub(crate) use lru::Scope;
use lru::{Arrived, Lru};

/// Pages an allocation reclaims at once (Linux `SWAP_CLUSTER_MAX`).
pub(crate) const BATCH: u64 = 32;

/// Numbers of free frames at which something happens (Linux `struct zone._watermark`), in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    /// Below, an allocation reclaims for itself.
    pub min: u64,
    /// Below, kswapd is wanted.
    pub low: u64,
    /// Kswapd is content.
    pub high: u64,
}

impl Watermarks {
    /// Linux's for a machine of `frames` frames (`calculate_min_free_kbytes`,
    /// `__setup_per_zone_wmarks`). Below 4 MiB, where Linux keeps 128 KiB, as much less as there is
    /// less memory.
    pub const fn of(frames: u64) -> Self {
        let kbytes = (frames * 4 * 16).isqrt();
        let min = if kbytes > 262_144 { 65_536 } else { kbytes / 4 };
        let step = if min / 4 > frames / 1000 { min / 4 } else { frames / 1000 };
        Self { min, low: min + step, high: min + 2 * step }
    }
}

/// What reclaim knows.
pub(crate) struct Reclaim<H: Host> {
    pub(crate) marks: Watermarks,
    swappiness: AtomicU8,
    /// Whether memory was ever short: only then does the policy hear of pages.
    is_armed: AtomicBool,
    kswapd_wanted: AtomicBool,
    /// Whether there ever was an anonymous page whose content may be dropped.
    any_lazy_free: AtomicBool,
    lru: Mutex<H::RawMutex, Lru>,
    /// Pages the policy is to hear of, by the CPU that brought them (Linux: the batches of mm/swap.c).
    arrivals: PerCpu<Mutex<H::RawMutex, Vec<Arrived>>>,
}

impl<H: Host> Reclaim<H> {
    pub(crate) fn new(frames: u64, cpus: usize, policy: Builtin, swappiness: u8) -> Self {
        Self {
            marks: Watermarks::of(frames),
            swappiness: AtomicU8::new(swappiness),
            is_armed: AtomicBool::new(false),
            kswapd_wanted: AtomicBool::new(false),
            any_lazy_free: AtomicBool::new(false),
            lru: Mutex::new(Lru::new(policy, frames)),
            arrivals: PerCpu::new(cpus, || Mutex::new(Vec::new())),
        }
    }

    /// A group is gone.
    pub(crate) fn forget_memcg(&self, memcg: MemcgId) {
        self.lru.lock().instances.forget_group(memcg);
    }
}

/// Who reclaims, for the counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reclaimer {
    /// The kernel thread.
    Kswapd,
    /// An allocation.
    Direct,
    /// A call that asks for it: MADV_PAGEOUT.
    Proactive,
}

/// What became of a page that was to be evicted.
pub(crate) enum Outcome<H: Host> {
    /// It is out of all caches and tables; the caller's reference is the last.
    Gone(Home<H>),
    /// It stays.
    Kept(PutBack),
    /// It stays because it is locked: there is no use in trying again soon.
    Locked,
}

/// Where the content of an evicted page is.
pub(crate) enum Home<H: Host> {
    /// In swap.
    Slot(SwapEntry),
    /// In its file.
    File(Arc<AddressSpace<H>>, u64),
    /// It was not wanted any more.
    Nowhere,
}

event_counts! {
    /// Events of reclaim and swap, as /proc/vmstat names them.
    struct VmEvents;
    /// Counts of events of reclaim and swap since the machine started, as /proc/vmstat names
    /// them.
    pub struct VmStat;

    /// KiB read from stores of files and areas of swap.
    pgpgin,
    /// KiB written to them.
    pgpgout,
    /// Pages of files that became dirty.
    nr_dirtied,
    /// Pages of files that were written to their store.
    nr_written,
    /// Pages read from swap.
    pswpin,
    /// Pages written to swap.
    pswpout,
    /// Pages read from swap before they were needed.
    swap_ra,
    /// Of these, pages that somebody needed then.
    swap_ra_hit,
    /// Pages kswapd looked at.
    pgscan_kswapd,
    /// Pages allocations looked at.
    pgscan_direct,
    /// Pages looked at on request.
    pgscan_proactive,
    /// Anonymous and shared-memory pages looked at.
    pgscan_anon,
    /// Pages of files looked at.
    pgscan_file,
    /// Pages kswapd made free.
    pgsteal_kswapd,
    /// Pages allocations made free.
    pgsteal_direct,
    /// Pages made free on request.
    pgsteal_proactive,
    /// Anonymous and shared-memory pages made free.
    pgsteal_anon,
    /// Pages of files made free.
    pgsteal_file,
    /// Anonymous pages that came back.
    workingset_refault_anon,
    /// Pages of files that came back.
    workingset_refault_file,
    /// Allocations that had to reclaim for themselves.
    allocstall,
    /// Times kswapd ran.
    pageoutrun,
    /// Times all clean pages of files were dropped on request.
    drop_pagecache,
    /// Times all unused dentries and inodes were dropped on request.
    drop_slab,
    /// Pages dropped whose owner had given up their content (MADV_FREE).
    pglazyfreed,
    /// Pages found locked.
    unevictable_pgs_culled,
    /// Swap slots that could not be read.
    swap_read_errors,
    /// Pages that stayed because their slot could not be written.
    swap_write_errors,
}

/// KiB of a page.
const PAGE_KIB: u64 = kilburn_addr::PAGE_SIZE >> 10;

impl<H: Host> Memory<H> {
    /// A page was read from a store (Linux `count_vm_events(PGPGIN, ..)`, which counts sectors).
    pub(crate) fn count_page_in(&self) {
        self.vm_events.pgpgin.fetch_add(PAGE_KIB, Ordering::Relaxed);
    }

    /// A page was written to a store.
    pub(crate) fn count_page_out(&self) {
        self.vm_events.pgpgout.fetch_add(PAGE_KIB, Ordering::Relaxed);
    }

    /// Counts of events of reclaim and swap.
    pub fn vm_stat(&self) -> VmStat {
        self.vm_events.snapshot()
    }

    /// The marks of free frames at which reclaim acts.
    pub fn watermarks(&self) -> Watermarks {
        self.reclaim.marks
    }

    /// `vm.swappiness`, 0 to 200: how dear pages of files are against anonymous ones.
    pub fn swappiness(&self) -> u8 {
        self.reclaim.swappiness.load(Ordering::Relaxed)
    }

    /// Sets `vm.swappiness`; more than 200 is 200.
    pub fn set_swappiness(&self, swappiness: u8) {
        self.reclaim.swappiness.store(swappiness.min(200), Ordering::Relaxed);
    }

    /// Has another policy choose from now on; it is told of all pages there are.
    pub fn set_policy(&self, policy: Box<dyn ReplacementPolicy>) {
        let frames: Vec<u32> = (0..self.frames.total() as u32).collect();
        let mut lru = self.reclaim.lru.lock();
        for &frame in &frames {
            self.meta(self.frame_at(frame)).clear_known();
        }
        lru.replace(policy);
        drop(lru);
        if self.reclaim.is_armed.load(Ordering::Relaxed) {
            self.announce_all();
        }
    }

    /// Name of the policy that chooses.
    pub fn policy_name(&self) -> &'static str {
        self.reclaim.lru.lock().instances.name()
    }

    /// Whether free frames are so few that kswapd should run.
    pub fn is_kswapd_wanted(&self) -> bool {
        self.reclaim.kswapd_wanted.load(Ordering::Relaxed)
    }

    /// What kswapd does: reclaims until enough frames are free, or nothing more can go; answers how
    /// many pages went (Linux `balance_pgdat`).
    pub fn balance(&self) -> u64 {
        self.begin_balance();
        core::iter::repeat_with(|| self.balance_batch()).take_while(|went| *went > 0).sum()
    }

    /// [`Self::balance`] begins, for who lets others run between its batches.
    pub fn begin_balance(&self) {
        self.reclaim.kswapd_wanted.store(false, Ordering::Relaxed);
        self.vm_events.pageoutrun.fetch_add(1, Ordering::Relaxed);
    }

    /// Some pages of [`Self::balance`]; how many went. None: enough frames are free, or nothing can go.
    pub fn balance_batch(&self) -> u64 {
        if self.frames.free() >= self.reclaim.marks.high {
            return 0;
        }
        self.shrink(BATCH, Reclaimer::Kswapd, &Scope::Machine)
    }

    /// Evicts up to `pages` pages, as if memory were short; how many went (Linux `memory.reclaim`).
    pub fn reclaim_pages(&self, pages: u64) -> u64 {
        self.shrink(pages, Reclaimer::Proactive, &Scope::Machine)
    }

    /// Free frames are below `low`: wakes kswapd, and below `min` reclaims at once. What is left
    /// then is for whoever asks.
    #[cold]
    pub(crate) fn alloc_slowly(&self) -> Option<Pfn> {
        self.reclaim.kswapd_wanted.store(true, Ordering::Relaxed);
        if self.frames.free() <= self.reclaim.marks.min {
            self.make_room();
        }
        self.frames.alloc(self.cpu())
    }

    /// Reclaims a batch of pages on an allocation's behalf; whether any went. No table is locked.
    pub(crate) fn make_room(&self) -> bool {
        self.vm_events.allocstall.fetch_add(1, Ordering::Relaxed);
        self.shrink(BATCH, Reclaimer::Direct, &Scope::Machine) > 0
    }

    /// Whether memory was ever short.
    pub(crate) fn is_reclaiming(&self) -> bool {
        self.frames.free() <= self.reclaim.marks.low
            || self.reclaim.is_armed.load(Ordering::Relaxed)
    }

    /// Reclaims until `frames` more than the reserve are free, or nothing goes any more: for work
    /// that allocates where nothing can be reclaimed. No table is locked.
    pub(crate) fn make_room_for(&self, frames: u64) {
        let enough = frames.saturating_add(self.reclaim.marks.min).min(self.frames.total() / 2);
        while self.frames.free() < enough && self.make_room() {}
    }

    /// Evicts up to `pages` pages of a group and of those below it; how many went
    /// (Linux `try_to_free_mem_cgroup_pages`).
    pub(crate) fn shrink_memcg(&self, memcg: MemcgId, pages: u64, reclaimer: Reclaimer) -> u64 {
        let scope = match memcg {
            MemcgId::ROOT => Scope::Machine,
            memcg => Scope::Memcgs(self.memcgs_within(memcg)),
        };
        self.shrink(pages, reclaimer, &scope)
    }

    /// Evicts up to `wanted` pages; how many went.
    fn shrink(&self, wanted: u64, reclaimer: Reclaimer, scope: &Scope) -> u64 {
        if !self.can_reclaim() {
            return 0;
        }
        self.arm();
        let mut alive = Alive::default();
        let mut went = 0;
        // Each page is offered a few times before nothing is thought possible.
        let mut tries = 3 * u64::from(self.lru_len(scope)) + BATCH;
        let mut locked_retried = false;
        while went < wanted && tries > 0 {
            tries -= 1;
            let Some(pfn) = self.isolate(scope, &mut alive) else {
                if locked_retried || went > 0 || !self.retry_locked() {
                    break;
                }
                locked_retried = true;
                continue;
            };
            went += u64::from(self.evict(pfn, reclaimer, &mut alive));
        }
        went
    }

    /// Whether there is anything that could go anywhere.
    fn can_reclaim(&self) -> bool {
        let wanted = self.wanted();
        wanted.anon || wanted.file
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            anon: self.swap.free.load(Ordering::Relaxed) > 0,
            file: self.uses.get(Use::File) > 0
                || self.reclaim.any_lazy_free.load(Ordering::Relaxed),
            swappiness: self.swappiness(),
        }
    }

    /// Of what is wanted of the machine, what may go of a group.
    fn wanted_of(&self, memcg: MemcgId, wanted: Wanted) -> Wanted {
        let margin = self.memcg(memcg).map_or(u64::MAX, |memcg| memcg.swap_margin());
        Wanted { anon: wanted.anon && margin > 0, ..wanted }
    }

    /// Tries to evict a page that was isolated and locked, and ends both; whether it went.
    fn evict(&self, pfn: Pfn, reclaimer: Reclaimer, alive: &mut Alive<H>) -> bool {
        let state = self.meta(pfn).state();
        let memcg = self.memcg(self.meta(pfn).memcg());
        self.count_scan(state, reclaimer);
        memcg.as_ref().inspect(|memcg| memcg.count_scan(reclaimer));
        let outcome = match state {
            FrameState::Anon => self.evict_anon(pfn, alive),
            FrameState::File => self.evict_file(pfn, alive),
            FrameState::Shmem => self.evict_shmem(pfn, alive),
            _ => Outcome::Kept(PutBack::Later),
        };
        let went = matches!(outcome, Outcome::Gone(_));
        if went {
            self.count_steal(state, reclaimer);
            memcg.inspect(|memcg| memcg.count_steal(reclaimer));
        }
        self.settle(pfn, outcome);
        alive.clear();
        went
    }

    /// Evicts a page on request, whatever the policy thinks of it; the caller gives up its reference
    /// (Linux `reclaim_pages`).
    pub(crate) fn reclaim_page(&self, pfn: Pfn) {
        self.arm();
        if !self.meta(pfn).try_lock() {
            // Somebody else is at it.
            return self.put(pfn);
        }
        // Even if it is not known: it may just be being told of.
        self.forget_page(pfn);
        // Should it stay the policy hears of it again, though not while it is locked.
        self.note_arrival(pfn, FirstUse::Mapped, None);
        self.evict(pfn, Reclaimer::Proactive, &mut Alive::default());
    }

    fn count_scan(&self, state: FrameState, reclaimer: Reclaimer) {
        let events = &self.vm_events;
        let by_kind =
            if state == FrameState::File { &events.pgscan_file } else { &events.pgscan_anon };
        by_kind.fetch_add(1, Ordering::Relaxed);
        match reclaimer {
            Reclaimer::Kswapd => &events.pgscan_kswapd,
            Reclaimer::Direct => &events.pgscan_direct,
            Reclaimer::Proactive => &events.pgscan_proactive,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    fn count_steal(&self, state: FrameState, reclaimer: Reclaimer) {
        let events = &self.vm_events;
        let by_kind =
            if state == FrameState::File { &events.pgsteal_file } else { &events.pgsteal_anon };
        by_kind.fetch_add(1, Ordering::Relaxed);
        match reclaimer {
            Reclaimer::Kswapd => &events.pgsteal_kswapd,
            Reclaimer::Direct => &events.pgsteal_direct,
            Reclaimer::Proactive => &events.pgsteal_proactive,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps what the policy remembers of a page where the page is now.
    fn keep_shadow_at(&self, home: Home<H>, shadow: Shadow) {
        match home {
            Home::Slot(entry) => self.keep_shadow(entry, shadow),
            Home::File(mapping, index) => mapping.keep_shadow(index, shadow),
            Home::Nowhere => self.forget_shadow(shadow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_those_linux_prints_for_machines_of_that_size() {
        // min_free_kbytes of 16 MiB: sqrt(16384 * 16) KiB.
        assert_eq!(Watermarks::of(4096), Watermarks { min: 128, low: 160, high: 192 });
        // 8 GiB: 11585 KiB.
        assert_eq!(Watermarks::of(2 << 20).min, 11_585 / 4);
        // The most: 256 MiB.
        assert_eq!(Watermarks::of(1 << 31).min, 65_536);
    }
}
