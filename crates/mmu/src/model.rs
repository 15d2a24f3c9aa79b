//! Real parts' translation hardware as a model: what hits, what misses, what it costs, and why.
//!
//! ```text
//!   access --> L1 TLB (I or D) --miss--> L2 TLB --miss--> walker --> walk caches, then tables
//!                 |                        |                              | reads
//!                 +------ physical address +--> L1 (I or D) --> L2 --> L3 --> memory
//! ```
//!
//! - [`Model`]: the whole; [`Model::translate`] answers an access, [`Model::flush`] a shootdown.
//! - [`config`]: shapes and latencies; [`preset`]: those of real parts, with their sources.
//! - [`explain`]: what an access would meet, step by step.
//! - [`stats`]: what is counted. [`Cause`]: why a translation had to be walked for.
//!
//! The model is functional and in order: every latency is paid in full and nothing overlaps, so its
//! cycles bound what a part that overlaps them loses. It works on the real tables of a
//! [`Space`], so a translation it answers is one the tables hold; [`Model::check`] holds
//! **tlb-within-tables** for everything cached, walk caches included.

mod assoc;
pub mod cache;
pub mod cause;
pub mod config;
pub mod explain;
mod level;
pub mod preset;
pub mod stats;
mod tlb_array;
mod walk_cache;

use crate::mmu::{Flush, Mapping, Space};
use cache::{Caches, Traffic};
pub use cause::Cause;
use cause::History;
pub use config::ModelConfig;
use config::{AdUpdate, AsidUse, ConfigError, Prefetch};
use kilburn_addr::{Access, PAGE_SHIFT, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::hardware::{
    HardwareFormat, Step, WalkStart, descend, entry_address, exchange_entry, load_entry,
};
use kilburn_paging::walk::WalkFault;
use kilburn_paging::{Entry, Leaf, LeafFlags, PhysMem};
use level::{FirstLevel, Level};
pub use stats::ModelStats;
use tlb_array::Cached;
use walk_cache::WalkCaches;

/// Why an access has no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModelFault {
    /// The tables do not permit it.
    Walk(WalkFault),
    /// The tables permit it, but A (or, for a store, D) is clear and software has to set it
    /// ([`AdUpdate::Fault`]).
    UsedBits,
}

/// Something cached that the tables do not bear out: a missed flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaleEntry {
    /// First address it translates.
    pub va: VirtAddr,
    /// Where it is cached.
    pub place: &'static str,
}

/// The hardware of one hart.
#[derive(Clone, Debug)]
pub struct Model {
    config: ModelConfig,
    /// For data, for fetches.
    first: [FirstLevel; 2],
    /// May have no array: then every miss of the first level walks.
    second: Level,
    walk_caches: WalkCaches,
    caches: Option<Caches>,
    history: History,
    /// ASID of the last access, to see switches; [`NOBODY`] before the first.
    current: u32,
    /// `references` are what hits and walks add up to, and are not counted here.
    stats: ModelStats,
}

/// The ASID before the first access.
const NOBODY: u32 = u32::MAX;

