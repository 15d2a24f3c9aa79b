//! What the replacement policy is told, and what it asks (Linux 6.18 mm/swap.c, mm/workingset.c).
//!
//! While memory was never short, nobody is told of anything: a page that comes to be costs one test
//! of a flag. When it becomes short for the first time all pages there are arrive at once, in the
//! order of their frames, which is about the order in which they were allocated as nothing was
//! freed under pressure yet. From then on pages arrive through a list that is handed over when the
//! policy is next asked.

use super::Outcome;
use super::instances::Instances;
use crate::anon_vma::Alive;
use crate::frames::FrameState;
use crate::memcg::MemcgId;
use crate::policy::{
    AccessedBits, Arrival, Builtin, FirstUse, PageId, PageKind, PutBack, References,
    ReplacementPolicy, Shadow,
};
use crate::{Host, Memory};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kilburn_addr::Pfn;
use lock_api::Mutex;

/// A page the policy is to hear of.
pub(super) struct Arrived {
    frame: u32,
    first_use: FirstUse,
    /// What the policy remembers of it.
    shadow: Option<Shadow>,
}

/// From whom pages are taken.
pub(crate) enum Scope {
    /// From everybody.
    Machine,
    /// From these groups.
    Memcgs(Vec<MemcgId>),
}

impl Scope {
    pub(super) fn contains(&self, memcg: MemcgId) -> bool {
        match self {
            Self::Machine => true,
            Self::Memcgs(memcgs) => memcgs.contains(&memcg),
        }
    }
}

/// The policy, made when it is first needed, and the pages it is not told of.
pub(super) struct Lru {
    pub(super) instances: Instances,
    /// Frames of pages found locked.
    locked: Vec<u32>,
}

impl Lru {
    pub(super) fn new(choice: Builtin, frames: u64) -> Self {
        Self { instances: Instances::new(choice, frames), locked: Vec::new() }
    }

