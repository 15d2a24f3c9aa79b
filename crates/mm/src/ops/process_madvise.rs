//! Advice and reaping from outside (Linux 6.18 mm/madvise.c: `process_madvise`,
//! `vector_madvise`; mm/oom_kill.c: `process_mrelease`, `__oom_reap_task_mm`).

use super::madvise::Advice;
use crate::zap::Zap;
use crate::{Caller, Host, Memcg, Mm};
use kilburn_addr::{Errno, VirtAddr, VmFlags};

/// Whose address space is advised on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advised {
    /// The caller's.
    Own,
    /// Another's, by a caller who may influence how it runs (`CAP_SYS_NICE`).
    Other,
    /// Another's, by one who may not.
    OtherUnprivileged,
}

impl<H: Host> Mm<H> {
    /// Advises on several ranges, each an address and a length; answers the bytes of those that
    /// were advised on before the first that could not be.
    ///
    /// # Errors
    /// As process_madvise(2), when there were none: `EINVAL` for advice that is not to be given
    /// to others, `EPERM` without the right to, else as madvise(2).
    pub fn process_madvise(
        &self,
        caller: &Caller,
        ranges: &[(VirtAddr, u64)],
        advice: i32,
        whose: Advised,
    ) -> Result<u64, Errno> {
        if whose != Advised::Own {
            use Advice::{Cold, Collapse, PageOut, WillNeed};
            let known = Advice::from_raw(advice).ok_or(Errno::EINVAL)?;
            if !matches!(known, Cold | PageOut | WillNeed | Collapse) {
                return Err(Errno::EINVAL);
            }
        }
        if whose == Advised::OtherUnprivileged {
            return Err(Errno::EPERM);
        }
        let mut done: u64 = 0;
        // A range without bytes is never looked at (iov_iter_advance).
        for &(addr, len) in ranges.iter().filter(|(_, len)| *len > 0) {
            match self.madvise(caller, addr, len, advice) {
                Ok(()) => done = done.saturating_add(len),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Takes the private pages of an address space whose last task is dying, before it goes
    /// (process_mrelease(2), the OOM reaper). Shared pages stay: they would not be freed.
    pub fn reap(&self) {
        let state = self.mmap_read_lock();
        for vma in state.areas.iter() {
            let kept = VmFlags::PFNMAP | VmFlags::HUGETLB;
            if !vma.flags.intersects(kept)
                && (vma.is_anonymous() || !vma.flags.contains(VmFlags::SHARED))
            {
                self.zap(vma.range, Zap::Discard);
            }
        }
    }

    /// How much memory its end would free, in pages, `None` if it must not be ended
    /// (Linux 6.18 mm/oom_kill.c: `oom_badness`). `adj` is `oom_score_adj`.
    pub fn oom_badness(&self, adj: i16) -> Option<i64> {
        self.oom_badness_within(adj, None)
    }

    /// As [`Self::oom_badness`], where as much is to be had as a group may have
    /// (Linux `mem_cgroup_get_max`).
    pub fn oom_badness_within(&self, adj: i16, within: Option<&Memcg>) -> Option<i64> {
        if adj <= -1000 {
            return None;
        }
        let total = within.map_or_else(
            || self.oom_total(),
            |memcg| {
                let swap = self.memory().counts().swap_total.min(memcg.swap().max());
                i64::try_from(memcg.memory().max().saturating_add(swap)).unwrap_or(i64::MAX)
            },
        );
        let used = self.oom_pages() as i64;
        Some(used.saturating_add(i64::from(adj).saturating_mul(total / 1000)))
    }

    /// /proc/PID/oom_score (Linux 6.18 fs/proc/base.c: `proc_oom_score`).
    pub fn oom_score(&self, adj: i16) -> u64 {
        let Some(badness) = self.oom_badness(adj) else { return 0 };
        ((1000 + badness * 1000 / self.oom_total().max(1)) * 2 / 3).max(0) as u64
    }

    /// Pages in memory or swapped out, and pages of tables.
    fn oom_pages(&self) -> u64 {
        let status = self.status();
        (status.vm_rss + status.vm_swap + status.vm_pte) / kilburn_addr::PAGE_SIZE
    }

    /// Pages of RAM and of swap.
    fn oom_total(&self) -> i64 {
        let counts = self.memory().counts();
        (counts.total + counts.swap_total) as i64
    }
}
