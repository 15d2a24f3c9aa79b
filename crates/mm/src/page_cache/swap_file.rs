//! Files that swap lies in (Linux `S_SWAPFILE`).
//!
//! Swap reaches such a file past its page cache, so nobody else may change what it holds:
//!
//! ```text
//!   write, truncate to less, mmap shared and writable    ETXTBSY
//!   a store to a page that was mapped so before          SIGBUS
//!   read, mmap, growing                                  as ever
//! ```
//!
//! What the cache holds of the file is what was there before; reading shows pages of swap once the
//! cache has let go of them. Neighbours: [`crate::Memory::swap_on`] takes the area.

use super::AddressSpace;
use crate::Host;
use core::sync::atomic::Ordering;
use kilburn_addr::Errno;

impl<H: Host> AddressSpace<H> {
    /// Nobody but swap writes to the file from now on. What is dirty goes to the store first (Linux
    /// 6.18 mm/swapfile.c: swapon, `inode_drain_writes`).
    ///
    /// # Errors
    /// `EBUSY` when it is so already; the store's, and nothing has changed then.
    pub fn begin_swap_file(&self) -> Result<(), Errno> {
        if self.swap_file.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        // Whoever looked before has written when this is held.
        drop(self.invalidate.write());
        self.write_back(0..u64::MAX).inspect_err(|_| self.end_swap_file())
    }

    /// Swap does not lie in the file any more.
    pub fn end_swap_file(&self) {
        self.swap_file.store(false, Ordering::Release);
    }

    /// Whether swap lies in the file (Linux `IS_SWAPFILE`).
    #[inline]
    pub fn is_swap_file(&self) -> bool {
        self.swap_file.load(Ordering::Acquire)
    }

    /// Whether the file's content may be changed.
    ///
    /// # Errors
    /// `ETXTBSY` while swap lies in it.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        if self.is_swap_file() { Err(Errno::ETXTBSY) } else { Ok(()) }
    }
}