impl Model {
    /// Hardware of this shape, with nothing cached.
    ///
    /// # Errors
    /// [`ConfigError`] when a shape cannot be built.
    pub fn new(config: ModelConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            first: [FirstLevel::new(&config.l1_data, 11), FirstLevel::new(&config.l1_fetch, 1)],
            second: Level::new(&config.l2, 21),
            walk_caches: WalkCaches::new(&config.walk_caches),
            caches: config.caches.as_ref().map(Caches::new),
            history: History::default(),
            current: NOBODY,
            stats: ModelStats::default(),
            config,
        })
    }

    /// How it was built.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What was done so far.
    pub fn stats(&self) -> ModelStats {
        let mut stats = self.stats.clone();
        for count in &mut stats.accesses {
            count.references = count.l1_hits + count.l2_hits + count.walks;
        }
        if let Some(caches) = &self.caches {
            stats.caches = caches.stats();
        }
        stats.reach = self.reach();
        stats.reach_peak = self.levels().map(Level::reach_peak);
        stats
    }

    /// Counts `instructions` retired.
    #[inline]
    pub fn retire(&mut self, instructions: u64) {
        self.stats.instructions = self.stats.instructions.saturating_add(instructions);
    }

    /// Translates a user-mode access of `size` bytes to `va`, and takes it through the caches. The access
    /// is in one page.
    ///
    /// # Errors
    /// [`ModelFault`] when it has to be left to software first; it is then tried again.
    #[inline]
    pub fn access<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        size: u64,
        access: Access,
    ) -> Result<Mapping, ModelFault> {
        let mapping = self.translate(mem, space, va, access)?;
        if let Some(caches) = &mut self.caches {
            let at = PhysAddr::new(mapping.pfn.base().get() + va.page_offset());
            self.stats.memory_cycles += caches.access(at, size, Traffic::from(access));
        }
        Ok(mapping)
    }

    /// Translates a user-mode `access` to `va`.
    ///
    /// As [`crate::Mmu::translate`], it never caches a refusal: an entry that does not permit the access, or
    /// is clean when it is a store, is walked for.
    ///
    /// # Errors
    /// [`ModelFault`].
    #[inline]
    pub fn translate<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, ModelFault> {
        if self.current != u32::from(space.asid) {
            self.switch(space.asid);
        }
        if let Some((leaf, span_shift)) = self.first[first_of(access)].lookup_hinted(space.asid, va)
            && tlb_array::permits(leaf.flags, access)
        {
            self.stats.accesses[access as usize].l1_hits += 1;
            let pfn = frame_within(leaf, span_shift, va);
            return Ok(Mapping { pfn, flags: leaf.flags, span_shift });
        }
        self.beyond_hints(mem, space, va, access)
    }

    #[inline(never)]
    fn beyond_hints<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, ModelFault> {
        // Tags have as many bits as the widest addresses: others could be taken for those.
        if !space.format.is_canonical(va) {
            return self.walk(mem, space, va, access);
        }
        if let Some(cached) = self.first[first_of(access)].search(space.asid, va)
            && cached.permits(access)
        {
            self.stats.accesses[access as usize].l1_hits += 1;
            return Ok(cached.mapping(va));
        }
        self.beyond_first(mem, space, va, access)
    }

    fn beyond_first<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, ModelFault> {
        if !self.config.l2.is_empty() {
            self.stats.translation_cycles += u64::from(self.config.l2_latency);
            if let Some(cached) = self.second.search(space.asid, va)
                && cached.permits(access)
            {
                self.stats.accesses[access as usize].l2_hits += 1;
                self.first[first_of(access)].insert(space.asid, va, cached);
                return Ok(cached.mapping(va));
            }
        }
        self.walk(mem, space, va, access)
    }

    /// Another address space runs on: without ASIDs everything cached goes.
    fn switch(&mut self, asid: u16) {
        let before = core::mem::replace(&mut self.current, u32::from(asid));
        let Ok(before) = u16::try_from(before) else { return };
        self.stats.context_switches += 1;
        if self.config.asids == AsidUse::None {
            self.flush(Flush::Asid(before), Cause::ContextSwitch);
        }
    }

    fn walk<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Mapping, ModelFault> {
        self.stats.accesses[access as usize].walks += 1;
        match self.find_leaf(mem, space, va, access) {
            Ok((leaf, span_shift)) => {
                let cause = self.cause_of(space.asid, va, leaf, span_shift);
                self.stats.walks.by_cause[cause as usize] += 1;
                let cached = Cached::whole(leaf, span_shift);
                self.second.insert(space.asid, va, cached);
                self.first[first_of(access)].insert(space.asid, va, cached);
                if self.config.prefetch == Prefetch::NextPage {
                    self.prefetch(mem, space, va, span_shift);
                }
                Ok(cached.mapping(va))
            }
            Err(fault) => {
                self.stats.accesses[access as usize].faults += 1;
                Err(fault)
            }
        }
    }

    /// Why the translation just walked for was not there.
    fn cause_of(&mut self, asid: u16, va: VirtAddr, leaf: Leaf, span_shift: u32) -> Cause {
        let cached = self
            .levels()
            .into_iter()
            .flat_map(Level::arrays)
            .find_map(|array| array.peek(asid, va));
        // The other first level may hold it with the rights it has: then it was only not there.
        match cached {
            Some(old) if !old.leaf.flags.contains(leaf.flags & LeafFlags::RIGHTS) => Cause::Rights,
            Some(old)
                if leaf.flags.contains(LeafFlags::DIRTY)
                    && !old.leaf.flags.contains(LeafFlags::DIRTY) =>
            {
                Cause::FirstWrite
            }
            _ => self.history.walked(tlb_array::history_key(asid, va, span_shift)),
        }
    }

    /// Walks the tables, through the walk caches, and sets A and D.
    fn find_leaf<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        access: Access,
    ) -> Result<(Leaf, u32), ModelFault> {
        let Space { root, format, asid } = space;
        if !format.is_canonical(va) {
            return Err(ModelFault::Walk(WalkFault::NotCanonical));
        }
        loop {
            let start = match self.walk_caches.lookup(format, asid, va) {
                Some(start) => {
                    self.stats.walks.cache_hits[usize::from(start.level)] += 1;
                    start
                }
                None => WalkStart::root(format, root),
            };
            let port = self.config.walk_port;
            let (stats, caches, walk_caches) =
                (&mut self.stats, &mut self.caches, &mut self.walk_caches);
            let found = descend(mem, format, start, va, |step: &Step| {
                stats.walks.reads[usize::from(step.level)] += 1;
                let cycles = match caches {
                    Some(caches) => caches.walk_read(step.entry_at, port),
                    None => u64::from(self.config.walk_read_latency),
                };
                stats.translation_cycles += cycles;
                stats.walks.cycles += cycles;
                if let Entry::Table(next) = step.entry {
                    walk_caches.insert(format, asid, va, step.level, next);
                }
            })
            .map_err(ModelFault::Walk)?;
            let flags = found.leaf.flags;
            if !flags.contains(LeafFlags::USER) || !flags.permits(access) {
                return Err(ModelFault::Walk(WalkFault::Denied));
            }
            let raw = found.step.raw;
            let used = format.mark_used(raw, access);
            if used == raw {
                return Ok((found.leaf, found.span_shift));
            }
            if self.config.ad_update == AdUpdate::Fault {
                return Err(ModelFault::UsedBits);
            }
            // When somebody changed the entry meanwhile, the walk starts again.
            if exchange_entry(mem, format, found.step.entry_at, raw, used).is_ok() {
                self.stats.walks.ad_updates += 1;
                let mut flags = flags | LeafFlags::ACCESSED;
                flags.set(
                    LeafFlags::DIRTY,
                    access == Access::Write || flags.contains(LeafFlags::DIRTY),
                );
                return Ok((Leaf { flags, ..found.leaf }, found.span_shift));
            }
        }
    }

    /// Fetches the translation of the page after, if its entry was read along: it is in the same
    /// 64 bytes of the same table, and hardware may use it already.
    fn prefetch<M: PhysMem + ?Sized, F: HardwareFormat>(
        &mut self,
        mem: &M,
        space: Space<F>,
        va: VirtAddr,
        span_shift: u32,
    ) {
        let Space { format, asid, .. } = space;
        let next = VirtAddr::new(va.get().wrapping_add(1 << span_shift));
        let entries_along = 64 >> format.entry_shift();
        if span_shift != format.span_shift(0) || format.index(next, 0).is_multiple_of(entries_along)
        {
            return;
        }
        let Some(WalkStart { table, level: 0 }) = self.walk_caches.peek(format, asid, next) else {
            return;
        };
        let raw = load_entry(mem, format, entry_address(format, table, format.index(next, 0)));
        if let Entry::Leaf(leaf) = format.decode(raw, 0)
            && format.reach(raw, 0) == span_shift
            && leaf.flags.contains(LeafFlags::USER | LeafFlags::ACCESSED)
            && leaf.flags.intersects(LeafFlags::RIGHTS)
            && !self.second.arrays().iter().any(|array| array.peek(asid, next).is_some())
        {
            self.stats.walks.prefetches += 1;
            self.second.insert(asid, next, Cached::whole(leaf, span_shift));
        }
    }

    /// Drops what is cached of `what`, because of `cause`. Walk caches lose what a range touches.
    pub fn flush(&mut self, what: Flush, cause: Cause) {
        let history = &mut self.history;
        let mut gone = |key| history.flushed(key, cause);
        let count = &mut self.stats.shootdowns[cause as usize];
        count.requests += 1;
        count.l1_entries +=
            self.first.iter_mut().map(|level| level.flush(what, &mut gone)).sum::<u64>();
        count.l2_entries += self.second.flush(what, &mut |_, dropped| gone(dropped.key));
        count.walk_cache_entries += self.walk_caches.flush(what);
    }

    /// The address space `asid` is no more: another may get its number.
    pub fn forget(&mut self, asid: u16) {
        self.history.forget(asid);
        if self.current == u32::from(asid) {
            self.current = NOBODY;
        }
    }

    /// Bytes that what is cached now translates, each level by itself: fetch, data, second.
    pub fn reach(&self) -> [u64; 3] {
        self.levels().map(Level::reach)
    }

    /// The first level for fetches, for data, the second.
    fn levels(&self) -> [&Level; 3] {
        let [data, fetch] = &self.first;
        [fetch.level(), data.level(), &self.second]
    }

    /// Every entry held, in no meaningful order.
    pub fn entries(&self) -> impl Iterator<Item = ModelEntry> {
        ["L1 fetch", "L1 data", "L2"].into_iter().zip(self.levels()).flat_map(|(place, level)| {
            level.arrays().iter().flat_map(move |array| array.entries(place))
        })
    }

    /// Checks **tlb-within-tables** for `space`.
    ///
    /// # Errors
    /// The first stale entry found.
    pub fn check<M: PhysMem + ?Sized, F: HardwareFormat>(
        &self,
        mem: &M,
        space: Space<F>,
    ) -> Result<(), StaleEntry> {
        const RIGHTS: LeafFlags = LeafFlags::RIGHTS.union(LeafFlags::USER);
        const USED: LeafFlags = LeafFlags::ACCESSED.union(LeafFlags::DIRTY);
        debug_assert!(self.first.iter().all(FirstLevel::hints_agree), "a hint outlived its entry");
        let root = WalkStart::root(space.format, space.root);
        for entry in self.entries().filter(|entry| entry.is_global || entry.asid == space.asid) {
            let found = descend(mem, space.format, root, entry.start, |_| ());
            // A and D of a global page may be set in the tables of another space.
            let held = if entry.is_global { RIGHTS } else { RIGHTS | USED };
            let fine = found.is_ok_and(|found| {
                let within = entry.start.get() & ((1 << found.span_shift) - 1);
                found.span_shift >= entry.span_shift
                    && found.leaf.pfn.get() + (within >> PAGE_SHIFT) == entry.leaf.pfn.get()
                    && found.leaf.flags.contains(entry.leaf.flags & held)
            });
            if !fine {
                return Err(StaleEntry { va: entry.start, place: entry.place });
            }
        }
        self.walk_caches.check(mem, space)
    }
}

/// A translation held by a [`Model`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelEntry {
    /// Which level holds it.
    pub place: &'static str,
    /// Address space, 0 for global entries.
    pub asid: u16,
    /// Whether every address space may use it.
    pub is_global: bool,
    /// First address it translates.
    pub start: VirtAddr,
    /// log2 of the bytes it translates.
    pub span_shift: u32,
    /// The leaf, with the frame of `start`.
    pub leaf: Leaf,
}

/// Which of the first levels is asked. An index, not a branch: what kind of access comes next cannot be predicted.
#[inline]
fn first_of(access: Access) -> usize {
    usize::from(access == Access::Exec)
}

/// The frame of `va` in a page whose first frame is `leaf`'s.
#[inline]
fn frame_within(leaf: Leaf, span_shift: u32, va: VirtAddr) -> Pfn {
    Pfn::new(leaf.pfn.get() | va.vpn() & ((1 << (span_shift - PAGE_SHIFT)) - 1))
}
