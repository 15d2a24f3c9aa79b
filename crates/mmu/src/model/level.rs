//! One level of TLBs: arrays for different page sizes, looked up at once.
//!
//! ```text
//!   FirstLevel   hints: page -> leaf, last use           most accesses end here
//!                   |  which entry it is of
//!   Level        arrays [4 KiB] [2 MiB] ...              searched by tag
//! ```
//!
//! A hint of a small page answers without a look at the array, and keeps to itself when it did: the
//! array asks for it before it chooses whom to drop. It lives as long as the entry it is of. Hints of
//! other entries (larger pages, arrays that order by a tree) say where to look first, and are checked.
//!
//! Neighbours: [`super::tlb_array`] is an array, [`super`] has two first levels and a second.

use super::config::{Replacement, TlbConfig};
use super::tlb_array::{Cached, Dropped, Hit, Placed, TlbArray, VPN_SHIFT, pack, tag, unpack};
use crate::mmu::Flush;
use alloc::boxed::Box;
use alloc::vec::Vec;
use kilburn_addr::{PAGE_SHIFT, VirtAddr};
use kilburn_paging::Leaf;

/// The arrays of one level.
#[derive(Clone, Debug)]
pub(super) struct Level {
    arrays: Vec<TlbArray>,
    /// For each log2 of a page's bytes the array that keeps it, and in which size.
    fits: [Option<Fit>; 64],
    /// Uses so far: the time of the last.
    now: u64,
    /// Most bytes ever translated at once.
    reach_peak: u64,
}

#[derive(Clone, Copy, Debug)]
struct Fit {
    array: u8,
    shift: u8,
}

impl Level {
    pub(super) fn new(configs: &[TlbConfig], seed: u64) -> Self {
        let array = |(i, config): (usize, &TlbConfig)| TlbArray::new(config, seed + i as u64);
        let arrays: Vec<TlbArray> = configs.iter().enumerate().map(array).collect();
        // The array with the largest pages that are not larger.
        let fit = |span_shift: usize| {
            let fitting = |(array, held): (u8, &TlbArray)| {
                Some(Fit { array, shift: held.fitting(span_shift as u32)? as u8 })
            };
            (0..).zip(&arrays).filter_map(fitting).max_by_key(|fit| fit.shift)
        };
        let fits = core::array::from_fn(fit);
        Self { arrays, fits, now: 0, reach_peak: 0 }
    }

    pub(super) fn arrays(&self) -> &[TlbArray] {
        &self.arrays
    }

    /// The translation of `va`, made the most recent of its set.
    pub(super) fn search(&mut self, asid: u16, va: VirtAddr) -> Option<Cached> {
        self.find(asid, va).map(|(_, hit)| hit.cached)
    }

    fn find(&mut self, asid: u16, va: VirtAddr) -> Option<(u8, Hit)> {
        self.now += 1;
        let now = self.now;
        (0..)
            .zip(&mut self.arrays)
            .find_map(|(array, held)| Some((array, held.find(asid, va, now)?)))
    }

    /// Keeps a translation of `va` in the array with the largest pages that are not larger.
    pub(super) fn insert(&mut self, asid: u16, va: VirtAddr, cached: Cached) {
        self.place(asid, va, cached, |_, _, _| 0);
    }

    /// As [`Self::insert`], where entries (by array, slot and tag) may have been used later than their
    /// arrays know; where it is, and in which size.
    fn place(
        &mut self,
        asid: u16,
        va: VirtAddr,
        cached: Cached,
        later: impl Fn(u8, usize, u64) -> u64,
    ) -> Option<(Fit, Placed)> {
        let fit = self.fits[cached.span_shift as usize % 64]?;
        self.now += 1;
        let later = |slot, tag| later(fit.array, slot, tag);
        let array = &mut self.arrays[usize::from(fit.array)];
        let placed = array.insert(asid, va, cached, u32::from(fit.shift), self.now, later);
        self.reach_peak = self.reach_peak.max(self.reach());
        Some((fit, placed))
    }

    /// Bytes translated now.
    pub(super) fn reach(&self) -> u64 {
        self.arrays.iter().map(TlbArray::reach).sum()
    }

    /// Most bytes ever translated at once.
    pub(super) fn reach_peak(&self) -> u64 {
        self.reach_peak
    }

    /// Drops entries; answers how many, and calls `gone` with the array and each of them.
    pub(super) fn flush(&mut self, what: Flush, gone: &mut impl FnMut(u8, Dropped)) -> u64 {
        let flush = |(array, held): (u8, &mut TlbArray)| {
            held.flush(what, &mut |dropped| gone(array, dropped))
        };
        (0..).zip(&mut self.arrays).map(flush).sum()
    }
}

/// Pages whose entries are found without a search: far more than a first level has entries, so that few share a place.
const HINTS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Hint {
    vpn: u64,
    /// Of a hint that answers: the leaf, packed. Of others: the tag that the entry has, if it is still there.
    word: u64,
    /// When the page was used last; 0: this hint does not answer, it is to be checked.
    used: u64,
    slot: u32,
    asid: u16,
    array: u8,
    span_shift: u8,
}

impl Hint {
    /// No page has this number.
    const NONE: Self =
        Self { vpn: u64::MAX, word: 0, used: 0, slot: 0, asid: 0, array: 0, span_shift: 0 };

