//! The seam to where a file's content is kept.

use kilburn_addr::Errno;

/// Keeps the content of one file, by pages of 4096 bytes.
pub trait BackingStore: Send + Sync {
    /// Reads page `index`; bytes past the end of the file are zeros.
    ///
    /// # Errors
    /// `EIO` and the like; `into` is not used then.
    fn read_page(&self, index: u64, into: &mut [u8; 4096]) -> Result<(), Errno>;

    /// Writes page `index`. `from` is shorter than a page at the end of the file.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC` and the like; the page stays dirty.
    fn write_page(&self, index: u64, from: &[u8]) -> Result<(), Errno>;

    /// Sets the file's size.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC` and the like.
    fn set_size(&self, size: u64) -> Result<(), Errno>;

    /// Returns once what was written is durable.
    ///
    /// # Errors
    /// `EIO` and the like.
    fn sync(&self) -> Result<(), Errno>;

    /// Time that transfers took since this was last asked, in nanoseconds of the machine's time
    /// ([`crate::Memory::take_io_wait`]).
    fn take_wait_ns(&self) -> u64 {
        0
    }
}
