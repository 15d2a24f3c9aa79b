//! The ordered tree of areas: a B+-tree over address ranges that knows its gaps.
//!
//! [`Tree`] maps disjoint [`Span`]s to slots. Nodes lie in two arenas and name each other by index;
//! leaves are linked in order. Searching for an area reads one array of ends a level. Every node
//! carries its largest gap, kept exact on the way up from a change, so that the search for a free
//! range ([`Tree::lowest_gap`], [`Tree::highest_gap`] in `gaps.rs`) skips whole subtrees.
//!
//! Rejected: red-black or interval trees (a cache miss a level, 17 levels at 100,000 areas); a
//! sorted vector (linear inserts).

use super::node::{Inner, Leaf, Span, Summary, first_ending_above};
use alloc::vec::Vec;

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// Levels above the leaves: enough for 2^32 areas in production nodes, and for tests' small ones.
const MAX_HEIGHT: usize = 16;

/// Where an area stands in the tree, until the next change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    leaf: u32,
    at: u32,
}

/// The way from the root to a leaf entry.
struct Path {
    /// Inner nodes from the root down, each with the index of the child taken.
    inner: [(u32, u32); MAX_HEIGHT],
    leaf: u32,
    at: usize,
}

/// Disjoint address ranges in order, each with a slot number. Nodes hold at most `N` entries.
#[derive(Clone)]
pub(super) struct Tree<const N: usize> {
    pub(super) leaves: Vec<Leaf<N>>,
    pub(super) inners: Vec<Inner<N>>,
    free_leaves: Vec<u32>,
    free_inners: Vec<u32>,
    pub(super) root: u32,
    /// Levels of inner nodes above the leaves.
    pub(super) height: usize,
    len: usize,
    #[cfg(test)]
    pub(super) visits: super::visits::Visits,
}

impl<const N: usize> Tree<N> {
    /// An empty tree.
    pub(super) const fn new() -> Self {
        Self {
            leaves: Vec::new(),
            inners: Vec::new(),
            free_leaves: Vec::new(),
            free_inners: Vec::new(),
            root: NONE,
            height: 0,
            len: 0,
            #[cfg(test)]
            visits: super::visits::Visits::new(),
        }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn inner(&self, node: u32) -> &Inner<N> {
        #[cfg(test)]
        self.visits.count();
        &self.inners[node as usize]
    }

    #[inline]
    pub(super) fn leaf(&self, node: u32) -> &Leaf<N> {
        #[cfg(test)]
        self.visits.count();
        &self.leaves[node as usize]
    }

    /// The first span that ends above `addr`.
    #[inline]
    pub(super) fn find(&self, addr: u64) -> Option<Cursor> {
        if self.len == 0 {
            return None;
        }
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inner(node);
            let at = first_ending_above(inner.ends(), addr);
            if at == inner.len() {
                // Only at the root: below, the parent has said that something ends above.
                return None;
            }
            node = inner.child(at);
        }
        let leaf = self.leaf(node);
        let at = first_ending_above(leaf.ends(), addr);
        (at < leaf.len()).then_some(Cursor { leaf: node, at: at as u32 })
    }

