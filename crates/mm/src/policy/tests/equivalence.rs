//! Each policy hits and misses exactly where its definition does.

use super::super::simulate::{Hits, Simulation};
use super::super::{Arc, Clock, Fifo, Lru, Mglru, ReplacementPolicy, S3Fifo, Sieve, TwoList};
use super::reference::{self, Reference};
use super::reference_linux;
use alloc::format;
use alloc::vec::Vec;
use proptest::prelude::*;

const OBJECTS: u32 = 64;

#[derive(Clone, Copy, Debug)]
enum Step {
    Request(u32),
    Discard(u32),
}

/// Skewed requests over few objects, with loops and scans in between: all lists get used, ghosts return.
fn requests() -> impl Strategy<Value = Vec<u32>> {
    let skewed = prop::collection::vec((0u32..8, 0u32..8).prop_map(|(a, b)| a * b), 1..40);
    let uniform = prop::collection::vec(0..OBJECTS, 1..20);
    let scan = (0..OBJECTS, 1u32..30, 1usize..4).prop_map(|(from, len, times)| {
        (0..len).map(|at| (from + at) % OBJECTS).collect::<Vec<_>>().repeat(times)
    });
    prop::collection::vec(prop_oneof![skewed, uniform, scan], 1..12)
        .prop_map(|parts| parts.concat())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    (requests(), prop::collection::vec((any::<prop::sample::Index>(), 0..OBJECTS), 0..12)).prop_map(
        |(trace, discards)| {
            let mut steps: Vec<Step> = trace.into_iter().map(Step::Request).collect();
            for (at, object) in discards {
                steps.insert(at.index(steps.len() + 1), Step::Discard(object));
            }
            steps
        },
    )
}

fn compare<P: ReplacementPolicy>(
    mut policy: P,
    mut reference: impl Reference,
    steps: &[Step],
    capacity: u32,
    hits: Hits,
) -> Result<(), TestCaseError> {
    let mut simulation = Simulation::new(&mut policy, OBJECTS, capacity, hits);
    for (at, &step) in steps.iter().enumerate() {
        match step {
            Step::Request(object) => {
                let hit = simulation.contains(object);
                simulation.run(&[object]);
                let expected = reference.request(object);
                prop_assert_eq!(hit, expected, "step {}: {:?}: {:?}", at, step, &steps[..=at]);
            }
            Step::Discard(object) => {
                simulation.discard(object);
                reference.discard(object);
            }
        }
        if let Err(broken) = simulation.policy().check() {
            return Err(TestCaseError::fail(format!("step {at}: {step:?}: {broken}")));
        }
    }
    Ok(())
}

fn any_hits() -> impl Strategy<Value = Hits> {
    prop_oneof![Just(Hits::Exact), Just(Hits::AccessedBits)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn fifo_is_first_in_first_out(steps in steps(), capacity in 1u32..24, hits in any_hits()) {
        let reference = reference::Fifo { capacity: capacity as usize, queue: Vec::new() };
        compare(Fifo::new(capacity), reference, &steps, capacity, hits)?;
    }

    #[test]
    fn lru_evicts_by_time_of_last_use(steps in steps(), capacity in 1u32..24) {
        let reference = reference::Lru { capacity: capacity as usize, clock: 0, last_use: Vec::new() };
        compare(Lru::new(capacity), reference, &steps, capacity, Hits::Exact)?;
    }

    #[test]
    fn lru_with_accessed_bits_is_clock(steps in steps(), capacity in 1u32..24) {
        let hits = Hits::AccessedBits;
        let reference = reference::Clock { capacity: capacity as usize, hits, ring: Default::default() };
        compare(Lru::new(capacity), reference, &steps, capacity, hits)?;
    }

    #[test]
    fn clock_is_a_ring_with_a_hand(steps in steps(), capacity in 1u32..24, hits in any_hits()) {
        let reference = reference::Clock { capacity: capacity as usize, hits, ring: Default::default() };
        compare(Clock::new(capacity), reference, &steps, capacity, hits)?;
    }

    #[test]
    fn sieve_is_algorithm_1(steps in steps(), capacity in 1u32..24, hits in any_hits()) {
        let reference = reference::Sieve { capacity: capacity as usize, hits, queue: Vec::new(), hand: None };
        compare(Sieve::new(capacity), reference, &steps, capacity, hits)?;
    }

    #[test]
    fn arc_is_figure_4(trace in requests(), capacity in 1u32..24) {
        // Without discards: the paper knows none, and its ghost rules differ from ours on a cache that has holes.
        let steps: Vec<Step> = trace.into_iter().map(Step::Request).collect();
        let (t1, t2, b1, b2) = Default::default();
        let reference = reference::Arc { capacity: capacity as usize, p: 0, t1, t2, b1, b2 };
        compare(Arc::new(capacity, capacity), reference, &steps, capacity, Hits::Exact)?;
    }

    #[test]
    fn s3_fifo_is_algorithm_1(steps in steps(), capacity in 1u32..40) {
        let (small, main, ghosts) = Default::default();
        let reference = reference::S3Fifo { capacity: capacity as usize, small, main, ghosts };
        compare(S3Fifo::new(capacity, capacity), reference, &steps, capacity, Hits::Exact)?;
    }

    #[test]
    fn two_list_is_linux_active_and_inactive(steps in steps(), capacity in 1u32..24, hits in any_hits()) {
        let (inactive, active, gone) = Default::default();
        let capacity_max = capacity as usize;
        let reference =
            reference_linux::TwoList { capacity: capacity_max, hits, inactive, active, age: 0, owed: 0, gone };
        compare(TwoList::new(capacity), reference, &steps, capacity, hits)?;
    }

    #[test]
    fn mglru_is_generations_and_tiers(trace in requests(), capacity in 1u32..24, hits in any_hits()) {
        // Without discards: a walk meets pages by slot, and the reference's slots have no holes.
        let steps: Vec<Step> = trace.into_iter().map(Step::Request).collect();
        let reference = reference_linux::Mglru::new(capacity as usize, hits);
        compare(Mglru::new(capacity), reference, &steps, capacity, hits)?;
    }
}

/// The feedback loop of tiers wants more refaults than short traces have.
#[test]
fn mglru_protects_tiers_on_long_traces_as_its_definition_does() {
    let mut state = 1u64;
    let mut draw = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut steps = Vec::new();
    for round in 0..40_000 {
        let object = if round % 3 == 0 { draw(u64::from(OBJECTS)) } else { draw(8) * draw(5) };
        steps.push(Step::Request(object as u32));
    }
    for capacity in [4, 9, 20] {
        for hits in [Hits::Exact, Hits::AccessedBits] {
            let reference = reference_linux::Mglru::new(capacity as usize, hits);
            compare(Mglru::new(capacity), reference, &steps, capacity, hits).unwrap();
        }
    }
}
