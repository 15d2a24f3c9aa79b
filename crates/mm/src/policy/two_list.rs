//! Two lists: Linux's classic active and inactive lists, with refault detection.
//!
//! Linux 6.18 `mm/vmscan.c: shrink_active_list, folio_check_references, inactive_is_low`, `mm/swap.c: folio_mark_accessed`,
//! `mm/workingset.c`. For each kind of page:
//!
//! ```text
//!   fault ------------------------+
//!                                 v
//!              [ inactive: back <-- front ] <--deactivated-- [ active: back <-- front ] <--+
//!   reclaim <--+           |                                                               |
//!                          +---- used twice, or returned in time (refault distance) -------+
//! ```
//!
//! - A call's use marks an inactive page referenced, the next one activates it; accessed bits do the same at harvest.
//! - The inactive list is kept no smaller than the active one below 1 GiB, and in a falling share above.
//! - `nonresident_age` counts evictions and activations. A page evicted at age E that returns at age R would have stayed
//!   had the inactive list been R - E longer; if the rest of memory is at least that large, it is activated at once.
//!
//! DIVERGENCE(reclaim-one-by-one): Linux scans in batches and decides once a batch whether to age the active list
//! (`may_deactivate`); here each refault activation pays for one deactivation, which keeps the proportion without batches.
//!
//! Neighbours: [`Mglru`](super::Mglru), Linux's other answer; [`CostBalance`].

use super::balance::{CostBalance, index};
use super::list::PageLists;
use super::{
    AccessedBits, Arrival, FirstUse, PageId, PageKind, PutBack, References, ReplacementPolicy,
    Shadow, Wanted,
};
use alloc::vec::Vec;

/// State bits of a page; the two lowest are the number of its list.
const ACTIVE: u8 = 1;
const FILE: u8 = 1 << 1;
const REFERENCED: u8 = 1 << 2;
const WORKINGSET: u8 = 1 << 3;

/// Notes on an arrival.
const ACTIVATE: u32 = 1;
const RESTORE: u32 = 1 << 1;

/// Pages that one victim may deactivate (Linux: `SWAP_CLUSTER_MAX`).
const DEACTIVATE_MAX: u32 = 32;

/// Pages in a GiB, as a shift.
const GIB_SHIFT: u32 = 30 - 12;

/// Bits of `nonresident_age` in a shadow.
const AGE_BITS: u32 = 60;

/// Linux's active and inactive lists.
#[derive(Debug)]
pub struct TwoList {
    /// Anon inactive, anon active, file inactive, file active.
    lists: PageLists<4>,
    state: Vec<u8>,
    balance: CostBalance,
    nonresident_age: u64,
    /// Deactivations that refaults paid for, by kind.
    owed_deactivations: [u32; 2],
    /// There was swap at the last reclaim, so anonymous pages take part in the contest for memory.
    swap: bool,
}

enum Verdict {
    Reclaim,
    Keep,
    Activate,
}

