//! Linux's two policies, naively, for one kind of page.

use super::super::simulate::Hits;
use super::reference::Reference;
use alloc::vec::Vec;

/// Active and inactive list; index 0 is the back.
pub(super) struct TwoList {
    pub(super) capacity: usize,
    pub(super) hits: Hits,
    pub(super) inactive: Vec<Page>,
    pub(super) active: Vec<Page>,
    pub(super) age: u64,
    pub(super) owed: u64,
    /// Object, age at eviction, whether it was in the working set.
    pub(super) gone: Vec<(u32, u64, bool)>,
}

#[derive(Clone, Copy)]
pub(super) struct Page {
    object: u32,
    accessed: bool,
    referenced: bool,
    workingset: bool,
}

impl TwoList {
    fn deactivate(&mut self) {
        if !self.active.is_empty() {
            let page = self.active.remove(0);
            self.inactive.push(Page { accessed: false, workingset: true, ..page });
        }
    }

    fn evict(&mut self) {
        for _ in 0..3 * self.capacity {
            for _ in 0..32 {
                if self.owed > 0 {
                    self.owed -= 1;
                } else if self.inactive.len() >= self.active.len() {
                    break;
                }
                self.deactivate();
            }
            if self.inactive.is_empty() {
                self.deactivate();
                continue;
            }
            let mut page = self.inactive.remove(0);
            if !page.accessed {
                self.gone.push((page.object, self.age, page.workingset));
                self.age += 1;
                return;
            }
            page.accessed = false;
            let twice = core::mem::replace(&mut page.referenced, true);
            if twice {
                self.age += 1;
                self.active.push(page);
            } else {
                self.inactive.push(page);
            }
        }
        panic!("three looks a page find a victim");
    }
}

impl Reference for TwoList {
    fn request(&mut self, object: u32) -> bool {
        let bits = self.hits == Hits::AccessedBits;
        if let Some(page) = self.active.iter_mut().find(|page| page.object == object) {
            *page = if bits {
                Page { accessed: true, ..*page }
            } else {
                Page { referenced: true, ..*page }
            };
            return true;
        }
        if let Some(at) = self.inactive.iter().position(|page| page.object == object) {
            if bits {
                self.inactive[at].accessed = true;
            } else if self.inactive[at].referenced {
                let page = self.inactive.remove(at);
                self.active.push(Page { referenced: false, ..page });
                self.age += 1;
            } else {
                self.inactive[at].referenced = true;
            }
            return true;
        }
        let mut page = Page { object, accessed: bits, referenced: !bits, workingset: false };
        let mut activate = false;
        if let Some(at) = self.gone.iter().position(|gone| gone.0 == object) {
            let (_, evicted_at, workingset) = self.gone.remove(at);
            if self.age - evicted_at <= self.active.len() as u64 {
                activate = true;
                page.workingset = workingset;
                self.age += 1;
                self.owed += 1;
            }
        }
        if self.inactive.len() + self.active.len() == self.capacity {
            self.evict();
        }
        if activate { &mut self.active } else { &mut self.inactive }.push(page);
        false
    }

    fn discard(&mut self, object: u32) {
        self.inactive.retain(|page| page.object != object);
        self.active.retain(|page| page.object != object);
        self.gone.retain(|gone| gone.0 != object);
    }
}

/// Generations as a number on each page; order within a generation as another.
pub(super) struct Mglru {
    pub(super) capacity: usize,
    pub(super) hits: Hits,
    pub(super) pages: Vec<GenPage>,
    pub(super) min_seq: u64,
    pub(super) max_seq: u64,
    pub(super) youngest_first: i64,
    pub(super) refaulted: [u64; 4],
    pub(super) evicted: [u64; 4],
    pub(super) protected: [u64; 4],
    pub(super) refaulted_avg: [u64; 4],
    pub(super) total_avg: [u64; 4],
    /// Object, oldest generation at eviction, uses less one, whether it was in the working set.
    pub(super) gone: Vec<(u32, u64, u8, bool)>,
}

#[derive(Clone, Copy)]
pub(super) struct GenPage {
    object: u32,
    accessed: bool,
    seq: u64,
    /// Larger is nearer to the front of its generation.
    order: i64,
    referenced: bool,
    /// Uses by calls after the one that set `referenced`.
    more_refs: u8,
    workingset: bool,
}

impl GenPage {
    fn refs(&self) -> u8 {
        if self.referenced { self.more_refs + 1 } else { 0 }
    }

    fn tier(&self) -> usize {
        match self.refs() {
            _ if self.workingset => 3,
            0 | 1 => 0,
            2 => 1,
            _ => 2,
        }
    }

    fn saturated(&self) -> bool {
        self.refs() == 4 && self.workingset
    }

    fn used_by_call(&mut self) {
        if !self.referenced {
            (self.referenced, self.more_refs) = (true, 0);
        } else if self.more_refs == 3 {
            self.workingset = true;
        } else {
            self.more_refs += 1;
        }
    }

    fn found_used(&mut self) -> bool {
        let again = self.referenced || self.workingset;
        self.more_refs = 0;
        self.referenced = !again;
        self.workingset |= again;
        again
    }
}

impl Mglru {
    pub(super) fn new(capacity: usize, hits: Hits) -> Self {
        Self {
            capacity,
            hits,
            pages: Vec::new(),
            min_seq: 0,
            max_seq: 3,
            youngest_first: 0,
            refaulted: [0; 4],
            evicted: [0; 4],
            protected: [0; 4],
            refaulted_avg: [0; 4],
            total_avg: [0; 4],
            gone: Vec::new(),
        }
    }

    fn front(&mut self) -> i64 {
        self.youngest_first += 1;
        self.youngest_first
    }

