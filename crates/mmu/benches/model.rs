//! References per second through the model, on real tables of x86-64's four levels.
//!
//! `cargo bench -p kilburn-mmu --bench model`. Three streams over 256 MiB of mapped pages: `local` (of 1000
//! references 969 go to 32 pages, 30 to 1,000 and one anywhere; half of each are 8 bytes further than the one before, the others on
//! eight lines of a page), `spread` (900, 90 and 10) and `anywhere` (uniform). Each with translation alone and with caches; the least of
//! five runs counts, by the thread's processor time.

use core::cell::Cell;
use kilburn_addr::{Access, Pfn, PhysAddr, VirtAddr};
use kilburn_mmu::model::preset::Preset;
use kilburn_mmu::{Model, ModelConfig, Space};
use kilburn_paging::hardware::{HardwareFormat, entry_address, store_entry};
use kilburn_paging::{Entry, Leaf, LeafFlags, PhysMem, X86_64};
use std::time::Duration;

const PAGES: u64 = 65_536;
const REFERENCES: usize = 4_000_000;
const ROUNDS: usize = 5;
const FORMAT: X86_64 = X86_64::FOUR_LEVEL;
const BASE: u64 = 0x7f00_0000_0000;

/// Table frames from 0 on; the data behind the pages is never looked at.
struct Tables(Vec<Cell<u64>>);

impl PhysMem for Tables {
    fn load(&self, at: PhysAddr) -> u64 {
        self.0[at.get() as usize / 8].get()
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.0[at.get() as usize / 8].set(value);
    }
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let found = self.load(at);
        if found == current {
            self.store(at, new);
            Ok(())
        } else {
            Err(found)
        }
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

/// Root 1, one table at each upper level, then the leaf tables.
fn tables() -> (Tables, Space<X86_64>) {
    let leaf_tables = PAGES / 512;
    let mem = Tables(vec![Cell::new(0); ((4 + leaf_tables) * 512) as usize]);
    let set = |table: u64, va: u64, level: u8, entry: Entry| {
        let index = HardwareFormat::index(FORMAT, VirtAddr::new(va), level);
        let raw = HardwareFormat::encode(FORMAT, entry, level);
        store_entry(&mem, FORMAT, entry_address(FORMAT, Pfn::new(table), index), raw);
    };
    set(1, BASE, 3, Entry::Table(Pfn::new(2)));
    set(2, BASE, 2, Entry::Table(Pfn::new(3)));
    for page in 0..PAGES {
        let va = BASE + page * 4096;
        let leaf_table = 4 + page / 512;
        set(3, va, 1, Entry::Table(Pfn::new(leaf_table)));
        let flags = LeafFlags::RIGHTS | LeafFlags::USER;
        set(leaf_table, va, 0, Entry::Leaf(Leaf { pfn: Pfn::new(1000 + page * 7 % PAGES), flags }));
    }
    (mem, Space { root: Pfn::new(1), format: FORMAT, asid: 1 })
}

/// A stream: of 1000 references `hot` go to 32 pages and `warm` to 1,000.
fn stream(hot: u64, warm: u64) -> Vec<(u64, Access)> {
    let mut state = 42_u64;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut last = 0;
    let mut one = || {
        let page = match random(1000) {
            draw if draw < hot => random(32) * 17,
            draw if draw < hot + warm => random(1000) * 5,
            _ => random(PAGES),
        };
        let near = (last + 8) % (PAGES * 4096);
        // A page's accesses fall on eight of its lines, as those of an object do.
        let offset = (page * 3 % 56 + random(8)) * 64 + random(8) * 8;
        last = if random(2) == 0 { near } else { page * 4096 + offset };
        let access = if random(4) == 0 { Access::Write } else { Access::Read };
        (BASE + last, access)
    };
    (0..REFERENCES).map(|_| one()).collect()
}

fn run(config: &ModelConfig, references: &[(u64, Access)]) -> (Duration, Model) {
    let (mem, space) = tables();
    let mut model = Model::new(config.clone()).expect("a preset's shape");
    let start = processor_time();
    for &(va, access) in references {
        let mapping = model.access(&mem, space, VirtAddr::new(va), 8, access);
        assert!(mapping.is_ok(), "{va:#x}");
    }
    (processor_time() - start, model)
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds first"))
}

fn main() {
    println!(
        "{:10} {:9} {:9} {:>10} {:>9} {:>9}",
        "stream", "preset", "caches", "M refs/s", "L1 miss", "walks"
    );
    let streams =
        [("local", stream(969, 30)), ("spread", stream(900, 90)), ("anywhere", stream(0, 0))];
    for (name, references) in &streams {
        for preset in ["skylake", "simple"].map(|name| Preset::named(name).expect("a preset")) {
            let full = preset.config();
            let bare = ModelConfig { caches: None, ..full.clone() };
            for (kind, config) in [("none", &bare), ("L1 L2 L3", &full)] {
                if kind != "none" && config.caches.is_none() {
                    continue;
                }
                let runs = (0..ROUNDS).map(|_| run(config, references));
                let (time, model) = runs.min_by_key(|(time, _)| *time).expect("runs");
                let all = model.stats().all();
                let caches = model.stats().caches.l1_data;
                let share = |count: u64| 100.0 * count as f64 / all.references as f64;
                println!(
                    "{name:10} {:9} {kind:9} {:10.1} {:8.3}% {:8.3}% {:8.3}%",
                    preset.name,
                    REFERENCES as f64 / time.as_secs_f64() / 1e6,
                    share(all.references - all.l1_hits),
                    share(all.walks),
                    share(caches.read.misses + caches.write.misses),
                );
            }
        }
    }
}
