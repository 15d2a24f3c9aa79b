//! Separate lists for anonymous and file pages under a policy that does not tell them apart.
//!
//! Reclaim must be able to take file pages only (no swap left) and to prefer one kind by cost and swappiness. A policy of
//! one list would have to search it. [`ByKind`] runs two instances side by side, as Linux has separate lists, and takes
//! turns by [`CostBalance`]; each instance has ghosts and hands of its own.
//!
//! A simulation, which knows one kind of page, uses the bare policy.

use super::balance::{CostBalance, index};
use super::{AccessedBits, Arrival, PageId, PageKind, PutBack, ReplacementPolicy, Shadow, Wanted};
use alloc::vec::Vec;

/// Two instances of `P`, one for each [`PageKind`].
#[derive(Debug)]
pub struct ByKind<P> {
    /// Anonymous pages, file pages.
    policies: [P; 2],
    kind: Vec<PageKind>,
    balance: CostBalance,
}

/// Shadow bit: of a file page. A wrapped policy has the 61 bits above.
const FILE: u64 = 1;

impl<P: ReplacementPolicy> ByKind<P> {
    /// Two instances from `make`, of the page numbers `0..pages`.
    pub fn new(pages: u32, mut make: impl FnMut() -> P) -> Self {
        Self {
            policies: [make(), make()],
            kind: alloc::vec![PageKind::Anon; pages as usize],
            balance: CostBalance::default(),
        }
    }

    fn of(&mut self, page: PageId) -> &mut P {
        &mut self.policies[index(self.kind[page.index()])]
    }
}

impl<P: ReplacementPolicy> ReplacementPolicy for ByKind<P> {
    fn name(&self) -> &'static str {
        self.policies[0].name()
    }

    fn len(&self) -> u32 {
        self.policies.iter().map(P::len).sum()
    }

    fn refault(&mut self, arrival: &mut Arrival, shadow: Shadow) {
        // A refault is what reclaiming that kind cost.
        let total = u64::from(self.len());
        self.balance.note_cost(arrival.kind, 1, total);
        let came_from = if shadow.bits() & FILE == 0 { PageKind::Anon } else { PageKind::File };
        if came_from == arrival.kind {
            self.policies[index(arrival.kind)].refault(arrival, Shadow::new(shadow.bits() >> 1));
        }
    }

    fn insert(&mut self, page: PageId, arrival: Arrival) {
        self.kind[page.index()] = arrival.kind;
        self.of(page).insert(page, arrival);
    }

    fn mark_accessed(&mut self, page: PageId) {
        self.of(page).mark_accessed(page);
    }

    fn isolate(&mut self, wanted: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        let len = [self.policies[0].len(), self.policies[1].len()];
        let kind = self.balance.next(wanted, len);
        if !wanted.allows(kind) {
            return None;
        }
        self.policies[index(kind)].isolate(wanted, bits)
    }

    fn evicted(&mut self, page: PageId) -> Option<Shadow> {
        let file = if self.kind[page.index()] == PageKind::File { FILE } else { 0 };
        self.of(page).evicted(page).map(|shadow| Shadow::new((shadow.bits() << 1) | file))
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        if why == PutBack::Used {
            let (kind, total) = (self.kind[page.index()], u64::from(self.len()));
            self.balance.note_cost(kind, 1, total);
        }
        self.of(page).putback(page, why);
    }

    fn remove(&mut self, page: PageId) {
        self.of(page).remove(page);
    }

    fn forget(&mut self, shadow: Shadow) {
        let policy = (shadow.bits() & FILE) as usize;
        self.policies[policy].forget(Shadow::new(shadow.bits() >> 1));
    }

    fn is_active(&self, page: PageId) -> bool {
        self.policies[index(self.kind[page.index()])].is_active(page)
    }

    fn set_capacity(&mut self, pages: u32) {
        for policy in &mut self.policies {
            policy.set_capacity(pages);
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        self.policies.iter().try_for_each(P::check)
    }
}
