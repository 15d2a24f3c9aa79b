//! What a hart has done, counted.

use kilburn_mmu::MmuStats;

/// Counts since the hart was made.
///
/// Each load, store and atomic (an access across two pages: two), and each block of instructions
/// entered, is one *lookup* of a translation. It is answered by the hart's host-pointer cache, by
/// the TLB ([`MmuStats::hits`]) or by a walk ([`MmuStats::walks`]). So TLB hits in the sense of "no
/// walk needed" are `lookups() - mmu.walks`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HartStats {
    /// Instructions retired.
    pub instructions: u64,
    /// Loads, `lr` and atomics included.
    pub loads: u64,
    /// Stores, `sc` and atomics included.
    pub stores: u64,
    /// Blocks entered: each fetches through one translation.
    pub fetches: u64,
    /// Requests that reached the TLB, and what became of them.
    pub mmu: MmuStats,
    /// Blocks predecoded.
    pub blocks_decoded: u64,
    /// Instructions in them.
    pub instructions_decoded: u64,
    /// Frames whose blocks were dropped, because somebody wrote to the frame.
    pub frames_invalidated: u64,
}

impl HartStats {
    /// Translations asked for.
    pub fn lookups(&self) -> u64 {
        self.loads + self.stores + self.fetches
    }

    /// Translations that needed no walk.
    pub fn tlb_hits(&self) -> u64 {
        self.lookups().saturating_sub(self.mmu.walks)
    }

    /// Translations that walked the tables.
    pub fn tlb_misses(&self) -> u64 {
        self.mmu.walks
    }
}
