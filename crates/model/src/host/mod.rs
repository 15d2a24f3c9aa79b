//! The kernel's side: cases run in forked children of this process, by real system calls.
//!
//! ```text
//!   this process --fork--> zygote: fills its address space outside the window with sealed areas,
//!        |                   |     moves its heap into the window, and waits
//!        |  ring (shared)    +--fork--> process 0 of a case --fork--> process 1 ...
//!        +-------------------+          makes the calls, one process at a time
//! ```
//!
//! - `ring`: the memory shared with the children: steps in, outcomes and maps out.
//! - `child`: what the children do; no allocation, no panics, nothing but system calls.
//! - `fork`: what a fork of this process costs, for `kilburn bench`.
//! - `look`: what they report of their areas and pages after a step.
//! - `page_out`: memory of this process swapped out, for `kilburn bench`.
//! - `probe`: loads and stores that may fault, and the signal handler that survives them.
//! - `sys`: the system calls.
//!
//! Only x86-64 Linux 6.10 or later (mseal) will do; elsewhere [`Oracle::new`] says so.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod child;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod fork;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod look;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod oracle;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "madvise of a slice")]
mod page_out;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "loads and stores that fault, and their signal handler")]
mod probe;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod ring;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "raw system calls")]
mod sys;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use fork::Forked;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use oracle::Oracle;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use page_out::page_out;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod absent;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use absent::{Forked, Oracle, page_out};

/// What is looked at after every step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The outcome and the areas.
    One,
    /// What is known of each page as well: [`crate::Pages`].
    Two,
}

/// Why the kernel cannot be asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OracleError {
    /// Not the kernel or the machine for it.
    #[error("the Linux oracle needs x86-64 Linux 6.10 or later: {0}")]
    Unsupported(String),
    /// The child could not be set up.
    #[error("the oracle's child could not be set up: {what} (errno {errno})")]
    Setup {
        /// What failed.
        what: &'static str,
        /// With which errno.
        errno: i32,
    },
    /// The child died or hung.
    #[error("the oracle's child {what} at step {step}")]
    Lost {
        /// What happened to it.
        what: String,
        /// The step it was at.
        step: usize,
    },
    /// A case has too many steps, or a step that could tear the child down.
    #[error("the case cannot be run: {0}")]
    Case(String),
}
