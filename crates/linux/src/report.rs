//! What a run hands back: exit status and figures, all of them deterministic (no host time in here).

/// The end of a run.
#[derive(Clone, Debug)]
pub struct ExitReport {
    /// How the first program ended.
    pub status: ExitStatus,
    /// Set when every task waited for another one, so that nothing could ever happen again: their
    /// ids and names. All were killed then.
    pub deadlock: Option<String>,
    /// What happened.
    pub stats: Stats,
    /// Output, when [`StdioConfig::Captured`](crate::StdioConfig::Captured); else empty.
    pub stdout: Vec<u8>,
    /// Likewise.
    pub stderr: Vec<u8>,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// `exit(status)`.
    Exited(u8),
    /// By this signal number.
    Killed(u8),
    /// By this signal number, and a core was dumped.
    Dumped(u8),
}

impl Default for ExitStatus {
    /// `exit(0)`.
    fn default() -> Self {
        Self::Exited(0)
    }
}

/// Figures of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Instructions retired, all harts.
    pub instructions: u64,
    /// Context switches between tasks.
    pub context_switches: u64,
    /// Changes of address space that came with them.
    pub spaces: SpaceStats,
    /// Virtual time at the end, in nanoseconds since the start.
    pub virtual_ns: u64,
    /// Page faults by what resolved them.
    pub faults: FaultStats,
    /// Frames of guest RAM.
    pub frames: FrameStats,
    /// Page-table pages (also counted in `frames`).
    pub page_tables: PageTableStats,
    /// Translation.
    pub tlb: TlbStats,
    /// What was done because memory was short.
    pub reclaim: ReclaimStats,
    /// System calls by number, ascending.
    pub syscalls: Vec<SyscallStats>,
    /// Every process at its end, in the order they ended.
    pub processes: Vec<ProcessStats>,
}

/// What harts did about address spaces when they turned to something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpaceStats {
    /// Turned to another address space (Linux `switch_mm`).
    pub switches: u64,
    /// Turned to a kernel thread, or idled, and stayed on the address space before (Linux
    /// `enter_lazy_tlb`).
    pub lazy: u64,
    /// Of these, how often the same address space came next, and nothing had to be switched.
    pub lazy_kept: u64,
    /// Left an address space whose last user had ended meanwhile.
    pub outlived: u64,
}

/// Page faults by cause. `total` is the number of page-fault traps; the causes add up to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultStats {
    /// Page-fault traps.
    pub total: u64,
    /// Anonymous private page written first: a zeroed frame.
    pub demand_zero: u64,
    /// Anonymous private page read first: the zero page mapped.
    pub zero_page: u64,
    /// Private or shared file (and shmem) page read.
    pub file_read: u64,
    /// Private file page written first: copied straight from the page cache.
    pub file_cow: u64,
    /// Shared file (and shmem) page written.
    pub file_write: u64,
    /// Write to a shared frame: copied.
    pub cow_copy: u64,
    /// Write to a frame nobody else has any more: made writable.
    pub cow_reuse: u64,
    /// Brought back from swap.
    pub swap: u64,
    /// Already resolved (another hart, a stale translation, an A/D bit).
    pub spurious: u64,
    /// SIGSEGV, SEGV_MAPERR.
    pub segv_maperr: u64,
    /// SIGSEGV, SEGV_ACCERR.
    pub segv_accerr: u64,
    /// SIGBUS.
    pub bus: u64,
    /// Of the resolved ones: those that needed I/O (Linux maj_flt).
    pub major: u64,
    /// Of the resolved ones: those that grew a stack area first (these are counted above as well).
    pub stack_growth: u64,
}

/// Frames of guest RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameStats {
    /// Frames of RAM the machine has.
    pub total: u64,
    /// In use after the last task ended and the page cache was dropped: 0 unless we leak.
    pub in_use: u64,
    /// The most ever in use.
    pub peak: u64,
    /// Frames in the page cache when the last task ended, before the cache was dropped.
    pub page_cache: u64,
}

/// What was done because memory was short; pages, but for the last five.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReclaimStats {
    /// Name of the policy that chose.
    pub policy: &'static str,
    /// Read from swap.
    pub swapped_in: u64,
    /// Of these, pages read before anybody needed them.
    pub read_ahead: u64,
    /// Of these again, pages that somebody needed then.
    pub read_ahead_used: u64,
    /// Written to swap.
    pub swapped_out: u64,
    /// Looked at.
    pub scanned: u64,
    /// Made free.
    pub evicted: u64,
    /// Came back that the policy remembered.
    pub refaults: u64,
    /// Allocations that reclaimed for themselves.
    pub direct: u64,
    /// Times kswapd ran.
    pub kswapd: u64,
    /// Slots that could not be read.
    pub read_errors: u64,
    /// Slots that could not be written.
    pub write_errors: u64,
    /// Processes killed because nothing could be reclaimed.
    pub oom_kills: u64,
}

/// Frames that hold page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageTableStats {
    /// Now (after the last task: 0).
    pub now: u64,
    /// The most at once.
    pub peak: u64,
}

/// What the TLBs of all harts did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TlbStats {
    /// Translations answered by a TLB (the hart's host-pointer fast path included, if counted; else say so).
    pub hits: u64,
    /// Translations that needed a walk.
    pub misses: u64,
    /// Page-table walks (one a miss) and the table entries they read.
    pub walks: u64,
    /// Table entries the walks read.
    pub walk_steps: u64,
    /// Flushes: whole, by ASID, by range.
    pub flushes: u64,
}

/// One system call number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyscallStats {
    /// Its number.
    pub number: u64,
    /// Linux's name; None: not a riscv64 system call number.
    pub name: Option<&'static str>,
    /// How often it was called.
    pub calls: u64,
    /// Calls that answered an errno.
    pub errors: u64,
    /// Whether Kilburn has it at all (false: answers ENOSYS).
    pub implemented: bool,
}

/// A process as it was at the moment its address space went away (exit; exec starts a new entry's figures over).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessStats {
    /// Process id.
    pub pid: u32,
    /// Process id of the parent at the end.
    pub ppid: u32,
    /// Linux comm.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// In KiB, as smaps_rollup would say just before exit.
    pub rss_kib: u64,
    /// Each page divided by the number of its mappings.
    pub pss_kib: u64,
    /// Pages nobody else maps.
    pub uss_kib: u64,
    /// High-water marks (VmHWM, VmPeak).
    pub peak_rss_kib: u64,
    /// Most address space mapped at once.
    pub peak_vm_kib: u64,
    /// Page-table pages at the end.
    pub page_tables: u64,
    /// Faults resolved without waiting for a store.
    pub minor_faults: u64,
    /// Faults that waited for one.
    pub major_faults: u64,
    /// Instructions retired by all its threads.
    pub instructions: u64,
    /// System calls made by all its threads.
    pub syscalls: u64,
}
