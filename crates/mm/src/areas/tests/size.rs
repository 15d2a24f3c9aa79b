//! The cost of operations with many areas, in nodes visited.

use crate::areas::gaps::Wanted;
use crate::areas::node::Span;
use crate::areas::tree::Tree;

const COUNT: u64 = 100_000;
/// Levels of a tree of 100,000 areas whose nodes are at least a quarter full.
const LEVELS: u64 = 5;

/// Areas of one page with a page between them, put in an order that fits nothing.
fn scattered() -> Tree<64> {
    let mut tree = Tree::new();
    for number in 0..COUNT {
        let place = number * 7919 % COUNT;
        tree.insert(Span { start: place * 2 + 1, end: place * 2 + 2, slot: 0 });
    }
    tree.check().expect("invariants hold");
    tree
}

#[test]
fn no_operation_visits_more_nodes_than_a_few_paths() {
    let mut tree = scattered();
    let mut cost = |what: &str, most: u64, run: &mut dyn FnMut(&mut Tree<64>, u64)| {
        for number in 0..1000 {
            tree.visits.take();
            run(&mut tree, number * 6_151 % COUNT * 2 + 1);
            let visited = tree.visits.take();
            assert!(visited <= most, "{what}: {visited} nodes");
        }
        tree.check().expect("invariants hold");
    };
    cost("find", LEVELS, &mut |tree, at| assert!(tree.find(at).is_some()));
    cost("remove and insert", 2 * LEVELS, &mut |tree, at| {
        let span = tree.remove(at);
        tree.insert(span);
    });
    cost("resize", LEVELS, &mut |tree, at| tree.set_range(at, at, at + 1));
    cost("the only gap of two pages, from above", 3 * LEVELS, &mut |tree, at| {
        let span = tree.remove(at);
        let wanted = Wanted { len: 2, low: 0, high: 2 * COUNT };
        assert!(tree.highest_gap(wanted).is_some_and(|(start, _)| start < at + 2));
        tree.insert(span);
    });
    cost("the only gap of three pages, from below", 3 * LEVELS + 2, &mut |tree, at| {
        let span = tree.remove(at);
        let wanted = Wanted { len: 3, low: 0, high: 2 * COUNT };
        assert_eq!(tree.lowest_gap(wanted), Some((at - 1, at + 2)));
        tree.insert(span);
    });
    cost("no gap, limits amid areas", 2 * LEVELS, &mut |tree, at| {
        let wanted = Wanted { len: 2, low: at, high: 2 * COUNT };
        assert_eq!(tree.highest_gap(wanted), None);
    });
}

#[test]
fn filling_from_either_end_leaves_full_nodes() {
    let descending = |number: u64| COUNT - number;
    let ascending = |number: u64| number;
    for place in [&descending as &dyn Fn(u64) -> u64, &ascending] {
        let mut tree = Tree::<64>::new();
        for number in 0..10_000 {
            let start = place(number) * 2;
            tree.insert(Span { start, end: start + 1, slot: 0 });
        }
        tree.check().expect("invariants hold");
        assert!(tree.leaves.len() <= 10_000 / 60, "{} leaves", tree.leaves.len());
    }
}

#[test]
fn emptying_gives_all_nodes_back_for_reuse() {
    let mut tree = scattered();
    let leaves = tree.leaves.len();
    for round in 0..2 {
        for number in 0..COUNT {
            let place = number * 3_571 % COUNT;
            assert_eq!(tree.remove(place * 2 + 1).start, place * 2 + 1);
        }
        tree.check().expect("invariants hold");
        assert_eq!((tree.len(), tree.height), (0, 0), "round {round}");
        for number in 0..COUNT {
            let place = number * 7919 % COUNT;
            tree.insert(Span { start: place * 2 + 1, end: place * 2 + 2, slot: 0 });
        }
        assert!(tree.leaves.len() <= leaves + 1);
    }
}
