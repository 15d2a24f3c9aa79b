//! The textbook policies, naively.

use super::super::simulate::Hits;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A cache that says of each request whether it hit.
pub(super) trait Reference {
    fn request(&mut self, object: u32) -> bool;
    fn discard(&mut self, object: u32);
}

fn position(queue: &[(u32, u8)], object: u32) -> Option<usize> {
    queue.iter().position(|&(other, _)| other == object)
}

/// FIFO.
pub(super) struct Fifo {
    pub(super) capacity: usize,
    pub(super) queue: Vec<u32>,
}

impl Reference for Fifo {
    fn request(&mut self, object: u32) -> bool {
        if self.queue.contains(&object) {
            return true;
        }
        if self.queue.len() == self.capacity {
            self.queue.remove(0);
        }
        self.queue.push(object);
        false
    }

    fn discard(&mut self, object: u32) {
        self.queue.retain(|&other| other != object);
    }
}

/// LRU by time stamps.
pub(super) struct Lru {
    pub(super) capacity: usize,
    pub(super) clock: u64,
    pub(super) last_use: Vec<(u32, u64)>,
}

impl Reference for Lru {
    fn request(&mut self, object: u32) -> bool {
        self.clock += 1;
        if let Some(entry) = self.last_use.iter_mut().find(|entry| entry.0 == object) {
            entry.1 = self.clock;
            return true;
        }
        if self.last_use.len() == self.capacity {
            let oldest = self.last_use.iter().map(|entry| entry.1).min().unwrap();
            self.last_use.retain(|entry| entry.1 != oldest);
        }
        self.last_use.push((object, self.clock));
        false
    }

    fn discard(&mut self, object: u32) {
        self.last_use.retain(|entry| entry.0 != object);
    }
}

/// CLOCK as drawn in textbooks: a ring and a hand that moves; a new page takes the victim's place.
pub(super) struct Clock {
    pub(super) capacity: usize,
    pub(super) hits: Hits,
    /// The hand points between the last and the first.
    pub(super) ring: VecDeque<(u32, bool)>,
}

impl Reference for Clock {
    fn request(&mut self, object: u32) -> bool {
        if let Some(entry) = self.ring.iter_mut().find(|entry| entry.0 == object) {
            entry.1 = true;
            return true;
        }
        if self.ring.len() == self.capacity {
            while let Some((other, used)) = self.ring.pop_front() {
                if !used {
                    break;
                }
                self.ring.push_back((other, false));
            }
        }
        self.ring.push_back((object, self.hits == Hits::AccessedBits));
        false
    }

    fn discard(&mut self, object: u32) {
        self.ring.retain(|entry| entry.0 != object);
    }
}

/// SIEVE, algorithm 1: index 0 is the head.
pub(super) struct Sieve {
    pub(super) capacity: usize,
    pub(super) hits: Hits,
    pub(super) queue: Vec<(u32, bool)>,
    /// Object under the hand.
    pub(super) hand: Option<u32>,
}

impl Sieve {
    fn at_hand(&self) -> usize {
        self.hand.map_or(self.queue.len() - 1, |hand| {
            self.queue.iter().position(|entry| entry.0 == hand).unwrap()
        })
    }

    fn take(&mut self, at: usize) {
        self.hand = at.checked_sub(1).map(|before| self.queue[before].0);
        self.queue.remove(at);
    }
}

impl Reference for Sieve {
    fn request(&mut self, object: u32) -> bool {
        if let Some(entry) = self.queue.iter_mut().find(|entry| entry.0 == object) {
            entry.1 = true;
            return true;
        }
        if self.queue.len() == self.capacity {
            let mut at = self.at_hand();
            while self.queue[at].1 {
                self.queue[at].1 = false;
                at = at.checked_sub(1).unwrap_or(self.queue.len() - 1);
            }
            self.take(at);
        }
        self.queue.insert(0, (object, self.hits == Hits::AccessedBits));
        false
    }

    fn discard(&mut self, object: u32) {
        if self.hand == Some(object) {
            let at = self.at_hand();
            self.take(at);
        } else {
            self.queue.retain(|entry| entry.0 != object);
        }
    }
}

/// ARC, figure 4 of the paper: index 0 is the LRU end.
pub(super) struct Arc {
    pub(super) capacity: usize,
    /// p, in 1 / 65536.
    pub(super) p: u64,
    pub(super) t1: Vec<u32>,
    pub(super) t2: Vec<u32>,
    pub(super) b1: Vec<u32>,
    pub(super) b2: Vec<u32>,
}

fn take(list: &mut Vec<u32>, object: u32) -> bool {
    let before = list.len();
    list.retain(|&other| other != object);
    list.len() != before
}

