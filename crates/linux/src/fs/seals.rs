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

/// Whether a shared mapping of the file is or may become writable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shared {
    /// No mapping writes.
    ReadOnly,
    /// One does or may.
    Writably,
}

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

    /// Adds seals to a file that is `shared` writably or not, of permission bits `mode`
    /// (`memfd_add_seals`).
    ///
    /// # Errors
    /// EINVAL for unknown ones; EPERM once sealed against it; EBUSY when writes shall be sealed
    /// while a mapping may write.
    pub(crate) fn add(&self, mut seals: u32, shared: Shared, mode: u32) -> Result<(), Errno> {
        if seals & !ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if self.get() & F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if seals & !self.get() & F_SEAL_WRITE != 0 && shared == Shared::Writably {
            return Err(Errno::EBUSY);
        }
        // What may be executed is sealed whole: write or execute, never both.
        if seals & F_SEAL_EXEC != 0 && mode & 0o111 != 0 {
            seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
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

    /// Whether the permission bits may go from `old` to `new` (mm/shmem.c: `shmem_setattr`).
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_mode(&self, old: u32, new: u32) -> Result<(), Errno> {
        if (old ^ new) & 0o111 != 0 { self.check(F_SEAL_EXEC) } else { Ok(()) }
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
        seals.add(F_SEAL_GROW | F_SEAL_WRITE, Shared::ReadOnly, 0o600).unwrap();
        assert_eq!(seals.check_resize(10, 11), Err(Errno::EPERM));
        assert_eq!(seals.check_resize(10, 9), Ok(()));
        assert_eq!(seals.check_write(), Err(Errno::EPERM));
        seals.add(F_SEAL_SEAL, Shared::ReadOnly, 0o600).unwrap();
        assert_eq!(seals.add(F_SEAL_SHRINK, Shared::ReadOnly, 0o600), Err(Errno::EPERM));
    }

    #[test]
    fn writes_are_not_sealed_under_a_mapping_that_writes() {
        let seals = Seals::new(0);
        assert_eq!(seals.add(F_SEAL_WRITE, Shared::Writably, 0o600), Err(Errno::EBUSY));
        seals.add(F_SEAL_FUTURE_WRITE, Shared::Writably, 0o600).unwrap();
        seals.add(F_SEAL_WRITE, Shared::ReadOnly, 0o600).unwrap();
        seals.add(F_SEAL_WRITE, Shared::Writably, 0o600).unwrap();
    }

    #[test]
    fn sealing_execution_keeps_the_bits_and_seals_what_can_run() {
        let data = Seals::new(0);
        data.add(F_SEAL_EXEC, Shared::ReadOnly, 0o644).unwrap();
        assert_eq!(data.get(), F_SEAL_EXEC);
        assert_eq!(data.check_mode(0o644, 0o755), Err(Errno::EPERM));
        assert_eq!(data.check_mode(0o644, 0o600), Ok(()));
        let program = Seals::new(0);
        program.add(F_SEAL_EXEC, Shared::Writably, 0o755).unwrap();
        assert_eq!(program.get(), ALL & !F_SEAL_SEAL);
    }
}
