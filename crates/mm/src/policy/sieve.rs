//! SIEVE: one queue, one bit a page, and a hand that leaves survivors where they are.
//!
//! Y. Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, algorithm 1. New pages come in at the head. The hand moves from
//! the tail towards the head; it clears the bit of a used page and passes on, and takes the first unused one. So pages
//! that proved themselves gather behind the hand, and new ones are tried soon: lazy promotion, quick demotion.
//!
//! ```text
//!   head                      tail
//!   [ i  h  g  f  e  d  c  b  a ]
//!      ^new    <-hand
//! ```

use super::list::PageLists;
use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Wanted};
use alloc::vec::Vec;

const QUEUE: usize = 0;

/// SIEVE.
#[derive(Debug)]
pub struct Sieve {
    lists: PageLists<1>,
    visited: Vec<bool>,
    /// Where the search goes on; `None`: at the tail.
    hand: Option<PageId>,
}

impl Sieve {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self {
            lists: PageLists::new(pages),
            visited: alloc::vec![false; pages as usize],
            hand: None,
        }
    }

    fn unlink(&mut self, page: PageId) {
        if self.hand == Some(page) {
            self.hand = self.lists.towards_front(page);
        }
        self.lists.remove(QUEUE, page);
    }
}

impl ReplacementPolicy for Sieve {
    fn name(&self) -> &'static str {
        "sieve"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn insert(&mut self, page: PageId, _: Arrival) {
        self.visited[page.index()] = false;
        self.lists.push_front(QUEUE, page);
    }

    #[inline]
    fn mark_accessed(&mut self, page: PageId) {
        self.visited[page.index()] = true;
    }

    fn isolate(&mut self, _: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        let mut page = self.hand.or_else(|| self.lists.back(QUEUE))?;
        // One turn clears every bit; a page still used after that is used all the time, as all others are.
        for _ in 0..self.lists.len(QUEUE) {
            let harvested = bits.test_and_clear(page).any();
            if !core::mem::take(&mut self.visited[page.index()]) && !harvested {
                break;
            }
            page = self.lists.towards_front(page).or_else(|| self.lists.back(QUEUE))?;
        }
        self.hand = self.lists.towards_front(page);
        self.lists.remove(QUEUE, page);
        Some(page)
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        match why {
            PutBack::Later => self.lists.push_front(QUEUE, page),
            PutBack::Used => {
                self.visited[page.index()] = true;
                self.lists.push_front(QUEUE, page);
            }
            PutBack::Next => {
                match self.hand.and_then(|hand| self.lists.towards_back(hand)) {
                    Some(behind) => self.lists.insert_in_front_of(QUEUE, behind, page),
                    None => self.lists.push_back(QUEUE, page),
                }
                self.hand = Some(page);
            }
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.unlink(page);
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        match self.hand {
            Some(hand) if !self.lists.is_linked(hand) => Err("the hand is on a page of the queue"),
            _ => Ok(()),
        }
    }
}
