//! Seals: promises about what will never happen to a file in memory again.
//!
//! [`Seals`] sits in the inode; writing, truncating and mapping ask it. Source: Linux 6.18
//! mm/memfd.c, include/uapi/linux/fcntl.h.

use kilburn_addr::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

/// No further seals.
pub(crate) const F_SEAL_SEAL: u32 = 0x01;
/// The file does not shrink.
pub(crate) const F_SEAL_SHRINK: u32 = 0x02;
/// The file does not grow.
pub(crate) const F_SEAL_GROW: u32 = 0x04;
/// Nothing is written.
pub(crate) const F_SEAL_WRITE: u32 = 0x08;
/// Nothing is written but through mappings that are there already.
pub(crate) const F_SEAL_FUTURE_WRITE: u32 = 0x10;
/// The execute bits stay.
pub(crate) const F_SEAL_EXEC: u32 = 0x20;
const ALL: u32 = 0x3f;

/// The seals of one inode.
#[derive(Debug)]
pub(crate) struct Seals(AtomicU32);

impl Seals {
    /// Starts with these.
    pub(crate) const fn new(seals: u32) -> Self {
        Self(AtomicU32::new(seals))
    }

    /// The seals set so far.
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces all seals; for an inode just made.
    pub(crate) fn reset(&self, seals: u32) {
        self.0.store(seals, Ordering::Relaxed);
    }

    /// Adds seals.
    ///
    /// # Errors
    /// EINVAL for unknown ones; EPERM once sealed against it.
    pub(crate) fn add(&self, seals: u32) -> Result<(), Errno> {
        if seals & !ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if self.get() & F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        self.0.fetch_or(seals, Ordering::Relaxed);
        Ok(())
    }

    /// Whether bytes may be written.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_write(&self) -> Result<(), Errno> {
        self.check(F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
    }

    /// Whether the size may go from `old` to `new`.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_resize(&self, old: u64, new: u64) -> Result<(), Errno> {
        match new.cmp(&old) {
            std::cmp::Ordering::Less => self.check(F_SEAL_SHRINK),
            std::cmp::Ordering::Greater => self.check(F_SEAL_GROW),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    fn check(&self, seals: u32) -> Result<(), Errno> {
        if self.get() & seals != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_refuses_what_was_promised_and_further_seals() {
        let seals = Seals::new(0);
        seals.add(F_SEAL_GROW | F_SEAL_WRITE).unwrap();
        assert_eq!(seals.check_resize(10, 11), Err(Errno::EPERM));
        assert_eq!(seals.check_resize(10, 9), Ok(()));
        assert_eq!(seals.check_write(), Err(Errno::EPERM));
        seals.add(F_SEAL_SEAL).unwrap();
        assert_eq!(seals.add(F_SEAL_SHRINK), Err(Errno::EPERM));
    }
}
