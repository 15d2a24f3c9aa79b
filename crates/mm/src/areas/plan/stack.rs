//! Growing an area downwards to reach a faulting address (Linux `expand_downwards`).

use super::{AreaWatch, Areas, between};
use crate::Host;
use kilburn_addr::{AddrRange, Errno, PAGE_SHIFT, VirtAddr, VmFlags};

/// A stack that will reach further down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackGrowth {
    start: VirtAddr,
    to: AddrRange,
    /// Pages it gains.
    pub grow_pages: u64,
    /// Its size then, in bytes: what `RLIMIT_STACK` is compared with.
    pub size_bytes: u64,
}

impl StackGrowth {
    /// The area's range then.
    pub fn range(&self) -> AddrRange {
        self.to
    }
}

impl<H: Host> Areas<H> {
    /// How the area that starts at `start` reaches down to `addr`, which lies below it and above
    /// the area before. Limits and accounting (`acct_stack_growth`) are the caller's.
    ///
    /// # Errors
    /// - `EFAULT`: the area does not grow
    /// - `EPERM`: `addr` is below `min_addr`
    /// - `ENOMEM`: the guard gap to the area before would not be kept, or the page offset would
    ///   wrap
    pub fn plan_stack_growth(
        &self,
        start: VirtAddr,
        addr: VirtAddr,
        min_addr: VirtAddr,
    ) -> Result<StackGrowth, Errno> {
        let vma = self.containing(start).expect("a plan grows what is there");
        if !vma.flags.contains(VmFlags::GROWSDOWN) {
            return Err(Errno::EFAULT);
        }
        let addr = addr.page_down();
        if addr < min_addr {
            return Err(Errno::EPERM);
        }
        if let Some(prev) = self.neighbours(vma.start()).0 {
            let room = addr.get().saturating_sub(prev.end().get());
            if !prev.flags.contains(VmFlags::GROWSDOWN)
                && prev.flags.intersects(VmFlags::ACCESS)
                && room < self.guard_gap_bytes()
            {
                return Err(Errno::ENOMEM);
            }
        }
        let grow_pages = (vma.start().get() - addr.get()) >> PAGE_SHIFT;
        if grow_pages > vma.pgoff {
            return Err(Errno::ENOMEM);
        }
        let to = between(addr, vma.end());
        Ok(StackGrowth { start, to, grow_pages, size_bytes: to.len() })
    }

    /// Applies the plan; the area starts where the plan says then.
    pub fn commit_stack_growth(&mut self, plan: StackGrowth, watch: &mut impl AreaWatch<H>) {
        let cursor = self.starting_at(plan.start).expect("a plan grows what is there");
        self.resize_watched(cursor, plan.to, watch);
    }
}
