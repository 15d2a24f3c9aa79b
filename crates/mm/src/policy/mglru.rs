//! Multi-generational LRU: pages grouped by when they were last seen used, evicted group by group.
//!
//! Linux 6.18 `mm/vmscan.c` (`inc_max_seq`, `sort_folio`, `evict_folios`), `mm/workingset.c: lru_gen_*`,
//! `Documentation/mm/multigen_lru.rst`. Two to four generations are kept for each kind of page:
//!
//! ```text
//!      min_seq                                   max_seq
//!    [ oldest ]   [        ]   [        ]   [ youngest ]
//!     victims ^    ^ protected: used often    ^ found used by a walk of the tables; faulted in
//!                    by calls (tiers)
//! ```
//!
//! *Aging* walks the tables, brings what it finds used to the youngest generation and opens a new one; it runs when only two
//! are left. *Eviction* takes the oldest generation from its end. Pages used by calls do not move when used; they are
//! counted, and log2 of the count is the page's tier. Tiers whose pages refault more than those of the first tier are
//! protected: moved on to the next generation instead of evicted. Refaults, evictions and protections are averaged over
//! generations as the input of that feedback loop.
//!
//! DIVERGENCE(mglru-one-by-one): Linux moves a page that a walk found used lazily, when eviction meets it, and evaluates the
//! tiers once a batch; here a page moves when it is found, and the tiers are evaluated for each victim.
//!
//! Neighbours: [`TwoList`](super::TwoList), Linux's other answer.

use super::balance::index;
use super::list::PageLists;
use super::{
    AccessedBits, Arrival, FirstUse, PageId, PageKind, PutBack, ReplacementPolicy, Shadow, Wanted,
};
use alloc::vec::Vec;

/// Generations that cannot be evicted from (Linux: `MIN_NR_GENS`).
const GENS_MIN: u64 = 2;
/// Generations kept at most (Linux: `MAX_NR_GENS`).
const GENS_MAX: u64 = 4;
/// Linux: `MAX_NR_TIERS`.
const TIERS: usize = 4;
/// Refaults below this prove nothing (Linux: `MIN_LRU_BATCH` with 64-bit longs).
const BATCH_MIN: u64 = 64;

/// State bits of a page; the three lowest are the number of its list: kind, then generation.
const FILE: u8 = 1;
const GEN_SHIFT: u32 = 1;
const LIST: u8 = 0b111;
const REFERENCED: u8 = 1 << 3;
const REFS_SHIFT: u32 = 4;
const REFS: u8 = 0b11 << REFS_SHIFT;
const WORKINGSET: u8 = 1 << 6;

/// Note on an arrival: what the shadow said of the page's uses, in state bits.
const NOTE_STATE: u8 = REFS | WORKINGSET;

/// Bits of the generation number in a shadow, above the eight of the page's state.
const SEQ_BITS: u32 = 52;

/// Linux's multi-generational LRU.
#[derive(Debug)]
pub struct Mglru {
    lists: PageLists<{ GENS_MAX as usize * 2 }>,
    state: Vec<u8>,
    max_seq: u64,
    min_seq: [u64; 2],
    feedback: [[Tier; TIERS]; 2],
}

/// What became of one tier's pages: in the oldest generation, and averaged over earlier ones.
#[derive(Clone, Copy, Debug, Default)]
struct Tier {
    refaulted: u64,
    evicted: u64,
    protected: u64,
    refaulted_avg: u64,
    total_avg: u64,
}

/// A term of the feedback loop's comparison (Linux: `struct ctrl_pos`).
#[derive(Clone, Copy, Default)]
struct Position {
    refaulted: u64,
    total: u64,
    gain: u64,
}

impl Position {
    fn read(tiers: &[Tier], gain: u64) -> Self {
        tiers.iter().fold(Self { gain, ..Self::default() }, |sum, tier| Self {
            refaulted: sum.refaulted + tier.refaulted_avg + tier.refaulted,
            total: sum.total + tier.total_avg + tier.protected + tier.evicted,
            gain,
        })
    }

    /// Linux `positive_ctrl_err`: `other` refaults seldom, or at a lower rate than this.
    fn is_worse_than(self, other: Self) -> bool {
        other.refaulted < BATCH_MIN
            || other.refaulted * (self.total + BATCH_MIN) * self.gain
                <= (self.refaulted + 1) * other.total * other.gain
    }
}