    /// The last span.
    pub(super) fn last(&self) -> Option<Cursor> {
        if self.len == 0 {
            return None;
        }
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inner(node);
            node = inner.child(inner.len() - 1);
        }
        Some(Cursor { leaf: node, at: self.leaf(node).len() as u32 - 1 })
    }

    #[inline]
    pub(super) fn next(&self, cursor: Cursor) -> Option<Cursor> {
        let leaf = self.leaf(cursor.leaf);
        let at = cursor.at + 1;
        if (at as usize) < leaf.len() {
            Some(Cursor { leaf: cursor.leaf, at })
        } else {
            (leaf.next != NONE).then_some(Cursor { leaf: leaf.next, at: 0 })
        }
    }

    #[inline]
    pub(super) fn prev(&self, cursor: Cursor) -> Option<Cursor> {
        if cursor.at > 0 {
            return Some(Cursor { leaf: cursor.leaf, at: cursor.at - 1 });
        }
        let prev = self.leaf(cursor.leaf).prev;
        (prev != NONE).then(|| Cursor { leaf: prev, at: self.leaf(prev).len() as u32 - 1 })
    }

    #[inline]
    pub(super) fn slot(&self, cursor: Cursor) -> u32 {
        self.leaves[cursor.leaf as usize].slot(cursor.at as usize)
    }

    pub(super) fn span(&self, cursor: Cursor) -> Span {
        self.leaves[cursor.leaf as usize].span(cursor.at as usize)
    }

    /// The way to the first span that ends above `addr`, or to the place after the last one.
    fn path(&self, addr: u64) -> Path {
        let mut inner_path = [(NONE, 0); MAX_HEIGHT];
        let mut node = self.root;
        for step in &mut inner_path[..self.height] {
            let inner = self.inner(node);
            let at = first_ending_above(inner.ends(), addr).min(inner.len() - 1);
            *step = (node, at as u32);
            node = inner.child(at);
        }
        let at = first_ending_above(self.leaf(node).ends(), addr);
        Path { inner: inner_path, leaf: node, at }
    }

    /// Adds a span that overlaps none.
    pub(super) fn insert(&mut self, span: Span) {
        self.len += 1;
        if self.root == NONE {
            let mut leaf = Leaf::new();
            leaf.insert(0, span);
            self.root = self.new_leaf(leaf);
            return;
        }
        let Path { inner, leaf, at } = self.path(span.start);
        if self.leaves[leaf as usize].len() < N {
            self.leaves[leaf as usize].insert(at, span);
            self.tell_parents(&inner, leaf);
        } else {
            let upper = self.split_leaf(leaf, at, span);
            self.add_sibling(&inner, leaf, upper);
        }
    }

    /// Takes out the span that starts at `start`; there is one.
    pub(super) fn remove(&mut self, start: u64) -> Span {
        let Path { inner, leaf, at } = self.path(start);
        let node = &mut self.leaves[leaf as usize];
        let span = node.remove(at);
        debug_assert_eq!(span.start, start, "a span starts there");
        self.len -= 1;
        if node.len() == 0 {
            self.unlink_leaf(leaf);
            self.free_leaves.push(leaf);
            self.drop_child(&inner, self.height);
        } else if node.len() < N / 4 && self.height > 0 {
            self.tell_parents(&inner, leaf);
            self.join_leaf(&inner);
        } else {
            self.tell_parents(&inner, leaf);
        }
        span
    }

    /// Gives the span that starts at `start` another range, which leaves it between the same
    /// neighbours.
    pub(super) fn set_range(&mut self, start: u64, to_start: u64, to_end: u64) {
        let Path { inner, leaf, at } = self.path(start);
        self.leaves[leaf as usize].set_range(at, to_start, to_end);
        self.tell_parents(&inner, leaf);
    }

    /// Passes a leaf's new summary up, as far as it changes anything.
    fn tell_parents(&mut self, path: &[(u32, u32); MAX_HEIGHT], leaf: u32) {
        let mut summary = self.leaves[leaf as usize].summary();
        for &(node, at) in path[..self.height].iter().rev() {
            let inner = &mut self.inners[node as usize];
            if inner.summary_of(at as usize) == summary {
                return;
            }
            inner.set_summary(at as usize, summary);
            summary = inner.summary();
        }
    }

    /// Splits a full leaf while adding `span` at `at`; answers the new upper leaf.
    fn split_leaf(&mut self, leaf: u32, at: usize, span: Span) -> u32 {
        let node = &mut self.leaves[leaf as usize];
        // Address spaces fill from one end: then leave the old leaf full.
        let cut = match at {
            0 => 0,
            _ if at == N => N,
            _ => N / 2,
        };
        let mut upper = node.split_off(cut);
        if at < cut || cut == 0 {
            node.insert(at, span);
        } else {
            upper.insert(at - cut, span);
        }
        upper.prev = leaf;
        upper.next = node.next;
        let after = node.next;
        let upper = self.new_leaf(upper);
        self.leaves[leaf as usize].next = upper;
        if after != NONE {
            self.leaves[after as usize].prev = upper;
        }
        upper
    }

    /// Adds leaf `upper` right after leaf `lower` in the nodes above, splitting those that are
    /// full.
    fn add_sibling(&mut self, path: &[(u32, u32); MAX_HEIGHT], lower: u32, upper: u32) {
        let mut lower_summary = self.leaves[lower as usize].summary();
        let mut upper_summary = self.leaves[upper as usize].summary();
        let mut upper = upper;
        for level in (0..self.height).rev() {
            let (node, at) = (path[level].0, path[level].1 as usize);
            let inner = &mut self.inners[node as usize];
            inner.set_summary(at, lower_summary);
            if inner.len() < N {
                inner.insert(at + 1, upper, upper_summary);
                let summary = inner.summary();
                self.tell_inner_parents(path, level, summary);
                return;
            }
            // As in leaves: what fills from one end leaves full nodes behind.
            let cut = match at {
                0 => 1,
                _ if at + 1 == N => N,
                _ => N / 2,
            };
            let mut split = inner.split_off(cut);
            if at < cut && cut < N {
                inner.insert(at + 1, upper, upper_summary);
            } else {
                split.insert(at + 1 - cut, upper, upper_summary);
            }
            lower_summary = inner.summary();
            upper_summary = split.summary();
            upper = self.new_inner(split);
        }
        let mut root = Inner::new();
        root.insert(0, self.root, lower_summary);
        root.insert(1, upper, upper_summary);
        self.root = self.new_inner(root);
        self.height += 1;
        assert!(self.height <= MAX_HEIGHT, "the tree is bounded by the address space");
    }

    /// Passes the summary of the inner node at `level` of the path up.
    fn tell_inner_parents(
        &mut self,
        path: &[(u32, u32); MAX_HEIGHT],
        level: usize,
        mut summary: Summary,
    ) {
        for &(node, at) in path[..level].iter().rev() {
            let inner = &mut self.inners[node as usize];
            if inner.summary_of(at as usize) == summary {
                return;
            }
            inner.set_summary(at as usize, summary);
            summary = inner.summary();
        }
    }

    /// Removes, from the node above `level`, the child the path took, which is gone.
    fn drop_child(&mut self, path: &[(u32, u32); MAX_HEIGHT], mut level: usize) {
        while level > 0 {
            level -= 1;
            let (node, at) = path[level];
            let inner = &mut self.inners[node as usize];
            inner.remove(at as usize);
            if inner.len() > 0 {
                let summary = inner.summary();
                let small = inner.len() < N / 4;
                self.tell_inner_parents(path, level, summary);
                if small && level > 0 {
                    self.join_inner(path, level);
                }
                self.shrink_root();
                return;
            }
            self.free_inners.push(node);
        }
        self.root = NONE;
        self.height = 0;
    }

    /// Joins the small leaf at the end of the path with a neighbour under the same parent, if both
    /// fit with room to spare.
    fn join_leaf(&mut self, path: &[(u32, u32); MAX_HEIGHT]) {
        let level = self.height - 1;
        let (parent, at) = (path[level].0, path[level].1 as usize);
        let Some(left) = self.joinable(parent, at, |tree, node| tree.leaves[node as usize].len())
        else {
            return;
        };
        let inner = &self.inners[parent as usize];
        let (lower, upper) = (inner.child(left), inner.child(left + 1));
        let upper_node = self.leaves[upper as usize].clone();
        self.leaves[lower as usize].append(&upper_node);
        self.unlink_leaf(upper);
        self.free_leaves.push(upper);
        let summary = self.leaves[lower as usize].summary();
        self.joined(path, level, left, summary);
    }

    /// Joins the small inner node at `level` of the path with a neighbour.
    fn join_inner(&mut self, path: &[(u32, u32); MAX_HEIGHT], level: usize) {
        let level = level - 1;
        let (parent, at) = (path[level].0, path[level].1 as usize);
        let Some(left) = self.joinable(parent, at, |tree, node| tree.inners[node as usize].len())
        else {
            return;
        };
        let inner = &self.inners[parent as usize];
        let (lower, upper) = (inner.child(left), inner.child(left + 1));
        let upper_node = self.inners[upper as usize].clone();
        self.inners[lower as usize].append(&upper_node);
        self.free_inners.push(upper);
        let summary = self.inners[lower as usize].summary();
        self.joined(path, level, left, summary);
    }

    /// Of the pairs `at` belongs to under `parent`, the index of the lower of one that fits a node
    /// with a quarter to spare.
    fn joinable(&self, parent: u32, at: usize, len: impl Fn(&Self, u32) -> usize) -> Option<usize> {
        let inner = &self.inners[parent as usize];
        let fits = |left: usize| {
            left + 1 < inner.len()
                && len(self, inner.child(left)) + len(self, inner.child(left + 1)) <= N / 4 * 3
        };
        if fits(at) { Some(at) } else { at.checked_sub(1).filter(|&left| fits(left)) }
    }

    /// Records that child `left + 1` of the node at `level` of the path went into `left`.
    fn joined(
        &mut self,
        path: &[(u32, u32); MAX_HEIGHT],
        level: usize,
        left: usize,
        summary: Summary,
    ) {
        let inner = &mut self.inners[path[level].0 as usize];
        inner.remove(left + 1);
        inner.set_summary(left, summary);
        let small = inner.len() < N / 4;
        let summary = inner.summary();
        self.tell_inner_parents(path, level, summary);
        if small && level > 0 {
            self.join_inner(path, level);
        }
        self.shrink_root();
    }

    /// Drops roots that have one child.
    fn shrink_root(&mut self) {
        while self.height > 0 && self.inners[self.root as usize].len() == 1 {
            self.free_inners.push(self.root);
            self.root = self.inners[self.root as usize].child(0);
            self.height -= 1;
        }
    }

    fn unlink_leaf(&mut self, leaf: u32) {
        let Leaf { prev, next, .. } = self.leaves[leaf as usize];
        if prev != NONE {
            self.leaves[prev as usize].next = next;
        }
        if next != NONE {
            self.leaves[next as usize].prev = prev;
        }
    }

    fn new_leaf(&mut self, leaf: Leaf<N>) -> u32 {
        place(&mut self.leaves, &mut self.free_leaves, leaf)
    }

    fn new_inner(&mut self, inner: Inner<N>) -> u32 {
        place(&mut self.inners, &mut self.free_inners, inner)
    }
}

/// Puts `value` into a free place of `arena`, or a new one.
fn place<T>(arena: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(index) => {
            arena[index as usize] = value;
            index
        }
        None => {
            arena.push(value);
            u32::try_from(arena.len() - 1).expect("fewer than 2^32 nodes")
        }
    }
}
