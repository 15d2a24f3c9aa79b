//! How many pages of pipe buffers each user has (Linux 6.18 fs/pipe.c: `account_pipe_buffers`).
//!
//! [`PipePages`] is the account and its limits (`/proc/sys/fs/pipe-user-pages-*`); a pipe holds a
//! [`Charge`], which gives back what it took. Neighbour: [`crate::fs::pipe`].

use crate::task::{Capability, Creds};
use kilburn_addr::Errno;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of pipes above which a user's new ones are small (`PIPE_DEF_BUFFERS * INR_OPEN_CUR`).
const SOFT_DEFAULT: u64 = 16 * 1024;

/// The pipe pages of all users.
#[derive(Debug)]
pub(crate) struct PipePages {
    /// 0: no limit.
    soft: AtomicU64,
    /// 0: no limit.
    hard: AtomicU64,
    used: Mutex<BTreeMap<u32, u64>>,
}

/// Pages counted for a user until dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    pages: Arc<PipePages>,
    uid: u32,
    count: u64,
}

impl PipePages {
    /// Nobody has a pipe.
    pub(crate) fn new() -> Arc<Self> {
        let (soft, hard) = (AtomicU64::new(SOFT_DEFAULT), AtomicU64::new(0));
        Arc::new(Self { soft, hard, used: Mutex::default() })
    }

    /// Pages above which a user's new pipes are small; 0: no such limit.
    pub(crate) fn soft(&self) -> u64 {
        self.soft.load(Ordering::Relaxed)
    }

    /// Pages above which a user gets no pipe; 0: no such limit.
    pub(crate) fn hard(&self) -> u64 {
        self.hard.load(Ordering::Relaxed)
    }

    /// Sets the limit for small pipes.
    pub(crate) fn set_soft(&self, pages: u64) {
        self.soft.store(pages, Ordering::Relaxed);
    }

    /// Sets the limit for any pipe.
    pub(crate) fn set_hard(&self, pages: u64) {
        self.hard.store(pages, Ordering::Relaxed);
    }

    /// Counts a new pipe of `wanted` pages for `creds`; past the soft limit it gets `least`.
    ///
    /// # Errors
    /// ENFILE past the hard limit.
    pub(crate) fn charge(
        self: &Arc<Self>,
        creds: &Creds,
        wanted: u64,
        least: u64,
    ) -> Result<Charge, Errno> {
        let mut charge = Charge { pages: Arc::clone(self), uid: creds.uid, count: 0 };
        let exempt = is_exempt(creds);
        if exceeds(charge.resize(wanted), self.soft()) && !exempt {
            charge.resize(least);
        }
        let now = charge.resize(charge.count);
        if exceeds(now, self.hard()) && !exempt { Err(Errno::ENFILE) } else { Ok(charge) }
    }
}

impl Charge {
    /// Pages of this pipe.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Counts `count` pages instead; answers what the user has now.
    fn resize(&mut self, count: u64) -> u64 {
        let mut used = self.pages.used.lock();
        let total = used.entry(self.uid).or_default();
        *total = *total - self.count + count;
        self.count = count;
        let now = *total;
        if now == 0 {
            used.remove(&self.uid);
        }
        now
    }

    /// Counts `count` pages instead, as `creds` asks (`F_SETPIPE_SZ`).
    ///
    /// # Errors
    /// EPERM when the pipe would grow past a limit; it stays as it was.
    pub(crate) fn set(&mut self, creds: &Creds, count: u64) -> Result<(), Errno> {
        let before = self.count;
        let now = self.resize(count);
        let over = exceeds(now, self.pages.soft()) || exceeds(now, self.pages.hard());
        if count > before && over && !is_exempt(creds) {
            self.resize(before);
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.resize(0);
    }
}

fn exceeds(pages: u64, limit: u64) -> bool {
    limit != 0 && pages > limit
}

fn is_exempt(creds: &Creds) -> bool {
    creds.has_cap(Capability::SysResource) || creds.has_cap(Capability::SysAdmin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_soft_limit_pipes_are_small_past_the_hard_one_there_are_none() {
        let pages = PipePages::new();
        let user = Creds { uid: 7, cap_effective: 0, ..Creds::root() };
        pages.set_soft(16);
        pages.set_hard(18);
        let first = pages.charge(&user, 16, 2).unwrap();
        let mut second = pages.charge(&user, 16, 2).unwrap();
        assert_eq!((first.count(), second.count()), (16, 2));
        assert_eq!(pages.charge(&user, 16, 2).map(|c| c.count()), Err(Errno::ENFILE));
        assert_eq!(pages.charge(&Creds::root(), 16, 2).map(|c| c.count()), Ok(16));
        assert_eq!(second.set(&user, 4), Err(Errno::EPERM));
        drop(first);
        assert_eq!(second.set(&user, 4), Ok(()));
        drop(second);
        assert!(pages.used.lock().is_empty());
    }
}
