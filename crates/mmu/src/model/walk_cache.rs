//! Walk caches: tables that the walker need not look for from the root.
//!
//! One cache for each level of tables that can be skipped to. The lowest table known is where the walk
//! starts: an entry for level 0 leaves one read to do. Entries are tagged with their address space.

use super::StaleEntry;
use super::assoc::Assoc;
use super::config::WalkCacheConfig;
use crate::mmu::{Flush, Space};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use kilburn_addr::{Pfn, VirtAddr};
use kilburn_paging::hardware::{HardwareFormat, WalkStart, entry_address, load_entry};
use kilburn_paging::{Entry, PhysMem};

const VPN_SHIFT: u32 = 17;
const VALID: u64 = 1 << 16;

fn tag(asid: u16, va: VirtAddr, span_shift: u32) -> u64 {
    // Tables span at least 2^15 bytes in every format that is simulated, so 47 bits are enough.
    (va.get() << 7 >> 7 >> span_shift) << VPN_SHIFT | VALID | u64::from(asid)
}

#[derive(Clone, Debug)]
struct Cache {
    assoc: Assoc,
    tables: Box<[Pfn]>,
    /// log2 of the bytes that a table kept here spans; 0 until the first is kept.
    span_shift: u32,
}

/// All of them; index 0 keeps tables of level 0.
#[derive(Clone, Debug)]
pub(super) struct WalkCaches {
    caches: Vec<Option<Cache>>,
}

impl WalkCaches {
    pub(super) fn new(configs: &[WalkCacheConfig]) -> Self {
        let levels = configs.iter().map(|config| usize::from(config.level) + 1).max().unwrap_or(0);
        let mut caches = vec![None; levels];
        for config in configs {
            let (sets, ways) = (config.sets, config.ways);
            caches[usize::from(config.level)] = Some(Cache {
                assoc: Assoc::new(sets, ways, config.replacement, 31 + u64::from(config.level)),
                tables: vec![Pfn::new(0); sets * ways].into(),
                span_shift: 0,
            });
        }
        Self { caches }
    }

    /// The lowest table known for `va`.
    pub(super) fn lookup<F: HardwareFormat>(
        &mut self,
        format: F,
        asid: u16,
        va: VirtAddr,
    ) -> Option<WalkStart> {
        for (level, cache) in (0_u8..).zip(&mut self.caches).take(usize::from(format.levels()) - 1)
        {
            let Some(cache) = cache else { continue };
            let tag = tag(asid, va, format.span_shift(level + 1));
            if let Some(slot) = cache.assoc.find(tag >> VPN_SHIFT, tag) {
                cache.assoc.touch(tag >> VPN_SHIFT, slot);
                return Some(WalkStart { table: cache.tables[slot], level });
            }
        }
        None
    }

    /// The level of the lowest table known for `va`, left as it is.
    pub(super) fn lowest<F: HardwareFormat>(
        &self,
        format: F,
        asid: u16,
        va: VirtAddr,
    ) -> Option<u8> {
        let levels = (0..format.levels() - 1).zip(&self.caches);
        levels.filter_map(|(level, cache)| Some((level, cache.as_ref()?))).find_map(
            |(level, cache)| {
                let tag = tag(asid, va, format.span_shift(level + 1));
                cache.assoc.find(tag >> VPN_SHIFT, tag).map(|_| level)
            },
        )
    }

    /// The leaf table known for `va`, left as it is.
    pub(super) fn peek<F: HardwareFormat>(
        &self,
        format: F,
        asid: u16,
        va: VirtAddr,
    ) -> Option<WalkStart> {
        let cache = self.caches.first()?.as_ref()?;
        let tag = tag(asid, va, format.span_shift(1));
        let slot = cache.assoc.find(tag >> VPN_SHIFT, tag)?;
        Some(WalkStart { table: cache.tables[slot], level: 0 })
    }

    /// Keeps `table`, which the entry for `va` at `level` leads to.
    pub(super) fn insert<F: HardwareFormat>(
        &mut self,
        format: F,
        asid: u16,
        va: VirtAddr,
        level: u8,
        table: Pfn,
    ) {
        let Some(Some(cache)) =
            level.checked_sub(1).and_then(|below| self.caches.get_mut(usize::from(below)))
        else {
            return;
        };
        cache.span_shift = format.span_shift(level);
        let tag = tag(asid, va, cache.span_shift);
        let index = tag >> VPN_SHIFT;
        let slot = cache.assoc.find(index, tag).unwrap_or_else(|| cache.assoc.victim(index));
        cache.assoc.fill(index, slot, tag);
        cache.tables[slot] = table;
    }

    /// Drops entries: of a range all tables that it touches. Answers how many.
    pub(super) fn flush(&mut self, what: Flush) -> u64 {
        let mut dropped = 0;
        for cache in self.caches.iter_mut().flatten() {
            for slot in 0..cache.assoc.slots() {
                let tag = cache.assoc.tag(slot);
                let goes = tag != 0
                    && match what {
                        Flush::All => true,
                        Flush::Asid(asid) => tag as u16 == asid,
                        Flush::Range { asid, range } => {
                            let page = |va: u64| va << 7 >> 7 >> cache.span_shift;
                            let vpn = tag >> VPN_SHIFT;
                            tag as u16 == asid
                                && !range.is_empty()
                                && (page(range.start().get())..=page(range.end().get() - 1))
                                    .contains(&vpn)
                        }
                    };
                if goes {
                    cache.assoc.clear(slot);
                    dropped += 1;
                }
            }
        }
        dropped
    }

    /// Checks that each entry of `space` is what its tables say.
    pub(super) fn check<M: PhysMem + ?Sized, F: HardwareFormat>(
        &self,
        mem: &M,
        space: Space<F>,
    ) -> Result<(), StaleEntry> {
        let format = space.format;
        for (level, cache) in (0_u8..).zip(&self.caches) {
            let Some(cache) = cache else { continue };
            for slot in 0..cache.assoc.slots() {
                let tag = cache.assoc.tag(slot);
                if tag == 0 || tag as u16 != space.asid {
                    continue;
                }
                let va = VirtAddr::new(tag >> VPN_SHIFT << cache.span_shift);
                let known = cache.tables[slot];
                if table_at(mem, space, va, level) != Some(known) {
                    return Err(StaleEntry { va, place: "walk cache" });
                }
                debug_assert_eq!(cache.span_shift, format.span_shift(level + 1));
            }
        }
        Ok(())
    }
}

/// The table at `level` for `va`, by the tables above it.
fn table_at<M: PhysMem + ?Sized, F: HardwareFormat>(
    mem: &M,
    space: Space<F>,
    va: VirtAddr,
    level: u8,
) -> Option<Pfn> {
    let format = space.format;
    let mut table = space.root;
    for above in (level + 1..format.levels()).rev() {
        let at = entry_address(format, table, format.index(va, above));
        match format.decode(load_entry(mem, format, at), above) {
            Entry::Table(next) => table = next,
            _ => return None,
        }
    }
    Some(table)
}
