//! How far to read ahead in swap (Linux 6.18 mm/swap_state.c).
//!
//! A window of `1 << vm.page-cluster` pages at most is read around the page that is needed, and is
//! larger the more of the last one was used. For private pages neighbours are those in the address
//! space, and the last window is remembered for each [`AnonVma`](crate::AnonVma) ([`VmaWindow`]); for shared memory
//! they are those in the area, and one window is remembered for all ([`ClusterWindow`]).
//!
//! What is read ahead lies in the swap cache and is mapped by nobody: it goes first when memory is
//! short, and without being written. A read that fails here fails nobody. Neighbours:
//! `fault/swap.rs`, `page_cache/evict.rs`.

use super::{Active, LookUp, NotBack, Owner, SwapEntry};
use crate::memory::Use;
use crate::{Host, Memory};
use core::ops::{Range, RangeInclusive};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The largest `vm.page-cluster` that counts for private pages (Linux `SWAP_RA_ORDER_CEILING`).
const ORDER_MAX: u32 = 5;
/// Pages used of a window that nobody remembers, to begin with a small one.
const HITS_AT_FIRST: u32 = 4;

/// How many pages to read around page `at`, of the last window's `last` pages of which `hits` were
/// used, and the page before which was `before` (Linux `__swapin_nr_pages`).
fn window_pages(before: u64, at: u64, hits: u32, most: u32, last: u32) -> u32 {
    let pages = match hits {
        // Nothing was read ahead that could have been used, perhaps: a neighbour is a sign as well.
        0 if at == before.wrapping_add(1) || at == before.wrapping_sub(1) => 2,
        0 => 1,
        _ => (hits + 2).next_power_of_two().max(4),
    };
    // It shrinks by half at most.
    pages.min(most).max(last / 2)
}

/// What is remembered of the last window around private pages.
///
/// ```text
///   63 ........... 12 11 ... 6 5 .... 0
///   page that faulted  pages    used         0: nothing is remembered
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VmaWindow {
    /// Number of the page that faulted last.
    page: u64,
    /// Pages of the window around it.
    pages: u32,
    /// Pages of it that were used.
    hits: u32,
}

const FIELD_MAX: u32 = (1 << 6) - 1;

impl VmaWindow {
    fn from_raw(raw: u64) -> Self {
        if raw == 0 {
            return Self { page: 0, pages: 0, hits: HITS_AT_FIRST };
        }
        let field = |shift: u32| (raw >> shift) as u32 & FIELD_MAX;
        Self { page: raw >> 12, pages: field(6), hits: field(0) }
    }

    fn to_raw(self) -> u64 {
        self.page << 12 | u64::from(self.pages.min(FIELD_MAX)) << 6 | u64::from(self.hits)
    }

    /// Page `page` was found in the swap cache. `ahead`: because it was read ahead.
    pub(crate) fn note_found(remembered: &AtomicU64, page: u64, ahead: bool) {
        let last = Self::from_raw(remembered.load(Ordering::Relaxed));
        let hits = (last.hits + u32::from(ahead)).min(FIELD_MAX);
        remembered.store(Self { page, hits, ..last }.to_raw(), Ordering::Relaxed);
    }

    /// The pages to read for a fault at page `page`, itself among them, not yet cut to the area;
    /// none when it is to be read alone (Linux `swap_vma_ra_win`).
    pub(crate) fn next(remembered: &AtomicU64, page: u64, page_cluster: u32) -> Option<Range<u64>> {
        let most = 1 << page_cluster.min(ORDER_MAX);
        if most == 1 {
            return None;
        }
        let last = Self::from_raw(remembered.load(Ordering::Relaxed));
        let pages = window_pages(last.page, page, last.hits, most, last.pages);
        remembered.store(Self { page, pages, hits: 0 }.to_raw(), Ordering::Relaxed);
        let (width, before) = (u64::from(pages), last.page);
        let behind = if page == before.wrapping_add(1) {
            0
        } else if page.wrapping_add(1) == before {
            width - 1
        } else {
            (width - 1) / 2
        };
        (pages > 1).then(|| page.saturating_sub(behind)..(page + width).saturating_sub(behind))
    }
}

/// What is remembered of the last window around slots.
pub(crate) struct ClusterWindow {
    /// Slot that was needed when nothing read ahead had been used.
    slot: AtomicU64,
    /// Slots of the last window.
    slots: AtomicU32,
    /// Pages read ahead that were used since.
    hits: AtomicU32,
}

