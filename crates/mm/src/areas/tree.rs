//! The ordered tree of areas: a B+-tree over page ranges that knows its gaps.
//!
//! [`Tree`] maps disjoint [`Span`]s of pages to small values. Nodes lie in two arenas and name each
//! other by index; leaves are linked in order. Every node carries its largest gap, kept
//! exact on the way up from a change, so that the search for a free range ([`Tree::lowest_gap`],
//! [`Tree::highest_gap`] in `gaps.rs`) skips whole subtrees.
//!
//! What a call does to areas happens in one place: it looks there first, then cuts, takes out, puts
//! in. So the leaf last looked at is remembered ([`Tree::near`]), and most steps of a call start
//! there instead of at the root. Nodes above a leaf are visited by a change only when it alters
//! what the leaf tells them.
//!
//! docs/decisions/0005 compares other structures.

use super::arena::Arena;
use super::leaf::{Entry, Head, Leaf};
use super::node::{Inner, Span, Summary};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kilburn_addr::VmFlags;

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// Levels above the leaves: enough for 2^32 areas in production nodes, and for tests' small ones.
const MAX_HEIGHT: usize = 10;
/// Levels of the way to a leaf that are remembered: all there are, in production nodes.
const TRAIL: usize = 4;

/// Where an area stands in the tree, until the next change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    pub(super) leaf: u32,
    pub(super) at: u32,
}

/// The way from the root to a leaf: inner nodes, each with the index of the child taken.
type Path = [(u32, u32); MAX_HEIGHT];

/// Disjoint ranges of pages in order, each with flags and a place. Leaves hold at most `LEAF` of them, inner
/// nodes `FAN` children.
pub(super) struct Tree<const LEAF: usize, const FAN: usize, A> {
    pub(super) leaves: Arena<Leaf<LEAF, A>, 64>,
    pub(super) inners: Arena<Inner<FAN>, 1>,
    pub(super) root: u32,
    /// Levels of inner nodes above the leaves.
    pub(super) height: usize,
    len: usize,
    /// The leaf last looked at by who may change areas. Any number is right: it is only tried.
    near: AtomicU32,
    /// The way last taken to a leaf, a node and the index of a child a level. Any numbers are right.
    trail: [AtomicU64; TRAIL],
    #[cfg(test)]
    pub(super) visits: super::visits::Visits,
}

