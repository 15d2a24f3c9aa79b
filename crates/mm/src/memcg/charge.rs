//! Charging frames and slots of swap to groups, and taking that back
//! (Linux 6.18 mm/memcontrol.c: `try_charge_memcg`, `uncharge_batch`, `__mem_cgroup_try_charge_swap`).

use super::{Memcg, MemcgEvent, MemcgId, PageCounter};
use crate::frames::FrameMeta;
use crate::memory::NoFrame;
use crate::reclaim::{BATCH, Reclaimer};
use crate::{Host, Memory};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kilburn_addr::Pfn;

/// How often reclaim may find nothing before a charge fails. Each time every page of the group is
/// offered; the second time those that others were moving.
const FRUITLESS_MAX: u32 = 2;

/// Most batches reclaimed at once for a group above `memory.high`.
const HIGH_BATCHES: u32 = 4;

impl Memcg {
    /// Charges one page to a counter of the group and of all above it; or else to none, and answers
    /// the group whose limit is in the way.
    fn try_charge(&self, counter: impl Fn(&Self) -> &PageCounter) -> Result<(), &Self> {
        for memcg in self.and_above() {
            if !counter(memcg).try_charge() {
                for charged in self.and_above().take_while(|below| below.id != memcg.id) {
                    counter(charged).uncharge();
                }
                return Err(memcg);
            }
        }
        Ok(())
    }

    fn uncharge(&self, counter: impl Fn(&Self) -> &PageCounter) {
        for memcg in self.and_above() {
            counter(memcg).uncharge();
        }
    }
}

impl Memcg {
    /// A page of the group was looked at.
    pub(crate) fn count_scan(&self, reclaimer: Reclaimer) {
        self.count(|vm| &vm.pgscan);
        self.count(|vm| match reclaimer {
            Reclaimer::Kswapd => &vm.pgscan_kswapd,
            Reclaimer::Direct => &vm.pgscan_direct,
            Reclaimer::Proactive => &vm.pgscan_proactive,
        });
    }

    /// A page of the group was made free.
    pub(crate) fn count_steal(&self, reclaimer: Reclaimer) {
        self.count(|vm| &vm.pgsteal);
        self.count(|vm| match reclaimer {
            Reclaimer::Kswapd => &vm.pgsteal_kswapd,
            Reclaimer::Direct => &vm.pgsteal_direct,
            Reclaimer::Proactive => &vm.pgsteal_proactive,
        });
    }
}

impl<H: Host> Memory<H> {
    /// As `Memory::alloc`, charged to a group.
    #[inline]
    pub(crate) fn alloc_for(&self, whose: MemcgId) -> Result<Pfn, NoFrame> {
        if whose.is_root() { self.alloc() } else { self.alloc_charged(whose) }
    }

    /// As `Memory::alloc_zeroed`, charged to a group.
    #[inline]
    pub(crate) fn alloc_zeroed_for(&self, whose: MemcgId) -> Result<Pfn, NoFrame> {
        if whose.is_root() {
            return self.alloc_zeroed();
        }
        let pfn = self.alloc_charged(whose)?;
        self.zero(pfn);
        Ok(pfn)
    }

    #[inline(never)]
    fn alloc_charged(&self, whose: MemcgId) -> Result<Pfn, NoFrame> {
        // Nobody is left to charge: the group is another machine's.
        let Some(memcg) = self.memcg(whose) else { return self.alloc() };
        self.charge_page(&memcg)?;
        match self.alloc() {
            Ok(pfn) => {
                self.meta(pfn).set_memcg(whose);
                Ok(pfn)
            }
            Err(NoFrame) => {
                memcg.uncharge(Memcg::memory);
                Err(NoFrame)
            }
        }
    }

