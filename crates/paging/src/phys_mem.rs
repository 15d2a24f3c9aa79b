//! The seam to physical memory: frames that hold tables and data.

use kilburn_addr::{Pfn, PhysAddr};

/// Physical memory, shared by the memory manager and the translation hardware.
///
/// All methods take `&self`: memory is shared and changed from several places, as real memory is.
/// An address outside the memory is a bug of the caller, never a guest's doing, and panics.
pub trait PhysMem {
    /// Reads the aligned 64-bit word at `at`, atomically.
    fn load(&self, at: PhysAddr) -> u64;

    /// Writes the aligned 64-bit word at `at`, atomically.
    fn store(&self, at: PhysAddr, value: u64);

    /// Replaces the word at `at` when it is `current`; otherwise returns what is there.
    ///
    /// # Errors
    /// The word found, when it is not `current`.
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64>;

    /// Copies bytes out of memory; may cross frames that are physically adjacent.
    fn read(&self, at: PhysAddr, into: &mut [u8]);

    /// Copies bytes into memory; may cross frames that are physically adjacent.
    fn write(&self, at: PhysAddr, from: &[u8]);

    /// Fills a frame with zeros.
    fn zero(&self, frame: Pfn);

    /// Copies all of frame `from` over frame `to`.
    fn copy(&self, from: Pfn, to: Pfn);
}
