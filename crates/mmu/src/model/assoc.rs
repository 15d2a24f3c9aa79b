//! A set-associative array of tags and who goes first: what TLBs, walk caches and caches share.
//!
//! Tags lie close together, apart from what belongs to them: a lookup reads the ways of one set and
//! writes at most one word. A tag of 0 is an empty slot.

use super::config::Replacement;
use alloc::boxed::Box;
use alloc::vec;

#[derive(Clone, Debug)]
pub(super) struct Assoc {
    tags: Box<[u64]>,
    /// LRU: when a slot was used last. PLRU: the first word of each set is its tree.
    order: Box<[u64]>,
    set_mask: usize,
    ways: usize,
    /// PLRU: for each way which bits of the tree to keep, and which to set, when it is used.
    turns: Box<[(u64, u64)]>,
    replacement: Replacement,
    clock: u64,
}

impl Assoc {
    pub(super) fn new(sets: usize, ways: usize, replacement: Replacement, seed: u64) -> Self {
        let order = match replacement {
            Replacement::Lru => sets * ways,
            Replacement::TreePlru => sets,
            Replacement::Random => 0,
        };
        Self {
            tags: vec![0; sets * ways].into(),
            order: vec![0; order].into(),
            set_mask: sets - 1,
            ways,
            turns: match replacement {
                Replacement::TreePlru => (0..ways).map(|way| turn_away(way, ways)).collect(),
                Replacement::Lru | Replacement::Random => Box::default(),
            },
            replacement,
            // For `Random` the clock is the generator's state.
            clock: if replacement == Replacement::Random { mix(seed) | 1 } else { 0 },
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn sets(&self) -> usize {
        self.set_mask + 1
    }

    #[inline]
    pub(super) fn tag(&self, slot: usize) -> u64 {
        self.tags[slot]
    }

    #[inline]
    fn first(&self, index: u64) -> usize {
        (index as usize & self.set_mask) * self.ways
    }

    /// The tags in the set of `index`, 0 for empty slots.
    pub(super) fn ways_of(&self, index: u64) -> &[u64] {
        &self.tags[self.first(index)..][..self.ways]
    }

    /// The slot of `tag` in the set of `index`.
    #[inline]
    pub(super) fn find(&self, index: u64, tag: u64) -> Option<usize> {
        let first = self.first(index);
        let mut found = usize::MAX;
        // All ways are looked at: where a tag is cannot be predicted, and a jump for it costs more.
        for (way, &held) in self.tags[first..first + self.ways].iter().enumerate() {
            found = if held == tag { way } else { found };
        }
        if found == usize::MAX { None } else { Some(first + found) }
    }

    /// Makes `slot` the most recently used of the set of `index`, which it is in.
    #[inline]
    pub(super) fn touch(&mut self, index: u64, slot: usize) {
        if self.replacement == Replacement::Lru {
            self.clock += 1;
        }
        self.touch_at(index, slot, self.clock);
    }

    /// As [`Self::touch`], at a time that the caller counts: then it counts all of them.
    #[inline]
    pub(super) fn touch_at(&mut self, index: u64, slot: usize, now: u64) {
        match self.replacement {
            Replacement::Lru => self.order[slot] = now,
            Replacement::TreePlru => {
                let set = index as usize & self.set_mask;
                let (keep, turned) = self.turns[slot - set * self.ways];
                self.order[set] = self.order[set] & keep | turned;
            }
            Replacement::Random => (),
        }
    }

    /// `slot` was used at `then`, and perhaps later.
    pub(super) fn used_at(&mut self, slot: usize, then: u64) {
        if self.replacement == Replacement::Lru {
            self.order[slot] = self.order[slot].max(then);
        }
    }

    /// The slot in the set of `index` that goes next: an empty one, if there is one.
    pub(super) fn victim(&mut self, index: u64) -> usize {
        self.victim_by(index, |_, _| 0)
    }

    /// As [`Self::victim`], where some slots were used later than was told: when, by slot and tag.
    pub(super) fn victim_by(&mut self, index: u64, later: impl Fn(usize, u64) -> u64) -> usize {
        let first = self.first(index);
        if let Some(empty) = self.tags[first..first + self.ways].iter().position(|&tag| tag == 0) {
            return first + empty;
        }
        let way = match self.replacement {
            Replacement::Lru => {
                let used = |&way: &usize| {
                    let slot = first + way;
                    self.order[slot].max(later(slot, self.tags[slot]))
                };
                (0..self.ways).min_by_key(used).unwrap_or(0)
            }
            Replacement::TreePlru => {
                let tree = self.order[first / self.ways];
                let mut node = 1;
                while node < self.ways {
                    node = 2 * node + (tree >> node & 1) as usize;
                }
                node - self.ways
            }
            Replacement::Random => {
                self.clock = mix(self.clock);
                (self.clock >> 33) as usize % self.ways
            }
        };
        first + way
    }

    /// Puts `tag` into `slot`, as the most recently used of the set of `index`.
    pub(super) fn fill(&mut self, index: u64, slot: usize, tag: u64) {
        self.tags[slot] = tag;
        self.touch(index, slot);
    }

    /// As [`Self::fill`], at a time that the caller counts.
    pub(super) fn fill_at(&mut self, index: u64, slot: usize, tag: u64, now: u64) {
        self.tags[slot] = tag;
        self.touch_at(index, slot, now);
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.tags[slot] = 0;
    }
}

/// The bits of a tree over `ways` that the way to `way` leaves alone, and those it sets, so that all
/// on the way lead elsewhere.
fn turn_away(way: usize, ways: usize) -> (u64, u64) {
    let (mut on_the_way, mut turned) = (0, 0);
    let mut node = 1;
    for level in (0..ways.ilog2()).rev() {
        let right = way >> level & 1;
        on_the_way |= 1 << node;
        turned |= (1 - right as u64) << node;
        node = 2 * node + right;
    }
    (!on_the_way, turned)
}

/// A step of a generator: xorshift64* (Vigna 2016), which never reaches 0 from elsewhere.
fn mix(mut state: u64) -> u64 {
    if state == 0 {
        state = 0x9e37_79b9_7f4a_7c15;
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_ways(replacement: Replacement) -> Assoc {
        let mut assoc = Assoc::new(2, 4, replacement, 1);
        for tag in 1..=4 {
            let slot = assoc.victim(1);
            assoc.fill(1, slot, tag);
        }
        assoc
    }

    #[test]
    fn empty_slots_are_taken_first() {
        for replacement in [Replacement::Lru, Replacement::TreePlru, Replacement::Random] {
            let mut assoc = fill_ways(replacement);
            assert_eq!(
                (1..=4).map(|tag| assoc.find(1, tag)).collect::<vec::Vec<_>>(),
                [Some(4), Some(5), Some(6), Some(7)]
            );
            assert_eq!(assoc.find(0, 1), None, "another set");
            assoc.clear(6);
            assert_eq!(assoc.victim(1), 6);
        }
    }

    #[test]
    fn lru_drops_what_was_used_longest_ago() {
        let mut assoc = fill_ways(Replacement::Lru);
        assoc.touch(1, 4);
        assert_eq!(assoc.victim(1), 5);
    }

    #[test]
    fn a_tree_points_away_from_what_was_used_last() {
        let mut assoc = fill_ways(Replacement::TreePlru);
        // Used 0 1 2 3: the root points left, and there at 0.
        assert_eq!(assoc.victim(1), 4);
        assoc.touch(1, 4);
        assert_eq!(assoc.victim(1), 6, "right half; its node points away from 3");
        assoc.touch(1, 6);
        assert_eq!(assoc.victim(1), 5);
    }

    #[test]
    fn random_victims_take_every_way_and_repeat_with_the_seed() {
        let draw = || {
            let mut assoc = fill_ways(Replacement::Random);
            (0..64).map(|_| assoc.victim(1)).collect::<vec::Vec<_>>()
        };
        assert_eq!(draw(), draw());
        assert!((4..8).all(|slot| draw().contains(&slot)));
    }
}
