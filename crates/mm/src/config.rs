//! What is chosen when a machine's memory is made: frames, overcommit, and the sysctl limits.

use crate::policy::Builtin;
use core::ops::Range;
use kilburn_addr::Pfn;

/// Settings of a [`crate::Memory`], with Linux's defaults for what has one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The frames the memory manager may hand out.
    pub frames: Range<Pfn>,
    /// How much more than the machine's memory may be promised.
    pub overcommit: Overcommit,
    /// `vm.mmap_min_addr`, in bytes: no unprivileged mapping below.
    pub mmap_min_addr: u64,
    /// `vm.max_map_count`: areas of one address space.
    pub max_map_count: u32,
    /// Gap kept below a growing stack, in pages (kernel parameter `stack_guard_gap`).
    pub stack_guard_gap: u64,
    /// `vm.admin_reserve_kbytes`.
    pub admin_reserve_kbytes: u64,
    /// `vm.user_reserve_kbytes`.
    pub user_reserve_kbytes: u64,
    /// Bytes around a faulting file page that are mapped with it when cached
    /// (debugfs `fault_around_bytes`); a power of two, at least a page.
    pub fault_around_bytes: u64,
    /// Who chooses the page that goes when memory is short.
    pub policy: Builtin,
    /// `vm.swappiness`, 0 to 200: how dear pages of files are against anonymous ones.
    pub swappiness: u8,
    /// When threads that change areas get parts of the address space to themselves.
    pub leasing: Leasing,
}

impl MemoryConfig {
    /// Linux's defaults over `frames`.
    pub fn new(frames: Range<Pfn>) -> Self {
        let kbytes = (frames.end.get().saturating_sub(frames.start.get())) * 4;
        Self {
            frames,
            overcommit: Overcommit::Heuristic,
            mmap_min_addr: 65536,
            max_map_count: 65530,
            stack_guard_gap: 256,
            // Linux 6.18 mm/mmap.c: init_admin_reserve, init_user_reserve: about 3 % of what is
            // free at boot, at most 8 MiB and 128 MiB.
            admin_reserve_kbytes: (kbytes / 32).min(8 << 10),
            user_reserve_kbytes: (kbytes / 32).min(128 << 10),
            fault_around_bytes: 65536,
            policy: Builtin::TwoList,
            swappiness: 60,
            leasing: Leasing::OnContention,
        }
    }

    /// These settings, with another overcommit mode.
    pub fn with_overcommit(self, overcommit: Overcommit) -> Self {
        Self { overcommit, ..self }
    }
}

/// When parts of an address space get locks of their own, so that threads change areas of different
/// parts at the same time. What calls answer does not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leasing {
    /// Never: one lock, as Linux has it.
    Never,
    /// When threads meet at that lock.
    OnContention,
    /// At every chance: for tests, which so come here with one thread.
    Always,
}

/// `vm.overcommit_memory`: how allocations are judged that may never be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overcommit {
    /// 0: refuse only what could never fit.
    Heuristic,
    /// 1: never refuse.
    Always,
    /// 2: refuse what exceeds the commit limit.
    Never(CommitLimit),
}

/// How the commit limit of [`Overcommit::Never`] is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitLimit {
    /// `vm.overcommit_ratio`: percent of memory, swap added.
    Ratio(u32),
    /// `vm.overcommit_kbytes`, swap added.
    Kbytes(u64),
}

/// Why a [`crate::Memory`] could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MemoryError {
    /// There are too few frames to hold even the zero page and one table.
    TooFewFrames,
    /// More frames than frame metadata can number (2^32 - 2).
    TooManyFrames,
}

impl core::fmt::Display for MemoryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooFewFrames => "too few frames of memory",
            Self::TooManyFrames => "too many frames of memory",
        })
    }
}

impl core::error::Error for MemoryError {}
