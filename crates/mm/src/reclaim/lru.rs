//! What the replacement policy is told, and what it asks (Linux 6.18 mm/swap.c, mm/workingset.c).
//!
//! While memory was never short, nobody is told of anything: a page that comes to be costs one test
//! of a flag. When it becomes short for the first time all pages there are arrive at once, in the
//! order of their frames, which is about the order in which they were allocated as nothing was
//! freed under pressure yet. From then on pages arrive through a list that is handed over when the
//! policy is next asked.

use super::Outcome;
use crate::anon_vma::Alive;
use crate::frames::FrameState;
use crate::policy::{
    AccessedBits, Arrival, Builtin, FirstUse, PageId, PageKind, PolicyConfig, PutBack, References,
    ReplacementPolicy, Shadow,
};
use crate::{Host, Memory};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kilburn_addr::Pfn;

/// A page the policy is to hear of.
pub(super) struct Arrived {
    frame: u32,
    first_use: FirstUse,
    /// What the policy remembers of it.
    shadow: Option<Shadow>,
}

/// The policy, made when it is first needed, and the pages it is not told of.
pub(super) struct Lru {
    choice: Builtin,
    policy: Option<Box<dyn ReplacementPolicy>>,
    /// Frames of pages found locked.
    locked: Vec<u32>,
}

impl Lru {
    pub(super) fn new(choice: Builtin) -> Self {
        Self { choice, policy: None, locked: Vec::new() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.policy.as_ref().map_or(self.choice.name(), |policy| policy.name())
    }

    pub(super) fn policy(&self) -> Option<&dyn ReplacementPolicy> {
        self.policy.as_deref().map(|policy| policy as &dyn ReplacementPolicy)
    }

    pub(super) fn replace(&mut self, policy: Box<dyn ReplacementPolicy>) {
        self.policy = Some(policy);
        self.locked.clear();
    }
}

pub(super) fn kind_of(state: FrameState) -> Option<PageKind> {
    match state {
        FrameState::Anon | FrameState::Shmem => Some(PageKind::Anon),
        FrameState::File => Some(PageKind::File),
        _ => None,
    }
}

/// Accessed bits for the policy, from the tables.
struct Tables<'a, H: Host> {
    memory: &'a Memory<H>,
    alive: &'a mut Alive<H>,
}

impl<H: Host> AccessedBits for Tables<'_, H> {
    fn test_and_clear(&mut self, page: PageId) -> References {
        let pfn = self.memory.frame_at(page.0);
        self.memory.test_and_clear_accessed(pfn, self.alive)
    }
}

impl<H: Host> Memory<H> {
    /// A page came into RAM.
    #[inline]
    pub(crate) fn note_arrival(&self, pfn: Pfn, first_use: FirstUse, shadow: Option<Shadow>) {
        if self.reclaim.is_armed.load(Ordering::Relaxed) {
            self.add_arrival(pfn, first_use, shadow);
        }
    }

    #[cold]
    fn add_arrival(&self, pfn: Pfn, first_use: FirstUse, shadow: Option<Shadow>) {
        if shadow.is_some() {
            let events = &self.vm_events;
            match self.meta(pfn).state() {
                FrameState::File => &events.workingset_refault_file,
                _ => &events.workingset_refault_anon,
            }
            .fetch_add(1, Ordering::Relaxed);
        }
        let frame = self.frame_number(pfn);
        self.reclaim.arrivals.lock().push(Arrived { frame, first_use, shadow });
    }

    /// A read or write call used a page of a file.
    #[inline]
    pub(crate) fn note_call_use(&self, pfn: Pfn) {
        if self.meta(pfn).is_known() {
            let page = PageId(self.frame_number(pfn));
            if let Some(policy) = &mut self.reclaim.lru.lock().policy {
                policy.mark_accessed(page);
            }
        }
    }

    /// A frame the policy may know is being freed, or evicted without having been asked.
    #[cold]
    pub(crate) fn forget_page(&self, pfn: Pfn) {
        let page = PageId(self.frame_number(pfn));
        let mut lru = self.reclaim.lru.lock();
        // Another policy may have been set meanwhile, which does not know it.
        if self.meta(pfn).is_known() {
            self.meta(pfn).clear_known();
            if let Some(policy) = &mut lru.policy {
                policy.remove(page);
            }
        }
    }

    /// A page that the policy remembers will not come back.
    pub(crate) fn forget_shadow(&self, shadow: Shadow) {
        if let Some(policy) = &mut self.reclaim.lru.lock().policy {
            policy.forget(shadow);
        }
    }

    /// Memory is short for the first time: the policy hears of every page there is.
    pub(super) fn arm(&self) {
        if self.reclaim.is_armed.load(Ordering::Relaxed) {
            return;
        }
        let mut lru = self.reclaim.lru.lock();
        if lru.policy.is_none() {
            let pages = self.frames.total() as u32;
            let config = PolicyConfig { pages, capacity: pages, seed: 0 };
            lru.policy = Some(lru.choice.for_reclaim(config));
        }
        self.reclaim.is_armed.store(true, Ordering::Relaxed);
        drop(lru);
        self.announce_all();
    }

