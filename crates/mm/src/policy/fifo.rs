//! FIFO: the page that came first goes first; uses do not count.
//!
//! The yardstick that the others must beat. Neighbours: [`Clock`](super::Clock), which is this plus a second chance.

use super::list::PageLists;
use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Wanted};

const QUEUE: usize = 0;

/// First in, first out.
#[derive(Debug)]
pub struct Fifo {
    lists: PageLists<1>,
}

impl Fifo {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self { lists: PageLists::new(pages) }
    }
}

impl ReplacementPolicy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn insert(&mut self, page: PageId, _: Arrival) {
        self.lists.push_front(QUEUE, page);
    }

    fn mark_accessed(&mut self, _: PageId) {}

    fn isolate(&mut self, _: Wanted, _: &mut dyn AccessedBits) -> Option<PageId> {
        self.lists.pop_back(QUEUE)
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        match why {
            PutBack::Later | PutBack::Used => self.lists.push_front(QUEUE, page),
            PutBack::Next => self.lists.push_back(QUEUE, page),
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(QUEUE, page);
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()
    }
}
