//! Belady's optimum: the page whose next use is furthest away goes.
//!
//! L. Belady, "A study of replacement algorithms for a virtual-storage computer", 1966. It needs the whole trace in advance,
//! so it is a yardstick and no [`ReplacementPolicy`](super::ReplacementPolicy): no policy that must bring in every page it
//! misses has fewer misses. (With several victims used never again, any will do.)
//!
//! Each request knows the request that uses its object next. The next uses of resident objects are a set of request numbers,
//! each belonging to one object; the victim is the object of the largest. The set is a bitmap under summary bitmaps, 64
//! to 1 (`TopSet`), so insertion, removal and maximum touch one word a level: four levels for 16 M requests.

use super::simulate::{Outcome, RequestTrace};
use alloc::vec::Vec;

/// The object is not used again.
const NEVER: u32 = u32::MAX;

/// Belady's optimum on a trace known in advance.
#[derive(Debug)]
pub struct Opt<'t> {
    trace: RequestTrace<'t>,
    capacity: u32,
    /// For each request, the number of the next one for the same object.
    next_use: Vec<u32>,
    resident: Vec<bool>,
    upcoming: TopSet,
    /// Resident objects that are not used again.
    finished: Vec<u32>,
    outcome: Outcome,
}

impl<'t> Opt<'t> {
    /// Prepares a run over `trace` with room for `capacity` objects: finds all next uses.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0, or the trace has 2^32 - 1 requests or more.
    #[must_use]
    pub fn new(trace: RequestTrace<'t>, capacity: u32) -> Self {
        assert!(capacity > 0, "room for one object at least");
        let requests = u32::try_from(trace.requests.len())
            .ok()
            .filter(|&n| n < NEVER)
            .expect("request numbers fit 32 bits");
        let mut next_use = alloc::vec![NEVER; requests as usize];
        let mut next_of = alloc::vec![NEVER; trace.objects as usize];
        for (number, &object) in (0..requests).zip(trace.requests).rev() {
            next_use[number as usize] = core::mem::replace(&mut next_of[object as usize], number);
        }
        Self {
            trace,
            capacity,
            next_use,
            resident: alloc::vec![false; trace.objects as usize],
            upcoming: TopSet::new(requests),
            finished: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Serves the next `count` requests, fewer at the end of the trace; whether there are more.
    pub fn advance(&mut self, count: u64) -> bool {
        let from = self.outcome.requests;
        let to = (from + count).min(self.trace.requests.len() as u64);
        for number in from as u32..to as u32 {
            self.request(number);
        }
        self.outcome.requests = to;
        to < self.trace.requests.len() as u64
    }

    /// Requests and misses so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn request(&mut self, number: u32) {
        let object = self.trace.requests[number as usize];
        if self.resident[object as usize] {
            self.upcoming.remove(number);
        } else {
            self.outcome.misses += 1;
            if self.upcoming.len + self.finished.len() as u32 == self.capacity {
                let victim = self
                    .finished
                    .pop()
                    .or_else(|| Some(self.trace.requests[self.upcoming.take_largest()? as usize]));
                self.resident[victim.expect("a full cache has a victim") as usize] = false;
            }
            self.resident[object as usize] = true;
        }
        match self.next_use[number as usize] {
            NEVER => self.finished.push(object),
            next => self.upcoming.insert(next),
        }
    }
}

/// A set of numbers below a bound, with its largest at hand.
#[derive(Debug)]
struct TopSet {
    /// The set's bitmap, then a bitmap of its non-zero words, and so on up to one word.
    levels: Vec<Vec<u64>>,
    len: u32,
}

impl TopSet {
    fn new(bound: u32) -> Self {
        let mut levels = Vec::new();
        let mut bits = bound.max(1) as usize;
        loop {
            bits = bits.div_ceil(64);
            levels.push(alloc::vec![0; bits]);
            if bits == 1 {
                return Self { levels, len: 0 };
            }
        }
    }

    fn insert(&mut self, number: u32) {
        self.len += 1;
        let mut at = number as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let was_empty = *word == 0;
            *word |= 1 << (at % 64);
            if !was_empty {
                return;
            }
            at /= 64;
        }
    }

    /// Takes out a number that is in the set.
    fn remove(&mut self, number: u32) {
        self.len -= 1;
        let mut at = number as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            debug_assert!(*word >> (at % 64) & 1 == 1, "{number} is in the set");
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    fn take_largest(&mut self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            at = at * 64 + level[at].checked_ilog2()? as usize;
        }
        self.remove(at as u32);
        Some(at as u32)
    }
}