    /// Lets every page arrive that is there.
    pub(super) fn announce_all(&self) {
        let mut arrivals = self.reclaim.arrivals.lock();
        for (pfn, meta) in self.frames.iter() {
            if kind_of(meta.state()).is_some() {
                let frame = self.frame_number(pfn);
                arrivals.push(Arrived { frame, first_use: FirstUse::Mapped, shadow: None });
            }
        }
    }

    /// Tells the policy who arrived. The references taken meanwhile are to be dropped when `lru` is
    /// not locked any more.
    fn hand_over(&self, lru: &mut Lru, held: &mut Vec<Pfn>) {
        let arrived = core::mem::take(&mut *self.reclaim.arrivals.lock());
        let Some(policy) = &mut lru.policy else { return };
        for Arrived { frame, first_use, shadow } in arrived {
            let pfn = self.frame_at(frame);
            let meta = self.meta(pfn);
            let there = meta.try_get();
            if there {
                held.push(pfn);
                if meta.is_locked() {
                    // Whoever evicts it is to tell the policy what became of it first.
                    self.reclaim.arrivals.lock().push(Arrived { frame, first_use, shadow });
                    continue;
                }
            }
            let kind = kind_of(meta.state()).filter(|_| there && !meta.is_known());
            let Some(kind) = kind else {
                if let Some(shadow) = shadow {
                    policy.forget(shadow);
                }
                continue;
            };
            let mut arrival = Arrival::new(kind, first_use);
            if let Some(shadow) = shadow {
                policy.refault(&mut arrival, shadow);
            }
            policy.insert(PageId(frame), arrival);
            meta.set_known();
        }
    }

    /// Pages the policy can choose from.
    pub(super) fn lru_len(&self) -> u32 {
        let mut held = Vec::new();
        let mut lru = self.reclaim.lru.lock();
        self.hand_over(&mut lru, &mut held);
        let len = lru.policy.as_ref().map_or(0, |policy| policy.len());
        drop(lru);
        self.put_all(held.into_iter());
        len
    }

    /// The page that should go next, locked, with a reference that the caller owns.
    pub(super) fn isolate(&self, alive: &mut Alive<H>) -> Option<Pfn> {
        let mut held = Vec::new();
        let mut busy = Vec::new();
        let mut lru = self.reclaim.lru.lock();
        self.hand_over(&mut lru, &mut held);
        let wanted = self.wanted();
        let chosen = lru.policy.as_mut().and_then(|policy| {
            let mut bits = Tables { memory: self, alive };
            let chosen = loop {
                let Some(page) = policy.isolate(wanted, &mut bits) else { break None };
                let pfn = self.frame_at(page.0);
                if !self.meta(pfn).try_get() {
                    // Being freed: whoever does so waits for the lock, to have it removed.
                    continue;
                }
                if self.meta(pfn).try_lock() {
                    break Some(pfn);
                }
                held.push(pfn);
                busy.push(page);
            };
            for page in busy {
                policy.putback(page, PutBack::Later);
            }
            chosen
        });
        drop(lru);
        self.put_all(held.into_iter());
        alive.clear();
        chosen
    }

    /// Tells the policy what became of an isolated page, unlocks it, and drops the reference to it.
    pub(super) fn settle(&self, pfn: Pfn, outcome: Outcome<H>) {
        let page = PageId(self.frame_number(pfn));
        let meta = self.meta(pfn);
        let mut lru = self.reclaim.lru.lock();
        let mut evicted = None;
        // Not known: another policy was set meanwhile.
        if meta.is_known()
            && let Some(policy) = &mut lru.policy
        {
            match outcome {
                Outcome::Gone(home) => {
                    meta.clear_known();
                    evicted = policy.evicted(page).map(|shadow| (home, shadow));
                }
                Outcome::Kept(why) => policy.putback(page, why),
                Outcome::Locked => {
                    meta.clear_known();
                    policy.remove(page);
                    lru.locked.push(page.0);
                    self.vm_events.unevictable_pgs_culled.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        meta.unlock();
        drop(lru);
        if let Some((home, shadow)) = evicted {
            self.keep_shadow_at(home, shadow);
        }
        self.put(pfn);
    }

    /// Offers pages again that were found locked; whether there were any.
    pub(super) fn retry_locked(&self) -> bool {
        let locked = core::mem::take(&mut self.reclaim.lru.lock().locked);
        let mut arrivals = self.reclaim.arrivals.lock();
        let any = !locked.is_empty();
        arrivals.extend(locked.into_iter().map(|frame| Arrived {
            frame,
            first_use: FirstUse::Mapped,
            shadow: None,
        }));
        any
    }

    /// The policy's own invariants, and that it knows the frames that are marked so. Nobody else is
    /// at work.
    ///
    /// # Errors
    /// The name of what is wrong.
    pub(crate) fn check_reclaim(&self) -> Result<(), &'static str> {
        let mut held = Vec::new();
        let mut lru = self.reclaim.lru.lock();
        self.hand_over(&mut lru, &mut held);
        let result = lru.policy.as_ref().map_or(Ok(()), |policy| policy.check());
        let known = self.frames.iter().filter(|(_, meta)| meta.is_known()).count();
        let listed = lru.policy.as_ref().map_or(0, |policy| policy.len() as usize);
        drop(lru);
        self.put_all(held.into_iter());
        result?;
        if known == listed { Ok(()) } else { Err("a frame is marked known that is on no list") }
    }
}
