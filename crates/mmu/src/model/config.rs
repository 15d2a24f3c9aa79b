//! Shapes and latencies of a model.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use kilburn_addr::PAGE_SHIFT;

/// Which entry of a full set makes room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replacement {
    /// The least recently used.
    Lru,
    /// The one that a tree of bits points at, each turned away from what was used last.
    TreePlru,
    /// Any, by a generator that starts the same each time.
    Random,
}

/// One array of a TLB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlbConfig {
    /// log2 of the page sizes it holds, one to three. A larger page is kept in parts of the largest size
    /// that is not larger; smaller pages are not kept.
    pub page_shifts: Vec<u32>,
    /// Sets, a power of two.
    pub sets: usize,
    /// Ways.
    pub ways: usize,
    /// Which entry makes room.
    pub replacement: Replacement,
}

/// A walk cache: it keeps tables of one level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkCacheConfig {
    /// Level of the tables kept; 0 for leaf tables (x86's PDE cache).
    pub level: u8,
    /// Sets, a power of two.
    pub sets: usize,
    /// Ways.
    pub ways: usize,
    /// Which entry makes room.
    pub replacement: Replacement,
}

/// One cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheConfig {
    /// Sets, a power of two.
    pub sets: usize,
    /// Ways.
    pub ways: usize,
    /// log2 of the bytes of a line.
    pub line_shift: u32,
    /// Cycles from the access to its data, levels above included.
    pub latency: u32,
    /// Which line makes room.
    pub replacement: Replacement,
}

/// Caches and memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CachesConfig {
    /// First level, instructions.
    pub l1_fetch: CacheConfig,
    /// First level, data.
    pub l1_data: CacheConfig,
    /// Second level.
    pub l2: Option<CacheConfig>,
    /// Third level.
    pub l3: Option<CacheConfig>,
    /// Cycles of an access to memory, caches included.
    pub memory_latency: u32,
}

/// Who sets A and D.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdUpdate {
    /// The walker (x86; RISC-V Svadu; Arm FEAT_HAFDBS).
    Hardware,
    /// Software: the access faults (RISC-V Svade).
    Fault,
}

/// Whether entries are tagged with their address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsidUse {
    /// They are.
    Tagged,
    /// They are not: a switch drops all but global ones.
    None,
}

/// Where the walker's reads go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkPort {
    /// Through the first level of data caches.
    L1Data,
    /// To the second level.
    L2,
}

/// Translations fetched ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefetch {
    /// None.
    Off,
    /// With each walk that of the page after, when its entry came with the same 64 bytes.
    NextPage,
}

/// A part's translation hardware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelConfig {
    /// First level for fetches; at least one array.
    pub l1_fetch: Vec<TlbConfig>,
    /// First level for loads and stores; at least one array.
    pub l1_data: Vec<TlbConfig>,
    /// Second level, for all; none for no second level.
    pub l2: Vec<TlbConfig>,
    /// Cycles to look up the second level.
    pub l2_latency: u32,
    /// Walk caches.
    pub walk_caches: Vec<WalkCacheConfig>,
    /// Cycles of reading an entry of a table, where there are no caches.
    pub walk_read_latency: u32,
    /// Where the walker reads.
    pub walk_port: WalkPort,
    /// Who sets A and D.
    pub ad_update: AdUpdate,
    /// Whether entries are tagged.
    pub asids: AsidUse,
    /// Translations fetched ahead.
    pub prefetch: Prefetch,
    /// Caches and memory; none for translation alone.
    pub caches: Option<CachesConfig>,
}

/// Why a model cannot be built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// What is wrong, and what would be right.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl core::error::Error for ConfigError {}

/// Most slots of any array: more is a mistyped number.
const SLOTS_MAX: usize = 1 << 26;

impl ModelConfig {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`ConfigError`] about the first that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (name, arrays) in [("L1 fetch TLB", &self.l1_fetch), ("L1 data TLB", &self.l1_data)] {
            if arrays.is_empty() {
                return wrong(name, "there has to be at least one array");
            }
            if !arrays.iter().any(|array| array.page_shifts.contains(&PAGE_SHIFT)) {
                return wrong(name, "one array has to hold pages of 4 KiB");
            }
        }
        for (name, arrays) in
            [("L1 fetch TLB", &self.l1_fetch), ("L1 data TLB", &self.l1_data), ("L2 TLB", &self.l2)]
        {
            for array in arrays {
                check_shape(name, array.sets, array.ways, array.replacement)?;
                if array.page_shifts.is_empty() || array.page_shifts.len() > 3 {
                    return wrong(name, "an array holds one to three page sizes");
                }
                let mut sizes = array.page_shifts.clone();
                sizes.sort_unstable();
                if sizes.windows(2).any(|pair| pair[0] == pair[1]) {
                    return wrong(name, "an array holds no page size twice");
                }
                if array.page_shifts.iter().any(|shift| !(PAGE_SHIFT..=39).contains(shift)) {
                    return wrong(name, "pages are from 4 KiB to 512 GiB");
                }
            }
        }
        for (number, cache) in self.walk_caches.iter().enumerate() {
            if self.walk_caches[..number].iter().any(|other| other.level == cache.level) {
                return wrong("walk cache", "there is one for each level at most");
            }
            check_shape("walk cache", cache.sets, cache.ways, cache.replacement)?;
            if usize::from(cache.level) >= super::stats::LEVELS_MAX - 1 {
                return wrong("walk cache", "levels are 0 (leaf tables) to 4");
            }
        }
        let Some(caches) = &self.caches else { return Ok(()) };
        let all = [
            ("L1 fetch cache", Some(&caches.l1_fetch)),
            ("L1 data cache", Some(&caches.l1_data)),
            ("L2 cache", caches.l2.as_ref()),
            ("L3 cache", caches.l3.as_ref()),
        ];
        for (name, cache) in all {
            let Some(cache) = cache else { continue };
            check_shape(name, cache.sets, cache.ways, cache.replacement)?;
            if !(3..=12).contains(&cache.line_shift) {
                return wrong(name, "lines are from 8 bytes to 4 KiB");
            }
        }
        Ok(())
    }
}

fn check_shape(
    name: &str,
    sets: usize,
    ways: usize,
    replacement: Replacement,
) -> Result<(), ConfigError> {
    if !sets.is_power_of_two() {
        return wrong(name, "the number of sets is a power of two");
    }
    if ways == 0 || sets.checked_mul(ways).is_none_or(|slots| slots > SLOTS_MAX) {
        return wrong(name, "there are 1 to 2^26 slots");
    }
    if replacement == Replacement::TreePlru && (!ways.is_power_of_two() || ways > 64) {
        return wrong(name, "a tree needs a power of two of ways, at most 64");
    }
    Ok(())
}

fn wrong(name: &str, why: &str) -> Result<(), ConfigError> {
    Err(ConfigError { why: alloc::format!("{name}: {why}") })
}
