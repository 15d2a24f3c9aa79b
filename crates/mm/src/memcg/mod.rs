//! Control groups of memory: whom a page is charged to, and how much a group may have
//! (Linux 6.18 mm/memcontrol.c, `struct mem_cgroup`).
//!
//! ```text
//!   Mm::memcg ------.                 a frame knows its group by number (metadata, 16 bits)
//!   current_memcg() |                 a slot of swap does as well
//!                   v
//!          root   a page of the root group is charged to nobody
//!          /  \
//!         a    b      [`Memcg`]: usage, peak, limits, events
//!        / \
//!       c   d         a page of c is counted in c and in a: a limit holds for all below
//! ```
//!
//! A page is charged when its frame is allocated (`Memory::alloc_for`) and uncharged when the frame
//! is given back; where a limit is in the way, pages of that group and of those below it are
//! reclaimed, and if none can go the charge fails and the group is named to the embedder
//! ([`Memory::take_memcg_oom`]), who ends somebody. Tables, and what the kernel keeps beside pages of
//! processes, are charged to nobody.
//!
//! DIVERGENCE(memcg-kernel-memory): Linux charges tables, stacks of tasks, dentries and the like to
//! groups as well; here only what holds content of processes and files.
//!
//! Neighbours: `charge` charges, [`stat`] counts what a group has, [`counter`] is one limited count,
//! [`crate::reclaim`] takes pages from groups.

mod charge;
pub mod counter;
pub mod stat;

use crate::event_counts::event_counts;
use crate::{Host, Memory};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use counter::PageCounter;
use kilburn_addr::Errno;
use lock_api::Mutex;

/// Number of a group; that of the root is 0. A number is used again when nothing is charged to its
/// group any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MemcgId(u16);

impl MemcgId {
    /// The group of who is in no other. It has no limit, and nothing is charged to it.
    pub const ROOT: Self = Self(0);

    /// Whether it is the root's.
    #[inline]
    pub const fn is_root(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn to_bits(self) -> u16 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// What happens to a group's memory (`memory.events`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemcgEvent {
    /// Pages were reclaimed because usage went above `memory.high`.
    High,
    /// Usage was about to go above `memory.max`.
    Max,
    /// Nothing could be reclaimed at the limit.
    Oom,
    /// A process of the group was killed for want of memory.
    OomKill,
    /// The group was killed as a whole for want of memory.
    OomGroupKill,
    /// Usage of swap was about to go above `memory.swap.max`.
    SwapMax,
    /// A page could not go to swap: at the limit, or no slot was free.
    SwapFail,
}

/// Number of [`MemcgEvent`]s.
const EVENTS: usize = 7;

event_counts! {
    /// What reclaim and faults did to the pages of a group and of those below it.
    struct MemcgVmEvents;
    /// Counts of what reclaim and faults did to pages of a group and of those below it, as
    /// `memory.stat` names them.
    #[non_exhaustive]
    pub struct MemcgVmStat;

    /// Anonymous pages that came back.
    workingset_refault_anon,
    /// Pages of files that came back.
    workingset_refault_file,
    /// Pages looked at.
    pgscan,
    /// Pages made free.
    pgsteal,
    /// Pages kswapd looked at.
    pgscan_kswapd,
    /// Pages allocations and charges looked at.
    pgscan_direct,
    /// Pages looked at on request.
    pgscan_proactive,
    /// Pages kswapd made free.
    pgsteal_kswapd,
    /// Pages allocations and charges made free.
    pgsteal_direct,
    /// Pages made free on request.
    pgsteal_proactive,
    /// Faults.
    pgfault,
    /// Of these, faults that waited for a store.
    pgmajfault,
    /// Pages dropped whose owner had given up their content.
    pglazyfreed,
}

/// A group other than the root (Linux `struct mem_cgroup`).
pub struct Memcg {
    id: MemcgId,
    /// `None`: the root.
    parent: Option<Arc<Self>>,
    memory: PageCounter,
    swap: PageCounter,
    high: AtomicU64,
    oom_group: AtomicBool,
    /// Whether it was not removed yet.
    online: AtomicBool,
    /// Address spaces that belong to it.
    mms: AtomicU64,
    /// Of the group and those below it.
    events: [AtomicU64; EVENTS],
    /// Of the group alone.
    local_events: [AtomicU64; EVENTS],
    pub(crate) vm: MemcgVmEvents,
}

impl core::fmt::Debug for Memcg {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Memcg")
            .field("id", &self.id)
            .field("memory", &self.memory)
            .field("swap", &self.swap)
            .finish_non_exhaustive()
    }
}

