//! Running a policy over a trace of requests.
//!
//! A [`Simulation`] is a cache of `capacity` slots in front of `objects` numbered objects. It drives a
//! [`ReplacementPolicy`] exactly as reclaim does: the policy sees slots, never objects, and shadows are kept by object.
//!
//! No clock and no I/O here: the caller feeds requests in portions and times them if it likes.

use super::{
    AccessedBits, Arrival, FirstUse, NoAccessedBits, PageId, PageKind, References,
    ReplacementPolicy, Shadow, Wanted,
};
use alloc::vec::Vec;

/// Requests for objects `0..objects`, in order.
#[derive(Clone, Copy, Debug)]
pub struct RequestTrace<'t> {
    /// The object of each request.
    pub requests: &'t [u32],
    /// One more than the largest object.
    pub objects: u32,
}

/// What a run counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests served.
    pub requests: u64,
    /// Requests whose object was not in the cache, first requests included.
    pub misses: u64,
}

impl Outcome {
    /// Misses per request; 0 without requests.
    #[must_use]
    pub fn miss_ratio(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.misses as f64 / self.requests as f64 }
    }
}

/// How the policy learns of hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// Each one is reported, as for file pages used by calls.
    Exact,
    /// They set accessed bits, as for memory used by loads and stores. The use that brings an object in sets one, too.
    AccessedBits,
}

/// Not in the cache.
const NOWHERE: u32 = u32::MAX;

/// A cache under a policy.
#[derive(Debug)]
pub struct Simulation<'p, P: ?Sized> {
    policy: &'p mut P,
    hits: Hits,
    /// Slots with no object, the next to fill last.
    free: Vec<u32>,
    /// Slot of each object.
    slot_of: Vec<u32>,
    /// Object in each slot.
    object_in: Vec<u32>,
    /// What the policy left behind for each object.
    shadow_of: Vec<Option<Shadow>>,
    bits: Bitmap,
    outcome: Outcome,
}

impl<'p, P: ReplacementPolicy + ?Sized> Simulation<'p, P> {
    /// An empty cache of `capacity` slots for objects `0..objects`; `policy` has page numbers for all slots.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    pub fn new(policy: &'p mut P, objects: u32, capacity: u32, hits: Hits) -> Self {
        assert!(capacity > 0, "room for one object at least");
        Self {
            policy,
            hits,
            free: (0..capacity).rev().collect(),
            slot_of: alloc::vec![NOWHERE; objects as usize],
            object_in: alloc::vec![0; capacity as usize],
            shadow_of: alloc::vec![None; objects as usize],
            bits: Bitmap { words: alloc::vec![0; capacity.div_ceil(64) as usize] },
            outcome: Outcome::default(),
        }
    }

    /// Serves `requests`.
    ///
    /// # Panics
    ///
    /// If one is not below the number of objects.
    pub fn run(&mut self, requests: &[u32]) {
        match self.hits {
            Hits::Exact => self.run_exact(requests),
            Hits::AccessedBits => self.run_with_bits(requests),
        }
        self.outcome.requests += requests.len() as u64;
    }

    /// Requests and misses so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether `object` is in the cache.
    #[must_use]
    pub fn contains(&self, object: u32) -> bool {
        self.slot_of[object as usize] != NOWHERE
    }

    /// `object` ceases to exist, as pages of a truncated file do: it leaves the cache and is not remembered.
    ///
    /// # Panics
    ///
    /// If it is not below the number of objects.
    pub fn discard(&mut self, object: u32) {
        let slot = core::mem::replace(&mut self.slot_of[object as usize], NOWHERE);
        if slot != NOWHERE {
            self.policy.remove(PageId(slot));
            self.bits.test_and_clear(PageId(slot));
            self.free.push(slot);
        } else if let Some(shadow) = self.shadow_of[object as usize].take() {
            self.policy.forget(shadow);
        }
    }

    /// The policy at work.
    pub fn policy(&self) -> &P {
        self.policy
    }

    fn run_exact(&mut self, requests: &[u32]) {
        for &object in requests {
            match self.slot_of[object as usize] {
                NOWHERE => self.miss(object, Arrival::new(PageKind::File, FirstUse::Call)),
                slot => self.policy.mark_accessed(PageId(slot)),
            }
        }
    }

    fn run_with_bits(&mut self, requests: &[u32]) {
        for &object in requests {
            if self.slot_of[object as usize] == NOWHERE {
                self.miss(object, Arrival::new(PageKind::Anon, FirstUse::Mapped));
            }
            self.bits.set(self.slot_of[object as usize]);
        }
    }

    #[cold]
    #[inline(never)]
    fn miss(&mut self, object: u32, mut arrival: Arrival) {
        self.outcome.misses += 1;
        if let Some(shadow) = self.shadow_of[object as usize].take() {
            self.policy.refault(&mut arrival, shadow);
        }
        let slot = match self.free.pop() {
            Some(slot) => PageId(slot),
            None => self.evict(),
        };
        self.slot_of[object as usize] = slot.0;
        self.object_in[slot.index()] = object;
        self.policy.insert(slot, arrival);
    }

    fn evict(&mut self) -> PageId {
        let victim = match self.hits {
            Hits::Exact => self.policy.isolate(Wanted::ANY, &mut NoAccessedBits),
            Hits::AccessedBits => self.policy.isolate(Wanted::ANY, &mut self.bits),
        };
        let victim = victim.expect("a policy with pages has a victim");
        let object = self.object_in[victim.index()] as usize;
        self.shadow_of[object] = self.policy.evicted(victim);
        self.slot_of[object] = NOWHERE;
        self.bits.test_and_clear(victim);
        victim
    }
}

/// Accessed bits of the slots.
#[derive(Debug)]
struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    fn set(&mut self, slot: u32) {
        self.words[slot as usize / 64] |= 1 << (slot % 64);
    }
}

impl AccessedBits for Bitmap {
    fn test_and_clear(&mut self, page: PageId) -> References {
        let word = &mut self.words[page.index() / 64];
        let bit = 1 << (page.0 % 64);
        let set = *word & bit != 0;
        *word &= !bit;
        References { entries: u32::from(set), executable: false }
    }

    fn walk(&mut self, used: &mut dyn FnMut(PageId)) {
        for (at, word) in self.words.iter_mut().enumerate() {
            let mut bits = core::mem::take(word);
            while bits != 0 {
                used(PageId(at as u32 * 64 + bits.trailing_zeros()));
                bits &= bits - 1;
            }
        }
    }
}
