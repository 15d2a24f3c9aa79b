//! Tags for address spaces in the TLB.

use alloc::vec::Vec;
use kilburn_addr::Errno;

/// Hands out ASIDs; 0 belongs to no address space.
#[derive(Default)]
pub(crate) struct AsidPool {
    highest: u16,
    returned: Vec<u16>,
}

impl AsidPool {
    /// An ASID that no living address space has.
    ///
    /// # Errors
    /// `ENOMEM` when all 65535 are taken.
    pub(crate) fn take(&mut self) -> Result<u16, Errno> {
        if let Some(asid) = self.returned.pop() {
            return Ok(asid);
        }
        self.highest = self.highest.checked_add(1).ok_or(Errno::ENOMEM)?;
        Ok(self.highest)
    }

    /// Takes an ASID back; no TLB holds anything under it any more.
    pub(crate) fn give(&mut self, asid: u16) {
        self.returned.push(asid);
    }
}
