//! What happened in an address space: faults by cause, copies, tables.

use crate::fault::FaultKind;
use crate::{Host, Mm};
use core::sync::atomic::{AtomicU64, Ordering};

/// Counts over the life of one address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MmStats {
    /// Zeroed frames for anonymous memory.
    pub demand_zero: u64,
    /// Reads answered with the shared zero page.
    pub zero_page: u64,
    /// Pages of the page cache mapped read-only by a fault.
    pub file_read: u64,
    /// Private copies of pages of the page cache.
    pub file_cow: u64,
    /// Pages of the page cache mapped writable.
    pub file_shared: u64,
    /// Private copies of pages shared since fork, or of the zero page.
    pub cow_copy: u64,
    /// Pages kept by the last of their sharers.
    pub cow_reuse: u64,
    /// Pages of devices.
    pub device: u64,
    /// Pages brought back from swap.
    pub swap: u64,
    /// Faults that found the access permitted.
    pub spurious: u64,
    /// Faults that became a signal.
    pub refused: u64,
    /// Times a growing stack was extended.
    pub stack_growths: u64,
    /// Faults that waited for a store.
    pub major: u64,
    /// File pages mapped around a faulting one.
    pub fault_around: u64,
    /// Frames of page tables now, in pages.
    pub table_pages: u64,
    /// Most frames of page tables at once.
    pub table_pages_peak: u64,
    /// Most pages resident at once.
    pub hiwater_rss: u64,
    /// Most pages mapped at once.
    pub hiwater_vm: u64,
    /// Parts of the address space that had a lock of their own for a while, as threads contended
    /// ([`crate::config::Leasing`]).
    pub leases: u64,
}

impl MmStats {
    /// Faults that were resolved, by whomever caused (Linux `min_flt + maj_flt`).
    pub fn faults(&self) -> u64 {
        self.demand_zero
            + self.zero_page
            + self.file_read
            + self.file_cow
            + self.file_shared
            + self.cow_copy
            + self.cow_reuse
            + self.device
            + self.swap
            + self.spurious
    }

    /// Faults that waited for nothing (Linux `min_flt`).
    pub fn minor(&self) -> u64 {
        self.faults() - self.major
    }
}

impl<H: Host> Mm<H> {
    /// Counts since the address space was made.
    pub fn stats(&self) -> MmStats {
        let faults = |kind| self.counts.faults(kind);
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        MmStats {
            demand_zero: faults(FaultKind::DemandZero),
            zero_page: faults(FaultKind::ZeroPage),
            file_read: faults(FaultKind::FileRead),
            file_cow: faults(FaultKind::FileCow),
            file_shared: faults(FaultKind::FileShared),
            cow_copy: faults(FaultKind::CowCopy),
            cow_reuse: faults(FaultKind::CowReuse),
            device: faults(FaultKind::Device),
            swap: faults(FaultKind::Swap),
            spurious: faults(FaultKind::Spurious),
            refused: get(&self.counts.refused),
            stack_growths: get(&self.counts.stack_growths),
            major: get(&self.counts.major),
            fault_around: get(&self.counts.fault_around),
            table_pages: self.table_counts.all(),
            table_pages_peak: self.table_counts.peak(),
            hiwater_rss: self.counts.peak(),
            hiwater_vm: self.mmap_read_lock().vm.peak,
            leases: get(&self.leases.ever),
        }
    }
}
