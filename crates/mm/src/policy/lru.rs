//! LRU: the page whose last use is longest ago goes.
//!
//! Exact where every use is reported. Where uses show up as accessed bits only, order within a harvest is unknown; a page
//! found used at the end of the list gets to the front then, which makes it [`Clock`](super::Clock) for those pages.

use super::list::PageLists;
use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Wanted};

const STACK: usize = 0;

/// Least recently used.
#[derive(Debug)]
pub struct Lru {
    lists: PageLists<1>,
}

impl Lru {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self { lists: PageLists::new(pages) }
    }
}

impl ReplacementPolicy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn insert(&mut self, page: PageId, _: Arrival) {
        self.lists.push_front(STACK, page);
    }

    #[inline]
    fn mark_accessed(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.move_to_front(STACK, page);
        }
    }

    fn isolate(&mut self, _: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        // A full turn is enough: whatever is used again meanwhile was used after every other page.
        for _ in 0..self.lists.len(STACK) {
            let page = self.lists.back(STACK)?;
            if !bits.test_and_clear(page).any() {
                break;
            }
            self.lists.move_to_front(STACK, page);
        }
        self.lists.pop_back(STACK)
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        match why {
            PutBack::Later | PutBack::Used => self.lists.push_front(STACK, page),
            PutBack::Next => self.lists.push_back(STACK, page),
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(STACK, page);
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()
    }
}