impl Default for ClusterWindow {
    fn default() -> Self {
        Self {
            slot: AtomicU64::new(0),
            slots: AtomicU32::new(0),
            hits: AtomicU32::new(HITS_AT_FIRST),
        }
    }
}

impl ClusterWindow {
    /// A page was used that had been read ahead.
    pub(crate) fn note_hit(&self) {
        let _ = self.hits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hits| {
            Some(hits.saturating_add(1).min(1 << 30))
        });
    }

    /// The slots to read for `slot`, itself among them; none when it is to be read alone (Linux
    /// `swapin_nr_pages`, `swap_cluster_readahead`).
    fn next(&self, slot: u32, page_cluster: u32) -> Option<RangeInclusive<u32>> {
        let most = 1 << page_cluster;
        if most == 1 {
            return None;
        }
        let hits = self.hits.swap(0, Ordering::Relaxed);
        let (at, last) = (u64::from(slot), self.slots.load(Ordering::Relaxed));
        let count = window_pages(self.slot.load(Ordering::Relaxed), at, hits, most, last);
        if hits == 0 {
            self.slot.store(at, Ordering::Relaxed);
        }
        self.slots.store(count, Ordering::Relaxed);
        let mask = count - 1;
        (mask > 0).then_some(slot & !mask..=slot | mask)
    }
}

/// For whom a slot is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// Somebody who waits for it.
    Needed,
    /// Whoever may need it next.
    Ahead,
}

/// Reads that are under way at the same time: whoever needs one of them waits for the longest.
#[derive(Default)]
pub(crate) struct Together {
    noted_ns: u64,
}

impl Together {
    /// One of them took so long; how much longer that is than what is waited for anyway.
    pub(super) fn longer_ns(&mut self, waited_ns: u64) -> u64 {
        let longer = waited_ns.saturating_sub(self.noted_ns);
        self.noted_ns += longer;
        longer
    }
}

impl<H: Host> Memory<H> {
    /// Whether the neighbours of an entry's page are to be read with it: not where that takes as
    /// long as one after the other and nobody else needs the page (Linux `do_swap_page`).
    pub(crate) fn has_readahead(&self, entry: SwapEntry) -> bool {
        self.swap_area(entry.area)
            .is_some_and(|active| !active.area.is_synchronous() || self.swap_references(entry) > 1)
    }

    /// Reads a neighbour of a page that is needed into the swap cache, unless it is there.
    ///
    /// # Errors
    /// [`NotBack`]: nobody is worse off. Without a frame there is no use in trying others.
    pub(crate) fn read_ahead(
        &self,
        entry: SwapEntry,
        owner: Owner,
        together: &mut Together,
    ) -> Result<(), NotBack> {
        let active = self.swap_area(entry.area).ok_or(NotBack::Stale)?;
        self.read_ahead_in(&active, entry, owner, together)
    }

