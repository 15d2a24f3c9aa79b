//! Page faults: what an access that the tables refuse leads to (Linux 6.18 mm/memory.c).
//!
//! ```text
//!   handle_fault
//!     find the area  -- none, and no stack to grow --> SEGV_MAPERR
//!     its rights     -- not permitted -------------> SEGV_ACCERR
//!     the entry is
//!       empty, anonymous area   anon.rs   zero page (read) or a zeroed frame (write)
//!       empty, file             file.rs   page cache: as it is, copied, or shared
//!       there, not writable     cow.rs    copy, or keep what nobody else has
//!       there                             somebody else was faster: spurious
//! ```
//!
//! `mmap_lock` is held shared throughout. Frames are allocated and filled before the tables are
//! locked; then the entry must still be what it was, or the fault is over and tried again by the
//! access itself.

mod anon;
mod around;
mod cow;
mod file;
mod stack;

use crate::areas::Vma;
use crate::memory::NoFrame;
use crate::mm::State;
use crate::pte::Marker;
use crate::{Caller, Host, Mm};
use core::sync::atomic::Ordering;
use kilburn_addr::{Access, Errno, PhysAddr, VirtAddr};
use kilburn_paging::tables::NoTable;
use kilburn_paging::{Entry, Leaf, LeafFlags};

/// A fault that was resolved; the access can be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultDone {
    /// What resolved it.
    pub kind: FaultKind,
    /// Whether it had to wait for a store (Linux `maj_flt`).
    pub major: bool,
}

impl FaultDone {
    fn minor(kind: FaultKind) -> Self {
        Self { kind, major: false }
    }
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

impl From<NoFrame> for Fault {
    fn from(_: NoFrame) -> Self {
        Self::Oom
    }
}

impl From<NoTable> for Fault {
    fn from(_: NoTable) -> Self {
        Self::Oom
    }
}

impl Fault {
    /// The fault that an error of a page cache becomes (Linux `vmf_error`).
    fn from_errno(errno: Errno) -> Self {
        if errno == Errno::ENOMEM { Self::Oom } else { Self::Bus }
    }
}

/// Where a fault happened, and for what.
struct Site<'a, H: Host> {
    state: &'a State<H>,
    vma: &'a Vma<H>,
    /// The page's first address.
    va: VirtAddr,
    access: Access,
}

impl<H: Host> Site<'_, H> {
    fn is_write(&self) -> bool {
        self.access == Access::Write
    }

    /// Page offset in what is mapped.
    fn index(&self) -> u64 {
        self.vma.page_index(self.va)
    }
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
        self.find_and_fault(caller, addr, access).inspect_err(|_| {
            self.events.refused.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn find_and_fault(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Fault> {
        if !self.in_task(addr, 1) {
            return Err(Fault::Segv(SegvCode::MapErr));
        }
        let mut state = self.state.read();
        let vma = match state.areas.find(addr) {
            Some(vma) if vma.start() <= addr => vma,
            Some(vma) if Self::may_grow(vma) => {
                drop(state);
                self.expand_stack(caller, addr)?;
                state = self.state.read();
                state.areas.containing(addr).ok_or(Fault::Segv(SegvCode::MapErr))?
            }
            _ => return Err(Fault::Segv(SegvCode::MapErr)),
        };
        if !vma.flags.permits(access) {
            return Err(Fault::Segv(SegvCode::AccErr));
        }
        self.fault_in(&state, vma, addr, access)
    }

    /// Resolves a fault that the area permits, or that a caller with other rights insists on, and
    /// counts it (Linux `mm_account_fault`: whoever causes it, the kernel included).
    pub(crate) fn fault_in(
        &self,
        state: &State<H>,
        vma: &Vma<H>,
        addr: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Fault> {
        let done = self.resolve(state, vma, addr, access)?;
        self.events.count(done.kind);
        if done.major {
            self.events.major.fetch_add(1, Ordering::Relaxed);
        }
        Ok(done)
    }

    fn resolve(
        &self,
        state: &State<H>,
        vma: &Vma<H>,
        addr: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Fault> {
        let site = Site { state, vma, va: addr.page_down(), access };
        let guard = self.lock_tables();
        let at = guard.tables.entry_at(site.va);
        let entry = at.map_or(Entry::None, |at| guard.entry(at));
        match (entry, at) {
            (Entry::Leaf(leaf), Some(at)) => {
                if site.is_write() && !leaf.flags.contains(LeafFlags::WRITE) {
                    drop(guard);
                    self.write_protected(&site, leaf)
                } else {
                    self.note_use(&guard, &site, at);
                    Ok(FaultDone::minor(FaultKind::Spurious))
                }
            }
            (Entry::Software(payload), _) => {
                let marker = Marker::from_payload(payload);
                debug_assert_eq!(marker, Some(Marker::Guard), "no other payload is written");
                Err(Fault::Segv(SegvCode::MapErr))
            }
            _ => {
                drop(guard);
                if vma.is_anonymous() { self.anon_fault(&site) } else { self.file_fault(&site) }
            }
        }
    }

    /// The tables permit the access: it is noted as hardware would, so that it goes on.
    fn note_use(&self, guard: &crate::mm::TableGuard<'_, H>, site: &Site<'_, H>, at: PhysAddr) {
        let mut used = LeafFlags::ACCESSED;
        if site.is_write() {
            used |= LeafFlags::DIRTY;
        }
        guard.update(at, |leaf| Leaf { flags: leaf.flags | used, ..leaf });
    }
}
