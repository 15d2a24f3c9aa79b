//! What an address space counts: mapped pages by kind, resident pages by type, events.

use crate::Caller;
use crate::fault::FaultKind;
use crate::frames::FrameState;
use crate::percpu::PerCpu;
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
    pub(crate) const ALL: [Self; 3] = [Self::Anon, Self::File, Self::Shmem];

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

/// Number of [`FaultKind`]s.
const FAULT_KINDS: usize = 10;

/// Resident pages that a CPU counts for itself before all hear of them (Linux `percpu_counter_batch`): at
/// least, and for each CPU there is.
const BATCH: (i64, i64) = (32, 2);

/// Resident pages by type, and what happened. What every fault counts is counted for each CPU apart, so that
/// faults of two threads write no common line.
///
/// ```text
///   resident   =   settled   +   the slot of CPU 0   +   the slot of CPU 1 ...   exact once nobody counts
/// ```
pub(crate) struct Counts {
    slots: PerCpu<Slot>,
    /// What slots handed over: each keeps fewer than `batch` pages to itself. Nothing with one CPU.
    settled: [AtomicI64; 3],
    batch: i64,
    /// Entries whose pages are in swap (Linux `MM_SWAPENTS`).
    swapped: AtomicI64,
    /// Most resident pages so far, noted before they become fewer (Linux `hiwater_rss`). With several CPUs
    /// it is off by what these have not handed over, as Linux's is.
    peak: AtomicU64,
    pub(crate) major: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) stack_growths: AtomicU64,
    pub(crate) fault_around: AtomicU64,
}

/// What one CPU counted.
#[derive(Default)]
struct Slot {
    pages: [AtomicI64; 3],
    faults: [AtomicU64; FAULT_KINDS],
}

impl Counts {
    pub(crate) fn new(cpus: usize) -> Self {
        Self {
            slots: PerCpu::new(cpus, Slot::default),
            settled: Default::default(),
            batch: BATCH.0.max(BATCH.1 * cpus as i64),
            swapped: AtomicI64::new(0),
            peak: AtomicU64::new(0),
            major: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stack_growths: AtomicU64::new(0),
            fault_around: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn add(&self, cpu: usize, kind: RssKind, pages: i64) {
        let own = &self.slots.of(cpu).pages[kind as usize];
        let sum = own.fetch_add(pages, Ordering::Relaxed) + pages;
        if sum.abs() >= self.batch && self.slots.len() > 1 {
            self.settled[kind as usize].fetch_add(sum, Ordering::Relaxed);
            own.fetch_sub(sum, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn apply(&self, cpu: usize, delta: RssDelta) {
        if delta.pages.iter().any(|&pages| pages < 0) {
            self.note_peak(cpu);
        }
        for (kind, pages) in RssKind::ALL.into_iter().zip(delta.pages) {
            if pages != 0 {
                self.add(cpu, kind, pages);
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
        let at = kind as usize;
        let own: i64 = self.slots.iter().map(|slot| slot.pages[at].load(Ordering::Relaxed)).sum();
        (self.settled[at].load(Ordering::Relaxed) + own).max(0) as u64
    }

    /// Resident pages of all types (Linux `get_mm_rss`).
    pub(crate) fn total(&self) -> u64 {
        RssKind::ALL.into_iter().map(|kind| self.get(kind)).sum()
    }

    /// Notes how many pages are resident, as `cpu` sees it without asking the others.
    #[inline]
    pub(crate) fn note_peak(&self, cpu: usize) {
        let sum =
            |pages: &[AtomicI64; 3]| pages.iter().map(|p| p.load(Ordering::Relaxed)).sum::<i64>();
        let now = (sum(&self.settled) + sum(&self.slots.of(cpu).pages)).max(0) as u64;
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

    #[inline]
    pub(crate) fn count(&self, cpu: usize, kind: FaultKind) {
        self.slots.of(cpu).faults[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn faults(&self, kind: FaultKind) -> u64 {
        self.slots.iter().map(|slot| slot.faults[kind as usize].load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_counted_on_one_cpu_and_gone_on_another_add_up() {
        let counts = Counts::new(4);
        for page in 0..1000 {
            counts.add(page % 3, RssKind::Anon, 1);
        }
        assert_eq!((counts.get(RssKind::Anon), counts.total()), (1000, 1000));
        counts.apply(3, RssDelta { pages: [-1000, 7, 0] });
        assert_eq!((counts.get(RssKind::Anon), counts.get(RssKind::File)), (0, 7));
        assert!((1000 - 4 * 32..=1000).contains(&counts.peak()), "{}", counts.peak());
    }

    #[test]
    fn one_cpu_knows_the_peak_to_the_page() {
        let counts = Counts::new(1);
        counts.add(0, RssKind::Anon, 1001);
        counts.apply(0, RssDelta { pages: [-1000, 0, 0] });
        assert_eq!((counts.peak(), counts.total()), (1001, 1));
        counts.reset_peak();
        assert_eq!(counts.peak(), 1);
    }
}
