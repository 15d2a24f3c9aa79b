//! Models of real parts, each figure with its public source.
//!
//! What a vendor does not publish is marked "assumed" where it stands; nothing is passed off as
//! known. Latencies are cycles of the core.

use super::config::{
    AdUpdate, AsidUse, CacheConfig, CachesConfig, ModelConfig, Prefetch, Replacement, TlbConfig,
    WalkCacheConfig, WalkPort,
};
use alloc::vec;
use alloc::vec::Vec;

/// A named configuration.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// The part.
    pub part: &'static str,
    /// Where its figures come from.
    pub sources: &'static [&'static str],
    build: fn() -> ModelConfig,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self {
            name: "skylake",
            part: "Intel Skylake client core",
            sources: &[
                "Intel 64 and IA-32 Architectures Optimization Reference Manual 248966-045, \
                 tables 2-16 and 2-17: TLBs, caches, L1 4, L2 12 and L3 44 cycles",
                "7-cpu.com, Skylake: second-level TLB 9 cycles; memory 42 cycles + 51 ns at 4.0 GHz",
                "assumed: LRU in TLBs; walk caches of 32 leaf tables, 4 and 2 of the levels above; \
                 walks read through the L1 data cache",
            ],
            build: skylake,
        },
        Self {
            name: "cortex-a72",
            part: "Arm Cortex-A72, 1 MiB second-level cache",
            sources: &[
                "Arm Cortex-A72 MPCore Processor Technical Reference Manual 100095, 5.2 and 6.1: \
                 TLBs of 48, 32 and 1024 entries; caches of 48 KiB 3-way and 32 KiB 2-way, LRU",
                "7-cpu.com, Cortex-A72: L1 4, L2 about 18 cycles; memory 18 cycles + 126 ns at 1.8 GHz",
                "assumed: second-level TLB 6 cycles; walk caches of 16 tables a level; \
                 walks read from the L2 cache",
            ],
            build: cortex_a72,
        },
        Self {
            name: "u54",
            part: "SiFive U54 as in PolarFire SoC",
            sources: &[
                "Microchip PolarFire SoC documentation, U54 MMU: fully associative TLBs of 32 \
                 entries each, A and D left to software",
                "SiFive FU540-C000 manual: caches of 32 KiB 8-way, 2 MiB 16-way, random replacement",
                "assumed: L1 2, L2 21, memory 100 cycles; random replacement in TLBs; \
                 walks read from the L2 cache",
            ],
            build: u54,
        },
        Self {
            name: "simple",
            part: "no real part: a second-level TLB of 1024 entries behind 64, no caches",
            sources: &["assumed: all of it; an entry of a table takes 30 cycles"],
            build: simple,
        },
    ];

    /// The preset of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name == name)
    }

    /// Its configuration.
    pub fn config(self) -> ModelConfig {
        (self.build)()
    }
}

const KIB4: u32 = 12;
const KIB64: u32 = 16;
const MIB2: u32 = 21;
const GIB1: u32 = 30;

fn tlb(page_shifts: &[u32], sets: usize, ways: usize, replacement: Replacement) -> TlbConfig {
    TlbConfig { page_shifts: page_shifts.to_vec(), sets, ways, replacement }
}

fn walk_caches(slots: &[(usize, usize)]) -> Vec<WalkCacheConfig> {
    let cache = |(level, &(sets, ways)): (u8, &(usize, usize))| WalkCacheConfig {
        level,
        sets,
        ways,
        replacement: Replacement::Lru,
    };
    (0..).zip(slots).map(cache).collect()
}

fn cache(kib: usize, ways: usize, latency: u32, replacement: Replacement) -> CacheConfig {
    CacheConfig { sets: (kib << 10) / 64 / ways, ways, line_shift: 6, latency, replacement }
}

