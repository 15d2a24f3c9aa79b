//! Intervals of page offsets, and which of them overlap a page (Linux `interval_tree_generic.h`).
//!
//! [`IntervalTree`] is a search tree by first offset in which each node also knows the largest last
//! offset below it, so that subtrees which end too early are skipped: all that overlap a page are
//! found in the time of a look-up each, however many there are.
//!
//! ```text
//!                     [40..47] max 90
//!                    /               \
//!        [10..90] max 90           [60..63] max 80
//!                                        \
//!                                      [70..80] max 80       who has page 75?
//! ```
//!
//! Balance comes from priorities drawn per node (a treap): the shape depends on the sequence of
//! insertions and removals alone, so equal runs make equal trees.

use alloc::vec::Vec;
use core::ops::ControlFlow;
use smallvec::SmallVec;

/// Intervals with a value each, by first offset, then by `T`.
pub(crate) struct IntervalTree<T, V> {
    /// One interval, as most private areas have, needs no memory elsewhere.
    nodes: SmallVec<[Node<T, V>; 1]>,
    root: Link,
    /// Unused nodes, linked by `left`.
    free: Link,
    len: usize,
    draws: u64,
}

/// A node's place in `nodes`, + 1; 0 is none.
type Link = u32;

struct Node<T, V> {
    first: u64,
    last: u64,
    tie: T,
    /// Largest `last` of this node and those below it.
    max_last: u64,
    priority: u32,
    left: Link,
    right: Link,
    value: Option<V>,
}

/// A node as [`IntervalTree::shape`] tells it; children are places in that list.
pub(crate) struct NodeShape<'t, T, V> {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) tie: T,
    /// Largest last offset of this node and those below it.
    pub(crate) max_last: u64,
    pub(crate) left: Option<usize>,
    pub(crate) right: Option<usize>,
    pub(crate) value: &'t V,
}

impl<T, V> Default for IntervalTree<T, V> {
    fn default() -> Self {
        Self { nodes: SmallVec::new(), root: 0, free: 0, len: 0, draws: 0 }
    }
}