impl Mglru {
    /// No pages yet, of the numbers `0..pages`.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self {
            lists: PageLists::new(pages),
            state: alloc::vec![0; pages as usize],
            max_seq: GENS_MIN + 1,
            min_seq: [0; 2],
            feedback: [[Tier::default(); TIERS]; 2],
        }
    }

    const fn list(kind: PageKind, seq: u64) -> usize {
        (((seq % GENS_MAX) as usize) << GEN_SHIFT) | index(kind)
    }

    fn list_of(&self, page: PageId) -> usize {
        usize::from(self.state[page.index()] & LIST)
    }

    fn kind_of(&self, page: PageId) -> PageKind {
        if self.state[page.index()] & FILE == 0 { PageKind::Anon } else { PageKind::File }
    }

    fn len_of(&self, kind: PageKind) -> u32 {
        (0..GENS_MAX).map(|seq| self.lists.len(Self::list(kind, seq))).sum()
    }

    fn generations(&self, kind: PageKind) -> u64 {
        self.max_seq - self.min_seq[index(kind)] + 1
    }

    /// Uses of a page by calls since it was last promoted, 0 to 4 (Linux: `folio_lru_refs`).
    fn refs(state: u8) -> u8 {
        if state & REFERENCED == 0 { 0 } else { ((state & REFS) >> REFS_SHIFT) + 1 }
    }

    /// Linux `lru_tier_from_refs`.
    fn tier(state: u8) -> usize {
        match Self::refs(state) {
            _ if state & WORKINGSET != 0 => TIERS - 1,
            0 | 1 => 0,
            2 => 1,
            _ => 2,
        }
    }

    /// All use bits are set: promoted on sight, without being a case for the feedback loop.
    fn is_saturated(state: u8) -> bool {
        Self::refs(state) == 4 && state & WORKINGSET != 0
    }

    /// Puts a page that is on no list into generation `seq`.
    fn file_in(&mut self, page: PageId, seq: u64, end: End) {
        let list = Self::list(self.kind_of(page), seq);
        let state = &mut self.state[page.index()];
        *state = (*state & !LIST) | list as u8;
        match end {
            End::Front => self.lists.push_front(list, page),
            End::Back => self.lists.push_back(list, page),
        }
    }

    /// The generation `back` steps before the youngest, but not older than the oldest (Linux: `lru_gen_folio_seq`).
    fn seq_back(&self, kind: PageKind, back: u64) -> u64 {
        (self.max_seq - back).max(self.min_seq[index(kind)])
    }

    /// Where a page known to be in use goes.
    fn active_seq(&self, page: PageId) -> u64 {
        let workingset = self.state[page.index()] & WORKINGSET != 0;
        self.seq_back(self.kind_of(page), if workingset { 0 } else { 1 })
    }

    /// Where a page not known to be in use goes.
    fn inactive_seq(&self, page: PageId) -> u64 {
        let workingset = u64::from(self.state[page.index()] & WORKINGSET != 0);
        self.seq_back(self.kind_of(page), GENS_MAX - 1 - workingset)
    }

    /// A harvest found the page used: the first time that is noted, the second time it proves a working set.
    fn note_harvest(&mut self, page: PageId) -> bool {
        let state = &mut self.state[page.index()];
        if *state & (REFERENCED | WORKINGSET) == 0 {
            *state = (*state & !REFS) | REFERENCED;
            return false;
        }
        *state = (*state & !(REFS | REFERENCED)) | WORKINGSET;
        true
    }

    /// Walks the tables and opens a new generation.
    fn age(&mut self, bits: &mut dyn AccessedBits) {
        let youngest = self.max_seq;
        bits.walk(&mut |page| {
            if self.lists.is_linked(page) && self.note_harvest(page) {
                self.lists.remove(self.list_of(page), page);
                self.file_in(page, youngest, End::Front);
            }
        });
        for kind in [PageKind::Anon, PageKind::File] {
            if self.generations(kind) == GENS_MAX {
                self.merge_oldest(kind);
            }
        }
        self.max_seq += 1;
    }

    /// Closes the oldest generation; pages left in it become the oldest of the next.
    fn merge_oldest(&mut self, kind: PageKind) {
        let oldest = self.min_seq[index(kind)];
        while let Some(page) = self.lists.front(Self::list(kind, oldest)) {
            self.protect(page, oldest + 1, End::Back);
        }
        self.close_oldest(kind);
    }

    /// Moves a page of the oldest generation on, its count of uses starts over.
    fn protect(&mut self, page: PageId, seq: u64, end: End) {
        let state = self.state[page.index()];
        if !Self::is_saturated(state) {
            self.feedback[index(self.kind_of(page))][Self::tier(state)].protected += 1;
        }
        self.lists.remove(self.list_of(page), page);
        self.state[page.index()] = state & !(REFS | REFERENCED);
        self.file_in(page, seq, end);
    }

    fn close_oldest(&mut self, kind: PageKind) {
        for tier in &mut self.feedback[index(kind)] {
            *tier = Tier {
                refaulted_avg: (tier.refaulted_avg + tier.refaulted) / 2,
                total_avg: (tier.total_avg + tier.protected + tier.evicted) / 2,
                ..Tier::default()
            };
        }
        self.min_seq[index(kind)] += 1;
    }

    /// The highest tier that may be evicted (Linux: `get_tier_idx`).
    fn evictable_tier(&self, kind: PageKind) -> usize {
        let tiers = &self.feedback[index(kind)];
        let first = Position::read(&tiers[..1], 2);
        let protected =
            (1..TIERS).find(|&tier| !first.is_worse_than(Position::read(&tiers[tier..=tier], 3)));
        protected.unwrap_or(TIERS) - 1
    }

    /// Linux `get_type_to_scan`.
    fn kind_to_scan(&self, wanted: Wanted) -> PageKind {
        if wanted.swappiness <= 1 {
            return PageKind::File;
        }
        if wanted.swappiness >= 200 {
            return PageKind::Anon;
        }
        let [anon, file] = &self.feedback;
        let anon = Position::read(anon, u64::from(wanted.swappiness));
        let file = Position::read(file, u64::from(200 - wanted.swappiness));
        if anon.is_worse_than(file) { PageKind::File } else { PageKind::Anon }
    }

    /// Looks through the oldest generations of `kind`; the victim is off its list.
    fn scan(
        &mut self,
        kind: PageKind,
        bits: &mut dyn AccessedBits,
        looks_left: &mut u64,
    ) -> Option<PageId> {
        let tier_max = self.evictable_tier(kind);
        while self.generations(kind) > GENS_MIN && *looks_left > 0 {
            let oldest = self.min_seq[index(kind)];
            let Some(page) = self.lists.back(Self::list(kind, oldest)) else {
                self.close_oldest(kind);
                continue;
            };
            *looks_left -= 1;
            let state = self.state[page.index()];
            if Self::tier(state) > tier_max || Self::is_saturated(state) {
                self.protect(page, oldest + 1, End::Front);
                continue;
            }
            self.lists.remove(self.list_of(page), page);
            if state & REFERENCED == 0 {
                self.state[page.index()] &= !REFS;
            }
            if !bits.test_and_clear(page).any() {
                return Some(page);
            }
            self.note_harvest(page);
            self.reject(page);
        }
        None
    }

    /// Puts an isolated page back so that it is not in the oldest generation.
    fn reject(&mut self, page: PageId) {
        let mut seq = self.inactive_seq(page);
        if seq == self.min_seq[index(self.kind_of(page))] {
            self.state[page.index()] &= !(REFS | REFERENCED);
            seq = self.active_seq(page);
        }
        self.file_in(page, seq, End::Front);
    }

    /// When everything is in use: the page at the end of the oldest generation that has any.
    fn oldest_of(&mut self, wanted: Wanted) -> Option<PageId> {
        let kind = [PageKind::File, PageKind::Anon]
            .into_iter()
            .find(|&kind| wanted.allows(kind) && self.len_of(kind) > 0)?;
        (self.min_seq[index(kind)]..=self.max_seq)
            .find_map(|seq| self.lists.pop_back(Self::list(kind, seq)))
    }
}

