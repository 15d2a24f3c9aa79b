//! CLOCK: first in, first out, with a second chance for pages used meanwhile.
//!
//! F. J. Corbato, "A Paging Experiment with the Multics System", 1968. A hand goes round the pages; one that was used since
//! the hand last came by loses its bit and stays, one that was not goes. New pages come in behind the hand, without
//! their bit: the use that brought them in does not count.
//!
//! ```text
//!             hand (back of the list)
//!              v
//!   new -> [ h g f e d c b a ]      a used: its bit is cleared, it moves to the front   [ a h g f e d c b ]
//! ```
//!
//! The list is turned under a fixed hand rather than the hand moved round a ring; the order is the same, and pages that
//! leave from the middle need no care. Neighbours: [`Sieve`](super::Sieve) keeps survivors in place instead.

use super::list::PageLists;
use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Wanted};
use alloc::vec::Vec;

const RING: usize = 0;

/// One-bit CLOCK, also known as second chance or FIFO-reinsertion.
#[derive(Debug)]
pub struct Clock {
    lists: PageLists<1>,
    used: Vec<bool>,
}

impl Clock {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self { lists: PageLists::new(pages), used: alloc::vec![false; pages as usize] }
    }
}

impl ReplacementPolicy for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn insert(&mut self, page: PageId, _: Arrival) {
        self.used[page.index()] = false;
        self.lists.push_front(RING, page);
    }

    #[inline]
    fn mark_accessed(&mut self, page: PageId) {
        self.used[page.index()] = true;
    }

    fn isolate(&mut self, _: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        // One turn clears every bit; a page still used after that is used all the time, as all others are.
        for _ in 0..self.lists.len(RING) {
            let page = self.lists.back(RING)?;
            let harvested = bits.test_and_clear(page).any();
            if !core::mem::take(&mut self.used[page.index()]) && !harvested {
                break;
            }
            self.lists.move_to_front(RING, page);
        }
        self.lists.pop_back(RING)
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        match why {
            PutBack::Later => self.lists.push_front(RING, page),
            PutBack::Used => {
                self.used[page.index()] = true;
                self.lists.push_front(RING, page);
            }
            PutBack::Next => self.lists.push_back(RING, page),
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(RING, page);
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()
    }
}
