//! What a model counts.

use super::cause::Cause;
use kilburn_addr::Access;

/// Levels a walk may have.
pub const LEVELS_MAX: usize = 6;

/// Accesses of one kind.
///
/// references = `l1_hits` + `l2_hits` + `walks`; `faults` are walks that found no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AccessStats {
    /// Translations asked for.
    pub references: u64,
    /// Answered by the first level.
    pub l1_hits: u64,
    /// Answered by the second level.
    pub l2_hits: u64,
    /// Walks begun.
    pub walks: u64,
    /// Walks that ended in a fault.
    pub faults: u64,
}

/// What walks did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalkStats {
    /// Entries read at each level, the leaf's first.
    pub reads: [u64; LEVELS_MAX],
    /// Walks that a walk cache let begin at this level.
    pub cache_hits: [u64; LEVELS_MAX],
    /// Cycles of reading entries; the rest of the cycles of translation are lookups of the second level.
    pub cycles: u64,
    /// Entries in which hardware set A or D.
    pub ad_updates: u64,
    /// Translations fetched ahead.
    pub prefetches: u64,
    /// Walks that found a translation, by why they were needed; index by `Cause as usize`.
    pub by_cause: [u64; Cause::COUNT],
}

/// Shootdowns for one cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShootdownStats {
    /// How often software asked.
    pub requests: u64,
    /// Entries that first levels lost.
    pub l1_entries: u64,
    /// Entries that the second level lost.
    pub l2_entries: u64,
    /// Entries that walk caches lost.
    pub walk_cache_entries: u64,
}

/// One cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Fetches asked for and missed.
    pub fetch: CacheCount,
    /// Loads.
    pub read: CacheCount,
    /// Stores.
    pub write: CacheCount,
    /// Entries of tables read by walks.
    pub walk: CacheCount,
    /// Modified lines that went.
    pub writebacks: u64,
}

/// References and misses; one reference may touch two lines, and misses once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheCount {
    /// References.
    pub references: u64,
    /// References that missed.
    pub misses: u64,
}

/// All caches; a level that is not there counts nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CachesStats {
    /// First level, instructions.
    pub l1_fetch: CacheStats,
    /// First level, data.
    pub l1_data: CacheStats,
    /// Second level.
    pub l2: CacheStats,
    /// Third level.
    pub l3: CacheStats,
}

/// Everything a model has counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModelStats {
    /// Instructions, as far as the host counts them.
    pub instructions: u64,
    /// Accesses by kind; index by `Access as usize`, or see [`ModelStats::of`].
    pub accesses: [AccessStats; 3],
    /// Walks.
    pub walks: WalkStats,
    /// Shootdowns; index by `Cause as usize`.
    pub shootdowns: [ShootdownStats; Cause::COUNT],
    /// Changes of the address space in use.
    pub context_switches: u64,
    /// Cycles from missing in the first level until there is a translation.
    pub translation_cycles: u64,
    /// Cycles of accesses in the caches and memory, walks not included.
    pub memory_cycles: u64,
    /// Bytes that the entries held now translate: the first level's for fetches, for data, the second level's.
    pub reach: [u64; 3],
    /// The most that they ever translated at once, each level by itself.
    pub reach_peak: [u64; 3],
    /// The caches.
    pub caches: CachesStats,
}

impl ModelStats {
    /// Accesses of one kind.
    pub fn of(&self, access: Access) -> AccessStats {
        self.accesses[access as usize]
    }

    /// Accesses of all kinds.
    pub fn all(&self) -> AccessStats {
        self.accesses.iter().fold(AccessStats::default(), |sum, one| AccessStats {
            references: sum.references + one.references,
            l1_hits: sum.l1_hits + one.l1_hits,
            l2_hits: sum.l2_hits + one.l2_hits,
            walks: sum.walks + one.walks,
            faults: sum.faults + one.faults,
        })
    }

    /// Entries of tables read.
    pub fn walk_reads(&self) -> u64 {
        self.walks.reads.iter().sum()
    }

    /// Cycles a thousand instructions spend on translation, if instructions were counted.
    pub fn translation_cycles_per_kilo(&self) -> Option<f64> {
        (self.instructions > 0)
            .then(|| self.translation_cycles as f64 * 1000.0 / self.instructions as f64)
    }

    /// Misses of the first level in a thousand instructions, if instructions were counted.
    pub fn l1_misses_per_kilo(&self) -> Option<f64> {
        let all = self.all();
        let misses = all.references - all.l1_hits;
        (self.instructions > 0).then(|| misses as f64 * 1000.0 / self.instructions as f64)
    }

    /// Walks in a thousand instructions, if instructions were counted.
    pub fn walks_per_kilo(&self) -> Option<f64> {
        (self.instructions > 0).then(|| self.all().walks as f64 * 1000.0 / self.instructions as f64)
    }
}
