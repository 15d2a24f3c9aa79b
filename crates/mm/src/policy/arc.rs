//! ARC: recency and frequency share the space, and ghosts of both say which deserves more.
//!
//! N. Megiddo and D. Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, figure 4.
//!
//! ```text
//!            B1 (ghosts) | T1: used once      T2: used again | B2 (ghosts)
//!     forgotten <- LRU         -> MRU   MRU <-         LRU -> forgotten
//!                        |<- target p of T1, of c pages in all ->|
//! ```
//!
//! A page that returns from B1 says T1 is too small, one from B2 says T2 is; the target p moves accordingly. The lists are
//! kept at |T1| + |B1| <= c and all four at <= 2c. The paper makes room on the ghost lists before it evicts; here that
//! happens after an insertion, which leaves the same lists and lets reclaim evict ahead of time.
//!
//! p is a fixed-point number, so that kernels without floating point can use this.
//!
//! Neighbours: [`GhostLists`] for B1 and B2.

use super::ghost::GhostLists;
use super::list::PageLists;
use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Shadow, Wanted};
use alloc::vec::Vec;

/// T1 and B1.
const ONCE: usize = 0;
/// T2 and B2.
const AGAIN: usize = 1;

/// Fraction bits of the target.
const FRACTION: u32 = 16;

/// Note on an arrival: it is a refault, so it goes to T2.
const REFAULT: u32 = 1;

/// Adaptive replacement cache.
#[derive(Debug)]
pub struct Arc {
    lists: PageLists<2>,
    ghosts: GhostLists,
    /// List of each page: where it is, or while isolated, where it came from.
    list: Vec<u8>,
    /// The paper's c.
    capacity: u32,
    /// The paper's p, in 1 / 2^[`FRACTION`] pages.
    target: u64,
    /// A page from B2 is on its way in: ties between T1 and its target go against T1.
    expects_frequent: bool,
}

impl Arc {
    /// No pages yet, of the numbers `0..pages`, of which `capacity` are in RAM at most.
    #[must_use]
    pub fn new(pages: u32, capacity: u32) -> Self {
        Self {
            lists: PageLists::new(pages),
            // Both ghost lists together: c + pages that are over c for the moment between eviction and trimming.
            ghosts: GhostLists::new(pages.saturating_mul(2).saturating_add(1)),
            list: alloc::vec![ONCE as u8; pages as usize],
            capacity,
            target: 0,
            expects_frequent: false,
        }
    }

    /// The target size of T1, in pages, rounded down.
    #[must_use]
    pub fn target(&self) -> u32 {
        (self.target >> FRACTION) as u32
    }

    /// The paper's REPLACE: which list gives up its oldest page.
    fn victim_list(&self) -> usize {
        let once = u64::from(self.lists.len(ONCE)) << FRACTION;
        let over = once > self.target || (self.expects_frequent && once == self.target);
        if (self.lists.len(ONCE) > 0 && over) || self.lists.len(AGAIN) == 0 { ONCE } else { AGAIN }
    }

    fn trim_ghosts(&mut self) {
        while self.lists.len(ONCE) + self.ghosts.len(ONCE) > self.capacity
            && self.ghosts.len(ONCE) > 0
        {
            self.ghosts.drop_oldest(ONCE);
        }
        while self.tracked() > u64::from(self.capacity) * 2 && self.ghosts.len(AGAIN) > 0 {
            self.ghosts.drop_oldest(AGAIN);
        }
    }

    /// Entries of all four lists.
    fn tracked(&self) -> u64 {
        [self.lists.total(), self.ghosts.len(ONCE), self.ghosts.len(AGAIN)]
            .map(u64::from)
            .iter()
            .sum()
    }
}

impl ReplacementPolicy for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn refault(&mut self, arrival: &mut Arrival, shadow: Shadow) {
        let sizes = [self.ghosts.len(ONCE), self.ghosts.len(AGAIN)].map(u64::from);
        let Some(list) = self.ghosts.take(shadow) else { return };
        arrival.note = REFAULT;
        let step = ((sizes[1 - list] << FRACTION) / sizes[list]).max(1 << FRACTION);
        self.target = match list {
            ONCE => (self.target + step).min(u64::from(self.capacity) << FRACTION),
            _ => self.target.saturating_sub(step),
        };
        self.expects_frequent = list == AGAIN;
    }

    fn insert(&mut self, page: PageId, arrival: Arrival) {
        let list = if arrival.note == REFAULT { AGAIN } else { ONCE };
        self.list[page.index()] = list as u8;
        self.lists.push_front(list, page);
        self.expects_frequent = false;
        self.trim_ghosts();
    }

    #[inline]
    fn mark_accessed(&mut self, page: PageId) {
        let list = usize::from(core::mem::replace(&mut self.list[page.index()], AGAIN as u8));
        if !self.lists.is_linked(page) {
            return;
        }
        if list == AGAIN {
            self.lists.move_to_front(AGAIN, page);
        } else {
            self.lists.remove(ONCE, page);
            self.lists.push_front(AGAIN, page);
        }
    }

    fn isolate(&mut self, _: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        // A full turn is enough: whatever is used again meanwhile was used after every other page.
        for _ in 0..self.lists.total() {
            let page = self.lists.back(self.victim_list())?;
            if !bits.test_and_clear(page).any() {
                break;
            }
            self.mark_accessed(page);
        }
        self.lists.pop_back(self.victim_list())
    }

    fn evicted(&mut self, page: PageId) -> Option<Shadow> {
        let shadow = self.ghosts.push(usize::from(self.list[page.index()]));
        self.trim_ghosts();
        shadow
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        if why == PutBack::Used {
            self.list[page.index()] = AGAIN as u8;
        }
        let list = usize::from(self.list[page.index()]);
        match why {
            PutBack::Later | PutBack::Used => self.lists.push_front(list, page),
            PutBack::Next => self.lists.push_back(list, page),
        }
        // Pages may have arrived in its place.
        self.trim_ghosts();
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(usize::from(self.list[page.index()]), page);
        }
    }

    fn forget(&mut self, shadow: Shadow) {
        self.ghosts.take(shadow);
    }

    fn set_capacity(&mut self, pages: u32) {
        self.capacity = pages.min(self.lists.pages());
        self.target = self.target.min(u64::from(self.capacity) << FRACTION);
        self.trim_ghosts();
    }

    fn is_active(&self, page: PageId) -> bool {
        usize::from(self.list[page.index()]) == AGAIN
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        self.ghosts.check()?;
        if self.ghosts.len(ONCE) > 0 && self.lists.len(ONCE) + self.ghosts.len(ONCE) > self.capacity
        {
            return Err("|T1| + |B1| <= c");
        }
        if self.ghosts.len(AGAIN) > 0 && self.tracked() > u64::from(self.capacity) * 2 {
            return Err("|T1| + |T2| + |B1| + |B2| <= 2c");
        }
        if self.target > u64::from(self.capacity) << FRACTION {
            return Err("0 <= p <= c");
        }
        Ok(())
    }
}
