//! What choosing a victim costs, from 32 MiB to 8 GiB of RAM.
//!
//! `cargo bench -p kilburn-mm --bench policy [NAME...]`. One step is what reclaim does for a page, I/O left out: isolate a
//! victim, forget it, take the next page in. Before each step three random pages are used, half the time hot ones, so
//! policies that harvest find some bits set. Nanoseconds a step, the least of three runs.

use kilburn_mm::policy::{
    AccessedBits, Arrival, Builtin, FirstUse, PageId, PageKind, PolicyConfig, References,
    ReplacementPolicy, Shadow, Wanted,
};
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

const STEPS: u32 = 400_000;
const USES_A_STEP: u32 = 3;

struct Tables {
    accessed: Vec<u64>,
}

impl AccessedBits for Tables {
    fn test_and_clear(&mut self, page: PageId) -> References {
        let (word, bit) = (page.index() / 64, 1 << (page.0 % 64));
        let set = self.accessed[word] & bit != 0;
        self.accessed[word] &= !bit;
        References { entries: u32::from(set), executable: false }
    }

    fn walk(&mut self, used: &mut dyn FnMut(PageId)) {
        for (at, word) in self.accessed.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                used(PageId(at as u32 * 64 + bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }
}

struct Machine {
    policy: Box<dyn ReplacementPolicy>,
    tables: Tables,
    pages: u32,
    random: u64,
    /// Shadows of pages that will return.
    gone: VecDeque<Shadow>,
}

impl Machine {
    fn new(builtin: Builtin, pages: u32) -> Self {
        let policy = builtin.for_reclaim(PolicyConfig { pages, capacity: pages, seed: 1 });
        let tables = Tables { accessed: vec![0; pages.div_ceil(64) as usize] };
        let mut machine = Self { policy, tables, pages, random: 1, gone: VecDeque::new() };
        for page in 0..pages {
            machine.policy.insert(PageId(page), machine.arrival(page));
        }
        // Into the steady state: every page has been considered once.
        for _ in 0..pages {
            machine.step();
        }
        machine
    }

    fn draw(&mut self, bound: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (((self.random >> 32) * u64::from(bound)) >> 32) as u32
    }

    fn arrival(&self, number: u32) -> Arrival {
        let kind = if number.is_multiple_of(2) { PageKind::Anon } else { PageKind::File };
        Arrival::new(kind, FirstUse::Mapped)
    }

    fn step(&mut self) {
        for _ in 0..USES_A_STEP {
            let among = if self.draw(2) == 0 { self.pages } else { self.pages / 8 };
            let page = self.draw(among);
            self.tables.accessed[page as usize / 64] |= 1 << (page % 64);
        }
        let victim =
            self.policy.isolate(Wanted::ANY, &mut self.tables).expect("RAM is full of pages");
        self.gone.extend(self.policy.evicted(victim));
        let mut arrival = self.arrival(self.random as u32);
        if self.gone.len() > self.pages as usize / 2 {
            let shadow = self.gone.pop_front().expect("not empty");
            self.policy.refault(&mut arrival, shadow);
        }
        self.policy.insert(victim, arrival);
    }
}

fn measure(builtin: Builtin, pages: u32) -> Duration {
    let mut machine = Machine::new(builtin, pages);
    let run = |_| {
        let start = Instant::now();
        (0..STEPS).for_each(|_| black_box(&mut machine).step());
        start.elapsed() / STEPS
    };
    (0..3).map(run).min().expect("three runs")
}

fn main() {
    let sizes = [(32, "32 MiB"), (256, "256 MiB"), (2048, "2 GiB"), (8192, "8 GiB")];
    let names: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    print!("{:<10}", "ns a page");
    sizes.iter().for_each(|(_, label)| print!("{label:>10}"));
    println!();
    for builtin in Builtin::ALL {
        if !names.is_empty() && !names.iter().any(|name| name == builtin.name()) {
            continue;
        }
        print!("{builtin:<10}");
        for (mib, _) in sizes {
            print!("{:>10}", measure(builtin, mib * 256).as_nanos());
        }
        println!();
    }
}
