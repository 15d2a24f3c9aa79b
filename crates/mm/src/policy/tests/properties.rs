//! What theory says.

use super::super::opt::Opt;
use super::super::simulate::{Hits, Outcome, RequestTrace, Simulation};
use super::super::{Builtin, Lru, PolicyConfig, PolicyVisitor, ReplacementPolicy};
use super::reference::optimal_misses;
use alloc::vec::Vec;
use proptest::prelude::*;

const OBJECTS: u32 = 40;

fn traces() -> impl Strategy<Value = Vec<u32>> {
    let object = prop_oneof![(0u32..6, 0u32..7).prop_map(|(a, b)| a * b), 0..OBJECTS];
    prop::collection::vec(object, 0..300)
}

fn optimum(trace: &[u32], capacity: u32) -> Outcome {
    let mut opt = Opt::new(RequestTrace { requests: trace, objects: OBJECTS }, capacity);
    while opt.advance(7) {}
    opt.outcome()
}

struct Misses<'t> {
    trace: &'t [u32],
    capacity: u32,
    hits: Hits,
}

impl PolicyVisitor for Misses<'_> {
    type Output = Outcome;

    fn visit<P: ReplacementPolicy + 'static>(self, mut policy: P) -> Outcome {
        let mut simulation = Simulation::new(&mut policy, OBJECTS, self.capacity, self.hits);
        simulation.run(self.trace);
        simulation.outcome()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn opt_evicts_what_is_used_furthest_ahead(trace in traces(), capacity in 1u32..20) {
        let outcome = optimum(&trace, capacity);
        prop_assert_eq!(outcome.requests, trace.len() as u64);
        prop_assert_eq!(outcome.misses, optimal_misses(&trace, capacity as usize));
    }

    #[test]
    fn no_policy_has_fewer_misses_than_opt_or_more_than_requests(
        trace in traces(),
        capacity in 1u32..20,
        seed: u64,
    ) {
        let best = optimum(&trace, capacity).misses;
        for policy in Builtin::ALL {
            for hits in [Hits::Exact, Hits::AccessedBits] {
                let config = PolicyConfig { pages: capacity, capacity, seed };
                let outcome = policy.visit(config, Misses { trace: &trace, capacity, hits });
                prop_assert!(outcome.misses >= best, "{}: {} < {}", policy, outcome.misses, best);
                prop_assert!(outcome.misses <= outcome.requests);
            }
        }
    }

    #[test]
    fn what_a_small_lru_holds_a_larger_one_holds(trace in traces(), capacity in 1u32..20) {
        let (mut small, mut large) = (Lru::new(capacity), Lru::new(capacity + 1));
        let mut small = Simulation::new(&mut small, OBJECTS, capacity, Hits::Exact);
        let mut large = Simulation::new(&mut large, OBJECTS, capacity + 1, Hits::Exact);
        for object in trace {
            small.run(&[object]);
            large.run(&[object]);
            prop_assert!((0..OBJECTS).all(|object| !small.contains(object) || large.contains(object)));
        }
    }

    #[test]
    fn a_cache_for_everything_misses_each_object_once(trace in traces(), seed: u64) {
        let distinct = (0..OBJECTS).filter(|object| trace.contains(object)).count() as u64;
        for policy in Builtin::ALL {
            let config = PolicyConfig { pages: OBJECTS, capacity: OBJECTS, seed };
            let outcome = policy.visit(config, Misses { trace: &trace, capacity: OBJECTS, hits: Hits::Exact });
            prop_assert_eq!(outcome.misses, distinct);
        }
        prop_assert_eq!(optimum(&trace, OBJECTS).misses, distinct);
    }
}

#[test]
fn belady_s_anomaly_fifo_misses_more_with_more_room() {
    let trace = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
    let misses = |capacity| {
        let config = PolicyConfig { pages: capacity, capacity, seed: 0 };
        Builtin::Fifo.visit(config, Misses { trace: &trace, capacity, hits: Hits::Exact }).misses
    };
    assert_eq!((misses(3), misses(4)), (9, 10));
}

#[test]
fn a_loop_larger_than_the_cache_defeats_lru_and_fifo_but_not_all() {
    let trace: Vec<u32> = (0..30).collect::<Vec<_>>().repeat(50);
    let ratio = |policy: Builtin| {
        let config = PolicyConfig { pages: 20, capacity: 20, seed: 3 };
        policy.visit(config, Misses { trace: &trace, capacity: 20, hits: Hits::Exact }).miss_ratio()
    };
    assert_eq!(ratio(Builtin::Lru), 1.0);
    assert_eq!(ratio(Builtin::Fifo), 1.0);
    assert!(ratio(Builtin::Random) < 0.75, "{}", ratio(Builtin::Random));
}

#[test]
fn a_scan_flushes_lru_but_not_the_scan_resistant() {
    let hot: Vec<u32> = (0..8).collect();
    let trace = [hot.repeat(4), (8..OBJECTS).collect(), hot.clone()].concat();
    let survivors = |policy: Builtin| {
        struct Survivors<'t>(&'t [u32]);
        impl PolicyVisitor for Survivors<'_> {
            type Output = usize;
            fn visit<P: ReplacementPolicy + 'static>(self, mut policy: P) -> usize {
                let mut simulation = Simulation::new(&mut policy, OBJECTS, 20, Hits::Exact);
                simulation.run(&self.0[..self.0.len() - 8]);
                (0..8).filter(|&object| simulation.contains(object)).count()
            }
        }
        policy.visit(PolicyConfig { pages: 20, capacity: 20, seed: 3 }, Survivors(&trace))
    };
    assert_eq!(survivors(Builtin::Lru), 0);
    assert_eq!(survivors(Builtin::Fifo), 0);
    for policy in [Builtin::TwoList, Builtin::Arc, Builtin::S3Fifo, Builtin::Sieve] {
        assert_eq!(survivors(policy), 8, "{policy}");
    }
}

#[test]
fn random_victims_are_the_seed_s_and_evenly_spread() {
    let trace: Vec<u32> = (0..OBJECTS).collect::<Vec<_>>().repeat(200);
    let ratio = |seed| {
        let config = PolicyConfig { pages: 20, capacity: 20, seed };
        Builtin::Random
            .visit(config, Misses { trace: &trace, capacity: 20, hits: Hits::Exact })
            .miss_ratio()
    };
    assert_eq!(ratio(1), ratio(1));
    assert_ne!(ratio(1), ratio(2));
    // A loop over twice the capacity: an object survives m misses with (1 - 1/c)^m, and m = 2 c r for the miss ratio r, so
    // r = 1 - exp(-2 r): r = 0.797.
    assert!((ratio(1) - 0.797).abs() < 0.02, "{}", ratio(1));
}
