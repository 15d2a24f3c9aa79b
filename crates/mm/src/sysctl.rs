//! The settings of a [`Memory`] that change while it runs (`/proc/sys/vm`).
//!
//! [`Sysctl`] names one; [`Tunables`] holds them. What is fixed stays in [`MemoryConfig`].
//! Source: Linux 6.18 mm/util.c: `overcommit_ratio_handler` and its neighbours; mm/page-writeback.c:
//! `dirty_ratio_handler` and its.

use crate::config::{CommitLimit, MemoryConfig, Overcommit};
use crate::{Host, Memory};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering};
use kilburn_addr::{Errno, PAGE_SIZE};

/// A setting of `/proc/sys/vm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sysctl {
    /// 0: refuse only what could never fit; 1: refuse nothing; 2: keep to the commit limit.
    OvercommitMemory,
    /// Percent of memory that may be promised in mode 2; used when `OvercommitKbytes` is 0.
    OvercommitRatio,
    /// KiB that may be promised in mode 2.
    OvercommitKbytes,
    /// No unprivileged mapping below this address.
    MmapMinAddr,
    /// Areas of one address space.
    MaxMapCount,
    /// KiB kept for the administrator in mode 2.
    AdminReserveKbytes,
    /// KiB kept for the user in mode 2.
    UserReserveKbytes,
    /// Binary logarithm of the pages that are read together from swap, at most.
    PageCluster,
    /// Percent of the memory that may be dirty from which on who dirties pages is slowed down; used when
    /// `DirtyBytes` is 0.
    DirtyRatio,
    /// Bytes of dirty pages from which on who dirties more is slowed down.
    DirtyBytes,
    /// Percent of the memory that may be dirty from which on pages are written in the background; used
    /// when `DirtyBackgroundBytes` is 0.
    DirtyBackgroundRatio,
    /// Bytes of dirty pages from which on they are written in the background.
    DirtyBackgroundBytes,
}

impl Sysctl {
    const COUNT: usize = Self::DirtyBackgroundBytes as usize + 1;

    /// The values that may be set.
    const fn range(self) -> RangeInclusive<u64> {
        match self {
            Self::OvercommitMemory => 0..=2,
            Self::PageCluster => 0..=31,
            Self::OvercommitRatio | Self::MaxMapCount => 0..=i32::MAX as u64,
            Self::DirtyRatio | Self::DirtyBackgroundRatio => 0..=100,
            // Two pages (Linux `dirty_bytes_min`).
            Self::DirtyBytes => 2 * PAGE_SIZE..=u64::MAX,
            Self::DirtyBackgroundBytes => 1..=u64::MAX,
            Self::OvercommitKbytes
            | Self::MmapMinAddr
            | Self::AdminReserveKbytes
            | Self::UserReserveKbytes => 0..=u64::MAX,
        }
    }
}

/// Percent of memory that may be promised in mode 2 when nobody says otherwise.
const DEFAULT_RATIO: u32 = 50;

/// What `vm.page-cluster` is at first (Linux 6.18 mm/swap.c: `swap_setup`).
fn page_cluster(config: &MemoryConfig) -> u64 {
    let megabytes = config.frames.end.get().saturating_sub(config.frames.start.get()) >> 8;
    if megabytes < 16 { 2 } else { 3 }
}

/// The current values, by [`Sysctl`].
pub(crate) struct Tunables([AtomicU64; Sysctl::COUNT]);

impl Tunables {
    /// The values that `config` starts with.
    pub(crate) fn new(config: &MemoryConfig) -> Self {
        let (mode, limit) = match config.overcommit {
            Overcommit::Heuristic => (0, CommitLimit::Ratio(DEFAULT_RATIO)),
            Overcommit::Always => (1, CommitLimit::Ratio(DEFAULT_RATIO)),
            Overcommit::Never(limit) => (2, limit),
        };
        let (ratio, kbytes) = match limit {
            CommitLimit::Ratio(ratio) => (u64::from(ratio), 0),
            CommitLimit::Kbytes(kbytes) => (0, kbytes),
        };
        Self([
            AtomicU64::new(mode),
            AtomicU64::new(ratio),
            AtomicU64::new(kbytes),
            AtomicU64::new(config.mmap_min_addr),
            AtomicU64::new(u64::from(config.max_map_count)),
            AtomicU64::new(config.admin_reserve_kbytes),
            AtomicU64::new(config.user_reserve_kbytes),
            AtomicU64::new(page_cluster(config)),
            AtomicU64::new(20),
            AtomicU64::new(0),
            AtomicU64::new(10),
            AtomicU64::new(0),
        ])
    }

