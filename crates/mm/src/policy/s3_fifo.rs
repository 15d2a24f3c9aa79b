//! S3-FIFO: a small queue filters what is used once, a main queue keeps the rest, a ghost queue corrects mistakes.
//!
//! J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1 and section 4.
//!
//! ```text
//!   new ------> [ S: 10 % ] --used more than once--> [ M: 90 %, two-bit CLOCK ] --> out
//!                    |                                   ^
//!                    +--else--> [ G: ghosts, as many as M holds ] --returns--+
//! ```
//!
//! A page carries a count of its uses, 0 to 3, cleared when it moves to M; in M each turn costs one. Uses found as accessed
//! bits count once a harvest.
//!
//! The paper's `evictS` can evict from M and S in one go when promotions fill M; one page at a time, as
//! [`ReplacementPolicy::isolate`] asks, the choice between S and M is simply made anew at each step.
//!
//! Neighbours: [`GhostLists`] for G.

use super::ghost::GhostLists;
use super::list::PageLists;
use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Shadow, Wanted};
use alloc::vec::Vec;

const SMALL: usize = 0;
const MAIN: usize = 1;
const GHOST: usize = 0;

/// Note on an arrival: it is a refault, so it goes to M.
const REFAULT: u32 = 1;

/// Uses are counted up to this (two bits).
const USES_MAX: u8 = 3;
/// A page of S with more uses than this goes to M.
const USES_ONCE: u8 = 1;
/// State byte: the page is or was in M.
const IN_MAIN: u8 = 1 << 7;

/// Simple, scalable FIFO with three static queues.
#[derive(Debug)]
pub struct S3Fifo {
    lists: PageLists<2>,
    ghosts: GhostLists,
    /// Uses of each page, and [`IN_MAIN`].
    state: Vec<u8>,
    small_target: u32,
    ghosts_max: u32,
}

impl S3Fifo {
    /// No pages yet, of the numbers `0..pages`, of which `capacity` are in RAM at most.
    #[must_use]
    pub fn new(pages: u32, capacity: u32) -> Self {
        let mut policy = Self {
            lists: PageLists::new(pages),
            ghosts: GhostLists::new(pages),
            state: alloc::vec![0; pages as usize],
            small_target: 0,
            ghosts_max: 0,
        };
        policy.set_capacity(capacity);
        policy
    }

    fn uses(&self, page: PageId) -> u8 {
        self.state[page.index()] & USES_MAX
    }

    fn set(&mut self, page: PageId, list: usize, uses: u8) {
        self.state[page.index()] = uses | if list == MAIN { IN_MAIN } else { 0 };
    }

    fn list(&self, page: PageId) -> usize {
        usize::from(self.state[page.index()] >> 7)
    }

    /// The page to go, still on its queue: promotes and turns until one is found.
    fn find_victim(&mut self, bits: &mut dyn AccessedBits) -> Option<PageId> {
        // Each step promotes, or takes one use of three, or ends the search; harvested bits can only add one a step.
        let mut steps_left = u64::from(self.lists.total()) * (u64::from(USES_MAX) + 2);
        loop {
            let small =
                self.lists.len(SMALL) >= self.small_target.max(1) || self.lists.len(MAIN) == 0;
            let list = if small { SMALL } else { MAIN };
            let page = self.lists.back(list)?;
            if bits.test_and_clear(page).any() {
                self.mark_accessed(page);
            }
            let uses = self.uses(page);
            let keep = if small { uses > USES_ONCE } else { uses > 0 };
            if !keep || steps_left == 0 {
                return Some(page);
            }
            steps_left -= 1;
            self.lists.remove(list, page);
            self.lists.push_front(MAIN, page);
            self.set(page, MAIN, if small { 0 } else { uses - 1 });
        }
    }

    fn trim_ghosts(&mut self) {
        while self.ghosts.len(GHOST) > self.ghosts_max {
            self.ghosts.drop_oldest(GHOST);
        }
    }
}

impl ReplacementPolicy for S3Fifo {
    fn name(&self) -> &'static str {
        "s3-fifo"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn refault(&mut self, arrival: &mut Arrival, shadow: Shadow) {
        if self.ghosts.take(shadow).is_some() {
            arrival.note = REFAULT;
        }
    }

    fn insert(&mut self, page: PageId, arrival: Arrival) {
        let list = if arrival.note == REFAULT { MAIN } else { SMALL };
        self.set(page, list, 0);
        self.lists.push_front(list, page);
    }

    #[inline]
    fn mark_accessed(&mut self, page: PageId) {
        let state = &mut self.state[page.index()];
        if *state & USES_MAX < USES_MAX {
            *state += 1;
        }
    }

    fn isolate(&mut self, _: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        let page = self.find_victim(bits)?;
        self.lists.remove(self.list(page), page);
        Some(page)
    }

    fn evicted(&mut self, page: PageId) -> Option<Shadow> {
        if self.list(page) == MAIN || self.ghosts_max == 0 {
            return None;
        }
        if self.ghosts.len(GHOST) >= self.ghosts_max {
            self.ghosts.drop_oldest(GHOST);
        }
        self.ghosts.push(GHOST)
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        let list = self.list(page);
        match why {
            PutBack::Later => self.lists.push_front(list, page),
            PutBack::Used => {
                self.mark_accessed(page);
                self.lists.push_front(list, page);
            }
            PutBack::Next => self.lists.push_back(list, page),
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(self.list(page), page);
        }
    }

    fn forget(&mut self, shadow: Shadow) {
        self.ghosts.take(shadow);
    }

    fn set_capacity(&mut self, pages: u32) {
        let pages = pages.min(self.lists.pages());
        self.small_target = pages / 10;
        self.ghosts_max = pages - self.small_target;
        self.trim_ghosts();
    }

    fn is_active(&self, page: PageId) -> bool {
        self.list(page) == MAIN
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        self.ghosts.check()?;
        for list in [SMALL, MAIN] {
            if self.lists.iter(list).any(|page| self.list(page) != list) {
                return Err("a page's state names its queue");
            }
        }
        if self.ghosts.len(GHOST) > self.ghosts_max {
            return Err("|G| <= |M| of a full cache");
        }
        Ok(())
    }
}
