//! The model against a naive one: lists of entries, searched from end to end.
//!
//! Random maps, accesses and flushes over two spaces with small and large pages. After each step
//! every entry that either holds is in the other, at the same level, with the same frame and rights.

use core::cell::RefCell;
use kilburn_addr::{Access, AddrRange, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_mmu::model::config::{AdUpdate, Replacement, TlbConfig, WalkCacheConfig};
use kilburn_mmu::model::preset::Preset;
use kilburn_mmu::{Cause, Flush, Model, ModelConfig, ModelFault, Space, probe};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use proptest::prelude::*;

const FRAMES: u64 = 2048;
const FORMAT: Sv = Sv::SV39;
/// Regions of 2 MiB, each of small pages or one large page. The first is the same in both spaces, and only
/// there pages are global: otherwise hardware may mix the spaces up.
const REGIONS: u64 = 3;

struct Memory(RefCell<Vec<u64>>);

impl PhysMem for Memory {
    fn load(&self, at: PhysAddr) -> u64 {
        self.0.borrow()[at.get() as usize / 8]
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.0.borrow_mut()[at.get() as usize / 8] = value;
    }
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let found = self.load(at);
        if found != current {
            return Err(found);
        }
        self.store(at, new);
        Ok(())
    }
    fn read(&self, _: PhysAddr, _: &mut [u8]) {
        unreachable!("walks read words")
    }
    fn write(&self, _: PhysAddr, _: &[u8]) {
        unreachable!("walks write words")
    }
    fn zero(&self, _: Pfn) {
        unreachable!("walks zero nothing")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("walks copy nothing")
    }
}

/// Tables of a space are consecutive frames: root, middle, a leaf table for each region.
fn space(index: usize) -> Space {
    let root = Pfn::new(1 + (2 + REGIONS) * index as u64);
    Space { root, format: FORMAT, asid: 7 + index as u16 }
}

fn leaf_table(index: usize, region: u64) -> Pfn {
    Pfn::new(space(index).root.get() + 2 + region)
}

impl Memory {
    fn new() -> Self {
        let mem = Self(RefCell::new(vec![0; (FRAMES * PAGE_SIZE / 8) as usize]));
        for index in 0..2 {
            let root = space(index).root;
            let middle = Entry::Table(Pfn::new(root.get() + 1));
            mem.store(entry_addr(root, 0), FORMAT.encode(middle, 2));
            for region in 0..REGIONS {
                mem.set_region(index, region, Entry::Table(leaf_table(index, region)));
            }
        }
        mem
    }

    fn set_region(&self, index: usize, region: u64, entry: Entry) {
        let middle = Pfn::new(space(index).root.get() + 1);
        self.store(entry_addr(middle, region as usize), FORMAT.encode(entry, 1));
    }