    #[inline]
    pub(crate) fn get(&self, which: Sysctl) -> u64 {
        self.0[which as usize].load(Ordering::Relaxed)
    }

    /// `vm.page-cluster`.
    pub(crate) fn page_cluster(&self) -> u32 {
        self.get(Sysctl::PageCluster) as u32
    }

    /// `vm.mmap_min_addr`.
    #[inline]
    pub(crate) fn mmap_min_addr(&self) -> u64 {
        self.get(Sysctl::MmapMinAddr)
    }

    /// `vm.max_map_count`.
    #[inline]
    pub(crate) fn max_map_count(&self) -> u32 {
        self.get(Sysctl::MaxMapCount) as u32
    }

    /// `vm.overcommit_memory`, with what mode 2 keeps to.
    #[inline]
    pub(crate) fn overcommit(&self) -> Overcommit {
        match self.get(Sysctl::OvercommitMemory) {
            0 => Overcommit::Heuristic,
            1 => Overcommit::Always,
            _ => Overcommit::Never(self.commit_limit()),
        }
    }

    fn set(&self, which: Sysctl, value: u64) {
        self.0[which as usize].store(value, Ordering::Relaxed);
    }

    /// How the commit limit of mode 2 is given.
    pub(crate) fn commit_limit(&self) -> CommitLimit {
        match self.get(Sysctl::OvercommitKbytes) {
            0 => CommitLimit::Ratio(self.get(Sysctl::OvercommitRatio) as u32),
            kbytes => CommitLimit::Kbytes(kbytes),
        }
    }

    /// `config` with the current values. What calls often ask for has a method of its own.
    pub(crate) fn apply(&self, config: &MemoryConfig) -> MemoryConfig {
        MemoryConfig {
            frames: config.frames.clone(),
            overcommit: self.overcommit(),
            mmap_min_addr: self.mmap_min_addr(),
            max_map_count: self.max_map_count(),
            admin_reserve_kbytes: self.get(Sysctl::AdminReserveKbytes),
            user_reserve_kbytes: self.get(Sysctl::UserReserveKbytes),
            ..*config
        }
    }
}

impl<H: Host> Memory<H> {
    /// A setting now.
    pub fn sysctl(&self, which: Sysctl) -> u64 {
        self.tunables.get(which)
    }

    /// Changes a setting; it counts from the next call on. Of a ratio and a number of bytes for the
    /// same the one set last counts, the other becomes 0; for `DirtyRatio` and `DirtyBytes` only if
    /// the value is another.
    ///
    /// # Errors
    /// `EINVAL` for a value out of range.
    pub fn set_sysctl(&self, which: Sysctl, value: u64) -> Result<(), Errno> {
        if !which.range().contains(&value) {
            return Err(Errno::EINVAL);
        }
        let is_new = self.tunables.get(which) != value;
        self.tunables.set(which, value);
        match which {
            Sysctl::OvercommitRatio => self.tunables.set(Sysctl::OvercommitKbytes, 0),
            Sysctl::OvercommitKbytes => self.tunables.set(Sysctl::OvercommitRatio, 0),
            Sysctl::DirtyRatio if is_new => self.tunables.set(Sysctl::DirtyBytes, 0),
            Sysctl::DirtyBytes if is_new => self.tunables.set(Sysctl::DirtyRatio, 0),
            Sysctl::DirtyBackgroundRatio => self.tunables.set(Sysctl::DirtyBackgroundBytes, 0),
            Sysctl::DirtyBackgroundBytes => self.tunables.set(Sysctl::DirtyBackgroundRatio, 0),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilburn_addr::Pfn;

    #[test]
    fn the_ratio_and_the_kbytes_replace_each_other() {
        let config = MemoryConfig::new(Pfn::new(0)..Pfn::new(1024));
        let tunables = Tunables::new(&config);
        assert_eq!(tunables.commit_limit(), CommitLimit::Ratio(DEFAULT_RATIO));
        tunables.set(Sysctl::OvercommitKbytes, 77);
        assert_eq!(tunables.commit_limit(), CommitLimit::Kbytes(77));
        tunables.set(Sysctl::OvercommitMemory, 2);
        let now = tunables.apply(&config);
        assert_eq!(now.overcommit, Overcommit::Never(CommitLimit::Kbytes(77)));
        assert_eq!(now.max_map_count, config.max_map_count);
    }
}