impl TwoList {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self {
            lists: PageLists::new(pages),
            state: alloc::vec![0; pages as usize],
            balance: CostBalance::default(),
            nonresident_age: 0,
            owed_deactivations: [0; 2],
            swap: true,
        }
    }

    /// Pages on the inactive and the active list of `kind`.
    #[must_use]
    pub fn sizes(&self, kind: PageKind) -> (u32, u32) {
        (self.lists.len(Self::list(kind, 0)), self.lists.len(Self::list(kind, ACTIVE)))
    }

    const fn list(kind: PageKind, active: u8) -> usize {
        index(kind) * 2 + active as usize
    }

    fn list_of(&self, page: PageId) -> usize {
        usize::from(self.state[page.index()] & (ACTIVE | FILE))
    }

    fn kind_of(&self, page: PageId) -> PageKind {
        if self.state[page.index()] & FILE == 0 { PageKind::Anon } else { PageKind::File }
    }

    fn len_of(&self, kind: PageKind) -> u32 {
        let (inactive, active) = self.sizes(kind);
        inactive + active
    }

    /// Linux `inactive_is_low`: the wanted ratio of active to inactive grows with the square root of memory.
    fn inactive_is_low(&self, kind: PageKind) -> bool {
        let (inactive, active) = self.sizes(kind);
        let gib = (inactive + active) >> GIB_SHIFT;
        let ratio = if gib == 0 { 1 } else { u64::from(10 * gib).isqrt() };
        u64::from(inactive) * ratio < u64::from(active)
    }

    fn age_active(&mut self, kind: PageKind, bits: &mut dyn AccessedBits) {
        for _ in 0..DEACTIVATE_MAX {
            let owed = &mut self.owed_deactivations[index(kind)];
            if *owed > 0 {
                *owed -= 1;
            } else if !self.inactive_is_low(kind) {
                return;
            }
            self.deactivate_one(kind, bits);
        }
    }

    /// Takes the oldest active page to the inactive list; executable code in use stays.
    fn deactivate_one(&mut self, kind: PageKind, bits: &mut dyn AccessedBits) {
        let Some(page) = self.lists.pop_back(Self::list(kind, ACTIVE)) else { return };
        let references = bits.test_and_clear(page);
        let state = &mut self.state[page.index()];
        if !(references.any() && references.executable && kind == PageKind::File) {
            *state = (*state & !ACTIVE) | WORKINGSET;
        }
        self.lists.push_front(self.list_of(page), page);
    }

    fn activate(&mut self, page: PageId) {
        self.lists.remove(self.list_of(page), page);
        self.state[page.index()] |= ACTIVE;
        self.lists.push_front(self.list_of(page), page);
        self.nonresident_age += 1;
    }

    /// Linux `folio_check_references`: what to do with a page at the end of the inactive list.
    fn judge(&mut self, page: PageId, references: References) -> Verdict {
        let state = &mut self.state[page.index()];
        let referenced = *state & REFERENCED != 0;
        *state &= !REFERENCED;
        if !references.any() {
            // A file page that a call used once, or nobody did.
            return Verdict::Reclaim;
        }
        // Every mapped page starts out with the accessed bit of the fault that brought it: one use proves nothing.
        *state |= REFERENCED;
        let code = references.executable && *state & FILE != 0;
        if referenced || references.entries > 1 || code { Verdict::Activate } else { Verdict::Keep }
    }

    /// One look at the end of the inactive list of `kind`; the page if it is to go.
    fn consider(&mut self, kind: PageKind, bits: &mut dyn AccessedBits) -> Option<PageId> {
        let list = Self::list(kind, 0);
        let Some(page) = self.lists.back(list) else {
            self.deactivate_one(kind, bits);
            return None;
        };
        let references = bits.test_and_clear(page);
        match self.judge(page, references) {
            Verdict::Reclaim => {
                self.lists.remove(list, page);
                return Some(page);
            }
            Verdict::Keep => self.lists.move_to_front(list, page),
            Verdict::Activate => self.activate(page),
        }
        self.balance.note_cost(kind, 1, u64::from(self.lists.total()));
        None
    }

    /// Pages that a returning page of `kind` competes with, its own inactive list left out.
    fn contested(&self, kind: PageKind) -> u64 {
        let (_, active) = self.sizes(kind);
        let (anon, file) = (self.len_of(PageKind::Anon), self.len_of(PageKind::File));
        let pages = match kind {
            PageKind::File if self.swap => active + anon,
            PageKind::File => active,
            PageKind::Anon if self.swap => active + file,
            PageKind::Anon => file,
        };
        u64::from(pages)
    }
}

impl ReplacementPolicy for TwoList {
    fn name(&self) -> &'static str {
        "two-list"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn refault(&mut self, arrival: &mut Arrival, shadow: Shadow) {
        let evicted_at = shadow.bits() >> 1;
        let distance = self.nonresident_age.wrapping_sub(evicted_at) & ((1 << AGE_BITS) - 1);
        if distance > self.contested(arrival.kind) {
            return;
        }
        arrival.note = ACTIVATE;
        self.nonresident_age += 1;
        let owed = &mut self.owed_deactivations[index(arrival.kind)];
        *owed = owed.saturating_add(1);
        if shadow.bits() & 1 != 0 {
            arrival.note |= RESTORE;
            self.balance.note_cost(arrival.kind, 1, u64::from(self.lists.total()));
        }
    }

    fn insert(&mut self, page: PageId, arrival: Arrival) {
        let mut state = if arrival.kind == PageKind::File { FILE } else { 0 };
        if arrival.note & ACTIVATE != 0 {
            state |= ACTIVE;
        }
        if arrival.note & RESTORE != 0 {
            state |= WORKINGSET;
        }
        if arrival.first_use == FirstUse::Call {
            state |= REFERENCED;
        }
        self.state[page.index()] = state;
        self.lists.push_front(self.list_of(page), page);
    }

    fn mark_accessed(&mut self, page: PageId) {
        let state = &mut self.state[page.index()];
        if *state & REFERENCED == 0 {
            *state |= REFERENCED;
        } else if *state & ACTIVE == 0 && self.lists.is_linked(page) {
            *state &= !REFERENCED;
            self.activate(page);
        }
    }

