//! The slots of one swap area: who refers to each, which frame holds its content, which are free
//! (Linux 6.18 mm/swapfile.c: `swap_map`, `swap_cluster_info`; mm/swap_state.c).
//!
//! ```text
//!   references   entries of tables, or the place of a page of shared memory
//!   content      Nothing      only in the area
//!                Frame        also in this frame: the swap cache
//!                Busy         on its way between the two
//!                Shadow       only in the area; what the policy remembers of the page
//! ```
//!
//! A slot is free when nothing refers to it and its content is neither `Frame` nor `Busy`. Free
//! slots are given out from one cluster of 256 after the other, so that pages that leave together
//! lie together.

use crate::memcg::MemcgId;
use crate::policy::Shadow;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// Slots of a cluster (Linux `SWAPFILE_CLUSTER` without huge pages).
const CLUSTER: u32 = 256;

/// Where the content of a slot is, besides the area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Nowhere.
    Nothing,
    /// In this frame, counted from the machine's first.
    Frame(u32),
    /// Being read or written by somebody who will say how it ended.
    Busy,
    /// Nowhere; the policy knows the page by this.
    Shadow(Shadow),
}

const BUSY: u64 = 1 << 61;

impl Content {
    fn from_raw(raw: u64) -> Self {
        match raw {
            0 => Self::Nothing,
            BUSY => Self::Busy,
            raw => {
                Shadow::from_raw(raw).map_or_else(|| Self::Frame((raw - 1) as u32), Self::Shadow)
            }
        }
    }

    fn to_raw(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Busy => BUSY,
            Self::Frame(frame) => u64::from(frame) + 1,
            Self::Shadow(shadow) => shadow.to_raw(),
        }
    }

    fn holds_slot(self) -> bool {
        matches!(self, Self::Frame(_) | Self::Busy)
    }
}

/// A slot that became free, and what is to be forgotten with it.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freed {
    /// It is still in use.
    No,
    /// It is free; whom it was charged to.
    Yes(Option<Shadow>, MemcgId),
}

/// All slots of an area.
pub(crate) struct Slots {
    references: Vec<u32>,
    content: Vec<u64>,
    /// The groups slots are charged to; empty as long as none ever was (Linux `swap_cgroup`).
    memcgs: Vec<MemcgId>,
    /// Slots in use, by cluster.
    cluster_used: Vec<u16>,
    /// Clusters with no slot in use, the next to be taken last.
    empty: Vec<u32>,
    /// Clusters that are neither empty nor full, but for the current.
    partial: BTreeSet<u32>,
    current: Option<u32>,
    /// Where the search in the current cluster goes on.
    next: u32,
    used: u32,
}

impl Slots {
    /// `count` free slots.
    pub(crate) fn new(count: u32) -> Self {
        let clusters = count.div_ceil(CLUSTER);
        Self {
            references: vec![0; count as usize],
            content: vec![0; count as usize],
            memcgs: Vec::new(),
            cluster_used: vec![0; clusters as usize],
            empty: (0..clusters).rev().collect(),
            partial: BTreeSet::new(),
            current: None,
            next: 0,
            used: 0,
        }
    }

    /// Number of slots.
    pub(crate) fn len(&self) -> u32 {
        self.references.len() as u32
    }

    /// Number of slots in use.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Whether the area has such a slot, and it is in use.
    pub(crate) fn is_used(&self, slot: u32) -> bool {
        slot < self.len() && (self.references(slot) > 0 || self.content(slot).holds_slot())
    }

    /// How many refer to a slot.
    pub(crate) fn references(&self, slot: u32) -> u32 {
        self.references[slot as usize]
    }

    /// Where the content of a slot is.
    pub(crate) fn content(&self, slot: u32) -> Content {
        Content::from_raw(self.content[slot as usize])
    }

    fn cluster_end(&self, cluster: u32) -> u32 {
        ((cluster + 1) * CLUSTER).min(self.len())
    }

    fn is_full(&self, cluster: u32) -> bool {
        u32::from(self.cluster_used[cluster as usize])
            == self.cluster_end(cluster) - cluster * CLUSTER
    }

    /// A free slot, which `content` (a frame, or busy) keeps in use.
    pub(crate) fn allocate(&mut self, content: Content) -> Option<u32> {
        debug_assert!(content.holds_slot());
        let cluster = match self.current.filter(|&cluster| !self.is_full(cluster)) {
            Some(cluster) => cluster,
            None => {
                let cluster = self.empty.pop().or_else(|| self.partial.pop_first())?;
                self.current = Some(cluster);
                self.next = cluster * CLUSTER;
                cluster
            }
        };
        let (start, end) = (cluster * CLUSTER, self.cluster_end(cluster));
        let slot = (self.next..end)
            .chain(start..self.next)
            .find(|&slot| !self.is_used(slot))
            .expect("the cluster is not full");
        self.next = slot + 1;
        self.content[slot as usize] = content.to_raw();
        self.cluster_used[cluster as usize] += 1;
        self.used += 1;
        Some(slot)
    }

    /// The group a slot is charged to.
    pub(crate) fn memcg(&self, slot: u32) -> MemcgId {
        self.memcgs.get(slot as usize).copied().unwrap_or_default()
    }