    /// Charges a page, for which pages of the group may have to go. No table is locked.
    fn charge_page(&self, memcg: &Memcg) -> Result<(), NoFrame> {
        let mut fruitless = 0;
        while let Err(over) = memcg.try_charge(Memcg::memory) {
            over.note(MemcgEvent::Max);
            if self.shrink_memcg(over.id, BATCH, Reclaimer::Direct) > 0 {
                continue;
            }
            fruitless += 1;
            if fruitless >= FRUITLESS_MAX {
                over.note(MemcgEvent::Oom);
                self.memcgs.oom.store(over.id.to_bits(), Ordering::Relaxed);
                return Err(NoFrame);
            }
        }
        for above in memcg.and_above().filter(|above| above.memory.usage() > above.high()) {
            above.note(MemcgEvent::High);
            self.reclaim_to_high(above);
        }
        Ok(())
    }

    /// DIVERGENCE(memcg-high-throttle): Linux also makes who goes far above `memory.high` sleep, for up
    /// to two seconds a time; here pages are reclaimed, and nobody sleeps.
    fn reclaim_to_high(&self, memcg: &Memcg) {
        for _ in 0..HIGH_BATCHES {
            let above = memcg.memory.usage().saturating_sub(memcg.high());
            if above == 0 || self.shrink_memcg(memcg.id, above.min(BATCH), Reclaimer::Direct) == 0 {
                return;
            }
        }
    }

    /// The frame is given back: who is charged for it is not any more.
    #[inline]
    pub(crate) fn uncharge_frame(&self, meta: &FrameMeta) {
        let whose = meta.memcg();
        if !whose.is_root() {
            self.uncharge_page(whose);
        }
    }

    #[inline(never)]
    fn uncharge_page(&self, whose: MemcgId) {
        self.charged_memcg(whose).uncharge(Memcg::memory);
    }

    fn charged_memcg(&self, id: MemcgId) -> Arc<Memcg> {
        self.memcg(id).expect("a group stays while something is charged to it")
    }

    /// Charges a slot of swap; whether it may be taken.
    pub(crate) fn charge_swap(&self, whose: MemcgId) -> bool {
        let Some(memcg) = self.memcg(whose) else { return true };
        let charged = memcg.try_charge(Memcg::swap);
        if let Err(over) = charged {
            over.note(MemcgEvent::SwapMax);
            over.note(MemcgEvent::SwapFail);
        }
        charged.is_ok()
    }

    /// A slot of swap could not be had for a page of the group.
    pub(crate) fn note_no_slot(&self, whose: MemcgId) {
        if let Some(memcg) = self.memcg(whose) {
            memcg.note(MemcgEvent::SwapFail);
        }
    }

    /// A slot of swap is free again.
    pub(crate) fn uncharge_swap(&self, whose: MemcgId) {
        if !whose.is_root() {
            self.charged_memcg(whose).uncharge(Memcg::swap);
        }
    }

    /// Sets `memory.max` in pages, and reclaims what the group has above it; whether nothing is left
    /// above. If something is, somebody in the group must go.
    pub fn set_memcg_max(&self, memcg: &Memcg, pages: u64) -> bool {
        memcg.memory.set_max(pages);
        loop {
            let above = memcg.memory.usage().saturating_sub(pages);
            if above == 0 || self.shrink_memcg(memcg.id, above, Reclaimer::Direct) == 0 {
                return above == 0;
            }
        }
    }

    /// Sets `memory.high` in pages, and reclaims what the group has above it, as far as it can go.
    pub fn set_memcg_high(&self, memcg: &Memcg, pages: u64) {
        memcg.high.store(pages, Ordering::Relaxed);
        loop {
            let above = memcg.memory.usage().saturating_sub(pages);
            if above == 0 || self.shrink_memcg(memcg.id, above, Reclaimer::Direct) == 0 {
                return;
            }
        }
    }

    /// Evicts up to `pages` pages of a group and of those below it on request (`memory.reclaim`); how
    /// many went. The root's are all there are.
    pub fn reclaim_memcg(&self, memcg: MemcgId, pages: u64) -> u64 {
        self.shrink_memcg(memcg, pages, Reclaimer::Proactive)
    }

    /// A fault in an address space of the group was resolved.
    #[inline(never)]
    pub(crate) fn note_memcg_fault(&self, whose: MemcgId, major: bool) {
        if let Some(memcg) = self.memcg(whose) {
            memcg.count(|vm| &vm.pgfault);
            if major {
                memcg.count(|vm| &vm.pgmajfault);
            }
        }
    }
}