    fn isolate(&mut self, wanted: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        self.swap = wanted.anon;
        // Twice round everything: marked, then activated, then deactivated. Who is still used after that is so all the time.
        let mut looks_left = u64::from(self.lists.total()) * 3;
        loop {
            let len = [self.len_of(PageKind::Anon), self.len_of(PageKind::File)];
            let kind = self.balance.next(wanted, len);
            if !wanted.allows(kind) || len[index(kind)] == 0 {
                return None;
            }
            self.age_active(kind, bits);
            if let Some(page) = self.consider(kind, bits) {
                return Some(page);
            }
            if looks_left == 0 {
                let inactive = self.lists.pop_back(Self::list(kind, 0));
                return inactive.or_else(|| self.lists.pop_back(Self::list(kind, ACTIVE)));
            }
            looks_left -= 1;
        }
    }

    fn evicted(&mut self, page: PageId) -> Option<Shadow> {
        let workingset = u64::from(self.state[page.index()] & WORKINGSET != 0);
        let age = self.nonresident_age & ((1 << AGE_BITS) - 1);
        self.nonresident_age += 1;
        Some(Shadow::new((age << 1) | workingset))
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        match why {
            PutBack::Later => self.lists.push_front(self.list_of(page), page),
            PutBack::Used => {
                let kind = self.kind_of(page);
                self.balance.note_cost(kind, 1, u64::from(self.lists.total()));
                self.lists.push_front(self.list_of(page), page);
                self.activate(page);
            }
            PutBack::Next => {
                self.state[page.index()] &= !(ACTIVE | REFERENCED);
                self.lists.push_back(self.list_of(page), page);
            }
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(self.list_of(page), page);
        }
    }

    fn is_active(&self, page: PageId) -> bool {
        self.state[page.index()] & ACTIVE != 0
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        for list in 0..4 {
            if self.lists.iter(list).any(|page| self.list_of(page) != list) {
                return Err("a page's state names its list");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoAccessedBits;
    use super::*;

    const FILE_ONLY: Wanted = Wanted { anon: false, ..Wanted::ANY };

    fn evict(policy: &mut TwoList) -> (PageId, Shadow) {
        let page = policy.isolate(FILE_ONLY, &mut NoAccessedBits).unwrap();
        (page, policy.evicted(page).unwrap())
    }

    #[test]
    fn a_refault_restores_what_was_in_the_working_set_and_charges_its_kind() {
        let mut policy = TwoList::new(10);
        let arrival = Arrival::new(PageKind::File, FirstUse::Call);
        (0..9).for_each(|page| policy.insert(PageId(page), arrival));
        (0..8).for_each(|page| policy.mark_accessed(PageId(page)));
        assert_eq!(policy.sizes(PageKind::File), (1, 8));
        // Balancing deactivates pages behind the one that never was active.
        let (once, shadow_of_once) = evict(&mut policy);
        let (again, shadow_of_again) = evict(&mut policy);
        assert_eq!((once, again), (PageId(8), PageId(0)));

        let mut returning = arrival;
        policy.refault(&mut returning, shadow_of_once);
        assert_eq!(returning.note, ACTIVATE);
        let before = policy.balance.clone();
        let mut returning = arrival;
        policy.refault(&mut returning, shadow_of_again);
        assert_eq!(returning.note, ACTIVATE | RESTORE);
        assert_ne!(alloc::format!("{before:?}"), alloc::format!("{:?}", policy.balance));
    }

    #[test]
    fn a_page_gone_for_longer_than_the_rest_of_memory_could_hold_starts_over() {
        let mut policy = TwoList::new(10);
        let arrival = Arrival::new(PageKind::File, FirstUse::Ahead);
        (0..10).for_each(|page| policy.insert(PageId(page), arrival));
        let (_, shadow) = evict(&mut policy);
        let mut returning = arrival;
        policy.refault(&mut returning, shadow);
        assert_eq!(returning.note, 0, "no page is active, none would have to yield");
    }

    #[test]
    fn code_in_use_stays_active() {
        struct Code;
        impl AccessedBits for Code {
            fn test_and_clear(&mut self, page: PageId) -> References {
                References { entries: u32::from(page.0 < 2), executable: true }
            }
        }
        let mut policy = TwoList::new(4);
        for page in 0..4 {
            policy.insert(PageId(page), Arrival::new(PageKind::File, FirstUse::Call));
            policy.mark_accessed(PageId(page));
        }
        assert_eq!(policy.isolate(Wanted::ANY, &mut Code), Some(PageId(2)));
        assert_eq!(policy.sizes(PageKind::File), (1, 2));
    }
}
