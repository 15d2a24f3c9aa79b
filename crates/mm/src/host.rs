//! The seam to whoever embeds the memory manager: frames, format, locks, TLB flushes, randomness.
//!
//! [`Host`] is implemented once per machine. Everything else in the crate is generic over it, so a
//! simulator, a trace replayer and a kernel each bring their own memory and locks. Neighbours:
//! [`crate::Memory`] owns the host; every [`crate::Mm`] reaches it through there.

use crate::memcg::MemcgId;
use kilburn_addr::{AddrRange, VirtAddr};
use kilburn_paging::{Format, Leaf, PhysMem};

/// What an embedder supplies.
pub trait Host: Send + Sync + Sized + 'static {
    /// The machine's frames.
    type Mem: PhysMem + Send + Sync;
    /// The page-table format of the machine.
    type Format: Format;
    /// A mutual-exclusion lock.
    type RawMutex: lock_api::RawMutex + Send + Sync + 'static;
    /// A read-write lock.
    type RawRwLock: lock_api::RawRwLock + Send + Sync + 'static;

    /// The machine's frames.
    fn mem(&self) -> &Self::Mem;

    /// The page-table format of the machine.
    fn format(&self) -> Self::Format;

    /// Makes every TLB of the machine forget what `flush` names, before it returns.
    fn flush_tlb(&self, flush: &TlbFlush);

    /// Announces that the tables of `asid` now hold `leaf` for the page at `va`, after a fault.
    ///
    /// A host whose hardware table is derived state fills it from here; the default does nothing,
    /// because hardware walks the tables itself.
    fn pte_set(&self, asid: u16, va: VirtAddr, leaf: Leaf) {
        let _ = (asid, va, leaf);
    }

    /// The group of who runs now on this thread (Linux `current`'s): pages of files that come to be,
    /// and new address spaces, are charged to it. The default knows no groups.
    fn current_memcg(&self) -> MemcgId {
        MemcgId::ROOT
    }

    /// Number of the CPU, or host thread, that the caller runs on. Every answer is right: only how fast
    /// several CPUs work at once depends on it, as each uses frames, counters and lists of its own.
    #[inline]
    fn cpu(&self) -> usize {
        0
    }

    /// How many CPUs [`cpu`](Self::cpu) tells apart. Asked once, when the memory is made.
    fn cpus(&self) -> usize {
        1
    }

    /// A random number for address-space layout, from the host's seeded generator.
    fn random_u64(&self) -> u64;
}

/// A TLB flush: which address space, which part of it, and what made it necessary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbFlush {
    /// The address space whose translations go.
    pub asid: u16,
    /// The pages whose translations go.
    pub what: FlushScope,
    /// The cause, for accounting.
    pub reason: FlushReason,
}

/// How much of an address space a [`TlbFlush`] covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushScope {
    /// Every page.
    All,
    /// The pages of this range.
    Range(AddrRange),
}

/// Why translations are flushed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FlushReason {
    /// Pages were unmapped: munmap, brk, MAP_FIXED, MADV_DONTNEED.
    Unmap,
    /// Rights were taken away by mprotect.
    Protect,
    /// A write fault gave the page another frame.
    Cow,
    /// fork write-protected the parent.
    Fork,
    /// mremap moved pages.
    Move,
    /// The file was truncated or a hole punched.
    Truncate,
    /// Pages were cleaned for write-back, or accessed and dirty bits were read and cleared.
    Clean,
    /// Pages were taken away to free memory.
    Reclaim,
    /// The address space ends, at exit or exec; its ASID may be used again.
    Exit,
}