impl<T: Ord + Copy, V> IntervalTree<T, V> {
    /// Number of intervals.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn node(&self, link: Link) -> &Node<T, V> {
        &self.nodes[link as usize - 1]
    }

    fn node_mut(&mut self, link: Link) -> &mut Node<T, V> {
        &mut self.nodes[link as usize - 1]
    }

    fn max_of(&self, link: Link) -> u64 {
        if link == 0 { 0 } else { self.node(link).max_last }
    }

    fn update(&mut self, link: Link) {
        let node = self.node(link);
        let max = node.last.max(self.max_of(node.left)).max(self.max_of(node.right));
        self.node_mut(link).max_last = max;
    }

    fn key(&self, link: Link) -> (u64, T) {
        let node = self.node(link);
        (node.first, node.tie)
    }

    /// The next priority: a mixed counter.
    fn draw(&mut self) -> u32 {
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.draws ^ self.draws >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as u32
    }

    /// Puts in `first..=last`. Answers what was there with the same first offset and `tie`, which
    /// it replaces.
    pub(crate) fn insert(&mut self, first: u64, last: u64, tie: T, value: V) -> Option<V> {
        let before = self.remove(first, tie);
        let priority = self.draw();
        let node = Node {
            first,
            last,
            tie,
            max_last: last,
            priority,
            left: 0,
            right: 0,
            value: Some(value),
        };
        self.len += 1;
        if self.len == 1 {
            (self.root, self.free) = (1, 0);
            self.nodes.clear();
            self.nodes.push(node);
            return before;
        }
        let link = if self.free == 0 {
            self.nodes.push(node);
            self.nodes.len() as Link
        } else {
            let link = self.free;
            self.free = self.node(link).left;
            *self.node_mut(link) = node;
            link
        };
        let (left, right) = self.split(self.root, (first, tie));
        let left = self.join(left, link);
        self.root = self.join(left, right);
        before
    }

    /// Takes out the interval with this first offset and `tie`.
    pub(crate) fn remove(&mut self, first: u64, tie: T) -> Option<V> {
        let (root, gone) = self.remove_below(self.root, (first, tie));
        self.root = root;
        let value = self.node_mut(gone?).value.take();
        self.len -= 1;
        value
    }

    /// Takes the node of `key` out of the subtree: its new root, and the node.
    fn remove_below(&mut self, root: Link, key: (u64, T)) -> (Link, Option<Link>) {
        if root == 0 {
            return (0, None);
        }
        let (left, right) = (self.node(root).left, self.node(root).right);
        let gone = match key.cmp(&self.key(root)) {
            core::cmp::Ordering::Equal => {
                let joined = self.join(left, right);
                let free = self.free;
                self.node_mut(root).left = free;
                self.free = root;
                return (joined, Some(root));
            }
            core::cmp::Ordering::Less => {
                let (left, gone) = self.remove_below(left, key);
                self.node_mut(root).left = left;
                gone
            }
            core::cmp::Ordering::Greater => {
                let (right, gone) = self.remove_below(right, key);
                self.node_mut(root).right = right;
                gone
            }
        };
        self.update(root);
        (root, gone)
    }

    /// The subtree's nodes below `key`, and the others.
    fn split(&mut self, root: Link, key: (u64, T)) -> (Link, Link) {
        if root == 0 {
            return (0, 0);
        }
        if self.key(root) < key {
            let (low, high) = self.split(self.node(root).right, key);
            self.node_mut(root).right = low;
            self.update(root);
            (root, high)
        } else {
            let (low, high) = self.split(self.node(root).left, key);
            self.node_mut(root).left = high;
            self.update(root);
            (low, root)
        }
    }

    /// One tree of two, all of the first below all of the second.
    fn join(&mut self, low: Link, high: Link) -> Link {
        if low == 0 || high == 0 {
            return low | high;
        }
        if self.node(low).priority >= self.node(high).priority {
            let right = self.join(self.node(low).right, high);
            self.node_mut(low).right = right;
            self.update(low);
            low
        } else {
            let left = self.join(low, self.node(high).left);
            self.node_mut(high).left = left;
            self.update(high);
            high
        }
    }

    fn find(&self, first: u64, tie: T) -> Option<Link> {
        let mut at = self.root;
        while at != 0 {
            at = match (first, tie).cmp(&self.key(at)) {
                core::cmp::Ordering::Equal => return Some(at),
                core::cmp::Ordering::Less => self.node(at).left,
                core::cmp::Ordering::Greater => self.node(at).right,
            };
        }
        None
    }

    /// The value of the interval with this first offset and `tie`.
    pub(crate) fn get(&self, first: u64, tie: T) -> Option<&V> {
        self.node(self.find(first, tie)?).value.as_ref()
    }

    /// The value of the interval with this first offset and `tie`, to be changed.
    pub(crate) fn get_mut(&mut self, first: u64, tie: T) -> Option<&mut V> {
        let link = self.find(first, tie)?;
        self.node_mut(link).value.as_mut()
    }

    /// Calls `visit` for the intervals that overlap `first..=last`, in order, until it breaks.
    pub(crate) fn for_each_overlap<B>(
        &self,
        first: u64,
        last: u64,
        mut visit: impl FnMut(u64, u64, &V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.visit_below(self.root, first, last, &mut visit)
    }

    fn visit_below<B>(
        &self,
        root: Link,
        first: u64,
        last: u64,
        visit: &mut impl FnMut(u64, u64, &V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if root == 0 || self.max_of(root) < first {
            return ControlFlow::Continue(());
        }
        let node = self.node(root);
        self.visit_below(node.left, first, last, visit)?;
        if node.first > last {
            return ControlFlow::Continue(());
        }
        if node.last >= first
            && let Some(value) = &node.value
        {
            visit(node.first, node.last, value)?;
        }
        self.visit_below(node.right, first, last, visit)
    }

    /// Every interval in order, and how the tree links them.
    pub(crate) fn shape(&self) -> Vec<NodeShape<'_, T, V>> {
        let mut told = Vec::with_capacity(self.len);
        self.shape_below(self.root, &mut told);
        told
    }

    /// Adds a subtree; where its root is in `told` then.
    fn shape_below<'t>(&'t self, root: Link, told: &mut Vec<NodeShape<'t, T, V>>) -> Option<usize> {
        if root == 0 {
            return None;
        }
        let node = self.node(root);
        let left = self.shape_below(node.left, told);
        let value = node.value.as_ref().expect("a node of the tree has its value");
        let (first, last, tie, max_last) = (node.first, node.last, node.tie, node.max_last);
        let at = told.len();
        told.push(NodeShape { first, last, tie, max_last, left, right: None, value });
        told[at].right = self.shape_below(node.right, told);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    fn overlaps(tree: &IntervalTree<u8, u32>, first: u64, last: u64) -> Vec<(u64, u64, u32)> {
        let mut found = Vec::new();
        let _ = tree.for_each_overlap::<()>(first, last, |first, last, &value| {
            found.push((first, last, value));
            ControlFlow::Continue(())
        });
        found
    }

    fn depth(tree: &IntervalTree<u8, u32>) -> usize {
        let shape = tree.shape();
        let children = shape.iter().flat_map(|node| [node.left, node.right]).flatten();
        let below: alloc::collections::BTreeSet<usize> = children.collect();
        let mut level: Vec<usize> = (0..shape.len()).filter(|at| !below.contains(at)).collect();
        assert!(level.len() < 2, "one root");
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            let next = level.iter().flat_map(|&at| [shape[at].left, shape[at].right]);
            level = next.flatten().collect();
        }
        depth
    }

    #[test]
    fn a_tree_filled_in_order_stays_shallow() {
        let mut tree = IntervalTree::default();
        for first in 0..10_000 {
            tree.insert(first * 2, first * 2 + 1, 0, 0);
        }
        assert!(depth(&tree) < 40, "{} levels for 10,000 intervals", depth(&tree));
        assert_eq!(overlaps(&tree, 777, 778), [(776, 777, 0), (778, 779, 0)]);
    }

    #[test]
    fn a_visit_ends_where_the_visitor_says() {
        let mut tree = IntervalTree::default();
        for tie in 0..5_u32 {
            tree.insert(3, 9, tie, tie);
        }
        let found = tree.for_each_overlap(9, 9, |_, _, &value| {
            if value == 2 { ControlFlow::Break(value) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(found, ControlFlow::Break(2));
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_interval_finds(
            steps in prop::collection::vec((0_u8..4, 0_u64..40, 0_u64..20, 0_u8..3), 1..200),
        ) {
            let mut tree = IntervalTree::default();
            let mut model = BTreeMap::new();
            for (i, (what, first, len, tie)) in steps.into_iter().enumerate() {
                let value = i as u32;
                match what {
                    0 | 1 => {
                        let before = model.insert((first, tie), (first + len, value));
                        prop_assert_eq!(
                            tree.insert(first, first + len, tie, value),
                            before.map(|(_, value)| value)
                        );
                    }
                    2 => {
                        let gone = model.remove(&(first, tie)).map(|(_, value)| value);
                        prop_assert_eq!(tree.remove(first, tie), gone);
                    }
                    _ => {
                        let expected: Vec<_> = model
                            .iter()
                            .filter(|((f, _), (l, _))| *f <= first + len && *l >= first)
                            .map(|((f, _), (l, v))| (*f, *l, *v))
                            .collect();
                        prop_assert_eq!(overlaps(&tree, first, first + len), expected);
                    }
                }
                prop_assert_eq!(tree.len(), model.len());
                prop_assert_eq!(
                    tree.get(first, tie),
                    model.get(&(first, tie)).map(|(_, value)| value)
                );
            }
        }
    }
}
