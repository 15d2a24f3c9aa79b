//! Faults planted on purpose, to see that the oracle finds such faults.
//!
//! Each makes our side behave as a memory manager with one plain mistake would. None is a hook in
//! `kilburn-mm`: the wrong behaviour is made of its own right calls, put together wrongly, left
//! out, or configured wrongly. So nothing of this is in the memory manager that users get, and
//! what compares the sides knows nothing of it.

use super::ours::{Machine, Session};
use kilburn_addr::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use kilburn_mm::{MemoryConfig, Mm, RemoteRights, ShowFrames};
use kilburn_model::areas::blocks;
use kilburn_model::{Call, Kind, Outcome};

macro_rules! planted {
    ($($(#[doc = $doc:literal])+ $fault:ident = $name:literal),* $(,)?) => {
        /// A mistake.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Planted {
            $($(#[doc = $doc])+ $fault,)*
        }

        impl Planted {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$fault),*];

            /// Its name on the command line.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$fault => $name),* }
            }

            /// What it does wrong.
            pub(crate) const fn what(self) -> &'static str {
                match self { $(Self::$fault => concat!($($doc),+)),* }
            }
        }
    };
}

planted! {
    /// every second anonymous mapping does not merge with its neighbours
    Merge = "merge",
    /// msync over a hole succeeds
    Errno = "errno",
    /// a write after fork shows in the other process until a page is copied otherwise
    Cow = "cow",
    /// what munmap gives back stays counted against RLIMIT_AS
    Accounting = "accounting",
    /// truncation drops pages and leaves the size
    Truncate = "truncate",
    /// mremap moves the area and loses its pages
    Mremap = "mremap",
    /// munlock unlocks one page less
    Munlock = "munlock",
    /// locking on fault is locking at once
    LockOnFault = "lock-on-fault",
    /// fork copies what MADV_WIPEONFORK wipes
    WipeOnFork = "wipe-on-fork",
    /// brk gives a page too many
    Brk = "brk",
    /// the gap below a growing area is a page too small
    GuardGap = "guard-gap",
    /// MADV_DONTNEED keeps the pages
    DontNeed = "dontneed",
    /// mprotect stops short of the last page
    Mprotect = "mprotect",
    /// a sealed area is sealed no more
    Mseal = "mseal",
}

