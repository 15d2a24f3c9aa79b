//! Cached pages by index: 64 slots a node, nodes in order (the part of Linux's XArray in use).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::RangeInclusive;
use kilburn_addr::Pfn;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// The pages of one file that are in memory.
#[derive(Default)]
pub(super) struct PageTree {
    nodes: BTreeMap<u64, Box<Node>>,
    len: u64,
    dirty: u64,
}

struct Node {
    /// Frame number + 1; 0 for none.
    slots: [u64; SLOTS],
    present: u64,
    dirty: u64,
}

#[inline]
fn split(index: u64) -> (u64, usize, u64) {
    let slot = index as usize & (SLOTS - 1);
    (index >> SLOT_BITS, slot, 1 << slot)
}

impl PageTree {
    /// Number of pages.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Number of dirty pages.
    pub(super) fn dirty(&self) -> u64 {
        self.dirty
    }

    /// The frame of page `index`.
    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<Pfn> {
        let (number, slot, _) = split(index);
        Some(Pfn::new(self.nodes.get(&number)?.slots[slot].checked_sub(1)?))
    }

    /// Puts a frame in the empty place of page `index`.
    pub(super) fn insert(&mut self, index: u64, pfn: Pfn) {
        let (number, slot, bit) = split(index);
        let node = self
            .nodes
            .entry(number)
            .or_insert_with(|| Box::new(Node { slots: [0; SLOTS], present: 0, dirty: 0 }));
        debug_assert_eq!(node.slots[slot], 0, "the place is empty");
        node.slots[slot] = pfn.get() + 1;
        node.present |= bit;
        self.len += 1;
    }

    /// Takes out page `index`: its frame, and whether it was dirty.
    pub(super) fn remove(&mut self, index: u64) -> Option<(Pfn, bool)> {
        let (number, slot, bit) = split(index);
        let node = self.nodes.get_mut(&number)?;
        let pfn = Pfn::new(node.slots[slot].checked_sub(1)?);
        let dirty = node.dirty & bit != 0;
        node.slots[slot] = 0;
        node.present &= !bit;
        node.dirty &= !bit;
        if node.present == 0 {
            self.nodes.remove(&number);
        }
        self.len -= 1;
        self.dirty -= u64::from(dirty);
        Some((pfn, dirty))
    }

    /// Marks page `index`, which is there, dirty; whether it was clean.
    pub(super) fn set_dirty(&mut self, index: u64) -> bool {
        let (number, _, bit) = split(index);
        let Some(node) = self.nodes.get_mut(&number).filter(|node| node.present & bit != 0) else {
            return false;
        };
        let was_clean = node.dirty & bit == 0;
        node.dirty |= bit;
        self.dirty += u64::from(was_clean);
        was_clean
    }

    /// Marks page `index` clean; whether it was dirty.
    pub(super) fn clear_dirty(&mut self, index: u64) -> bool {
        let (number, _, bit) = split(index);
        let Some(node) = self.nodes.get_mut(&number) else { return false };
        let was_dirty = node.dirty & bit != 0;
        node.dirty &= !bit;
        self.dirty -= u64::from(was_dirty);
        was_dirty
    }

    /// Whether page `index` is dirty.
    pub(super) fn is_dirty(&self, index: u64) -> bool {
        let (number, _, bit) = split(index);
        self.nodes.get(&number).is_some_and(|node| node.dirty & bit != 0)
    }

    /// The pages among `indices`, in order: index, frame.
    pub(super) fn range(&self, indices: RangeInclusive<u64>) -> impl Iterator<Item = (u64, Pfn)> {
        self.select(indices, |node| node.present)
    }

    /// The dirty pages among `indices`, in order.
    pub(super) fn dirty_range(
        &self,
        indices: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Pfn)> {
        self.select(indices, |node| node.dirty)
    }

    fn select(
        &self,
        indices: RangeInclusive<u64>,
        bits: fn(&Node) -> u64,
    ) -> impl Iterator<Item = (u64, Pfn)> {
        let (first, last) = indices.into_inner();
        let nodes = (first <= last)
            .then(|| self.nodes.range(first >> SLOT_BITS..=last >> SLOT_BITS))
            .into_iter()
            .flatten();
        nodes
            .flat_map(move |(&number, node)| {
                let mut left = bits(node);
                core::iter::from_fn(move || {
                    let slot = left.trailing_zeros();
                    left &= left.checked_sub(1)?;
                    Some((number << SLOT_BITS | u64::from(slot), node.slots[slot as usize]))
                })
            })
            .filter(move |(index, _)| (first..=last).contains(index))
            .map(|(index, slot)| (index, Pfn::new(slot - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn pages_are_found_in_order_whatever_the_range() {
        let mut tree = PageTree::default();
        for index in [0, 1, 63, 64, 200, u64::MAX >> 12] {
            tree.insert(index, Pfn::new(index));
        }
        let found = |from, to| tree.range(from..=to).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(found(0, 63), [0, 1, 63]);
        assert_eq!(found(63, 200), [63, 64, 200]);
        assert_eq!(found(201, u64::MAX), [u64::MAX >> 12]);
        assert_eq!(found(5, 4), []);
    }

    #[test]
    fn dirtiness_goes_with_the_page() {
        let mut tree = PageTree::default();
        tree.insert(7, Pfn::new(70));
        assert!(!tree.set_dirty(8), "no page there");
        assert!(tree.set_dirty(7));
        assert!(!tree.set_dirty(7));
        assert_eq!(tree.dirty(), 1);
        assert_eq!(tree.dirty_range(0..=100).collect::<Vec<_>>(), [(7, Pfn::new(70))]);
        assert_eq!(tree.remove(7), Some((Pfn::new(70), true)));
        assert_eq!((tree.len(), tree.dirty()), (0, 0));
    }
}