    fn back(&mut self) -> i64 {
        -self.front()
    }

    fn close_oldest(&mut self) {
        for tier in 0..4 {
            self.refaulted_avg[tier] = (self.refaulted_avg[tier] + self.refaulted[tier]) / 2;
            self.total_avg[tier] =
                (self.total_avg[tier] + self.evicted[tier] + self.protected[tier]) / 2;
        }
        (self.refaulted, self.evicted, self.protected) = ([0; 4], [0; 4], [0; 4]);
        self.min_seq += 1;
    }

    fn protect(&mut self, at: usize) {
        let page = &mut self.pages[at];
        if !page.saturated() {
            self.protected[page.tier()] += 1;
        }
        (page.referenced, page.more_refs) = (false, 0);
        page.seq += 1;
    }

    fn age(&mut self) {
        if self.hits == Hits::AccessedBits {
            // A walk meets pages in the order of their slots; which pages those are only the harness knows, so the
            // traces for this mode keep pages apart by generation only: order within a walk is the object's slot.
            let mut used: Vec<usize> =
                (0..self.pages.len()).filter(|&at| self.pages[at].accessed).collect();
            used.sort_by_key(|&at| self.slot_of(self.pages[at].object));
            for at in used {
                self.pages[at].accessed = false;
                if self.pages[at].found_used() {
                    self.pages[at].seq = self.max_seq;
                    self.pages[at].order = self.front();
                }
            }
        }
        if self.max_seq - self.min_seq + 1 == 4 {
            loop {
                let oldest = self.min_seq;
                let front = (0..self.pages.len())
                    .filter(|&at| self.pages[at].seq == oldest)
                    .max_by_key(|&at| self.pages[at].order);
                let Some(at) = front else { break };
                self.protect(at);
                self.pages[at].order = self.back();
            }
            self.close_oldest();
        }
        self.max_seq += 1;
    }

    /// Slots are filled in order and taken over by whoever evicts: the index in `pages` is the slot.
    fn slot_of(&self, object: u32) -> usize {
        self.pages.iter().position(|page| page.object == object).unwrap()
    }

    fn evictable_tier(&self) -> usize {
        let position = |tier: usize| {
            (
                self.refaulted_avg[tier] + self.refaulted[tier],
                self.total_avg[tier] + self.protected[tier] + self.evicted[tier],
            )
        };
        let (first_refaulted, first_total) = position(0);
        for tier in 1..4 {
            let (refaulted, total) = position(tier);
            let tolerable = refaulted < 64
                || refaulted * (first_total + 64) * 2 <= (first_refaulted + 1) * total * 3;
            if !tolerable {
                return tier - 1;
            }
        }
        3
    }

    /// The victim's index, with the page as it was when it went.
    fn victim(&mut self) -> usize {
        loop {
            let tier_max = self.evictable_tier();
            while self.max_seq - self.min_seq + 1 > 2 {
                let oldest = self.min_seq;
                let back = (0..self.pages.len())
                    .filter(|&at| self.pages[at].seq == oldest)
                    .min_by_key(|&at| self.pages[at].order);
                let Some(at) = back else {
                    self.close_oldest();
                    continue;
                };
                if self.pages[at].tier() > tier_max || self.pages[at].saturated() {
                    self.protect(at);
                    self.pages[at].order = self.front();
                    continue;
                }
                if !self.pages[at].referenced {
                    self.pages[at].more_refs = 0;
                }
                if !self.pages[at].accessed {
                    return at;
                }
                self.pages[at].accessed = false;
                self.pages[at].found_used();
                let workingset = u64::from(self.pages[at].workingset);
                let mut seq = (self.max_seq + workingset).saturating_sub(3).max(self.min_seq);
                if seq == self.min_seq {
                    (self.pages[at].referenced, self.pages[at].more_refs) = (false, 0);
                    seq = (self.max_seq + workingset - 1).max(self.min_seq);
                }
                self.pages[at].seq = seq;
                self.pages[at].order = self.front();
            }
            self.age();
        }
    }
}

impl Reference for Mglru {
    fn request(&mut self, object: u32) -> bool {
        let bits = self.hits == Hits::AccessedBits;
        if let Some(page) = self.pages.iter_mut().find(|page| page.object == object) {
            if bits {
                page.accessed = true;
            } else {
                page.used_by_call();
            }
            return true;
        }
        let (mut more_refs, mut workingset) = (0, false);
        if let Some(at) = self.gone.iter().position(|gone| gone.0 == object) {
            let (_, seq, refs, was_workingset) = self.gone.remove(at);
            if self.max_seq - seq < 4 {
                let tier = if was_workingset { 3 } else { [0, 1, 2, 2][usize::from(refs)] };
                self.refaulted[tier] += 1;
                workingset = was_workingset;
                more_refs = if was_workingset { 0 } else { refs };
            }
        }
        let slot = (self.pages.len() == self.capacity).then(|| {
            let at = self.victim();
            let page = self.pages[at];
            self.evicted[page.tier()] += 1;
            self.gone.push((
                page.object,
                self.min_seq,
                page.refs().saturating_sub(1),
                page.workingset,
            ));
            at
        });
        let back = match (bits, workingset) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let seq = (self.max_seq - back).max(self.min_seq);
        let order = self.front();
        let mut page = GenPage {
            object,
            accessed: bits,
            seq,
            order,
            referenced: false,
            more_refs,
            workingset,
        };
        if !bits {
            page.used_by_call();
        }
        match slot {
            Some(slot) => self.pages[slot] = page,
            None => self.pages.push(page),
        }
        false
    }

    fn discard(&mut self, object: u32) {
        self.pages.retain(|page| page.object != object);
        self.gone.retain(|gone| gone.0 != object);
    }
}
