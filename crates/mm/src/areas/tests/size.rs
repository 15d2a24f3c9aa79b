//! The cost of operations with many areas, in nodes visited.

use crate::areas::gaps::Wanted;
use crate::areas::leaf::Head;
use crate::areas::node::Span;
use crate::areas::tree::Tree;

const COUNT: u64 = 100_000;

type TestTree = Tree<11, 224, ()>;

/// `count` areas of one page with a page between them, put in an order that fits nothing.
fn scattered(count: u64) -> TestTree {
    let mut tree = Tree::new();
    for number in 0..count {
        let place = number * 7919 % count;
        tree.insert(Span { start: place * 2 + 1, end: place * 2 + 2 }, Head::default());
    }
    tree.check().expect("invariants hold");
    tree
}

/// Takes the area at `at` out.
fn take(tree: &mut TestTree, at: u64) -> Span {
    let cursor = tree.near(at).expect("there");
    tree.remove(cursor).0
}

/// Gives the area at `at` the range it has.
fn resize(tree: &mut TestTree, at: u64) {
    let cursor = tree.near(at).expect("there");
    tree.set_range(cursor, Span { start: at, end: at + 1 });
}

/// Most nodes that `run` visits, of a thousand areas from everywhere. A node has at most 128
/// entries, of which a search compares 24, so nodes bound entries as well.
fn most_visited(tree: &mut TestTree, run: impl Fn(&mut TestTree, u64)) -> u64 {
    let count = tree.len() as u64;
    let most = (0..1000).map(|number| {
        // From far away: nothing is found where the last look-up ended.
        tree.near((number * 7_351 + count / 2) % count * 2 + 1);
        tree.visits.take();
        run(tree, number * 6_151 % count * 2 + 1);
        tree.visits.take()
    });
    let most = most.max().expect("a thousand");
    tree.check().expect("invariants hold");
    most
}

#[test]
fn cost_grows_with_the_height_of_the_tree_alone() {
    // Nodes on the way to an area, when those above the leaves are at least a quarter full.
    for (count, levels) in [(100, 2), (1_000, 3), (10_000, 3), (100_000, 4)] {
        let mut tree = scattered(count);
        assert!(tree.height < levels as usize, "{count} areas: height {}", tree.height);
        let mut cost = |what: &str, most: u64, run: fn(&mut TestTree, u64)| {
            let visited = most_visited(&mut tree, run);
            assert!(visited <= most, "{what} of {count} areas: {visited} nodes");
        };
        cost("find", levels, |tree, at| assert!(tree.find(at).is_some()));
        // A look at the leaf last used and at the one before it, and the way from the root.
        let near = levels + 2;
        cost("find for a change", near, |tree, at| assert!(tree.near(at).is_some()));
        // Where it is; then, if the leaf says something new, the way to tell the nodes above.
        cost("resize", near + levels, resize);
        cost("remove and insert", 2 * (near + levels), |tree, at| {
            let span = take(tree, at);
            tree.insert(span, Head::default());
        });
        cost("the only gap of two pages, from above", 5 * levels + 4, |tree, at| {
            let span = take(tree, at);
            let wanted = Wanted { len: 2, low: 0, high: 2 * tree.len() as u64 + 3 };
            assert!(tree.highest_gap(wanted).is_some_and(|(start, _)| start < at + 2));
            tree.insert(span, Head::default());
        });
        cost("the only gap of three pages, from below", 5 * levels + 6, |tree, at| {
            let span = take(tree, at);
            let wanted = Wanted { len: 3, low: 0, high: 2 * tree.len() as u64 + 3 };
            assert_eq!(tree.lowest_gap(wanted), Some((at - 1, at + 2)));
            tree.insert(span, Head::default());
        });
        cost("no gap, limits amid areas", 2 * levels, |tree, at| {
            let wanted = Wanted { len: 2, low: at, high: 2 * tree.len() as u64 };
            assert_eq!(tree.highest_gap(wanted), None);
        });
    }
}

#[test]
fn filling_from_either_end_leaves_full_nodes() {
    let descending = |number: u64| COUNT - number;
    let ascending = |number: u64| number;
    for place in [&descending as &dyn Fn(u64) -> u64, &ascending] {
        let mut tree = TestTree::new();
        for number in 0..10_000 {
            let start = place(number) * 2;
            tree.insert(Span { start, end: start + 1 }, Head::default());
        }
        tree.check().expect("invariants hold");
        assert!(tree.leaves.len() <= 10_000 / 11 + 2, "{} leaves", tree.leaves.len());
    }
}

#[test]
fn areas_far_apart_share_leaves_with_those_near_them() {
    let far = 1 << 33;
    for start in [far, 1] {
        let mut tree = TestTree::new();
        tree.insert(Span { start: far - 1, end: far }, Head::default());
        for number in 0..10_000 {
            let start = start + number * 2;
            tree.insert(Span { start, end: start + 1 }, Head::default());
        }
        tree.check().expect("invariants hold");
        assert!(tree.leaves.len() <= 10_000 / 11 + 2, "{} leaves", tree.leaves.len());
    }
}

#[test]
fn emptying_gives_all_nodes_back_for_reuse() {
    let mut tree = scattered(COUNT);
    let leaves = tree.leaves.len();
    for round in 0..2 {
        for number in 0..COUNT {
            let place = number * 3_571 % COUNT;
            assert_eq!(take(&mut tree, place * 2 + 1).start, place * 2 + 1);
        }
        tree.check().expect("invariants hold");
        assert_eq!((tree.len(), tree.height), (0, 0), "round {round}");
        for number in 0..COUNT {
            let place = number * 7919 % COUNT;
            tree.insert(Span { start: place * 2 + 1, end: place * 2 + 2 }, Head::default());
        }
        assert!(tree.leaves.len() <= leaves + 1);
    }
}