impl Planted {
    /// The fault with this name.
    pub(crate) fn by_name(name: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|fault| fault.name() == name).copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!("no such fault; there are: {}", names.join(", "))
        })
    }

    /// The machine's settings, with the fault.
    pub(super) fn configure(fault: Option<Self>, config: &mut MemoryConfig) {
        if fault == Some(Self::GuardGap) {
            config.stack_guard_gap -= 1;
        }
    }

    /// Makes `call` with the fault, where it concerns the fault; `process` is who makes it.
    pub(super) fn make(
        self,
        session: &mut Session<'_>,
        process: usize,
        mm: &Mm<Machine>,
        call: &Call,
    ) -> Option<Outcome> {
        let [a, b, c, d, _, _] = call.args;
        let mut instead = *call;
        match (self, call.kind) {
            (Self::Errno, Kind::Msync) => {
                let outcome = session.perform(process, mm, call);
                let hole = outcome == Outcome::Returned(-12);
                return Some(if hole { Outcome::Returned(0) } else { outcome });
            }
            (Self::Merge, Kind::Mmap) => return Some(split(session, process, mm, call)),
            (Self::Cow, Kind::Write) => return Some(leak(session, process, mm, call)),
            (Self::Accounting, Kind::Munmap) => {
                let outcome = session.perform(process, mm, call);
                if outcome == Outcome::Returned(0) {
                    let limit = &mut session.callers[process].rlimits.address_space;
                    *limit = limit.saturating_sub(b);
                }
                return Some(outcome);
            }
            (Self::Truncate, Kind::Truncate) => {
                let mapping = &session.file(a)?.mapping;
                let size = mapping.size();
                if b >= size || mapping.punch_hole(b..size).is_err() {
                    return None;
                }
                return Some(Outcome::Returned(0));
            }
            (Self::Mremap, Kind::Mremap) => {
                let outcome = session.perform(process, mm, call);
                if let Outcome::Returned(to @ 1..) = outcome
                    && to as u64 != a
                {
                    // What is locked cannot be discarded this way, and keeps its pages.
                    let caller = session.callers[process];
                    let len = b.min(c);
                    let _ = mm.madvise(&caller, VirtAddr::new(to as u64), len, 4);
                }
                return Some(outcome);
            }
            (Self::Munlock, Kind::Munlock) if b > PAGE_SIZE => instead.args[1] -= PAGE_SIZE,
            (Self::LockOnFault, Kind::Mlock2) => instead.args[2] &= !1,
            (Self::LockOnFault, Kind::Mlockall) if a & 3 != 0 => instead.args[0] &= !4,
            (Self::Brk, Kind::Brk) => {
                let grown = a.saturating_add(PAGE_SIZE);
                let outcome = session.perform(process, mm, &Call::new(Kind::Brk, &[grown]));
                let given = outcome == Outcome::Returned(grown as i64);
                return Some(if given { Outcome::Returned(a as i64) } else { outcome });
            }
            (Self::DontNeed, Kind::Madvise) if c == 4 => instead.args[2] = 0,
            (Self::Mprotect, Kind::Mprotect) if b > PAGE_SIZE && d == 0 => {
                instead.args[1] -= PAGE_SIZE;
            }
            (Self::Mseal, Kind::Mseal) if c == 0 => return Some(Outcome::Returned(0)),
            _ => return None,
        }
        Some(session.perform(process, mm, &instead))
    }

    /// After a fork: what the fault leaves in the child.
    pub(super) fn after_fork(self, parent: &Mm<Machine>, child: &Mm<Machine>) {
        if self != Self::WipeOnFork {
            return;
        }
        let mut smaps = String::new();
        let written = parent.write_smaps(&mut smaps);
        written.expect("a string takes everything");
        let all = kilburn_model::Window { start: 0, pages: 1 << 40 };
        for block in blocks(&smaps, all) {
            let wiped = block.fields.iter().any(|(name, flags)| {
                *name == "VmFlags" && flags.split(' ').any(|flag| flag == "wf")
            });
            if !wiped {
                continue;
            }
            for addr in (block.area.start..block.area.end).step_by(PAGE_SIZE as usize) {
                if frame_of(parent, addr).is_none() {
                    continue;
                }
                let mut page = [0; PAGE_SIZE as usize];
                parent.read_remote(VirtAddr::new(addr), &mut page, RemoteRights::Forced);
                child.write_remote(VirtAddr::new(addr), &page, RemoteRights::Forced);
            }
        }
    }
}

/// An anonymous mapping that merges with nothing: it is left out of dumps, its neighbours are not.
fn split(session: &mut Session<'_>, process: usize, mm: &Mm<Machine>, call: &Call) -> Outcome {
    const MAP_ANONYMOUS: u64 = 0x20;
    const MADV_DONTDUMP: i32 = 16;
    let outcome = session.perform(process, mm, call);
    if let Outcome::Returned(at @ 1..) = outcome
        && call.args[3] & MAP_ANONYMOUS != 0
    {
        session.mapped += 1;
        if session.mapped.is_multiple_of(2) {
            let caller = session.callers[process];
            let _ = mm.madvise(&caller, VirtAddr::new(at as u64), call.args[1], MADV_DONTDUMP);
        }
    }
    outcome
}

/// A write that also goes to whoever shares the frame since a fork.
fn leak(session: &mut Session<'_>, process: usize, mm: &Mm<Machine>, call: &Call) -> Outcome {
    let addr = call.args[0];
    let before = frame_of(mm, addr);
    let outcome = session.perform(process, mm, call);
    if before.is_none() || !matches!(outcome, Outcome::Returned(0)) || frame_of(mm, addr) == before
    {
        return outcome;
    }
    for (other, sharer) in session.processes.iter().enumerate() {
        if let Some(sharer) = sharer
            && other != process
            && frame_of(sharer, addr) == before
        {
            let byte = [call.args[1] as u8];
            sharer.write_remote(VirtAddr::new(addr), &byte, RemoteRights::Forced);
        }
    }
    outcome
}

/// The frame of the private page at `addr`.
fn frame_of(mm: &Mm<Machine>, addr: u64) -> Option<u64> {
    const PRESENT: u64 = 1 << 63;
    const FILE: u64 = 1 << 61;
    const FRAME: u64 = (1 << 55) - 1;
    let mut entry = [0];
    mm.pagemap(addr >> PAGE_SHIFT, &mut entry, ShowFrames::Yes);
    (entry[0] & (PRESENT | FILE) == PRESENT && entry[0] & FRAME != 0).then_some(entry[0] & FRAME)
}
