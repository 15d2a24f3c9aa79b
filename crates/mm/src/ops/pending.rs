//! Calls that are declared and not built yet; each moves to a file of its own.

use crate::{Host, Mm};
use kilburn_addr::{Errno, VirtAddr};

impl<H: Host> Mm<H> {
    /// Seals mappings against change.
    ///
    /// # Errors
    /// As mseal(2).
    pub fn mseal(&self, addr: VirtAddr, len: u64, flags: u64) -> Result<(), Errno> {
        let _ = (addr, len, flags);
        Err(Errno::ENOSYS)
    }
}