    fn small(index: usize, page: u64) -> PhysAddr {
        entry_addr(leaf_table(index, page / 512), (page % 512) as usize)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct NaiveEntry {
    asid: u16,
    global: bool,
    start: u64,
    shift: u32,
    /// Size of the page it was cut from.
    origin: u32,
    pfn: u64,
    flags: u16,
}

/// One array: sets of entries, the one used longest ago first.
struct NaiveArray {
    shifts: Vec<u32>,
    ways: usize,
    sets: Vec<Vec<NaiveEntry>>,
}

impl NaiveArray {
    fn new(config: &TlbConfig) -> Self {
        assert_eq!(config.replacement, Replacement::Lru);
        let sets = vec![Vec::new(); config.sets];
        Self { shifts: config.page_shifts.clone(), ways: config.ways, sets }
    }

    fn set(&mut self, va: u64, shift: u32) -> &mut Vec<NaiveEntry> {
        let count = self.sets.len() as u64;
        &mut self.sets[((va >> shift) % count) as usize]
    }

    fn lookup(&mut self, asid: u16, va: u64) -> Option<NaiveEntry> {
        for shift in self.shifts.clone() {
            for global in [false, true] {
                let start = va >> shift << shift;
                let set = self.set(va, shift);
                if let Some(at) = set.iter().position(|e| {
                    e.shift == shift
                        && e.start == start
                        && e.global == global
                        && (global || e.asid == asid)
                }) {
                    let entry = set.remove(at);
                    set.push(entry);
                    return Some(entry);
                }
            }
        }
        None
    }

    fn insert(&mut self, mut entry: NaiveEntry, va: u64, shift: u32) {
        let start = va >> shift << shift;
        entry.pfn += (start - entry.start) >> 12;
        (entry.start, entry.shift) = (start, shift);
        let ways = self.ways;
        let set = self.set(va, shift);
        let same = |e: &NaiveEntry| {
            e.shift == shift && e.start == start && (e.global || e.asid == entry.asid)
        };
        if let Some(at) = set.iter().position(same) {
            set.remove(at);
        } else if set.len() == ways {
            set.remove(0);
        }
        set.push(entry);
    }

    fn retain(&mut self, keep: impl Fn(&NaiveEntry) -> bool) {
        for set in &mut self.sets {
            set.retain(&keep);
        }
    }
}

struct NaiveLevel(Vec<NaiveArray>);

impl NaiveLevel {
    fn new(configs: &[TlbConfig]) -> Self {
        Self(configs.iter().map(NaiveArray::new).collect())
    }

    fn lookup(&mut self, asid: u16, va: u64) -> Option<NaiveEntry> {
        self.0.iter_mut().find_map(|array| array.lookup(asid, va))
    }

    fn insert(&mut self, entry: NaiveEntry, va: u64) {
        let mut best: Option<(u32, &mut NaiveArray)> = None;
        for array in &mut self.0 {
            let fits = array.shifts.iter().copied().filter(|&shift| shift <= entry.shift).max();
            if let Some(shift) = fits
                && best.as_ref().is_none_or(|(other, _)| shift >= *other)
            {
                best = Some((shift, array));
            }
        }
        if let Some((shift, array)) = best {
            array.insert(entry, va, shift);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    First,
    Second,
    Walk,
    Fault,
}

/// The same hardware, searched from end to end.
struct Naive {
    fetch: NaiveLevel,
    data: NaiveLevel,
    second: NaiveLevel,
}

impl Naive {
    fn new(config: &ModelConfig) -> Self {
        Self {
            fetch: NaiveLevel::new(&config.l1_fetch),
            data: NaiveLevel::new(&config.l1_data),
            second: NaiveLevel::new(&config.l2),
        }
    }

    fn access(&mut self, mem: &Memory, index: usize, va: u64, access: Access) -> Outcome {
        let asid = space(index).asid;
        let enough = |e: &NaiveEntry| {
            let flags = LeafFlags::from_bits_retain(e.flags);
            flags.permits(access) && (access != Access::Write || flags.contains(LeafFlags::DIRTY))
        };
        let first = if access == Access::Exec { &mut self.fetch } else { &mut self.data };
        if first.lookup(asid, va).is_some_and(|entry| enough(&entry)) {
            return Outcome::First;
        }
        if let Some(entry) = self.second.lookup(asid, va).filter(enough) {
            first.insert(entry, va);
            return Outcome::Second;
        }
        let found = probe(mem, space(index), VirtAddr::new(va));
        let Some(page) = found.filter(|page| page.flags.permits(access)) else {
            return Outcome::Fault;
        };
        let start = va >> page.span_shift << page.span_shift;
        let global = page.flags.contains(LeafFlags::GLOBAL);
        let entry = NaiveEntry {
            asid: if global { 0 } else { asid },
            global,
            start,
            shift: page.span_shift,
            origin: page.span_shift,
            pfn: page.pfn.get() - ((va - start) >> 12),
            flags: page.flags.bits(),
        };
        self.second.insert(entry, va);
        first.insert(entry, va);
        Outcome::Walk
    }

    fn flush(&mut self, what: Flush) {
        let keep = |e: &NaiveEntry| match what {
            Flush::All => false,
            Flush::Asid(asid) => e.global || e.asid != asid,
            Flush::Range { asid, range } => {
                let start = e.start >> e.origin << e.origin;
                let end = start + (1 << e.origin);
                let apart =
                    range.is_empty() || end <= range.start().get() || range.end().get() <= start;
                e.global || e.asid != asid || apart
            }
        };
        for level in [&mut self.fetch, &mut self.data, &mut self.second] {
            for array in &mut level.0 {
                array.retain(keep);
            }
        }
    }

    fn entries(&self) -> Vec<(&'static str, NaiveEntry)> {
        let mut all = Vec::new();
        for (place, level) in
            [("L1 fetch", &self.fetch), ("L1 data", &self.data), ("L2", &self.second)]
        {
            let entries = level.0.iter().flat_map(|array| array.sets.iter().flatten());
            all.extend(entries.map(|&entry| (place, NaiveEntry { origin: 0, ..entry })));
        }
        all.sort();
        all
    }
}

fn model_entries(model: &Model) -> Vec<(&'static str, NaiveEntry)> {
    let mut all: Vec<_> = model
        .entries()
        .map(|entry| {
            let naive = NaiveEntry {
                asid: entry.asid,
                global: entry.is_global,
                start: entry.start.get(),
                shift: entry.span_shift,
                origin: 0,
                pfn: entry.leaf.pfn.get(),
                flags: entry.leaf.flags.bits(),
            };
            (entry.place, naive)
        })
        .collect();
    all.sort();
    all
}

#[derive(Clone, Debug)]
enum Step {
    Map { space: usize, page: u64, pfn: u64, flags: LeafFlags, how: How },
    Unmap { space: usize, page: u64, pages: u64, how: How },
    Region { space: usize, region: u64, large: Option<LeafFlags>, how: How },
    Grow { space: usize, page: u64 },
    Access { space: usize, va: u64, access: Access },
}

#[derive(Clone, Copy, Debug)]
enum How {
    All,
    Asid,
    Range,
}

fn flags() -> impl Strategy<Value = LeafFlags> {
    let rights = prop::sample::select(vec![
        LeafFlags::READ,
        LeafFlags::READ | LeafFlags::WRITE,
        LeafFlags::READ | LeafFlags::EXEC,
        LeafFlags::RIGHTS,
    ]);
    (rights, prop::bool::weighted(0.1)).prop_map(|(rights, global)| {
        let global = if global { LeafFlags::GLOBAL } else { LeafFlags::empty() };
        rights | global | LeafFlags::USER
    })
}

/// A page: few of them, so that sets fill.
fn page() -> impl Strategy<Value = u64> {
    (0..REGIONS, 0_u64..10).prop_map(|(region, page)| region * 512 + page)
}

fn step() -> impl Strategy<Value = Step> {
    let how = || prop_oneof![1 => Just(How::All), 2 => Just(How::Asid), 6 => Just(How::Range)];
    let access = prop::sample::select(vec![Access::Read, Access::Write, Access::Exec]);
    prop_oneof![
        4 => (0..2_usize, page(), 100..FRAMES, flags(), how())
            .prop_map(|(space, page, pfn, flags, how)| Step::Map { space, page, pfn, flags, how }),
        2 => (0..2_usize, page(), 1_u64..40, how())
            .prop_map(|(space, page, pages, how)| Step::Unmap { space, page, pages, how }),
        2 => (0..2_usize, 0..REGIONS, prop::option::of(flags()), how())
            .prop_map(|(space, region, large, how)| Step::Region { space, region, large, how }),
        1 => (0..2_usize, page()).prop_map(|(space, page)| Step::Grow { space, page }),
        20 => (0..2_usize, page(), 0..PAGE_SIZE, access).prop_map(|(space, page, offset, access)| {
            Step::Access { space, va: page * PAGE_SIZE + offset, access }
        }),
    ]
}

struct Pair {
    mem: Memory,
    model: Model,
    naive: Naive,
}

impl Pair {
    fn new(config: ModelConfig) -> Self {
        let naive = Naive::new(&config);
        Self { mem: Memory::new(), naive, model: Model::new(config).expect("a good shape") }
    }

    /// Drops pages from `first` on in both; global pages, which ranges and spaces keep, as well.
    fn flush(&mut self, index: usize, how: How, first: u64, pages: u64, global: bool) {
        let asid = space(index).asid;
        let range =
            AddrRange::with_len(VirtAddr::new(first * PAGE_SIZE), pages * PAGE_SIZE).expect("low");
        let what = match how {
            // The other space has changed as well.
            _ if global || first < 512 => Flush::All,
            How::All => Flush::All,
            How::Asid => Flush::Asid(asid),
            How::Range => Flush::Range { asid, range },
        };
        self.model.flush(what, Cause::Unmap);
        self.naive.flush(what);
    }

    fn was_global(&self, index: usize, first: u64, pages: u64) -> bool {
        (first..first + pages).any(|page| {
            probe(&self.mem, space(index), VirtAddr::new(page * PAGE_SIZE))
                .is_some_and(|page| page.flags.contains(LeafFlags::GLOBAL))
        })
    }

    fn store_small(&self, index: usize, page: u64, raw: u64) {
        self.mem.store(Memory::small(index, page), raw);
        if page < 512 {
            self.mem.store(Memory::small(1 - index, page), raw);
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Map { space: index, page, pfn, flags, how } => {
                let global = self.was_global(index, page, 1);
                let flags = if page < 512 { flags } else { flags - LeafFlags::GLOBAL };
                let leaf = Entry::Leaf(Leaf { pfn: Pfn::new(pfn), flags });
                self.store_small(index, page, FORMAT.encode(leaf, 0));
                self.flush(index, how, page, 1, global);
            }
            Step::Unmap { space: index, page, pages, how } => {
                let pages = pages.min(512 - page % 512);
                let global = self.was_global(index, page, pages);
                for page in page..page + pages {
                    self.store_small(index, page, 0);
                }
                self.flush(index, how, page, pages, global);
            }
            Step::Region { space: index, region, large, how } => {
                let global = self.was_global(index, region * 512, 512);
                if region == 0 {
                    return;
                }
                let entry = match large.map(|flags| flags - LeafFlags::GLOBAL) {
                    Some(flags) => Entry::Leaf(Leaf { pfn: Pfn::new(512 * (1 + region)), flags }),
                    None => Entry::Table(leaf_table(index, region)),
                };
                self.mem.set_region(index, region, entry);
                self.flush(index, how, region * 512, 512, global);
            }
            Step::Grow { space: index, page } => {
                let at = Memory::small(index, page);
                if let Entry::Leaf(old) = FORMAT.decode(self.mem.load(at), 0)
                    && page >= 512
                {
                    let flags = old.flags | LeafFlags::RIGHTS;
                    self.store_small(
                        index,
                        page,
                        FORMAT.encode(Entry::Leaf(Leaf { flags, ..old }), 0),
                    );
                }
            }
            Step::Access { space: index, va, access } => self.access(index, va, access),
        }
    }

    fn access(&mut self, index: usize, va: u64, access: Access) {
        let before = self.model.stats().of(access);
        let got = self.model.translate(&self.mem, space(index), VirtAddr::new(va), access);
        let after = self.model.stats().of(access);
        let outcome = match (after.l1_hits - before.l1_hits, after.l2_hits - before.l2_hits) {
            (1, 0) => Outcome::First,
            (0, 1) => Outcome::Second,
            _ if got.is_ok() => Outcome::Walk,
            _ => Outcome::Fault,
        };
        let expected = self.naive.access(&self.mem, index, va, access);
        assert_eq!(outcome, expected, "{va:#x} {access:?}");
        let tables = probe(&self.mem, space(index), VirtAddr::new(va));
        assert_eq!(
            got.ok().map(|page| page.pfn),
            tables.filter(|page| page.flags.permits(access)).map(|page| page.pfn)
        );
    }

    fn compare(&self) {
        assert_eq!(model_entries(&self.model), self.naive.entries());
        for index in 0..2 {
            assert_eq!(self.model.check(&self.mem, space(index)), Ok(()));
        }
    }
}

fn tlb(page_shifts: &[u32], sets: usize, ways: usize) -> TlbConfig {
    TlbConfig { page_shifts: page_shifts.to_vec(), sets, ways, replacement: Replacement::Lru }
}

fn configs() -> Vec<ModelConfig> {
    let base = Preset::named("simple").expect("a preset").config();
    let walk_cache =
        |level| WalkCacheConfig { level, sets: 1, ways: 2, replacement: Replacement::Lru };
    let walk_caches = vec![walk_cache(0), walk_cache(1)];
    vec![
        ModelConfig {
            l1_fetch: vec![tlb(&[12], 2, 2), tlb(&[21], 1, 2)],
            l1_data: vec![tlb(&[12], 4, 2), tlb(&[21], 1, 1)],
            l2: vec![tlb(&[12, 21], 4, 3)],
            walk_caches: walk_caches.clone(),
            ..base.clone()
        },
        // Large pages are cut into small ones in the first levels.
        ModelConfig {
            l1_fetch: vec![tlb(&[12], 1, 3)],
            l1_data: vec![tlb(&[12], 2, 2)],
            l2: vec![tlb(&[12], 8, 1), tlb(&[21], 1, 2)],
            walk_caches,
            ..base.clone()
        },
        ModelConfig {
            l1_fetch: vec![tlb(&[12, 21], 1, 4)],
            l1_data: vec![tlb(&[12, 21], 1, 6)],
            l2: Vec::new(),
            walk_caches: Vec::new(),
            ..base
        },
    ]
}

proptest! {
    #[test]
    fn the_model_holds_what_a_naive_one_holds(
        config in prop::sample::select(configs()),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut pair = Pair::new(config);
        for step in &steps {
            pair.apply(step);
            pair.compare();
        }
        let all = pair.model.stats().all();
        prop_assert_eq!(all.references, all.l1_hits + all.l2_hits + all.walks);
        let walks = pair.model.stats().walks;
        prop_assert_eq!(walks.by_cause.iter().sum::<u64>(), all.walks - all.faults);
    }
}

/// Steps of the long run for each shape; `KILBURN_MODEL_STEPS=34000000` makes 10^8 of them in all, in minutes.
const STEPS: u64 = 30_000;

#[test]
fn the_model_holds_what_a_naive_one_holds_in_a_long_run() {
    let asked = std::env::var("KILBURN_MODEL_STEPS").ok().and_then(|steps| steps.parse().ok());
    let steps = asked.unwrap_or(STEPS);
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let rights = [LeafFlags::READ, LeafFlags::READ | LeafFlags::WRITE, LeafFlags::RIGHTS];
    let accesses = [Access::Read, Access::Write, Access::Exec];
    for config in configs() {
        let mut pair = Pair::new(config);
        for number in 0..steps {
            let index = random(2) as usize;
            let page = random(REGIONS) * 512 + random(10);
            let how = [How::All, How::Asid, How::Range, How::Range, How::Range][random(5) as usize];
            let flags = rights[random(3) as usize] | LeafFlags::USER;
            let step = match random(60) {
                0 => Step::Map { space: index, page, pfn: 100 + random(1000), flags, how },
                1 => Step::Unmap { space: index, page, pages: 1 + random(8), how },
                2 => {
                    let large = (random(2) == 0).then_some(flags);
                    Step::Region { space: index, region: page / 512, large, how }
                }
                3 => Step::Grow { space: index, page },
                _ => {
                    let va = page * PAGE_SIZE + random(PAGE_SIZE);
                    Step::Access { space: index, va, access: accesses[random(3) as usize] }
                }
            };
            pair.apply(&step);
            if number % 1009 == 0 {
                pair.compare();
            }
        }
        pair.compare();
    }
}

#[test]
fn misses_are_put_down_to_what_caused_them() {
    let config = ModelConfig {
        l1_data: vec![tlb(&[12], 1, 2)],
        l2: vec![tlb(&[12], 1, 2)],
        ..configs().remove(0)
    };
    let mut pair = Pair::new(config);
    let flags = LeafFlags::READ | LeafFlags::WRITE | LeafFlags::USER;
    for page in 0..3 {
        let leaf = Entry::Leaf(Leaf { pfn: Pfn::new(200 + page), flags });
        pair.mem.store(Memory::small(0, page), FORMAT.encode(leaf, 0));
    }
    let mut read = |page: u64, access| {
        let before = pair.model.stats().walks.by_cause;
        let at = VirtAddr::new(page * PAGE_SIZE);
        pair.model.translate(&pair.mem, space(0), at, access).expect("mapped");
        let after = pair.model.stats().walks.by_cause;
        if page == 2 {
            let range = AddrRange::with_len(at, 1).expect("low");
            pair.model.flush(Flush::Range { asid: space(0).asid, range }, Cause::Protect);
        }
        Cause::ALL.into_iter().find(|&cause| after[cause as usize] > before[cause as usize])
    };
    assert_eq!(read(0, Access::Read), Some(Cause::FirstTouch));
    assert_eq!(read(0, Access::Read), None);
    assert_eq!(read(0, Access::Write), Some(Cause::FirstWrite));
    assert_eq!(read(1, Access::Read), Some(Cause::FirstTouch));
    assert_eq!(read(2, Access::Read), Some(Cause::FirstTouch));
    assert_eq!(read(0, Access::Read), Some(Cause::Capacity));
    assert_eq!(read(2, Access::Read), Some(Cause::Protect));
    let shot = pair.model.stats().shootdowns[Cause::Protect as usize];
    assert_eq!((shot.requests, shot.l1_entries, shot.l2_entries), (2, 2, 2));
}

#[test]
fn hardware_without_ad_updates_leaves_them_to_software() {
    let config = ModelConfig { ad_update: AdUpdate::Fault, ..configs().remove(0) };
    let mut pair = Pair::new(config);
    let mut flags = LeafFlags::READ | LeafFlags::WRITE | LeafFlags::USER;
    let at = VirtAddr::new(0);
    let mut write_with = |flags, access| {
        let leaf = Entry::Leaf(Leaf { pfn: Pfn::new(200), flags });
        pair.mem.store(Memory::small(0, 0), FORMAT.encode(leaf, 0));
        pair.model.translate(&pair.mem, space(0), at, access).map(|page| page.pfn.get())
    };
    assert_eq!(write_with(flags, Access::Read), Err(ModelFault::UsedBits));
    flags |= LeafFlags::ACCESSED;
    assert_eq!(write_with(flags, Access::Read), Ok(200));
    assert_eq!(write_with(flags, Access::Write), Err(ModelFault::UsedBits));
    assert_eq!(write_with(flags | LeafFlags::DIRTY, Access::Write), Ok(200));
}

#[test]
fn walk_caches_leave_fewer_entries_to_read() {
    let mut pair = Pair::new(configs().remove(0));
    let flags = LeafFlags::READ | LeafFlags::USER;
    for page in 0..2 {
        let leaf = Entry::Leaf(Leaf { pfn: Pfn::new(200 + page), flags });
        pair.mem.store(Memory::small(0, page), FORMAT.encode(leaf, 0));
    }
    let mut reads = |page: u64| {
        let before = pair.model.stats().walk_reads();
        let at = VirtAddr::new(page * PAGE_SIZE);
        pair.model.translate(&pair.mem, space(0), at, Access::Read).expect("mapped");
        pair.model.stats().walk_reads() - before
    };
    assert_eq!((reads(0), reads(1)), (3, 1));
}
