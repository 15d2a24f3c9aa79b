//! Checking the tree against itself: **no-vma-overlap** and **gaps-are-exact**.

use super::node::Summary;
use super::tree::{NONE, Tree};
use alloc::format;
use alloc::string::String;

impl<const LEAF: usize, const FAN: usize, A: Default> Tree<LEAF, FAN, A> {
    /// Walks everything; the error says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.len() == 0 {
            let bare = self.height == 0 && (self.root == NONE || self.leaves[self.root].len() == 0);
            return if bare { Ok(()) } else { Err("nodes without areas".into()) };
        }
        let mut walk = Walk { last_end: 0, last_leaf: NONE, count: 0 };
        self.check_node(self.root, self.height, &mut walk)?;
        if self.leaves[walk.last_leaf].next != NONE {
            return Err("the last leaf has a successor".into());
        }
        if walk.count != self.len() {
            return Err(format!("{} areas counted, {} known", walk.count, self.len()));
        }
        Ok(())
    }

    fn check_node(&self, node: u32, height: usize, walk: &mut Walk) -> Result<Summary, String> {
        if height == 0 {
            return self.check_leaf(node, walk);
        }
        let inner = &self.inners[node];
        if inner.len() == 0 || (node == self.root && inner.len() == 1) {
            return Err(format!("node with {} children", inner.len()));
        }
        let mut max_gap = 0;
        let mut before: Option<Summary> = None;
        for at in 0..inner.len() {
            let child = self.check_node(inner.child(at), height - 1, walk)?;
            if child != inner.summary_of(at) {
                let known = inner.summary_of(at);
                return Err(format!("gaps-are-exact: child is {child:x?}, known {known:x?}"));
            }
            for page in [child.start, child.end - 1] {
                let (found, _) = inner.first_ending_above(page);
                if found != at {
                    return Err(format!("child {at} has {page:#x}, a search finds child {found}"));
                }
            }
            max_gap = max_gap.max(child.gap);
            if let Some(before) = before {
                max_gap = max_gap.max(child.start - before.end);
            }
            before = Some(child);
        }
        if max_gap != inner.summary().gap {
            return Err(format!("gaps-are-exact: {max_gap:#x}, known {:#x}", inner.summary().gap));
        }
        Ok(inner.summary())
    }

    fn check_leaf(&self, node: u32, walk: &mut Walk) -> Result<Summary, String> {
        let leaf = &self.leaves[node];
        if leaf.len() == 0 {
            return Err("empty leaf".into());
        }
        if leaf.prev != walk.last_leaf {
            return Err("leaves are not linked in order".into());
        }
        walk.last_leaf = node;
        for at in 0..leaf.len() {
            let span = leaf.span(at);
            if span.start >= span.end {
                return Err(format!("empty area {span:x?}"));
            }
            if span.start < walk.last_end {
                return Err(format!("no-vma-overlap: {span:x?} below {:#x}", walk.last_end));
            }
            walk.last_end = span.end;
            walk.count += 1;
        }
        let summary = leaf.summary();
        let max_gap = leaf.scan_gaps();
        if summary.gap != max_gap {
            return Err(format!("gaps-are-exact: leaf {max_gap:#x}, known {:#x}", summary.gap));
        }
        Ok(summary)
    }
}

struct Walk {
    last_end: u64,
    last_leaf: u32,
    count: usize,
}