impl Arc {
    fn replace(&mut self, in_b2: bool) {
        let t1 = (self.t1.len() as u64) << 16;
        if !self.t1.is_empty() && ((in_b2 && t1 == self.p) || t1 > self.p || self.t2.is_empty()) {
            self.b1.push(self.t1.remove(0));
        } else {
            self.b2.push(self.t2.remove(0));
        }
    }

    fn is_full(&self) -> bool {
        self.t1.len() + self.t2.len() == self.capacity
    }

    fn step(of: usize, to: usize) -> u64 {
        core::cmp::max(1 << 16, ((of as u64) << 16) / to as u64)
    }
}

impl Reference for Arc {
    fn request(&mut self, object: u32) -> bool {
        let c = self.capacity;
        if take(&mut self.t1, object) || take(&mut self.t2, object) {
            self.t2.push(object);
            return true;
        }
        if self.b1.contains(&object) {
            self.p = (self.p + Self::step(self.b2.len(), self.b1.len())).min((c as u64) << 16);
            take(&mut self.b1, object);
            if self.is_full() {
                self.replace(false);
            }
            self.t2.push(object);
            return false;
        }
        if self.b2.contains(&object) {
            self.p = self.p.saturating_sub(Self::step(self.b1.len(), self.b2.len()));
            take(&mut self.b2, object);
            if self.is_full() {
                self.replace(true);
            }
            self.t2.push(object);
            return false;
        }
        let all = self.t1.len() + self.t2.len() + self.b1.len() + self.b2.len();
        if self.t1.len() + self.b1.len() == c {
            if self.t1.len() < c {
                self.b1.remove(0);
                if self.is_full() {
                    self.replace(false);
                }
            } else {
                self.t1.remove(0);
            }
        } else if all >= c {
            if all == 2 * c {
                self.b2.remove(0);
            }
            if self.is_full() {
                self.replace(false);
            }
        }
        self.t1.push(object);
        false
    }

    fn discard(&mut self, object: u32) {
        for list in [&mut self.t1, &mut self.t2, &mut self.b1, &mut self.b2] {
            take(list, object);
        }
    }
}

/// S3-FIFO, algorithm 1, one eviction at a time: index 0 is the tail.
pub(super) struct S3Fifo {
    pub(super) capacity: usize,
    pub(super) small: Vec<(u32, u8)>,
    pub(super) main: Vec<(u32, u8)>,
    pub(super) ghosts: Vec<u32>,
}

impl S3Fifo {
    fn evict(&mut self) {
        let small_max = self.capacity / 10;
        loop {
            if self.main.is_empty() || (self.small.len() >= small_max && !self.small.is_empty()) {
                let (object, uses) = self.small.remove(0);
                if uses > 1 {
                    self.main.push((object, 0));
                    continue;
                }
                if self.ghosts.len() == self.capacity - small_max {
                    self.ghosts.remove(0);
                }
                self.ghosts.push(object);
                return;
            }
            let (object, uses) = self.main.remove(0);
            if uses == 0 {
                return;
            }
            self.main.push((object, uses - 1));
        }
    }
}

impl Reference for S3Fifo {
    fn request(&mut self, object: u32) -> bool {
        for queue in [&mut self.small, &mut self.main] {
            if let Some(at) = position(queue, object) {
                queue[at].1 = (queue[at].1 + 1).min(3);
                return true;
            }
        }
        let returns = take(&mut self.ghosts, object);
        if self.small.len() + self.main.len() == self.capacity {
            self.evict();
        }
        if returns { &mut self.main } else { &mut self.small }.push((object, 0));
        false
    }

    fn discard(&mut self, object: u32) {
        self.small.retain(|entry| entry.0 != object);
        self.main.retain(|entry| entry.0 != object);
        take(&mut self.ghosts, object);
    }
}

/// Belady's optimum: looks through the rest of the trace for each resident object. Misses of the whole trace.
pub(super) fn optimal_misses(trace: &[u32], capacity: usize) -> u64 {
    let mut resident: Vec<u32> = Vec::new();
    let mut misses = 0;
    for (at, &object) in trace.iter().enumerate() {
        if resident.contains(&object) {
            continue;
        }
        misses += 1;
        if resident.len() == capacity {
            let next_use = |&other: &u32| {
                trace[at..].iter().position(|&use_of| use_of == other).unwrap_or(usize::MAX)
            };
            let furthest = (0..capacity).max_by_key(|&slot| next_use(&resident[slot])).unwrap();
            resident.remove(furthest);
        }
        resident.push(object);
    }
    misses
}