impl<const LEAF: usize, const FAN: usize, A: Default> Tree<LEAF, FAN, A> {
    /// An empty tree.
    pub(super) const fn new() -> Self {
        Self {
            leaves: Arena::new(),
            inners: Arena::new(),
            root: NONE,
            height: 0,
            len: 0,
            near: AtomicU32::new(NONE),
            trail: [const { AtomicU64::new(0) }; TRAIL],
            #[cfg(test)]
            visits: super::visits::Visits::new(),
        }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn inner(&self, node: u32) -> &Inner<FAN> {
        #[cfg(test)]
        self.visits.count();
        &self.inners[node]
    }

    #[inline]
    pub(super) fn leaf(&self, node: u32) -> &Leaf<LEAF, A> {
        #[cfg(test)]
        self.visits.count();
        &self.leaves[node]
    }

    /// The first span that ends above `page`, from the root. Writes nothing: for look-ups that
    /// several threads do at once.
    #[inline]
    pub(super) fn find(&self, page: u64) -> Option<Cursor> {
        self.descend(page, |_, _, _| {})
    }

    /// As [`Self::find`]; `step` hears of each level's inner node and the index of the child taken.
    #[inline]
    fn descend(&self, page: u64, step: impl Fn(usize, u32, usize)) -> Option<Cursor> {
        if self.len == 0 {
            return None;
        }
        let mut node = self.root;
        for level in 0..self.height {
            let inner = self.inner(node);
            let (at, child) = inner.first_ending_above(page);
            if at >= inner.len() {
                // Only at the root: below, the parent has said that something ends above.
                return None;
            }
            step(level, node, at);
            node = child;
        }
        let at = self.leaf(node).first_ending_above(page)?;
        Some(Cursor { leaf: node, at: at as u32 })
    }

    /// As [`Self::find`]; tries the leaf last looked at first, and remembers the one found.
    #[inline]
    pub(super) fn near(&self, page: u64) -> Option<Cursor> {
        let near = self.near.load(Ordering::Relaxed);
        if let Some(at) = self.in_leaf(near, page) {
            return Some(Cursor { leaf: near, at: at as u32 });
        }
        let found = self.descend(page, |level, node, at| self.note_step(level, node, at))?;
        self.near.store(found.leaf, Ordering::Relaxed);
        Some(found)
    }

    /// Remembers a step of the way to a leaf.
    #[inline]
    fn note_step(&self, level: usize, node: u32, at: usize) {
        if let Some(step) = self.trail.get(level) {
            step.store(u64::from(node) << 32 | at as u64, Ordering::Relaxed);
        }
    }

    /// The way to `leaf`, if it is the one last taken.
    fn trail_to(&self, leaf: u32) -> Option<Path> {
        let mut path = [(NONE, 0); MAX_HEIGHT];
        let mut node = self.root;
        let trail = self.trail.get(..self.height)?;
        for (step, known) in path.iter_mut().zip(trail) {
            let known = known.load(Ordering::Relaxed);
            let (of, at) = ((known >> 32) as u32, known as u32);
            let inner = self.inner(node);
            if of != node || at as usize >= inner.len() {
                return None;
            }
            *step = (node, at);
            node = inner.child(at as usize);
        }
        (node == leaf).then_some(path)
    }

    /// Index, in `leaf`, of the first span of all that ends above `page`, when a look at this leaf
    /// alone tells. A leaf that is not in use is empty.
    #[inline]
    fn in_leaf(&self, leaf: u32, page: u64) -> Option<usize> {
        let node = self.leaves.get(leaf)?;
        let first = if node.prev == NONE { 0 } else { node.start(0) };
        // One comparison: which side of the leaf a random page is on cannot be predicted, that it is
        // not in the leaf can. An empty leaf starts and ends at 0.
        if page.wrapping_sub(first) >= node.last_end().wrapping_sub(first) {
            return None;
        }
        node.first_ending_above(page)
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
        self.leaves[cursor.leaf].slot(cursor.at as usize)
    }

    #[inline]
    pub(super) fn set_slot(&mut self, cursor: Cursor, slot: u32) {
        self.leaves[cursor.leaf].set_slot(cursor.at as usize, slot);
    }

    #[inline]
    pub(super) fn owner(&self, cursor: Cursor) -> &A {
        self.leaves[cursor.leaf].owner(cursor.at as usize)
    }

    #[inline]
    pub(super) fn set_owner(&mut self, cursor: Cursor, owner: A) {
        self.leaves[cursor.leaf].set_owner(cursor.at as usize, owner);
    }

    #[inline]
    pub(super) fn flags(&self, cursor: Cursor) -> VmFlags {
        self.leaves[cursor.leaf].flags(cursor.at as usize)
    }

    #[inline]
    pub(super) fn set_flags(&mut self, cursor: Cursor, flags: VmFlags) {
        self.leaves[cursor.leaf].set_flags(cursor.at as usize, flags);
    }

    #[inline]
    pub(super) fn span(&self, cursor: Cursor) -> Span {
        self.leaves[cursor.leaf].span(cursor.at as usize)
    }

    /// The way to the leaf that holds the first span that ends above `page`, or to the last leaf; it is
    /// remembered.
    fn path(&self, page: u64) -> (Path, u32) {
        let mut path = [(NONE, 0); MAX_HEIGHT];
        let mut node = self.root;
        for (level, step) in path[..self.height].iter_mut().enumerate() {
            let inner = self.inner(node);
            let at = inner.first_ending_above(page).0.min(inner.len() - 1);
            *step = (node, at as u32);
            self.note_step(level, node, at);
            node = inner.child(at);
        }
        (path, node)
    }

    /// Where a span starting at `page` belongs, and the way there if that is known.
    fn place_for(&self, page: u64) -> (Option<Path>, u32, usize) {
        let near = self.near.load(Ordering::Relaxed);
        if let Some(at) = self.in_leaf(near, page) {
            return (None, near, at);
        }
        let (path, leaf) = self.path(page);
        let node = &self.leaves[leaf];
        let at = node.place_for(page);
        if at == 0
            && node.prev != NONE
            && !node.admits(0, page, Entry::Added)
            && let prev = &self.leaves[node.prev]
            && prev.admits(prev.len(), page, Entry::Added)
        {
            return (None, node.prev, prev.len());
        }
        (Some(path), leaf, at)
    }

    /// Adds a span that overlaps none.
    pub(super) fn insert(&mut self, span: Span, head: Head<A>) -> Cursor {
        if self.root == NONE {
            self.root = self.leaves.place(Leaf::default());
        }
        let (path, leaf, at) = self.place_for(span.start);
        self.len += 1;
        let node = &mut self.leaves[leaf];
        let placed = if node.len() < LEAF && node.admits(at, span.start, Entry::Added) {
            if node.len() == 0 {
                node.insert(at, span, head);
            } else {
                let before = node.summary();
                node.insert(at, span, head);
                self.tell_of_leaf(leaf, before, path);
            }
            Cursor { leaf, at: at as u32 }
        } else {
            let start = node.start(0);
            let path = path.or_else(|| self.trail_to(leaf)).unwrap_or_else(|| self.path(start).0);
            let (upper, placed) = self.split_leaf(leaf, at, span, head);
            self.add_sibling(&path, leaf, upper);
            placed
        };
        self.near = AtomicU32::new(placed.leaf);
        placed
    }

    /// Makes two spans of the one at `cursor`, the upper one with `head`: what lies from `hole.start`
    /// to `hole.end` within it, which may be nothing, belongs to neither. Answers where the upper one
    /// is; the lower one stays at `cursor` unless nodes were full.
    pub(super) fn cut(&mut self, cursor: Cursor, hole: Span, head: Head<A>) -> Cursor {
        let at = cursor.at as usize;
        let node = &mut self.leaves[cursor.leaf];
        let Span { start, end } = node.span(at);
        let (lower, upper) = (Span { start, end: hole.start }, Span { start: hole.end, end });
        if node.len() == LEAF || !node.reaches(upper.start) {
            self.set_range(cursor, lower);
            return self.insert(upper, head);
        }
        let before = node.summary();
        node.cut(at, hole, head);
        self.len += 1;
        self.tell_of_leaf(cursor.leaf, before, None);
        Cursor { leaf: cursor.leaf, at: cursor.at + 1 }
    }

    /// Takes out the span at `cursor`.
    pub(super) fn remove(&mut self, cursor: Cursor) -> (Span, Head<A>) {
        let Cursor { leaf, at } = cursor;
        let node = &mut self.leaves[leaf];
        let before = node.summary();
        let removed = node.remove(at as usize);
        self.len -= 1;
        if self.len == 0 {
            // The root stays, as a leaf without areas.
        } else if node.len() == 0 {
            let (path, _) = self.path(before.start);
            self.unlink_leaf(leaf);
            self.leaves.free(leaf);
            self.drop_child(&path, self.height);
        } else if node.len() < LEAF / 4 && self.height > 0 {
            let (path, _) = self.path(before.start);
            self.tell_of_leaf(leaf, before, Some(path));
            self.join_leaf(&path);
        } else {
            self.tell_of_leaf(leaf, before, None);
        }
        removed
    }

    /// Gives the span at `cursor` another range, which leaves it between the same neighbours; where
    /// it is then.
    pub(super) fn set_range(&mut self, cursor: Cursor, span: Span) -> Cursor {
        let node = &mut self.leaves[cursor.leaf];
        if !node.admits(cursor.at as usize, span.start, Entry::Replaced) {
            let (_, head) = self.remove(cursor);
            return self.insert(span, head);
        }
        let before = node.summary();
        node.set_range(cursor.at as usize, span);
        self.tell_of_leaf(cursor.leaf, before, None);
        cursor
    }

    /// Tells the nodes above a leaf what it says now instead of `before`, if that is anything new.
    fn tell_of_leaf(&mut self, leaf: u32, before: Summary, path: Option<Path>) {
        let summary = self.leaves[leaf].summary();
        if summary != before && self.height > 0 {
            // The nodes above still say what they did: the way to the old start leads to the leaf.
            let path =
                path.or_else(|| self.trail_to(leaf)).unwrap_or_else(|| self.path(before.start).0);
            self.tell_parents(&path, self.height, summary);
        }
    }

    /// Passes the summary of the node below `level` of the path up, as far as it changes anything.
    fn tell_parents(&mut self, path: &Path, level: usize, mut summary: Summary) {
        for &(node, at) in path[..level].iter().rev() {
            let inner = &mut self.inners[node];
            if inner.summary_of(at as usize) == summary {
                return;
            }
            inner.set_summary(at as usize, summary);
            summary = inner.summary();
        }
    }

    /// Splits a leaf that is full, or does not admit it, while adding `span` at `at`; answers the new upper leaf, and where the
    /// span is.
    fn split_leaf(&mut self, leaf: u32, at: usize, span: Span, head: Head<A>) -> (u32, Cursor) {
        let node = &mut self.leaves[leaf];
        // Address spaces fill from one end: then leave the old leaf full.
        let cut = match at {
            0 => 0,
            _ if at == node.len() => at,
            _ => LEAF / 2,
        };
        let mut upper_node = node.split_off(cut);
        let in_lower = at < cut || cut == 0;
        let index = if in_lower { at } else { at - cut };
        (if in_lower { &mut *node } else { &mut upper_node }).insert(index, span, head);
        upper_node.prev = leaf;
        upper_node.next = node.next;
        let after = node.next;
        let upper = self.leaves.place(upper_node);
        self.leaves[leaf].next = upper;
        if after != NONE {
            self.leaves[after].prev = upper;
        }
        (upper, Cursor { leaf: if in_lower { leaf } else { upper }, at: index as u32 })
    }

    /// Adds leaf `upper` right after leaf `lower` in the nodes above, splitting those that are
    /// full.
    fn add_sibling(&mut self, path: &Path, lower: u32, upper: u32) {
        let mut lower_summary = self.leaves[lower].summary();
        let mut upper_summary = self.leaves[upper].summary();
        let mut upper = upper;
        for level in (0..self.height).rev() {
            let (node, at) = (path[level].0, path[level].1 as usize);
            let inner = &mut self.inners[node];
            inner.set_summary(at, lower_summary);
            if inner.len() < FAN {
                inner.insert(at + 1, upper, upper_summary);
                let summary = inner.summary();
                self.tell_parents(path, level, summary);
                return;
            }
            // As in leaves: what fills from one end leaves full nodes behind.
            let cut = match at {
                0 => 1,
                _ if at + 1 == FAN => FAN,
                _ => FAN / 2,
            };
            let mut split = inner.split_off(cut);
            if at < cut && cut < FAN {
                inner.insert(at + 1, upper, upper_summary);
            } else {
                split.insert(at + 1 - cut, upper, upper_summary);
            }
            lower_summary = inner.summary();
            upper_summary = split.summary();
            upper = self.inners.place(split);
        }
        let mut root = Inner::default();
        root.insert(0, self.root, lower_summary);
        root.insert(1, upper, upper_summary);
        self.root = self.inners.place(root);
        self.height += 1;
        assert!(self.height <= MAX_HEIGHT, "the tree is bounded by the page space");
    }

    /// Removes, from the node above `level`, the child the path took, which is gone.
    fn drop_child(&mut self, path: &Path, mut level: usize) {
        while level > 0 {
            level -= 1;
            let (node, at) = path[level];
            let inner = &mut self.inners[node];
            inner.remove(at as usize);
            if inner.len() > 0 {
                let summary = inner.summary();
                let small = inner.len() < FAN / 4;
                self.tell_parents(path, level, summary);
                if small && level > 0 {
                    self.join_inner(path, level);
                }
                self.shrink_root();
                return;
            }
            self.inners.free(node);
        }
        unreachable!("a root above leaves has two children")
    }

    /// Joins the small leaf at the end of the path with a neighbour under the same parent, if both
    /// fit with room to spare.
    fn join_leaf(&mut self, path: &Path) {
        let level = self.height - 1;
        let fits = self.joinable(path[level], LEAF, |tree, lower, upper| {
            let (lower, upper) = (&tree.leaves[lower], &tree.leaves[upper]);
            if lower.admits_all(upper) { lower.len() + upper.len() } else { usize::MAX }
        });
        let Some(left) = fits else { return };
        let inner = &self.inners[path[level].0];
        let (lower, upper) = (inner.child(left), inner.child(left + 1));
        self.unlink_leaf(upper);
        let upper_node = self.leaves.take(upper, Leaf::default());
        self.leaves[lower].append(upper_node);
        let summary = self.leaves[lower].summary();
        self.joined(path, level, left, summary);
    }

    /// Joins the small inner node at `level` of the path with a neighbour.
    fn join_inner(&mut self, path: &Path, level: usize) {
        let level = level - 1;
        let fits = self.joinable(path[level], FAN, |tree, lower, upper| {
            tree.inners[lower].len() + tree.inners[upper].len()
        });
        let Some(left) = fits else { return };
        let inner = &self.inners[path[level].0];
        let (lower, upper) = (inner.child(left), inner.child(left + 1));
        let upper_node = self.inners.take(upper, Inner::default());
        self.inners[lower].append(&upper_node);

        let summary = self.inners[lower].summary();
        self.joined(path, level, left, summary);
    }

    /// Of the pairs that child `at` of `parent` belongs to, the index of the lower of one that fits
    /// a node of `capacity` with a quarter to spare.
    fn joinable(
        &self,
        (parent, at): (u32, u32),
        capacity: usize,
        joined_len: impl Fn(&Self, u32, u32) -> usize,
    ) -> Option<usize> {
        let at = at as usize;
        let inner = &self.inners[parent];
        let fits = |left: usize| {
            left + 1 < inner.len()
                && joined_len(self, inner.child(left), inner.child(left + 1)) <= capacity / 4 * 3
        };
        if fits(at) { Some(at) } else { at.checked_sub(1).filter(|&left| fits(left)) }
    }

    /// Records that child `left + 1` of the node at `level` of the path went into `left`.
    fn joined(&mut self, path: &Path, level: usize, left: usize, summary: Summary) {
        let inner = &mut self.inners[path[level].0];
        inner.remove(left + 1);
        inner.set_summary(left, summary);
        let small = inner.len() < FAN / 4;
        let summary = inner.summary();
        self.tell_parents(path, level, summary);
        if small && level > 0 {
            self.join_inner(path, level);
        }
        self.shrink_root();
    }

    /// Drops roots that have one child.
    fn shrink_root(&mut self) {
        while self.height > 0 && self.inners[self.root].len() == 1 {
            let child = self.inners[self.root].child(0);
            self.inners.free(self.root);
            self.root = child;
            self.height -= 1;
        }
    }

    /// Links the neighbours of a leaf with each other.
    fn unlink_leaf(&mut self, leaf: u32) {
        let Leaf { prev, next, .. } = self.leaves[leaf];
        if prev != NONE {
            self.leaves[prev].next = next;
        }
        if next != NONE {
            self.leaves[next].prev = prev;
        }
    }
}
