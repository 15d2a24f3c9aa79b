//! Caches in front of memory: two first levels, a second, a third, and how long each takes.
//!
//! Write-allocate and write-back; a level keeps what it fetched whatever the others do. An access
//! that touches two lines is one reference: it misses when either line does, and is then looked up
//! as a whole further down, as `cachegrind` defines it. (`cachegrind` takes an access of more than a line for one of
//! a line; here it touches all its lines.)

use super::assoc::Assoc;
use super::config::{CacheConfig, CachesConfig, WalkPort};
use super::stats::{CacheCount, CacheStats, CachesStats};
use alloc::boxed::Box;
use alloc::vec;
use kilburn_addr::{Access, PhysAddr};

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// An instruction.
    Fetch,
    /// A load.
    Read,
    /// A store.
    Write,
    /// The walker.
    Walk,
}

impl From<Access> for Traffic {
    #[inline]
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::Exec => Self::Fetch,
        }
    }
}

/// One cache.
#[derive(Clone, Debug)]
pub struct Cache {
    assoc: Assoc,
    modified: Box<[bool]>,
    line_shift: u32,
    latency: u64,
    /// By kind of traffic: an index, not a branch.
    counts: [CacheCount; 4],
    writebacks: u64,
    /// Where a line was last, by its number: looked at first.
    hints: Box<[u32; HINTS]>,
}

/// Lines that are found without a search.
const HINTS: usize = 1024;

impl Cache {
    /// A cache of this shape, empty.
    pub fn new(config: &CacheConfig) -> Self {
        let slots = config.sets * config.ways;
        Self {
            assoc: Assoc::new(config.sets, config.ways, config.replacement, 41),
            modified: vec![false; slots].into(),
            line_shift: config.line_shift,
            latency: u64::from(config.latency),
            counts: [CacheCount::default(); 4],
            writebacks: 0,
            hints: Box::new([0; HINTS]),
        }
    }

    /// Whether all of `size` bytes at `at` are there; what is missing is fetched.
    #[inline]
    pub fn access(&mut self, at: u64, size: u64, traffic: Traffic) -> bool {
        let (first, last) =
            (at >> self.line_shift, at.wrapping_add(size.max(1) - 1) >> self.line_shift);
        let mut hit = self.line(first, traffic);
        if last != first {
            hit &= self.further_lines(first, last, traffic);
        }
        let count = &mut self.counts[traffic as usize];
        count.references += 1;
        count.misses += u64::from(!hit);
        hit
    }

    /// The lines after `first`, up to `last`.
    #[cold]
    fn further_lines(&mut self, first: u64, last: u64, traffic: Traffic) -> bool {
        // Not `all`: what is missing is fetched, even after another miss.
        (first.wrapping_add(1)..=last).fold(true, |hit, line| self.line(line, traffic) & hit)
    }

    #[inline(always)]
    fn line(&mut self, line: u64, traffic: Traffic) -> bool {
        let tag = line + 1;
        let hinted = self.hints[line as usize % HINTS] as usize;
        if self.assoc.tag(hinted) == tag {
            self.assoc.touch(line, hinted);
            self.modified[hinted] |= traffic == Traffic::Write;
            return true;
        }
        self.search(line, traffic)
    }

    fn search(&mut self, line: u64, traffic: Traffic) -> bool {
        let tag = line + 1;
        let hit = self.assoc.find(line, tag);
        let slot = match hit {
            Some(slot) => {
                self.assoc.touch(line, slot);
                slot
            }
            None => {
                let slot = self.assoc.victim(line);
                self.writebacks += u64::from(core::mem::take(&mut self.modified[slot]));
                self.assoc.fill(line, slot, tag);
                slot
            }
        };
        self.hints[line as usize % HINTS] = slot as u32;
        self.modified[slot] |= traffic == Traffic::Write;
        hit.is_some()
    }

    /// What was done so far.
    pub fn stats(&self) -> CacheStats {
        let [fetch, read, write, walk] = self.counts;
        CacheStats { fetch, read, write, walk, writebacks: self.writebacks }
    }

