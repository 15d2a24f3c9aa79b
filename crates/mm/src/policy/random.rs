//! Random: any page goes, each with the same chance.
//!
//! What a policy without any knowledge reaches. Seeded, so a run can be repeated.

use super::{AccessedBits, Arrival, PageId, PutBack, ReplacementPolicy, Wanted};
use alloc::vec::Vec;

const ABSENT: u32 = u32::MAX;

/// Uniformly random victims from a seed.
#[derive(Debug)]
pub struct Random {
    pages: Vec<PageId>,
    /// Position of each page in `pages`.
    position: Vec<u32>,
    state: u64,
}

impl Random {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32, seed: u64) -> Self {
        Self {
            pages: Vec::with_capacity(pages as usize),
            position: alloc::vec![ABSENT; pages as usize],
            state: seed,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), the high half.
    fn draw(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

impl ReplacementPolicy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn len(&self) -> u32 {
        self.pages.len() as u32
    }

    fn insert(&mut self, page: PageId, _: Arrival) {
        assert!(self.position[page.index()] == ABSENT, "{page} is known already");
        self.position[page.index()] = self.pages.len() as u32;
        self.pages.push(page);
    }

    fn mark_accessed(&mut self, _: PageId) {}

    fn isolate(&mut self, _: Wanted, _: &mut dyn AccessedBits) -> Option<PageId> {
        if self.pages.is_empty() {
            return None;
        }
        // The bias of a 32-bit multiply-shift is below one in 2^32 / len.
        let at = (u64::from(self.draw()) * self.pages.len() as u64) >> 32;
        let page = self.pages[at as usize];
        self.remove(page);
        Some(page)
    }

    fn putback(&mut self, page: PageId, _: PutBack) {
        self.position[page.index()] = self.pages.len() as u32;
        self.pages.push(page);
    }

    fn remove(&mut self, page: PageId) {
        let at = core::mem::replace(&mut self.position[page.index()], ABSENT);
        if at == ABSENT {
            return;
        }
        self.pages.swap_remove(at as usize);
        if let Some(moved) = self.pages.get(at as usize) {
            self.position[moved.index()] = at;
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let known = self.position.iter().filter(|&&at| at != ABSENT).count();
        let placed = self
            .pages
            .iter()
            .enumerate()
            .all(|(at, page)| self.position[page.index()] as usize == at);
        if known != self.pages.len() || !placed {
            return Err("positions mirror the pages");
        }
        Ok(())
    }
}
