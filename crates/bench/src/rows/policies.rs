//! Replacement policies: a cache simulated on requests of a Zipf distribution.
//!
//! No peer runs here: what others reach is quoted in docs/performance.md, with its source.

use crate::Work;
use crate::contest::{Effort, Measured, Unit, timed};
use kilburn_mm::policy::simulate::{Hits, Simulation};
use kilburn_mm::policy::{Builtin, PolicyConfig, PolicyVisitor, ReplacementPolicy};
use rand_distr::Distribution as _;
use rand_distr::weighted::WeightedAliasIndex;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng as _;
use std::rc::Rc;

/// Objects, requests, capacity of the full run; a tenth of each in a quick one.
const OBJECTS: u32 = 1_000_000;
const REQUESTS: u32 = 10_000_000;
const CAPACITY: u32 = 100_000;
/// Millions of requests a second.
const GOAL: f64 = 20.0;
/// A turn serves all requests: a second or so, so fewer than of short ones are enough.
const TURNS: usize = 5;

/// One row a policy.
pub(crate) fn work() -> Vec<Work> {
    let work = |policy: Builtin| {
        let goal = matches!(policy, Builtin::Lru | Builtin::Sieve).then_some(GOAL);
        let name = format!("{policy}: 10 M requests, Zipf(1.0) over 1 M objects, room for 100,000");
        Work::new("policies", name, Unit::MillionsPerSecond, goal, move |effort| {
            measure(policy, effort)
        })
    };
    Builtin::ALL.into_iter().map(work).collect()
}

/// Requests of Zipf(1.0) over so many objects, the same each time.
pub(crate) fn zipf(objects: u32, requests: u32) -> Vec<u32> {
    let weights = (1..=objects).map(|rank| 1.0 / f64::from(rank)).collect();
    let table = WeightedAliasIndex::new(weights).expect("positive weights");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(42);
    (0..requests).map(|_| table.sample(&mut random) as u32).collect()
}

struct Serve<'r> {
    requests: &'r [u32],
    objects: u32,
    capacity: u32,
}

impl PolicyVisitor for Serve<'_> {
    /// Millions of requests a second, and the share of misses.
    type Output = (f64, f64);

    fn visit<P: ReplacementPolicy + 'static>(self, mut policy: P) -> (f64, f64) {
        let mut simulation = Simulation::new(&mut policy, self.objects, self.capacity, Hits::Exact);
        let took = timed(|| simulation.run(self.requests));
        let rate = self.requests.len() as f64 / took.as_secs_f64() / 1e6;
        (rate, simulation.outcome().miss_ratio())
    }
}

fn measure(policy: Builtin, effort: &Effort) -> Measured {
    thread_local! {
        static REQUESTS_OF_ALL: std::cell::RefCell<Option<(bool, Rc<[u32]>)>> = const { std::cell::RefCell::new(None) };
    }
    let part = if effort.is_quick { 10 } else { 1 };
    let (objects, capacity) = (OBJECTS / part, CAPACITY / part);
    let requests = REQUESTS_OF_ALL.with_borrow_mut(|known| match known {
        Some((is_quick, requests)) if *is_quick == effort.is_quick => Rc::clone(requests),
        _ => {
            let drawn: Rc<[u32]> = zipf(objects, REQUESTS / part).into();
            *known = Some((effort.is_quick, Rc::clone(&drawn)));
            drawn
        }
    });
    let mut measured = Measured::default();
    let mut misses = 0.0;
    for _ in 0..effort.long_rounds(TURNS) {
        let serve = Serve { requests: &requests, objects, capacity };
        let config = PolicyConfig { pages: capacity, capacity, seed: 1 };
        let (rate, ratio) = policy.visit(config, serve);
        measured.ours.push(rate);
        misses = ratio;
    }
    measured.notes.push(format!("miss ratio {misses:.4}"));
    if effort.is_quick {
        measured.notes.push("a tenth of it, as this run is quick".to_owned());
    }
    measured
}
