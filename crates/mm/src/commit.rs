//! How much memory may be promised (Linux 6.18 mm/util.c: `__vm_enough_memory`,
//! `vm_commit_limit`).

use crate::config::{CommitLimit, Overcommit};
use crate::sysctl::Sysctl;
use crate::{Caller, Host, Memory};
use core::sync::atomic::Ordering;
use kilburn_addr::{Errno, PAGE_SHIFT};

/// Pages in a kbyte setting.
const fn kbytes_to_pages(kbytes: u64) -> u64 {
    kbytes >> (PAGE_SHIFT - 10)
}

impl<H: Host> Memory<H> {
    /// Most pages that may be promised in overcommit mode 2.
    pub(crate) fn commit_limit(&self) -> u64 {
        let limit = match self.tunables.commit_limit() {
            CommitLimit::Kbytes(kbytes) => kbytes_to_pages(kbytes),
            CommitLimit::Ratio(percent) => self.frames.total() * u64::from(percent) / 100,
        };
        limit + self.swap.total.load(Ordering::Relaxed)
    }

    /// Promises `pages` to an address space of `total_vm` pages.
    ///
    /// # Errors
    /// `ENOMEM` when the overcommit mode does not allow it; nothing is promised then.
    pub(crate) fn charge(&self, caller: &Caller, total_vm: u64, pages: u64) -> Result<(), Errno> {
        self.recharge(pages);
        let allowed = match self.tunables.overcommit() {
            Overcommit::Always => true,
            Overcommit::Heuristic => {
                pages <= self.frames.total() + self.swap.total.load(Ordering::Relaxed)
            }
            Overcommit::Never(_) => {
                let mut limit = self.commit_limit();
                if !caller.admin {
                    limit = limit.saturating_sub(kbytes_to_pages(
                        self.tunables.get(Sysctl::AdminReserveKbytes),
                    ));
                }
                // Room for the user to end the process that takes everything.
                let reserve = kbytes_to_pages(self.tunables.get(Sysctl::UserReserveKbytes));
                limit = limit.saturating_sub(reserve.min(total_vm / 32));
                // Whoever else promises at the moment sees this promise, or is seen here.
                self.promised() < limit as i64
            }
        };
        if allowed {
            Ok(())
        } else {
            self.uncharge(pages);
            Err(Errno::ENOMEM)
        }
    }

    /// Promises `pages` again that another promise, given back right after, stood for.
    pub(crate) fn recharge(&self, pages: u64) {
        self.committed.of(self.cpu()).fetch_add(pages as i64, Ordering::SeqCst);
    }

    /// Takes a promise back.
    pub(crate) fn uncharge(&self, pages: u64) {
        self.committed.of(self.cpu()).fetch_sub(pages as i64, Ordering::SeqCst);
    }

    /// Pages promised at the moment.
    pub(crate) fn promised(&self) -> i64 {
        self.committed.iter().map(|pages| pages.load(Ordering::SeqCst)).sum()
    }
}
