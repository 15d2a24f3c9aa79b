//! Page faults: what an access that the tables refuse leads to (Linux 6.18 mm/memory.c).
//!
//! ```text
//!   handle_fault
//!     find the area  -- none, and no stack to grow --> SEGV_MAPERR
//!     its rights     -- not permitted -------------> SEGV_ACCERR
//!     the entry is
//!       empty, anonymous area   anon.rs   zero page (read) or a zeroed frame (write)
//!       empty, file             file.rs   page cache: as it is, copied, or shared
//!       in swap                 swap.rs   the swap cache, or read from its slot
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
mod swap;

use crate::areas::VmaRef;
use crate::memory::NoFrame;
use crate::mm::State;
use crate::pte::{Marker, SwapPte};
use crate::userfault::{UserfaultWait, Waiter};
use crate::{Caller, Host, Mm};
use core::fmt;
use core::sync::atomic::Ordering;
use kilburn_addr::{Access, Errno, PhysAddr, VirtAddr, VmFlags};
use kilburn_paging::tables::NoTable;
use kilburn_paging::{Entry, Leaf, LeafFlags, PhysMem};

/// A fault that was resolved; the access can be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
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
    /// `SIGBUS` for a poisoned page: `BUS_MCEERR_AR` on x86, `BUS_ADRERR` on riscv.
    Poisoned,
    /// No memory: the machine's out-of-memory handling decides.
    Oom,
    /// No error: the access waits for the monitor of a userfaultfd, and is to be tried again when
    /// [`Mm::userfault_waits`] says that it waits no more. Only callers that can wait
    /// ([`Caller::userfault_thread`]) are told.
    Userfault(UserfaultWait),
}

/// `si_code` of a `SIGSEGV`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegvCode {
    /// `SEGV_MAPERR`: no area there.
    MapErr,
    /// `SEGV_ACCERR`: the area does not permit the access.
    AccErr,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segv(SegvCode::MapErr) => "SIGSEGV: nothing is mapped there (SEGV_MAPERR)",
            Self::Segv(SegvCode::AccErr) => "SIGSEGV: the area does not permit it (SEGV_ACCERR)",
            Self::Bus => "SIGBUS: nothing is behind the page (BUS_ADRERR)",
            Self::Poisoned => "SIGBUS: the page is poisoned",
            Self::Oom => "out of memory",
            Self::Userfault(_) => "waits for the monitor of a userfaultfd",
        })
    }
}

impl core::error::Error for Fault {}

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
pub(crate) struct Site<'a, H: Host> {
    pub(crate) state: &'a State<H>,
    pub(crate) vma: VmaRef<'a, H>,
    /// The page's first address.
    pub(crate) va: VirtAddr,
    pub(crate) access: Access,
    pub(crate) waiter: Waiter,
}

impl<H: Host> Site<'_, H> {
    pub(crate) fn is_write(&self) -> bool {
        self.access == Access::Write
    }

    /// Page offset in what is mapped.
    pub(crate) fn index(&self) -> u64 {
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
        let waiter = caller.userfault_thread.map_or(Waiter::None, Waiter::User);
        self.fault_as(caller, addr, access, waiter)
    }

    /// As [`Self::handle_fault`], for an access of the kernel on the caller's behalf.
    pub(crate) fn handle_kernel_fault(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Fault> {
        let waiter = caller.userfault_thread.map_or(Waiter::None, Waiter::Kernel);
        self.fault_as(caller, addr, access, waiter)
    }

    #[inline]
    fn fault_as(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        access: Access,
        waiter: Waiter,
    ) -> Result<FaultDone, Fault> {
        self.find_and_fault(caller, addr, access, waiter).inspect_err(|_| {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn find_and_fault(
        &self,
        caller: &Caller,
        addr: VirtAddr,
        access: Access,
        waiter: Waiter,
    ) -> Result<FaultDone, Fault> {
        if !self.in_task(addr, 1) {
            return Err(Fault::Segv(SegvCode::MapErr));
        }
        let mut locked = self.mmap_read_lock_at(addr);
        if locked.vma().is_some_and(|vma| vma.start() > addr && Self::may_grow(vma)) {
            drop(locked);
            self.expand_stack(caller, addr)?;
            locked = self.mmap_read_lock_at(addr);
        }
        let vma = locked.vma().filter(|vma| vma.start() <= addr);
        let vma = vma.ok_or(Fault::Segv(SegvCode::MapErr))?;
        if !vma.flags.permits(access) {
            return Err(Fault::Segv(SegvCode::AccErr));
        }
        self.fault_in_as(&locked.state, vma, addr, access, waiter)
    }

    /// Resolves a fault that the area permits, or that a caller with other rights insists on, and
    /// counts it (Linux `mm_account_fault`: whoever causes it, the kernel included).
    pub(crate) fn fault_in(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        addr: VirtAddr,
        access: Access,
    ) -> Result<FaultDone, Fault> {
        self.fault_in_as(state, vma, addr, access, Waiter::None)
    }

    #[inline]
    fn fault_in_as(
        &self,
        state: &State<H>,
        vma: VmaRef<'_, H>,
        addr: VirtAddr,
        access: Access,
        waiter: Waiter,
    ) -> Result<FaultDone, Fault> {
        let site = Site { state, vma, va: addr.page_down(), access, waiter };
        let done = match self.resolve(&site, addr) {
            // Tables come from the reserve while they are locked; now there can be more of it.
            Err(Fault::Oom) if self.memory().make_room() => self.resolve(&site, addr),
            resolved => resolved,
        }?;
        self.counts.count(self.memory().cpu(), done.kind);
        let memcg = self.memcg();
        if !memcg.is_root() {
            self.memory().note_memcg_fault(memcg, done.major);
        }
        if done.major {
            self.counts.major.fetch_add(1, Ordering::Relaxed);
        }
        Ok(done)
    }

    fn resolve(&self, site: &Site<'_, H>, addr: VirtAddr) -> Result<FaultDone, Fault> {
        // Memory used for the first time, mostly. Whether there is still no entry is looked at
        // again when one is put there, under the lock.
        let entry = self.tables().entry_at(site.va).map_or(0, |at| self.mem().load(at));
        if entry == 0 {
            return self.missing(site, addr);
        }
        let guard = self.lock_leaf(site.va);
        let at = guard.tables.entry_at(site.va);
        let entry = at.map_or(Entry::None, |at| guard.entry(at));
        match (entry, at) {
            (Entry::Leaf(leaf), Some(at)) => {
                if site.is_write() && !leaf.flags.contains(LeafFlags::WRITE) {
                    drop(guard);
                    self.write_protected(site, leaf)
                } else {
                    self.note_use(&guard, site, at);
                    Ok(FaultDone::minor(FaultKind::Spurious))
                }
            }
            (Entry::Software(payload), _) => {
                drop(guard);
                if let Some(swapped) = SwapPte::from_payload(payload) {
                    return self.swap_fault(site, swapped);
                }
                match Marker::from_payload(payload).expect("no other payload is written") {
                    Marker::Guard => Err(Fault::Segv(SegvCode::MapErr)),
                    Marker::Poisoned => Err(Fault::Poisoned),
                }
            }
            _ => {
                drop(guard);
                self.missing(site, addr)
            }
        }
    }

    /// There is no entry.
    fn missing(&self, site: &Site<'_, H>, addr: VirtAddr) -> Result<FaultDone, Fault> {
        if site.vma.flags.intersects(VmFlags::UFFD) {
            self.ask_monitor(site, addr)?;
        }
        if site.vma.is_anonymous() { self.anon_fault(site) } else { self.file_fault(site) }
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