fn skylake() -> ModelConfig {
    let lru = Replacement::Lru;
    ModelConfig {
        l1_fetch: vec![tlb(&[KIB4], 16, 8, lru), tlb(&[MIB2], 1, 8, lru)],
        l1_data: vec![tlb(&[KIB4], 16, 4, lru), tlb(&[MIB2], 8, 4, lru), tlb(&[GIB1], 1, 4, lru)],
        l2: vec![tlb(&[KIB4, MIB2], 128, 12, lru), tlb(&[GIB1], 4, 4, lru)],
        l2_latency: 9,
        walk_caches: walk_caches(&[(8, 4), (1, 4), (1, 2)]),
        walk_read_latency: 4,
        walk_port: WalkPort::L1Data,
        ad_update: AdUpdate::Hardware,
        asids: AsidUse::Tagged,
        prefetch: Prefetch::Off,
        caches: Some(CachesConfig {
            l1_fetch: cache(32, 8, 4, Replacement::TreePlru),
            l1_data: cache(32, 8, 4, Replacement::TreePlru),
            l2: Some(cache(256, 4, 12, Replacement::TreePlru)),
            l3: Some(cache(8192, 16, 44, lru)),
            memory_latency: 42 + 51 * 4,
        }),
    }
}

fn cortex_a72() -> ModelConfig {
    let lru = Replacement::Lru;
    let sizes = [KIB4, KIB64, MIB2];
    ModelConfig {
        l1_fetch: vec![tlb(&sizes, 1, 48, lru)],
        l1_data: vec![tlb(&sizes, 1, 32, lru)],
        l2: vec![tlb(&sizes, 256, 4, lru)],
        l2_latency: 6,
        walk_caches: walk_caches(&[(4, 4), (4, 4), (1, 4)]),
        walk_read_latency: 18,
        walk_port: WalkPort::L2,
        ad_update: AdUpdate::Fault,
        asids: AsidUse::Tagged,
        prefetch: Prefetch::Off,
        caches: Some(CachesConfig {
            l1_fetch: cache(48, 3, 4, lru),
            l1_data: cache(32, 2, 4, lru),
            l2: Some(cache(1024, 16, 18, lru)),
            l3: None,
            memory_latency: 18 + 126 * 18 / 10,
        }),
    }
}

fn u54() -> ModelConfig {
    let random = Replacement::Random;
    ModelConfig {
        l1_fetch: vec![tlb(&[KIB4, MIB2, GIB1], 1, 32, random)],
        l1_data: vec![tlb(&[KIB4, MIB2, GIB1], 1, 32, random)],
        l2: Vec::new(),
        l2_latency: 0,
        walk_caches: Vec::new(),
        walk_read_latency: 21,
        walk_port: WalkPort::L2,
        ad_update: AdUpdate::Fault,
        asids: AsidUse::Tagged,
        prefetch: Prefetch::Off,
        caches: Some(CachesConfig {
            l1_fetch: cache(32, 8, 2, random),
            l1_data: cache(32, 8, 2, random),
            l2: Some(cache(2048, 16, 21, random)),
            l3: None,
            memory_latency: 100,
        }),
    }
}

fn simple() -> ModelConfig {
    let lru = Replacement::Lru;
    ModelConfig {
        l1_fetch: vec![tlb(&[KIB4, MIB2, GIB1], 16, 4, lru)],
        l1_data: vec![tlb(&[KIB4, MIB2, GIB1], 16, 4, lru)],
        l2: vec![tlb(&[KIB4, MIB2, GIB1], 256, 4, lru)],
        l2_latency: 8,
        walk_caches: walk_caches(&[(1, 16), (1, 4), (1, 2)]),
        walk_read_latency: 30,
        walk_port: WalkPort::L1Data,
        ad_update: AdUpdate::Hardware,
        asids: AsidUse::Tagged,
        prefetch: Prefetch::Off,
        caches: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    #[test]
    fn every_preset_can_be_built_and_names_its_sources() {
        for preset in Preset::ALL {
            Model::new(preset.config()).expect(preset.name);
            assert!(!preset.sources.is_empty());
            assert_eq!(Preset::named(preset.name).expect("it is there").part, preset.part);
        }
        assert!(Preset::named("nothing").is_none());
    }
}