    /// Whether it answers for this entry.
    fn answers_for(&self, array: u8, slot: usize) -> bool {
        self.used != 0 && self.array == array && self.slot as usize == slot
    }
}

/// Hints by page number. An entry whose hint answers has it at its own page's place.
#[derive(Clone, Debug)]
struct Hints(Box<[Hint; HINTS]>);

impl Hints {
    #[inline(always)]
    fn of_page(&mut self, vpn: u64) -> &mut Hint {
        &mut self.0[vpn as usize % HINTS]
    }

    /// When the entry was last used by its hint's word.
    fn last_use(&self, array: u8, slot: usize, tag: u64) -> u64 {
        let hint = &self.0[(tag >> VPN_SHIFT) as usize % HINTS];
        if hint.answers_for(array, slot) { hint.used } else { 0 }
    }

    /// The entry is gone, and what answers for it.
    fn forget(&mut self, array: u8, slot: usize, tag: u64) {
        let hint = self.of_page(tag >> VPN_SHIFT);
        if hint.answers_for(array, slot) {
            *hint = Hint::NONE;
        }
    }
}

/// A first level: where most lookups end.
#[derive(Clone, Debug)]
pub(super) struct FirstLevel {
    level: Level,
    hints: Hints,
    /// Whether a use may be told later: a tree has to hear of each in turn.
    tells_later: bool,
}

impl FirstLevel {
    pub(super) fn new(configs: &[TlbConfig], seed: u64) -> Self {
        let is_tree = |config: &TlbConfig| config.replacement == Replacement::TreePlru;
        Self {
            level: Level::new(configs, seed),
            hints: Hints(Box::new([Hint::NONE; HINTS])),
            tells_later: !configs.iter().any(is_tree),
        }
    }

    pub(super) fn level(&self) -> &Level {
        &self.level
    }

    /// The leaf kept for `va` and the log2 of the bytes that it translates, made the most recent of its set; without a
    /// search, so it may be there all the same.
    #[inline(always)]
    pub(super) fn lookup_hinted(&mut self, asid: u16, va: VirtAddr) -> Option<(Leaf, u32)> {
        let hint = self.hints.of_page(va.vpn());
        if hint.vpn != va.vpn() || hint.asid != asid {
            return None;
        }
        self.level.now += 1;
        let now = self.level.now;
        if hint.used != 0 {
            hint.used = now;
            return Some((unpack(hint.word), PAGE_SHIFT));
        }
        let array = &mut self.level.arrays[usize::from(hint.array)];
        Some((array.hit_at(hint.slot as usize, hint.word, now)?, u32::from(hint.span_shift)))
    }

    /// The translation of `va`, made the most recent of its set.
    pub(super) fn search(&mut self, asid: u16, va: VirtAddr) -> Option<Cached> {
        let (array, Hit { slot, tag, cached }) = self.level.find(asid, va)?;
        self.keep_hint(asid, va, array, (slot, tag), (cached.leaf, cached.span_shift));
        Some(cached)
    }

    /// Keeps a translation of `va` in the array with the largest pages that are not larger.
    pub(super) fn insert(&mut self, asid: u16, va: VirtAddr, cached: Cached) {
        let hints = &self.hints;
        let later = |array, slot, tag| hints.last_use(array, slot, tag);
        let Some((fit, placed)) = self.level.place(asid, va, cached, later) else { return };
        let Placed { slot, tag, before } = placed;
        self.hints.forget(fit.array, slot, before);
        let shift = u32::from(fit.shift);
        let pfn = super::frame_within(cached.leaf, cached.span_shift, va.page_down());
        // For the page of `va`, which is all of the entry when its hint answers.
        let leaf = Leaf { pfn, ..cached.leaf };
        self.keep_hint(asid, va, fit.array, (slot, tag), (leaf, shift));
    }

    fn keep_hint(
        &mut self,
        asid: u16,
        va: VirtAddr,
        array: u8,
        (slot, tag): (usize, u64),
        (leaf, span_shift): (Leaf, u32),
    ) {
        let hint = self.hints.of_page(va.vpn());
        if hint.used != 0 {
            self.level.arrays[usize::from(hint.array)].used_at(hint.slot as usize, hint.used);
        }
        let answers = self.tells_later && span_shift == PAGE_SHIFT;
        let (word, used) = if answers { (pack(leaf), self.level.now) } else { (tag, 0) };
        let (slot, span_shift) = (slot as u32, span_shift as u8);
        *hint = Hint { vpn: va.vpn(), word, used, slot, asid, array, span_shift };
    }

    /// Whether every hint that answers says what its entry says.
    pub(super) fn hints_agree(&self) -> bool {
        self.hints.0.iter().filter(|hint| hint.used != 0).all(|hint| {
            let (held, leaf) = self.level.arrays[usize::from(hint.array)].held(hint.slot as usize);
            let va = VirtAddr::new(hint.vpn << PAGE_SHIFT);
            held == tag(hint.asid, va, PAGE_SHIFT, held) && leaf == unpack(hint.word)
        })
    }

    /// Drops entries; answers how many, and calls `gone` with the page of each in the history of
    /// misses.
    pub(super) fn flush(&mut self, what: Flush, gone: &mut impl FnMut(u64)) -> u64 {
        let Self { level, hints, .. } = self;
        level.flush(what, &mut |array, Dropped { slot, tag, key }| {
            hints.forget(array, slot, tag);
            gone(key);
        })
    }
}
