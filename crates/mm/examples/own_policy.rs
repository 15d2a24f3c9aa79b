//! A replacement policy of one's own: evict the page used least often, and of those the one that came first.
//!
//! `cargo run --release -p kilburn-mm --example own_policy` runs it beside LRU on a skewed trace. The policy is the part
//! between the two rulers.

use kilburn_mm::policy::simulate::{Hits, Simulation};
use kilburn_mm::policy::{AccessedBits, Arrival, Lru, PageId, PutBack, ReplacementPolicy, Wanted};
use std::collections::BTreeSet;

// ---------------------------------------------------------------------------------------------------------------------
#[derive(Default)]
struct LeastOften {
    order: BTreeSet<(u64, u64, PageId)>, // uses, arrival, page
    key: Vec<(u64, u64)>,
    arrivals: u64,
}

impl LeastOften {
    fn place(&mut self, page: PageId, uses: u64) {
        self.arrivals += 1;
        self.key.resize(self.key.len().max(page.index() + 1), (0, 0));
        self.key[page.index()] = (uses, self.arrivals);
        self.order.insert((uses, self.arrivals, page));
    }
}

impl ReplacementPolicy for LeastOften {
    fn name(&self) -> &'static str {
        "least-often"
    }
    fn len(&self) -> u32 {
        self.order.len() as u32
    }
    fn insert(&mut self, page: PageId, _: Arrival) {
        self.place(page, 1);
    }
    fn mark_accessed(&mut self, page: PageId) {
        let (uses, arrival) = self.key[page.index()];
        if self.order.remove(&(uses, arrival, page)) {
            self.key[page.index()].0 += 1;
            self.order.insert((uses + 1, arrival, page));
        }
    }
    fn isolate(&mut self, _: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        let pages = self.order.iter().map(|&(.., page)| page);
        let used: Vec<PageId> = pages.take_while(|&page| bits.test_and_clear(page).any()).collect();
        used.into_iter().for_each(|page| self.mark_accessed(page));
        self.order.pop_first().map(|(.., page)| page)
    }
    fn putback(&mut self, page: PageId, why: PutBack) {
        self.place(page, if why == PutBack::Next { 0 } else { self.key[page.index()].0 + 1 });
    }
    fn remove(&mut self, page: PageId) {
        self.order.remove(&(self.key[page.index()].0, self.key[page.index()].1, page));
    }
}
// ---------------------------------------------------------------------------------------------------------------------

fn main() {
    // 20,000 requests for 1,000 objects, small numbers more often than large ones.
    let mut state = 1u32;
    let trace: Vec<u32> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = f64::from(state >> 8) / f64::from(1 << 24);
        (1000.0 * unit.powi(3)) as u32
    })
    .take(20_000)
    .collect();
    let policies: [Box<dyn ReplacementPolicy>; 2] =
        [Box::new(LeastOften::default()), Box::new(Lru::new(100))];
    for mut policy in policies {
        let name = policy.name();
        let mut simulation = Simulation::new(policy.as_mut(), 1000, 100, Hits::Exact);
        simulation.run(&trace);
        println!("{name:12} miss ratio {:.4}", simulation.outcome().miss_ratio());
    }
}
