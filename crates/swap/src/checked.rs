//! A checksum for every slot: what a store spoiled is an error, not wrong bytes.

use crate::PAGE;
use kilburn_addr::Errno;
use kilburn_mm::SwapArea;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// An area whose content is compared with a checksum, kept in memory, when it is read.
pub struct Checked<A> {
    area: A,
    sums: Vec<AtomicU64>,
}

impl<A: SwapArea> Checked<A> {
    /// Checks `area`, of which nothing has been written yet.
    pub fn new(area: A) -> Self {
        let sums = (0..area.slots()).map(|_| AtomicU64::new(0)).collect();
        Self { area, sums }
    }
}

impl<A: SwapArea> SwapArea for Checked<A> {
    fn slots(&self) -> u32 {
        self.area.slots()
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        self.area.read(slot, into)?;
        let expected = self.sums[slot as usize].load(Ordering::Relaxed);
        if xxh3_64(into) == expected { Ok(()) } else { Err(Errno::EIO) }
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        self.area.write(slot, from)?;
        self.sums[slot as usize].store(xxh3_64(from), Ordering::Relaxed);
        Ok(())
    }

    fn discard(&self, slot: u32) {
        self.area.discard(slot);
    }

    fn is_synchronous(&self) -> bool {
        self.area.is_synchronous()
    }

    fn take_wait_ns(&self) -> u64 {
        self.area.take_wait_ns()
    }

    fn kind(&self) -> &'static str {
        self.area.kind()
    }
}