    pub(super) fn replace(&mut self, policy: Box<dyn ReplacementPolicy>) {
        self.instances.replace(policy);
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
    /// Where the caller's CPU lets pages arrive.
    fn arrivals(&self) -> &Mutex<H::RawMutex, Vec<Arrived>> {
        self.reclaim.arrivals.of(self.cpu())
    }

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
            self.count_refault(pfn);
        }
        let frame = self.frame_number(pfn);
        self.arrivals().lock().push(Arrived { frame, first_use, shadow });
    }

    fn count_refault(&self, pfn: Pfn) {
        let events = &self.vm_events;
        let meta = self.meta(pfn);
        let memcg = self.memcg(meta.memcg());
        match meta.state() {
            FrameState::File => {
                events.workingset_refault_file.fetch_add(1, Ordering::Relaxed);
                memcg.inspect(|memcg| memcg.count(|vm| &vm.workingset_refault_file));
            }
            _ => {
                events.workingset_refault_anon.fetch_add(1, Ordering::Relaxed);
                memcg.inspect(|memcg| memcg.count(|vm| &vm.workingset_refault_anon));
            }
        }
    }

    /// The content of an anonymous page may be dropped from now on while nobody writes it, or even
    /// then if its area is droppable: it needs no swap to go.
    pub(crate) fn mark_lazy_free(&self, pfn: Pfn) {
        let meta = self.meta(pfn);
        meta.set_lazy_free();
        self.reclaim.any_lazy_free.store(true, Ordering::Relaxed);
        if meta.is_known() {
            self.forget_page(pfn);
            self.note_arrival(pfn, FirstUse::Ahead, None);
        }
    }

    /// A read or write call used a page of a file.
    #[inline]
    pub(crate) fn note_call_use(&self, pfn: Pfn) {
        let meta = self.meta(pfn);
        if meta.is_known() {
            let frame = self.frame_number(pfn);
            self.reclaim.lru.lock().instances.mark_accessed(frame, meta.memcg());
        }
    }

    /// Whether the policy thinks that a page is in use.
    pub(crate) fn is_active(&self, pfn: Pfn) -> bool {
        let meta = self.meta(pfn);
        let frame = self.frame_number(pfn);
        meta.is_known() && self.reclaim.lru.lock().instances.is_active(frame, meta.memcg())
    }

    /// A frame the policy may know is being freed, or evicted without having been asked.
    #[cold]
    pub(crate) fn forget_page(&self, pfn: Pfn) {
        let frame = self.frame_number(pfn);
        let mut lru = self.reclaim.lru.lock();
        // Another policy may have been set meanwhile, which does not know it.
        if self.meta(pfn).is_known() {
            self.meta(pfn).clear_known();
            lru.instances.remove(frame, self.meta(pfn).memcg());
        }
    }

    /// A page that the policy remembers will not come back.
    pub(crate) fn forget_shadow(&self, shadow: Shadow) {
        self.reclaim.lru.lock().instances.forget(shadow);
    }

    /// Memory is short for the first time: the policy hears of every page there is.
    pub(super) fn arm(&self) {
        if self.reclaim.is_armed.load(Ordering::Relaxed) {
            return;
        }
        let mut lru = self.reclaim.lru.lock();
        lru.instances.arm();
        self.reclaim.is_armed.store(true, Ordering::Relaxed);
        drop(lru);
        self.announce_all();
    }

    /// Lets every page arrive that is there.
    pub(super) fn announce_all(&self) {
        let mut arrivals = self.arrivals().lock();
        for (pfn, meta) in self.frames.iter() {
            if meta.kind().is_some() {
                let frame = self.frame_number(pfn);
                arrivals.push(Arrived { frame, first_use: FirstUse::Mapped, shadow: None });
            }
        }
    }

    /// Tells the policy who arrived. The references taken meanwhile are to be dropped when `lru` is
    /// not locked any more.
    fn hand_over(&self, lru: &mut Lru, held: &mut Vec<Pfn>) {
        let mut arrived = Vec::new();
        for of_cpu in self.reclaim.arrivals.iter() {
            arrived.append(&mut of_cpu.lock());
        }
        if !lru.instances.is_armed() {
            return;
        }
        for Arrived { frame, first_use, shadow } in arrived {
            let pfn = self.frame_at(frame);
            let meta = self.meta(pfn);
            let there = meta.try_get();
            if there {
                held.push(pfn);
                if meta.is_locked() {
                    // Whoever evicts it is to tell the policy what became of it first.
                    self.arrivals().lock().push(Arrived { frame, first_use, shadow });
                    continue;
                }
            }
            let kind = meta.kind().filter(|_| there && !meta.is_known());
            let Some(kind) = kind else {
                if let Some(shadow) = shadow {
                    lru.instances.forget(shadow);
                }
                continue;
            };
            let memcg = meta.memcg();
            let most = self.memcg(memcg).map_or(u64::MAX, |memcg| memcg.most_pages());
            let arrival = Arrival::new(kind, first_use);
            let again = lru.instances.insert(frame, memcg, arrival, shadow, most);
            meta.set_known();
            for frame in again {
                self.meta(self.frame_at(frame)).clear_known();
                let first_use = FirstUse::Mapped;
                self.arrivals().lock().push(Arrived { frame, first_use, shadow: None });
            }
        }
    }

    /// Pages the policy can choose from.
    pub(super) fn lru_len(&self, scope: &Scope) -> u32 {
        let mut held = Vec::new();
        let mut lru = self.reclaim.lru.lock();
        self.hand_over(&mut lru, &mut held);
        let len = lru.instances.len(scope);
        drop(lru);
        self.put_all(held.into_iter());
        len
    }

    /// The page that should go next, locked, with a reference that the caller owns.
    pub(super) fn isolate(&self, scope: &Scope, alive: &mut Alive<H>) -> Option<Pfn> {
        let mut held = Vec::new();
        let mut busy = Vec::new();
        let mut lru = self.reclaim.lru.lock();
        self.hand_over(&mut lru, &mut held);
        let wanted = self.wanted();
        let of_group = |memcg| self.wanted_of(memcg, wanted);
        let mut bits = Tables { memory: self, alive };
        let chosen = loop {
            let next = lru.instances.isolate(scope, of_group, &mut bits);
            let Some((frame, memcg)) = next else { break None };
            let pfn = self.frame_at(frame);
            if !self.meta(pfn).try_get() {
                // Being freed: whoever does so waits for the lock, to have it removed.
                continue;
            }
            if self.meta(pfn).try_lock() {
                break Some(pfn);
            }
            held.push(pfn);
            busy.push((frame, memcg));
        };
        for (frame, memcg) in busy {
            lru.instances.putback(frame, memcg, PutBack::Later);
        }
        drop(lru);
        self.put_all(held.into_iter());
        alive.clear();
        chosen
    }

    /// Tells the policy what became of an isolated page, unlocks it, and drops the reference to it.
    pub(super) fn settle(&self, pfn: Pfn, outcome: Outcome<H>) {
        let frame = self.frame_number(pfn);
        let meta = self.meta(pfn);
        let memcg = meta.memcg();
        let mut lru = self.reclaim.lru.lock();
        let mut evicted = None;
        // Not known: another policy was set meanwhile.
        if meta.is_known() {
            match outcome {
                Outcome::Gone(home) => {
                    meta.clear_known();
                    let shadow = lru.instances.evicted(frame, memcg);
                    evicted = shadow.map(|shadow| (home, shadow));
                }
                Outcome::Kept(why) => lru.instances.putback(frame, memcg, why),
                Outcome::Locked => {
                    meta.clear_known();
                    lru.instances.remove(frame, memcg);
                    lru.locked.push(frame);
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
        let mut arrivals = self.arrivals().lock();
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
        let result = lru.instances.check();
        let known = self.frames.iter().filter(|(_, meta)| meta.is_known()).count();
        let listed = lru.instances.len(&Scope::Machine) as usize;
        drop(lru);
        self.put_all(held.into_iter());
        result?;
        if known == listed { Ok(()) } else { Err("a frame is marked known that is on no list") }
    }
}
