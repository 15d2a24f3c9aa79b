//! Cached pages by index: 64 slots a node, nodes in order (the part of Linux's XArray in use).
//!
//! A place without a page may hold a [`Value`]: where the page is, or what the policy remembers of
//! it.
//!
//! ```text
//!   63  62                                    32 31      0
//!   0   0   frame number + 1                                 a page
//!   0   1   bits of the policy                               Value::Shadow
//!   1   0   area of swap                      |  slot        Value::Swap
//! ```

use crate::policy::Shadow;
use crate::swap::SwapEntry;
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
    swapped: u64,
}

struct Node {
    /// Frame number + 1, a value, or 0 for neither.
    slots: [u64; SLOTS],
    present: u64,
    dirty: u64,
    /// Places with a value.
    values: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self { slots: [0; SLOTS], present: 0, dirty: 0, values: 0 }
    }
}

/// What is in the place of a page that is not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    /// The page is in swap.
    Swap(SwapEntry),
    /// The page was evicted; the policy knows it by this.
    Shadow(Shadow),
}

const SWAP: u64 = 1 << 63;

impl Value {
    fn to_raw(self) -> u64 {
        match self {
            Self::Swap(SwapEntry { area, slot }) => SWAP | u64::from(area) << 32 | u64::from(slot),
            Self::Shadow(shadow) => shadow.to_raw(),
        }
    }

    fn from_raw(raw: u64) -> Option<Self> {
        if raw & SWAP == 0 {
            return Shadow::from_raw(raw).map(Self::Shadow);
        }
        Some(Self::Swap(SwapEntry { area: (raw >> 32) as u8, slot: raw as u32 }))
    }
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

    /// Number of pages that are in swap.
    pub(super) fn swapped(&self) -> u64 {
        self.swapped
    }

    /// The frame of page `index`.
    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<Pfn> {
        let (number, slot, bit) = split(index);
        let node = self.nodes.get(&number)?;
        (node.present & bit != 0).then(|| Pfn::new(node.slots[slot] - 1))
    }

    /// What is in the place of page `index`, which is not there.
    pub(super) fn value(&self, index: u64) -> Option<Value> {
        let (number, slot, bit) = split(index);
        let node = self.nodes.get(&number)?;
        if node.values & bit == 0 { None } else { Value::from_raw(node.slots[slot]) }
    }

    /// Puts a frame in the place of page `index`, which is not there; the value it replaces.
    pub(super) fn insert(&mut self, index: u64, pfn: Pfn) -> Option<Value> {
        let value = self.take_value(index);
        let (number, slot, bit) = split(index);
        let node = self.nodes.entry(number).or_default();
        debug_assert_eq!(node.present & bit, 0, "the page is not there");
        node.slots[slot] = pfn.get() + 1;
        node.present |= bit;
        self.len += 1;
        value
    }

    /// Puts a value in the place of page `index`, which is empty.
    pub(super) fn set_value(&mut self, index: u64, value: Value) {
        let (number, slot, bit) = split(index);
        let node = self.nodes.entry(number).or_default();
        debug_assert_eq!((node.present | node.values) & bit, 0, "the place is empty");
        node.slots[slot] = value.to_raw();
        node.values |= bit;
        self.swapped += u64::from(matches!(value, Value::Swap(_)));
    }

    /// Takes the value out of the place of page `index`.
    pub(super) fn take_value(&mut self, index: u64) -> Option<Value> {
        let value = self.value(index)?;
        let (number, slot, bit) = split(index);
        let node = self.nodes.get_mut(&number)?;
        node.slots[slot] = 0;
        node.values &= !bit;
        if node.present | node.values == 0 {
            self.nodes.remove(&number);
        }
        self.swapped -= u64::from(matches!(value, Value::Swap(_)));
        Some(value)
    }

    /// The values among `indices`, in order.
    pub(super) fn values(
        &self,
        indices: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Value)> {
        self.select(indices, |node| node.values)
            .filter_map(|(index, raw)| Some((index, Value::from_raw(raw)?)))
    }

    /// Takes out page `index`: its frame, and whether it was dirty.
    pub(super) fn remove(&mut self, index: u64) -> Option<(Pfn, bool)> {
        let (number, slot, bit) = split(index);
        let node = self.nodes.get_mut(&number)?;
        if node.present & bit == 0 {
            return None;
        }
        let pfn = Pfn::new(node.slots[slot] - 1);
        let dirty = node.dirty & bit != 0;
        node.slots[slot] = 0;
        node.present &= !bit;
        node.dirty &= !bit;
        if node.present | node.values == 0 {
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
        self.select(indices, |node| node.present).map(|(index, raw)| (index, Pfn::new(raw - 1)))
    }

    /// The dirty pages among `indices`, in order.
    pub(super) fn dirty_range(
        &self,
        indices: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Pfn)> {
        self.select(indices, |node| node.dirty).map(|(index, raw)| (index, Pfn::new(raw - 1)))
    }

    fn select(
        &self,
        indices: RangeInclusive<u64>,
        bits: fn(&Node) -> u64,
    ) -> impl Iterator<Item = (u64, u64)> {
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
    fn a_place_holds_a_page_or_a_value() {
        let mut tree = PageTree::default();
        let swap = Value::Swap(SwapEntry { area: 27, slot: u32::MAX });
        let shadow = Value::Shadow(Shadow::new(5));
        tree.set_value(7, swap);
        tree.set_value(70, shadow);
        assert_eq!((tree.get(7), tree.value(7), tree.swapped()), (None, Some(swap), 1));
        assert_eq!(tree.values(0..=99).collect::<Vec<_>>(), [(7, swap), (70, shadow)]);
        assert_eq!(tree.insert(7, Pfn::new(3)), Some(swap));
        assert_eq!((tree.get(7), tree.value(7), tree.swapped()), (Some(Pfn::new(3)), None, 0));
        assert_eq!(tree.take_value(70), Some(shadow));
        assert_eq!(tree.take_value(70), None);
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
