//! A stack that grows down to where it is used (Linux 6.18 mm/vma.c: `expand_downwards`,
//! `acct_stack_growth`).

use super::{Fault, SegvCode};
use crate::areas::VmaRef;
use crate::rmap::Links;
use crate::{Caller, Host, Mm};
use core::sync::atomic::Ordering;
use kilburn_addr::{Errno, PAGE_SHIFT, VirtAddr, VmFlags};

impl<H: Host> Mm<H> {
    /// Whether the area would grow down to an address below it.
    pub(super) fn may_grow(vma: VmaRef<'_, H>) -> bool {
        vma.flags.contains(VmFlags::GROWSDOWN)
    }

    /// Grows the area above `addr` down to it.
    pub(super) fn expand_stack(&self, caller: &Caller, addr: VirtAddr) -> Result<(), Fault> {
        self.expand_stack_locked(caller, addr).map_err(|_| Fault::Segv(SegvCode::MapErr))
    }

    fn expand_stack_locked(&self, caller: &Caller, addr: VirtAddr) -> Result<(), Errno> {
        let mut state = self.mmap_write_lock();
        let state = &mut *state;
        let vma = state.areas.find(addr).ok_or(Errno::EFAULT)?;
        if vma.start() <= addr {
            return Ok(());
        }
        let flags = vma.flags;
        let min = VirtAddr::new(self.memory().tunables.mmap_min_addr());
        let growth = state.areas.plan_stack_growth(vma.start(), addr, min)?;
        // Even if a limit stops the growth: it decides what mprotect merges later.
        self.prepare_anon_vma(state, vma);
        let pages = growth.grow_pages;
        if !state.vm.may_expand(caller, flags, pages)
            || growth.size_bytes > caller.rlimits.stack
            || !state.vm.may_lock(caller, flags, pages << PAGE_SHIFT)
        {
            return Err(Errno::ENOMEM);
        }
        self.memory().charge(caller, state.vm.total, pages)?;
        if !flags.contains(VmFlags::ACCOUNT) {
            // DIVERGENCE(stack-growth-promise): Linux never takes back what it charges for the
            // growth of an area that is not accounted; here only the check remains.
            self.memory().uncharge(pages);
        }
        state.areas.commit_stack_growth(growth, &mut Links(self));
        state.vm.add(flags, pages);
        self.counts.stack_growths.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
