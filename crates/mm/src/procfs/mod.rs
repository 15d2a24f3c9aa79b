//! The text and figures of /proc/PID that come from an address space.

use crate::{Host, Mm};
use core::fmt;

/// The fields of /proc/PID/statm, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statm {
    /// Mapped pages.
    pub size: u64,
    /// Pages in memory.
    pub resident: u64,
    /// Pages in memory that come from files or shared memory.
    pub shared: u64,
    /// Pages of the program's code.
    pub text: u64,
    /// Pages of data and stack.
    pub data: u64,
}

/// The `Vm*` and `Rss*` lines of /proc/PID/status, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "named as the lines are")]
pub struct MmStatus {
    pub vm_peak: u64,
    pub vm_size: u64,
    pub vm_lck: u64,
    pub vm_pin: u64,
    pub vm_hwm: u64,
    pub vm_rss: u64,
    pub rss_anon: u64,
    pub rss_file: u64,
    pub rss_shmem: u64,
    pub vm_data: u64,
    pub vm_stk: u64,
    pub vm_exe: u64,
    pub vm_lib: u64,
    pub vm_pte: u64,
    pub vm_swap: u64,
}

/// Memory in use by one address space, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Pages mapped.
    pub rss: u64,
    /// Pages mapped, each divided by the number of its mappings.
    pub pss: u64,
    /// Pages nobody else maps.
    pub uss: u64,
}

impl<H: Host> Mm<H> {
    /// Writes /proc/PID/maps.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_maps(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let _ = out;
        Ok(())
    }

    /// Writes /proc/PID/smaps.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_smaps(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let _ = out;
        Ok(())
    }

    /// Writes /proc/PID/smaps_rollup.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write_smaps_rollup(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let _ = out;
        Ok(())
    }

    /// The fields of /proc/PID/statm.
    pub fn statm(&self) -> Statm {
        Statm::default()
    }

    /// The memory lines of /proc/PID/status.
    pub fn status(&self) -> MmStatus {
        MmStatus::default()
    }

    /// RSS, PSS and USS, from a walk over the tables.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}
