//! What an address space counts: mapped pages by kind, resident pages by type, events.

use crate::Caller;
use crate::fault::FaultKind;
use crate::frames::FrameState;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use kilburn_addr::{PAGE_SHIFT, VmFlags};

/// Mapped pages by kind (Linux `total_vm`, `locked_vm`, `data_vm`, `exec_vm`, `stack_vm`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct VmPages {
    pub(crate) total: u64,
    pub(crate) locked: u64,
    /// Of these, pages of no locked area: mremap with `MREMAP_DONTUNMAP` leaves them counted.
    pub(crate) locked_for_good: u64,
    pub(crate) data: u64,
    pub(crate) exec: u64,
    pub(crate) stack: u64,
    /// Highest `total` so far (Linux `hiwater_vm`).
    pub(crate) peak: u64,
}

/// Whether pages of such an area count as data (Linux `is_data_mapping`): private, writable, no
/// stack.
pub(crate) fn is_data(flags: VmFlags) -> bool {
    flags & (VmFlags::WRITE | VmFlags::SHARED | VmFlags::GROWSDOWN) == VmFlags::WRITE
}

/// Whether pages of such an area count as code (Linux `is_exec_mapping`).
fn is_exec(flags: VmFlags) -> bool {
    flags & (VmFlags::EXEC | VmFlags::WRITE | VmFlags::GROWSDOWN) == VmFlags::EXEC
}

/// Whether a mapping is charged against the commit limit (Linux `accountable_mapping`).
pub(crate) fn is_accountable(flags: VmFlags) -> bool {
    flags & (VmFlags::NORESERVE | VmFlags::SHARED | VmFlags::WRITE) == VmFlags::WRITE
}

impl VmPages {
    /// `pages` more in an area with `flags` (Linux `vm_stat_account`).
    pub(crate) fn add(&mut self, flags: VmFlags, pages: u64) {
        self.each(flags, |count| *count += pages);
        self.peak = self.peak.max(self.total);
    }

    /// `pages` fewer in an area with `flags`.
    pub(crate) fn remove(&mut self, flags: VmFlags, pages: u64) {
        self.each(flags, |count| *count -= pages);
    }

    /// Whether `pages` more in an area with `flags` stay within `RLIMIT_AS` and `RLIMIT_DATA`
    /// (Linux 6.18 mm/vma.c: `may_expand_vm`).
    pub(crate) fn may_expand(&self, caller: &Caller, flags: VmFlags, pages: u64) -> bool {
        let limits = &caller.rlimits;
        // A soft limit of 0 bytes is what debuggers set to catch brk; mappings are let through.
        let data = if limits.data == 0 { limits.data_max } else { limits.data };
        self.total + pages <= limits.address_space >> PAGE_SHIFT
            && (!is_data(flags) || self.data + pages <= data >> PAGE_SHIFT)
    }

    /// Whether `bytes` more in an area with `flags` stay within `RLIMIT_MEMLOCK`
    /// (Linux 6.18 mm/mmap.c: `mlock_future_ok`).
    pub(crate) fn may_lock(&self, caller: &Caller, flags: VmFlags, bytes: u64) -> bool {
        !flags.contains(VmFlags::LOCKED)
            || caller.can_lock
            || (bytes >> PAGE_SHIFT) + self.locked <= caller.rlimits.memlock >> PAGE_SHIFT
    }

    fn each(&mut self, flags: VmFlags, mut change: impl FnMut(&mut u64)) {
        change(&mut self.total);
        if flags.contains(VmFlags::LOCKED) {
            change(&mut self.locked);
        }
        if is_exec(flags) {
            change(&mut self.exec);
        } else if flags.contains(VmFlags::GROWSDOWN) {
            change(&mut self.stack);
        } else if is_data(flags) {
            change(&mut self.data);
        }
    }
}

/// A type of resident page (Linux `MM_FILEPAGES` and so on).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RssKind {
    Anon,
    File,
    Shmem,
}

impl RssKind {
    /// How a page in such a frame counts (Linux `mm_counter`).
    #[inline]
    pub(crate) fn of(state: FrameState) -> Self {
        match state {
            FrameState::Anon => Self::Anon,
            FrameState::Shmem => Self::Shmem,
            _ => Self::File,
        }
    }
}

/// Changes of resident pages, gathered before they are applied.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct RssDelta {
    pub(crate) pages: [i64; 3],
}

impl RssDelta {
    #[inline]
    pub(crate) fn add(&mut self, kind: RssKind, pages: i64) {
        self.pages[kind as usize] += pages;
    }
}

/// Resident pages by type.
#[derive(Default)]
pub(crate) struct Rss {
    pages: [AtomicI64; 3],
    /// Entries whose pages are in swap (Linux `MM_SWAPENTS`).
    swapped: AtomicI64,
    /// Most resident pages so far, noted before they become fewer (Linux `hiwater_rss`).
    peak: AtomicU64,
}

impl Rss {
    #[inline]
    pub(crate) fn add(&self, kind: RssKind, pages: i64) {
        self.pages[kind as usize].fetch_add(pages, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn apply(&self, delta: RssDelta) {
        if delta.pages.iter().any(|&pages| pages < 0) {
            self.note_peak();
        }
        for (count, pages) in self.pages.iter().zip(delta.pages) {
            if pages != 0 {
                count.fetch_add(pages, Ordering::Relaxed);
            }
        }
    }

    /// More entries have their pages in swap.
    #[inline]
    pub(crate) fn swapped_out(&self, pages: i64) {
        self.swapped.fetch_add(pages, Ordering::Relaxed);
    }

    /// Fewer entries have their pages in swap.
    #[inline]
    pub(crate) fn swapped_in(&self, pages: i64) {
        self.swapped.fetch_sub(pages, Ordering::Relaxed);
    }

    /// Entries whose pages are in swap.
    pub(crate) fn swapped(&self) -> u64 {
        self.swapped.load(Ordering::Relaxed).max(0) as u64
    }

    pub(crate) fn get(&self, kind: RssKind) -> u64 {
        self.pages[kind as usize].load(Ordering::Relaxed).max(0) as u64
    }

    /// Resident pages of all types (Linux `get_mm_rss`).
    pub(crate) fn total(&self) -> u64 {
        [RssKind::Anon, RssKind::File, RssKind::Shmem].into_iter().map(|kind| self.get(kind)).sum()
    }

    pub(crate) fn note_peak(&self) {
        let now = self.total();
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// The peak is what is resident now (Linux `reset_mm_hiwater_rss`).
    pub(crate) fn reset_peak(&self) {
        self.peak.store(self.total(), Ordering::Relaxed);
    }

    /// Most resident pages so far (Linux `get_mm_hiwater_rss`).
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed).max(self.total())
    }
}

/// Number of [`FaultKind`]s.
const FAULT_KINDS: usize = 10;

/// Counts of what happened.
#[derive(Default)]
pub(crate) struct Events {
    faults: [AtomicU64; FAULT_KINDS],
    pub(crate) major: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) stack_growths: AtomicU64,
    pub(crate) fault_around: AtomicU64,
}

impl Events {
    #[inline]
    pub(crate) fn count(&self, kind: FaultKind) {
        self.faults[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize].load(Ordering::Relaxed)
    }
}