    fn look(&self, place: &'static str, at: u64) -> CacheLook {
        let line = at >> self.line_shift;
        let sets = self.assoc.sets() as u64;
        let held = self.assoc.ways_of(line).iter().filter(|tag| **tag != 0);
        CacheLook {
            place,
            shape: (self.assoc.sets(), self.assoc.slots() / self.assoc.sets(), self.line_shift),
            offset: at & ((1 << self.line_shift) - 1),
            index: line & (sets - 1),
            tag: line / sets,
            held: held.map(|tag| (tag - 1) / sets).collect(),
        }
    }
}

/// A cache asked for an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheLook {
    /// Which level.
    pub place: &'static str,
    /// Sets, ways, and the log2 of the bytes of a line.
    pub shape: (usize, usize, u32),
    /// CO: the byte in its line.
    pub offset: u64,
    /// CI: the set.
    pub index: u64,
    /// CT: the rest of the line's number.
    pub tag: u64,
    /// The rests of the lines' numbers that are in the set.
    pub held: vec::Vec<u64>,
}

impl CacheLook {
    /// Whether the line is there.
    pub fn is_hit(&self) -> bool {
        self.held.contains(&self.tag)
    }
}

/// The caches of a hart and the memory behind them.
#[derive(Clone, Debug)]
pub struct Caches {
    /// For data, for fetches.
    l1: [Cache; 2],
    l2: Option<Cache>,
    l3: Option<Cache>,
    memory_latency: u64,
}

impl Caches {
    /// Caches of this shape, empty.
    pub fn new(config: &CachesConfig) -> Self {
        Self {
            l1: [Cache::new(&config.l1_data), Cache::new(&config.l1_fetch)],
            l2: config.l2.as_ref().map(Cache::new),
            l3: config.l3.as_ref().map(Cache::new),
            memory_latency: u64::from(config.memory_latency),
        }
    }

    /// Takes an access through the caches; answers its cycles.
    #[inline]
    pub fn access(&mut self, at: PhysAddr, size: u64, traffic: Traffic) -> u64 {
        let first = &mut self.l1[usize::from(traffic == Traffic::Fetch)];
        if first.access(at.get(), size, traffic) {
            return first.latency;
        }
        self.beyond_first(at.get(), size, traffic)
    }

    /// The caches that an access to `at` would ask: down to the first that has its line.
    pub(super) fn looks(&self, at: PhysAddr, traffic: Traffic) -> vec::Vec<CacheLook> {
        let first = match traffic {
            Traffic::Fetch => ("L1 fetch", &self.l1[1]),
            Traffic::Read | Traffic::Write | Traffic::Walk => ("L1 data", &self.l1[0]),
        };
        let below = [("L2", self.l2.as_ref()), ("L3", self.l3.as_ref())];
        let below = below.into_iter().filter_map(|(place, cache)| Some((place, cache?)));
        let mut looks = vec::Vec::new();
        for (place, cache) in core::iter::once(first).chain(below) {
            looks.push(cache.look(place, at.get()));
            if looks.last().is_some_and(CacheLook::is_hit) {
                break;
            }
        }
        looks
    }

    /// Takes the walker's read of an entry through the caches; answers its cycles.
    pub fn walk_read(&mut self, at: PhysAddr, port: WalkPort) -> u64 {
        match port {
            WalkPort::L1Data => self.access(at, 8, Traffic::Walk),
            WalkPort::L2 => self.beyond_first(at.get(), 8, Traffic::Walk),
        }
    }

    #[inline(never)]
    fn beyond_first(&mut self, at: u64, size: u64, traffic: Traffic) -> u64 {
        for cache in [&mut self.l2, &mut self.l3].into_iter().flatten() {
            if cache.access(at, size, traffic) {
                return cache.latency;
            }
        }
        self.memory_latency
    }

    /// What was done so far.
    pub fn stats(&self) -> CachesStats {
        let stats = |cache: &Option<Cache>| cache.as_ref().map(Cache::stats).unwrap_or_default();
        CachesStats {
            l1_fetch: self.l1[1].stats(),
            l1_data: self.l1[0].stats(),
            l2: stats(&self.l2),
            l3: stats(&self.l3),
        }
    }
}