    fn read_ahead_in(
        &self,
        active: &Active<H>,
        entry: SwapEntry,
        owner: Owner,
        together: &mut Together,
    ) -> Result<(), NotBack> {
        let LookUp::Ours(shadow) = self.look_up(active, entry.slot)? else { return Ok(()) };
        drop(self.read_slot(active, entry, owner, shadow, (Reading::Ahead, together))?);
        self.vm_events.swap_ra.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Anonymous pages that somebody maps (Linux `NR_ANON_MAPPED`): all but those of the swap cache
    /// that were read ahead, or are on their way out.
    pub fn mapped_anon_pages(&self) -> u64 {
        let mut left = self.swap.cached.load(Ordering::Relaxed);
        let mut unmapped = 0;
        for (_, meta) in self.frames.iter() {
            if left == 0 {
                break;
            }
            if meta.is_swap_cached() {
                left -= 1;
                unmapped += u64::from(meta.maps() == 0);
            }
        }
        self.uses.get(Use::Anon).saturating_sub(unmapped)
    }

    /// Somebody needs a page of the swap cache; whether it had been read ahead for that.
    pub(crate) fn take_read_ahead(&self, pfn: kilburn_addr::Pfn) -> bool {
        let ahead = self.meta(pfn).take_read_ahead();
        if ahead {
            self.vm_events.swap_ra_hit.fetch_add(1, Ordering::Relaxed);
        }
        ahead
    }

    /// Reads the neighbours in the area of a page of shared memory that was just read; whose they
    /// are is not known yet.
    pub(crate) fn read_ahead_cluster(&self, entry: SwapEntry, together: &mut Together) {
        let Some(active) = self.swap_area(entry.area) else { return };
        if active.area.is_synchronous() {
            return;
        }
        let cluster = self.tunables.page_cluster();
        let Some(slots) = self.swap.cluster_window.next(entry.slot, cluster) else { return };
        for slot in slots.filter(|&slot| slot != entry.slot) {
            let neighbour = SwapEntry { slot, ..entry };
            let read = self.read_ahead_in(&active, neighbour, Owner::NOBODY, together);
            if read == Err(NotBack::NoFrame) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Windows of faults at `pages` one after the other, of which everything read is used.
    fn windows(pages: &[u64], page_cluster: u32) -> Vec<Option<Range<u64>>> {
        let remembered = AtomicU64::new(0);
        let mut used = 0_u64..0;
        let mut windows = Vec::new();
        for &page in pages {
            if used.contains(&page) {
                VmaWindow::note_found(&remembered, page, true);
                continue;
            }
            let window = VmaWindow::next(&remembered, page, page_cluster);
            used = window.clone().unwrap_or(0..0);
            windows.push(window);
        }
        windows
    }

    #[test]
    fn a_window_grows_with_what_was_used_and_shrinks_by_half() {
        // before, at, used, most, last: pages.
        for (before, at, hits, most, last, expected) in [
            (0, 100, 4, 8, 0, 8),
            (100, 500, 0, 8, 8, 4),
            (100, 500, 0, 8, 4, 2),
            (100, 500, 0, 8, 2, 1),
            (100, 500, 0, 8, 1, 1),
            (100, 101, 0, 8, 1, 2),
            (100, 99, 0, 8, 1, 2),
            (100, 500, 1, 8, 2, 4),
            (100, 500, 2, 8, 2, 4),
            (100, 500, 3, 32, 4, 8),
            (100, 500, 31, 32, 32, 32),
            (100, 500, 63, 4, 4, 4),
        ] {
            let pages = window_pages(before, at, hits, most, last);
            assert_eq!(pages, expected, "{before} {at} {hits} {most} {last}");
        }
    }

    #[test]
    fn windows_lie_before_behind_or_around_the_page() {
        let upwards: Vec<u64> = (1000..1024).collect();
        // Found ones are remembered as the last page, so that the next is their neighbour.
        let expected = [Some(997..1005), Some(1005..1013), Some(1013..1021), Some(1021..1029)];
        assert_eq!(windows(&upwards, 3), expected);
        let downwards: Vec<u64> = (1000..1024).rev().collect();
        let expected = [Some(1020..1028), Some(1012..1020), Some(1004..1012), Some(996..1004)];
        assert_eq!(windows(&downwards, 3), expected);
        assert_eq!(windows(&[1000, 1001], 0), [None, None], "vm.page-cluster is 0");
        let scattered = [1000, 5000, 9000, 100, 7000];
        let expected = [Some(997..1005), Some(4999..5003), Some(9000..9002), None, None];
        assert_eq!(windows(&scattered, 3), expected);
        assert_eq!(windows(&[2], 31), [Some(0..7)], "what was used and 2, as a power of 2");
    }

    #[test]
    fn clusters_are_aligned() {
        let window = ClusterWindow::default();
        assert_eq!(window.next(13, 3), Some(8..=15));
        assert_eq!(window.next(100, 3), Some(100..=103), "half of it, as none was used");
        for _ in 0..4 {
            window.note_hit();
        }
        assert_eq!(window.next(13, 3), Some(8..=15));
        assert_eq!(window.next(13, 0), None);
        for _ in 0..100 {
            window.note_hit();
        }
        assert_eq!(window.next(u32::MAX, 31), Some(u32::MAX - 127..=u32::MAX));
    }

    #[test]
    fn reads_under_way_together_take_as_long_as_the_longest() {
        let mut together = Together::default();
        let longer: Vec<u64> = [5, 3, 9, 9].map(|ns| together.longer_ns(ns)).to_vec();
        assert_eq!(longer, [5, 0, 4, 0]);
    }
}