#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl ReplacementPolicy for Mglru {
    fn name(&self) -> &'static str {
        "mglru"
    }

    fn len(&self) -> u32 {
        self.lists.total()
    }

    fn refault(&mut self, arrival: &mut Arrival, shadow: Shadow) {
        let evicted_in = shadow.bits() >> 8;
        let state = shadow.bits() as u8 & NOTE_STATE;
        if (self.max_seq & ((1 << SEQ_BITS) - 1)).abs_diff(evicted_in) >= GENS_MAX {
            return;
        }
        // The count in a shadow is one less than the uses, whether or not the page was marked referenced.
        let tier = Self::tier(state | REFERENCED);
        self.feedback[index(arrival.kind)][tier].refaulted += 1;
        arrival.note = u32::from(if state & WORKINGSET != 0 { WORKINGSET } else { state & REFS });
    }

    fn insert(&mut self, page: PageId, arrival: Arrival) {
        let file = if arrival.kind == PageKind::File { FILE } else { 0 };
        self.state[page.index()] = file | (arrival.note as u8 & NOTE_STATE);
        let seq = match (arrival.first_use, arrival.kind) {
            (FirstUse::Mapped, _) => self.active_seq(page),
            (_, PageKind::Anon) => self.seq_back(PageKind::Anon, 1),
            (_, PageKind::File) => self.inactive_seq(page),
        };
        self.file_in(page, seq, End::Front);
        if arrival.first_use == FirstUse::Call {
            self.mark_accessed(page);
        }
    }

    #[inline]
    fn mark_accessed(&mut self, page: PageId) {
        let state = &mut self.state[page.index()];
        if *state & REFERENCED == 0 {
            *state = (*state & !REFS) | REFERENCED;
        } else if *state & REFS == REFS {
            *state |= WORKINGSET;
        } else {
            *state += 1 << REFS_SHIFT;
        }
    }

    fn isolate(&mut self, wanted: Wanted, bits: &mut dyn AccessedBits) -> Option<PageId> {
        // Aging twice, or protecting a page a few times, makes room for a choice; if it does not, everything is in use all
        // the time and any page will do.
        let mut looks_left = u64::from(self.lists.total()) * GENS_MAX * GENS_MAX;
        loop {
            let first = self.kind_to_scan(wanted);
            let second = if first == PageKind::Anon { PageKind::File } else { PageKind::Anon };
            let mut any = false;
            for kind in [first, second] {
                if !wanted.allows(kind) || self.len_of(kind) == 0 {
                    continue;
                }
                any = true;
                if let Some(page) = self.scan(kind, bits, &mut looks_left) {
                    return Some(page);
                }
            }
            if !any {
                return None;
            }
            if looks_left == 0 {
                return self.oldest_of(wanted);
            }
            self.age(bits);
            looks_left = looks_left.saturating_sub(u64::from(self.lists.total()));
        }
    }

    fn evicted(&mut self, page: PageId) -> Option<Shadow> {
        let kind = index(self.kind_of(page));
        let state = self.state[page.index()];
        self.feedback[kind][Self::tier(state)].evicted += 1;
        let refs = Self::refs(state).saturating_sub(1) << REFS_SHIFT;
        let seq = self.min_seq[kind] & ((1 << SEQ_BITS) - 1);
        Some(Shadow::new((seq << 8) | u64::from(refs | (state & WORKINGSET))))
    }

    fn putback(&mut self, page: PageId, why: PutBack) {
        match why {
            PutBack::Later => self.reject(page),
            PutBack::Used => {
                self.note_harvest(page);
                let seq = self.active_seq(page);
                self.file_in(page, seq, End::Front);
            }
            PutBack::Next => {
                let seq = self.min_seq[index(self.kind_of(page))];
                self.file_in(page, seq, End::Back);
            }
        }
    }

    fn remove(&mut self, page: PageId) {
        if self.lists.is_linked(page) {
            self.lists.remove(self.list_of(page), page);
        }
    }

    /// In one of the two youngest generations (Linux `lru_gen_is_active`).
    fn is_active(&self, page: PageId) -> bool {
        let list = self.list_of(page);
        let kind = self.kind_of(page);
        [self.max_seq, self.max_seq - 1].iter().any(|&seq| list == Self::list(kind, seq))
    }

    fn check(&self) -> Result<(), &'static str> {
        self.lists.check()?;
        for kind in [PageKind::Anon, PageKind::File] {
            if !(GENS_MIN..=GENS_MAX).contains(&self.generations(kind)) {
                return Err("two to four generations");
            }
            for seq in self.max_seq + 1..self.min_seq[index(kind)] + GENS_MAX {
                if self.lists.len(Self::list(kind, seq)) > 0 {
                    return Err("no page in a generation that is not open");
                }
            }
        }
        for list in 0..GENS_MAX as usize * 2 {
            if self.lists.iter(list).any(|page| self.list_of(page) != list) {
                return Err("a page's state names its list");
            }
        }
        Ok(())
    }
}
