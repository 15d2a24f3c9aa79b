//! Ghosts: what a policy remembers of pages that are gone.
//!
//! ARC and S3-FIFO keep lists of recently evicted pages. Papers index them by the page's identity in a hash table. Here a
//! ghost has no identity: the policy hands a [`Shadow`] to whoever does know the page (the page cache's
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

/// Two bounded lists of ghosts, each first in, first out, with removal from the middle when a ghost's page returns.
///
/// Twelve bytes an entry.
#[derive(Debug)]
pub struct GhostLists {
    /// The two lists, and the entries that are on neither.
    lists: PageLists<3>,
    /// The list of each entry, and how many times it was given out.
    entries: Vec<Entry>,
}

const FREE: usize = 2;

/// Bits of the stamp: with 32 bits of entry number they make 61 of a shadow, which leaves [`ByKind`](super::ByKind) its one.
const STAMP_BITS: u32 = 29;

/// Stamp, and the list above it.
#[derive(Clone, Copy, Debug)]
struct Entry(u32);

impl Entry {
    fn new(list: usize, stamp: u32) -> Self {
        Self((list as u32) << STAMP_BITS | stamp)
    }

    fn stamp(self) -> u32 {
        self.0 & ((1 << STAMP_BITS) - 1)
    }

    fn list(self) -> usize {
        (self.0 >> STAMP_BITS) as usize
    }
}

impl GhostLists {
    /// Room for `entries` ghosts over both lists.
    #[must_use]
    pub fn new(entries: u32) -> Self {
        let mut lists = PageLists::new(entries);
        (0..entries).for_each(|entry| lists.push_front(FREE, PageId(entry)));
        Self { lists, entries: alloc::vec![Entry::new(FREE, 0); entries as usize] }
    }

    /// How many ghosts are on `list`, 0 or 1.
    #[must_use]
    pub fn len(&self, list: usize) -> u32 {
        self.lists.len(list)
    }

    /// Remembers a page on `list`; its shadow finds it again. `None` when there is no room: drop an old one first.
    pub fn push(&mut self, list: usize) -> Option<Shadow> {
        let ghost = self.lists.pop_back(FREE)?;
        let entry = &mut self.entries[ghost.index()];
        let stamp = Entry(entry.0.wrapping_add(1)).stamp();
        *entry = Entry::new(list, stamp);
        self.lists.push_front(list, ghost);
        Some(Shadow::new((u64::from(stamp) << 32) | u64::from(ghost.0)))
    }

    /// Takes the ghost that `shadow` names off its list and says which list that was; `None` if it is forgotten.
    pub fn take(&mut self, shadow: Shadow) -> Option<usize> {
        let ghost = PageId(shadow.bits() as u32);
        let entry = *self.entries.get(ghost.index())?;
        if u64::from(entry.stamp()) != shadow.bits() >> 32 || entry.list() == FREE {
            return None;
        }
        self.release(entry.list(), ghost);
        Some(entry.list())
    }

    /// Forgets the oldest ghost of `list`.
    pub fn drop_oldest(&mut self, list: usize) {
        if let Some(ghost) = self.lists.back(list) {
            self.release(list, ghost);
        }
    }

    /// Every entry is on one list, the one it names.
    ///
    /// # Errors
    ///
    /// The name of what does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        let named =
            |list| self.lists.iter(list).all(|ghost| self.entries[ghost.index()].list() == list);
        if !(named(0) && named(1) && named(FREE))
            || self.lists.total() as usize != self.entries.len()
        {
            return Err("a ghost entry is on the list it names");
        }
        Ok(())
    }

    fn release(&mut self, list: usize, ghost: PageId) {
        self.lists.remove(list, ghost);
        self.lists.push_front(FREE, ghost);
        let entry = &mut self.entries[ghost.index()];
        *entry = Entry::new(FREE, entry.stamp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ghosts: &mut GhostLists, list: usize) -> Shadow {
        ghosts.push(list).unwrap()
    }

    #[test]
    fn a_ghost_is_found_once() {
        let mut ghosts = GhostLists::new(3);
        let (a, b) = (push(&mut ghosts, 0), push(&mut ghosts, 1));
        assert_eq!(ghosts.take(b), Some(1));
        assert_eq!(ghosts.take(b), None);
        assert_eq!(ghosts.take(a), Some(0));
        assert_eq!(ghosts.check(), Ok(()));
    }

    #[test]
    fn a_shadow_does_not_find_the_next_tenant_of_its_entry() {
        let mut ghosts = GhostLists::new(1);
        let old = push(&mut ghosts, 0);
        ghosts.drop_oldest(0);
        let new = push(&mut ghosts, 1);
        assert_eq!(ghosts.take(old), None);
        assert_eq!(ghosts.take(new), Some(1));
    }

    #[test]
    fn a_shadow_that_was_never_given_out_finds_nothing() {
        let mut ghosts = GhostLists::new(1);
        assert_eq!(ghosts.take(Shadow::new((1 << 32) | 77)), None);
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let mut ghosts = GhostLists::new(1);
        push(&mut ghosts, 0);
        assert!(ghosts.push(0).is_none());
    }
}