    /// A slot just allocated is charged to a group.
    pub(crate) fn set_memcg(&mut self, slot: u32, memcg: MemcgId) {
        if self.memcgs.is_empty() && !memcg.is_root() {
            self.memcgs = vec![MemcgId::ROOT; self.references.len()];
        }
        if let Some(its) = self.memcgs.get_mut(slot as usize) {
            *its = memcg;
        }
    }

    /// One more refers to a slot in use.
    pub(crate) fn add_reference(&mut self, slot: u32) {
        debug_assert!(self.is_used(slot), "a reference to a free slot");
        self.references[slot as usize] += 1;
    }

    /// One less refers to a slot.
    pub(crate) fn drop_reference(&mut self, slot: u32) -> Freed {
        debug_assert!(self.references(slot) > 0, "a reference dropped twice");
        self.references[slot as usize] -= 1;
        self.free_if_unused(slot)
    }

    /// The content of a slot in use is elsewhere now.
    pub(crate) fn set_content(&mut self, slot: u32, content: Content) -> Freed {
        debug_assert!(self.is_used(slot), "content of a free slot");
        self.content[slot as usize] = content.to_raw();
        self.free_if_unused(slot)
    }

    fn free_if_unused(&mut self, slot: u32) -> Freed {
        if self.is_used(slot) {
            return Freed::No;
        }
        let shadow = match self.content(slot) {
            Content::Shadow(shadow) => Some(shadow),
            _ => None,
        };
        self.content[slot as usize] = 0;
        let cluster = slot / CLUSTER;
        self.cluster_used[cluster as usize] -= 1;
        self.used -= 1;
        if self.current != Some(cluster) {
            if self.cluster_used[cluster as usize] == 0 {
                self.partial.remove(&cluster);
                self.empty.push(cluster);
            } else {
                self.partial.insert(cluster);
            }
        }
        Freed::Yes(shadow, self.memcg(slot))
    }

    /// The first slot in use from `from` on.
    pub(crate) fn first_used(&self, from: u32) -> Option<u32> {
        (from..self.len()).find(|&slot| self.is_used(slot))
    }

    /// Recounts what is kept as numbers.
    ///
    /// # Errors
    /// The name of what is wrong.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut used = 0;
        for cluster in 0..self.cluster_used.len() as u32 {
            let slots = cluster * CLUSTER..self.cluster_end(cluster);
            let here = slots.filter(|&slot| self.is_used(slot)).count() as u32;
            used += here;
            if u32::from(self.cluster_used[cluster as usize]) != here {
                return Err("a swap cluster's count of slots in use");
            }
            let current = self.current == Some(cluster);
            if !current && self.empty.contains(&cluster) != (here == 0) {
                return Err("the list of empty swap clusters");
            }
            let partial = here > 0 && !self.is_full(cluster);
            if !current && self.partial.contains(&cluster) != partial {
                return Err("the set of partly used swap clusters");
            }
        }
        if used == self.used { Ok(()) } else { Err("the number of swap slots in use") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_that_leave_together_lie_together() {
        let mut slots = Slots::new(1000);
        for expected in 0..600 {
            assert_eq!(slots.allocate(Content::Frame(1)), Some(expected));
        }
        for slot in [10, 11, 300] {
            assert_eq!(slots.set_content(slot, Content::Nothing), Freed::Yes(None, MemcgId::ROOT));
        }
        assert_eq!(slots.allocate(Content::Frame(1)), Some(600), "the cluster is used up first");
    }

    #[test]
    fn a_slot_is_free_when_neither_references_nor_a_frame_hold_it() {
        let mut slots = Slots::new(1);
        let slot = slots.allocate(Content::Frame(7)).expect("one is free");
        assert_eq!(slots.allocate(Content::Frame(8)), None);
        slots.add_reference(slot);
        assert_eq!(slots.set_content(slot, Content::Shadow(Shadow::new(3))), Freed::No);
        assert_eq!(slots.drop_reference(slot), Freed::Yes(Some(Shadow::new(3)), MemcgId::ROOT));
        assert_eq!((slots.used(), slots.content(slot)), (0, Content::Nothing));
    }

    proptest! {
        #[test]
        fn every_slot_can_be_had_and_none_twice(
            count in 1_u32..700,
            steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..900),
        ) {
            let mut slots = Slots::new(count);
            let mut held = Vec::new();
            for (take, which) in steps {
                if take {
                    match slots.allocate(Content::Busy) {
                        Some(slot) => {
                            prop_assert!(!held.contains(&slot));
                            held.push(slot);
                        }
                        None => prop_assert_eq!(held.len() as u32, count),
                    }
                } else if !held.is_empty() {
                    let slot = held.swap_remove(which as usize % held.len());
                    let freed = slots.set_content(slot, Content::Nothing);
                    prop_assert_eq!(freed, Freed::Yes(None, MemcgId::ROOT));
                }
                prop_assert_eq!(slots.used() as usize, held.len());
                prop_assert_eq!(slots.check(), Ok(()));
            }
        }
    }
}