impl Memcg {
    fn new(id: MemcgId, parent: Option<Arc<Self>>) -> Self {
        Self {
            id,
            parent,
            memory: PageCounter::default(),
            swap: PageCounter::default(),
            high: AtomicU64::new(PageCounter::NO_LIMIT),
            oom_group: AtomicBool::new(false),
            online: AtomicBool::new(true),
            mms: AtomicU64::new(0),
            events: Default::default(),
            local_events: Default::default(),
            vm: MemcgVmEvents::default(),
        }
    }

    /// Its number.
    pub fn id(&self) -> MemcgId {
        self.id
    }

    /// The group above; `None`: the root.
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.parent.clone()
    }

    /// Pages of memory, and the limit `memory.max`; to change the limit see
    /// [`Memory::set_memcg_max`].
    pub fn memory(&self) -> &PageCounter {
        &self.memory
    }

    /// Slots of swap, and the limit `memory.swap.max`.
    pub fn swap(&self) -> &PageCounter {
        &self.swap
    }

    /// `memory.high` in pages: above, pages are reclaimed.
    pub fn high(&self) -> u64 {
        self.high.load(Ordering::Relaxed)
    }

    /// `memory.oom.group`: whether want of memory ends the group as a whole.
    pub fn is_oom_group(&self) -> bool {
        self.oom_group.load(Ordering::Relaxed)
    }

    /// Sets `memory.oom.group`.
    pub fn set_oom_group(&self, whole: bool) {
        self.oom_group.store(whole, Ordering::Relaxed);
    }

    /// The group and those above it, the root left out, from below.
    pub fn and_above(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |memcg| memcg.parent.as_deref())
    }

    /// Whether it is `other` or lies below it.
    pub fn is_within(&self, other: MemcgId) -> bool {
        other.is_root() || self.and_above().any(|memcg| memcg.id == other)
    }

    /// Notes that something happened (Linux `memcg_memory_event`).
    pub fn note(&self, event: MemcgEvent) {
        self.local_events[event as usize].fetch_add(1, Ordering::Relaxed);
        for memcg in self.and_above() {
            memcg.events[event as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often something happened to the group and those below it (`memory.events`).
    pub fn events(&self, event: MemcgEvent) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    /// How often something happened to the group itself (`memory.events.local`).
    pub fn local_events(&self, event: MemcgEvent) -> u64 {
        self.local_events[event as usize].load(Ordering::Relaxed)
    }

    /// Counts of reclaim and faults, those below included.
    pub fn vm_stat(&self) -> MemcgVmStat {
        self.vm.snapshot()
    }

    /// Adds to a count of the group and of all above it.
    pub(crate) fn count(&self, count: impl Fn(&MemcgVmEvents) -> &AtomicU64) {
        for memcg in self.and_above() {
            count(&memcg.vm).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Slots of swap it may still take (Linux `mem_cgroup_get_nr_swap_pages`).
    pub(crate) fn swap_margin(&self) -> u64 {
        self.and_above().map(|memcg| memcg.swap.margin()).min().unwrap_or(u64::MAX)
    }

    /// Most pages of memory it can have, its own limit and those above considered.
    pub(crate) fn most_pages(&self) -> u64 {
        self.and_above().map(|memcg| memcg.memory.max()).min().unwrap_or(u64::MAX)
    }

    /// Whether it was removed, and nothing is left of it.
    fn is_gone(&self) -> bool {
        !self.online.load(Ordering::Acquire)
            && self.memory.usage() == 0
            && self.swap.usage() == 0
            && self.mms.load(Ordering::Acquire) == 0
    }
}

/// The groups of a machine.
pub(crate) struct Memcgs<H: Host> {
    by_id: Mutex<H::RawMutex, BTreeMap<MemcgId, Arc<Memcg>>>,
    /// The group at whose limit a charge failed last, and nobody asked for yet; 0: none.
    oom: AtomicU16,
}

impl<H: Host> Default for Memcgs<H> {
    fn default() -> Self {
        Self { by_id: Mutex::new(BTreeMap::new()), oom: AtomicU16::new(0) }
    }
}

impl<H: Host> Memory<H> {
    /// A new group below `parent`, without limits.
    ///
    /// # Errors
    /// `ENOSPC` when there are 65535; `ENOENT` when there is no such parent.
    pub fn create_memcg(&self, parent: MemcgId) -> Result<Arc<Memcg>, Errno> {
        self.reap_memcgs();
        let mut by_id = self.memcgs.by_id.lock();
        let parent = match parent {
            MemcgId::ROOT => None,
            parent => Some(by_id.get(&parent).cloned().ok_or(Errno::ENOENT)?),
        };
        // The lowest that is free: numbers in use before it are 1, 2, 3 and so on.
        let used_before =
            by_id.keys().zip(1..=u16::MAX).take_while(|(used, number)| used.0 == *number).count();
        let id = MemcgId(u16::try_from(used_before + 1).map_err(|_| Errno::ENOSPC)?);
        let memcg = Arc::new(Memcg::new(id, parent));
        by_id.insert(id, memcg.clone());
        Ok(memcg)
    }

    /// The group is not wanted any more. What is charged to it stays charged, and reclaimed for
    /// those above it, until it is freed (Linux `mem_cgroup_css_offline`).
    pub fn remove_memcg(&self, memcg: &Memcg) {
        memcg.online.store(false, Ordering::Release);
        self.reap_memcgs();
    }

    /// Forgets removed groups of which nothing is left.
    fn reap_memcgs(&self) {
        let mut gone = Vec::new();
        self.memcgs.by_id.lock().retain(|&id, memcg| {
            let goes = memcg.is_gone();
            if goes {
                gone.push(id);
            }
            !goes
        });
        for id in gone {
            self.reclaim.forget_memcg(id);
        }
    }

    /// Groups below `under` that were removed and still have pages (`nr_dying_descendants`).
    pub fn dying_memcgs(&self, under: MemcgId) -> u64 {
        self.reap_memcgs();
        let by_id = self.memcgs.by_id.lock();
        let dying =
            |memcg: &&Arc<Memcg>| !memcg.online.load(Ordering::Acquire) && memcg.is_within(under);
        by_id.values().filter(dying).count() as u64
    }

    /// The group with this number; `None` for the root.
    pub fn memcg(&self, id: MemcgId) -> Option<Arc<Memcg>> {
        if id.is_root() { None } else { self.memcgs.by_id.lock().get(&id).cloned() }
    }

    /// All groups, removed ones that still have pages included.
    pub(crate) fn all_memcgs(&self) -> Vec<Arc<Memcg>> {
        self.memcgs.by_id.lock().values().cloned().collect()
    }

    /// Numbers of the group and of all below it.
    pub(crate) fn memcgs_within(&self, memcg: MemcgId) -> Vec<MemcgId> {
        let by_id = self.memcgs.by_id.lock();
        by_id.values().filter(|each| each.is_within(memcg)).map(|each| each.id).collect()
    }

    /// Whether [`Self::take_memcg_oom`] would answer a group.
    pub fn is_memcg_oom(&self) -> bool {
        self.memcgs.oom.load(Ordering::Relaxed) != 0
    }

    /// The group at whose limit a charge failed since this was last asked: somebody in it must go,
    /// then the access can be tried again. `None`: no memory was a matter of the whole machine.
    pub fn take_memcg_oom(&self) -> Option<Arc<Memcg>> {
        match self.memcgs.oom.load(Ordering::Relaxed) {
            0 => None,
            _ => self.memcg(MemcgId(self.memcgs.oom.swap(0, Ordering::Relaxed))),
        }
    }
}

impl<H: Host> crate::Mm<H> {
    /// The group its pages are charged to.
    #[inline]
    pub fn memcg(&self) -> MemcgId {
        MemcgId(self.memcg.load(Ordering::Relaxed))
    }

    /// Its pages are charged to another group from now on. What is charged stays where it is, as in
    /// Linux's version 2.
    pub fn set_memcg(&self, to: MemcgId) {
        let from = MemcgId(self.memcg.swap(to.0, Ordering::AcqRel));
        self.memory().enter_memcg(to);
        self.memory().leave_memcg(from);
    }
}

impl<H: Host> Memory<H> {
    /// An address space belongs to the group now.
    pub(crate) fn enter_memcg(&self, id: MemcgId) {
        if let Some(memcg) = self.memcg(id) {
            memcg.mms.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// An address space does not belong to the group any more.
    pub(crate) fn leave_memcg(&self, id: MemcgId) {
        if let Some(memcg) = self.memcg(id) {
            memcg.mms.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
