//! Ghosts: what a policy remembers of pages that are gone.
//!
//! ARC and S3-FIFO keep lists of recently evicted pages. Papers index them by the page's identity in a hash table. Here a
//! ghost has no identity: the policy hands a [`Shadow`](super::Shadow) to whoever does know the page (the page cache's
//! slot, the swap cache, a simulation's table), and the shadow names the ghost's entry. That is how Linux does it
//! (`mm/workingset.c`), and it keeps the lists exact, bounded and free of hashing.
//!
//! An entry is reused after it fell off its list, so a shadow carries the stamp of the entry at the time; a shadow that
//! is older than its entry is a ghost long forgotten.
//!
//! Neighbours: [`arc`](super::arc), [`s3_fifo`](super::s3_fifo).

use super::list::PageLists;
use super::{PageId, Shadow};
use alloc::vec::Vec;

/// `N` bounded lists of ghosts, each first in, first out, with removal from the middle when a ghost's page returns.
#[derive(Debug)]
pub struct GhostLists<const N: usize> {
    lists: PageLists<N>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Times this entry was given out; 29 bits of it go into the shadow.
    stamp: u32,
    list: u8,
}

/// Bits of the stamp that a shadow carries: with 32 bits of entry number they make 61, which leaves [`ByKind`](super::ByKind)
/// its one.
const STAMP_BITS: u32 = 29;

impl<const N: usize> GhostLists<N> {
    /// Room for `entries` ghosts over all lists.
    #[must_use]
    pub fn new(entries: u32) -> Self {
        Self {
            lists: PageLists::new(entries),
            entries: alloc::vec![Entry::default(); entries as usize],
            free: (0..entries).rev().collect(),
        }
    }

    /// How many ghosts are on `list`.
    #[must_use]
    pub fn len(&self, list: usize) -> u32 {
        self.lists.len(list)
    }

    /// Remembers a page on `list`; its shadow finds it again. `None` when there is no room: drop an old one first.
    pub fn push(&mut self, list: usize) -> Option<Shadow> {
        let number = self.free.pop()?;
        let entry = &mut self.entries[number as usize];
        entry.stamp = entry.stamp.wrapping_add(1) & ((1 << STAMP_BITS) - 1);
        entry.list = list as u8;
        self.lists.push_front(list, PageId(number));
        Some(Shadow::new((u64::from(entry.stamp) << 32) | u64::from(number)))
    }

    /// Takes the ghost that `shadow` names off its list and says which list that was; `None` if it is forgotten.
    pub fn take(&mut self, shadow: Shadow) -> Option<usize> {
        let number = shadow.bits() as u32;
        let stamp = (shadow.bits() >> 32) as u32;
        let entry = self.entries.get(number as usize)?;
        let list = usize::from(entry.list);
        if entry.stamp != stamp || !self.lists.is_linked(PageId(number)) {
            return None;
        }
        self.lists.remove(list, PageId(number));
        self.free.push(number);
        Some(list)
    }

    /// Forgets the oldest ghost of `list`.
    pub fn drop_oldest(&mut self, list: usize) {
        if let Some(ghost) = self.lists.pop_back(list) {
            self.free.push(ghost.0);
        }
    }

    /// Every entry is free or on one list.
    ///
    /// # Errors
    ///
    /// The name of what does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        if self.lists.total() as usize + self.free.len() != self.entries.len() {
            return Err("a ghost entry is free or on a list");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ghosts: &mut GhostLists<2>, list: usize) -> Shadow {
        ghosts.push(list).unwrap()
    }

    #[test]
    fn a_ghost_is_found_once() {
        let mut ghosts = GhostLists::<2>::new(3);
        let (a, b) = (push(&mut ghosts, 0), push(&mut ghosts, 1));
        assert_eq!(ghosts.take(b), Some(1));
        assert_eq!(ghosts.take(b), None);
        assert_eq!(ghosts.take(a), Some(0));
        assert_eq!(ghosts.check(), Ok(()));
    }

    #[test]
    fn a_shadow_does_not_find_the_next_tenant_of_its_entry() {
        let mut ghosts = GhostLists::<2>::new(1);
        let old = push(&mut ghosts, 0);
        ghosts.drop_oldest(0);
        let new = push(&mut ghosts, 1);
        assert_eq!(ghosts.take(old), None);
        assert_eq!(ghosts.take(new), Some(1));
    }

    #[test]
    fn a_shadow_that_was_never_given_out_finds_nothing() {
        let mut ghosts = GhostLists::<2>::new(1);
        assert_eq!(ghosts.take(Shadow::new((1 << 32) | 77)), None);
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let mut ghosts = GhostLists::<2>::new(1);
        push(&mut ghosts, 0);
        assert!(ghosts.push(0).is_none());
    }
}
