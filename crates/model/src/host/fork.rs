//! What fork(2) of this very process costs: the kernel's side of a comparison.

use super::sys;
use std::io;

/// A child that ended at once and waits to be forgotten.
pub struct Forked(());

impl Forked {
    /// Forks this process, as it is now; the child ends without having done anything.
    ///
    /// # Errors
    /// Those of fork(2).
    pub fn now() -> io::Result<Self> {
        match sys::fork() {
            0 => sys::exit(0),
            failed @ i64::MIN..0 => Err(io::Error::from_raw_os_error(-failed as i32)),
            _ => Ok(Self(())),
        }
    }

    /// Waits until it is gone.
    pub fn wait(self) {
        sys::wait_any();
    }
}
