//! Page faults: what an access that the tables refuse leads to (Linux 6.18 mm/memory.c).

use crate::{Caller, Host, Mm};
use kilburn_addr::{Access, VirtAddr};

/// A fault that was resolved; the access can be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultDone {
    /// What resolved it.
    pub kind: FaultKind,
    /// Whether it had to wait for a store (Linux `maj_flt`).
    pub major: bool,
}

/// What resolved a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultKind {
    /// A zeroed frame for anonymous memory.
    DemandZero,
    /// The shared zero page, for a read of anonymous memory.
    ZeroPage,
    /// A page of the page cache, read-only.
    FileRead,
    /// A private copy of a page of the page cache, made by the first write.
    FileCow,
    /// A page of the page cache, writable and shared.
    FileShared,
    /// A private copy of a page shared since fork, or of the zero page.
    CowCopy,
    /// The page was shared since fork and is the last one's: made writable where it is.
    CowReuse,
    /// A page supplied by a device.
    Device,
    /// Brought back from swap.
    Swap,
    /// The tables permitted the access by now.
    Spurious,
}

/// An access that cannot be resolved; it becomes a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// `SIGSEGV`
    Segv(SegvCode),
    /// `SIGBUS` with `BUS_ADRERR`: past the end of the file, or its store failed.
    Bus,
    /// No memory: the machine's out-of-memory handling decides.
    Oom,
}

/// `si_code` of a `SIGSEGV`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegvCode {
    /// `SEGV_MAPERR`: no area there.
    MapErr,
    /// `SEGV_ACCERR`: the area does not permit the access.
    AccErr,
}

impl<H: Host> Mm<H> {
    /// Resolves a fault of `access` at `addr` (Linux `handle_mm_fault`, with the architecture's
    /// checks before it).
    ///
    /// # Errors
    /// [`Fault`], when the access is not legal or there is nothing to give.
    pub fn handle_fault(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Fault> {
        let _ = (caller, addr, access);
        Err(Fault::Oom)
    }
}
