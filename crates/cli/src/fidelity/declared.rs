//! Differences between the oracle's kernel and ours that are meant, all in one place.
//!
//! Our rights are riscv's, the oracle's machine is an x86-64; a kernel of another version or
//! configuration may answer otherwise. What is not here is a divergence.

use super::compare::Swap;
use kilburn_model::{Call, Kind, Outcome};

/// On x86 without protection keys, memory that may be executed may be read
/// (arch/x86/mm/fault.c: `access_error`); on riscv it may not.
pub(super) const EXEC_IMPLIES_READ: bool = true;

/// A difference that is meant.
pub(super) struct Declared {
    /// Its name, in reports.
    pub(super) id: &'static str,
    /// Why it is there.
    pub(super) why: &'static str,
    /// Where it shows.
    shows: Shows,
}

enum Shows {
    /// In how a call ends: whether it explains the two outcomes, the kernel's first.
    Outcome(fn(&Call, Outcome, Outcome) -> bool),
    /// In a field of smaps, which is not compared.
    Field(&'static str),
    /// In a two-letter name of the line `VmFlags`, which is not compared.
    VmFlag(&'static str),
    /// In a bit of pagemap, which is not compared.
    Pagemap,
    /// In pages, after such a call: stage two compares none of the case from there on.
    PagesAfter(fn(&Call) -> bool),
}

const ENOSYS: Outcome = Outcome::Returned(-38);
const PAGEMAP_FRAME: u64 = (1 << 55) - 1;
const PAGEMAP_SOFT_DIRTY: u64 = 1 << 55;

/// The bits of a pagemap entry that are compared.
pub(super) const PAGEMAP_COMPARED: u64 = !(PAGEMAP_FRAME | PAGEMAP_SOFT_DIRTY);

/// All of them. The first that explains two outcomes is counted; what is compared after the call
/// is left out for the rest of the case, which is over.
pub(super) const DECLARED: &[Declared] = &[
    Declared {
        id: "not-built",
        why: "the call is not there yet: it answers ENOSYS",
        shows: Shows::Outcome(|_, kernel, ours| ours == ENOSYS && kernel != ENOSYS),
    },
    Declared {
        id: "prot-bits-of-x86",
        why: "PROT_* bits beyond the generic ones mean protection keys and such on x86",
        shows: Shows::Outcome(|call, _, _| {
            call.kind == Kind::Mprotect && call.args[2] & !0x0300_000f != 0
        }),
    },
    Declared {
        id: "frame-numbers",
        why: "which frame a page is in is each machine's own affair",
        shows: Shows::Pagemap,
    },
    Declared {
        id: "soft-dirty",
        why: "the oracle's kernel is built without CONFIG_MEM_SOFT_DIRTY, ours has it",
        shows: Shows::VmFlag("sd"),
    },
    Declared { id: "soft-dirty-bit", why: "as soft-dirty, in pagemap", shows: Shows::Pagemap },
    Declared {
        id: "reclaim",
        why: "MADV_PAGEOUT takes shared memory out of tables even where it cannot go anywhere, out \
              of the page cache where it was never written, and pages that wait in a batch of some \
              CPU not at all: what is compared of pages, and mincore, are left out after it",
        shows: Shows::PagesAfter(is_pageout),
    },
    Declared {
        id: "pinned-reads",
        why: "process_vm_readv pins pages, and a private page shared since fork is copied to be \
              pinned; ours are read where they are",
        shows: Shows::PagesAfter(|call| call.kind == Kind::RemoteRead),
    },
    Declared {
        id: "lazy-free",
        why: "MADV_FREE marks pages that are on a list of reclaim, which new and unlocked ones \
              reach in batches of each CPU",
        shows: Shows::Field("LazyFree"),
    },
    Declared {
        id: "referenced",
        why: "counts what mark_page_accessed noted as well, which waits in batches of each CPU, \
              and what reclaim and DAMON cleared",
        shows: Shows::Field("Referenced"),
    },
    Declared {
        id: "protection-key",
        why: "x86 with protection keys has a line for them in smaps",
        shows: Shows::Field("ProtectionKey"),
    },
];

/// The difference that explains the outcomes, if they differ for a reason.
pub(super) fn outcome(call: &Call, kernel: Outcome, ours: Outcome) -> Option<&'static str> {
    let explains = |declared: &&Declared| match declared.shows {
        Shows::Outcome(explains) => explains(call, kernel, ours),
        _ => false,
    };
    DECLARED.iter().find(explains).map(|declared| declared.id)
}

/// Why pages are not compared any more after a call, if so.
pub(super) fn pages_after(call: &Call, swap: Swap) -> Option<&'static str> {
    let concerns = |declared: &&Declared| match declared.shows {
        // With somewhere to go, it does what it says.
        Shows::PagesAfter(_) if declared.id == "reclaim" && swap == Swap::Both => false,
        Shows::PagesAfter(concerns) => concerns(call),
        _ => false,
    };
    DECLARED.iter().find(concerns).map(|declared| declared.id)
}

/// Whether mincore may say either of the page with this pagemap entry, which is not mapped: in Linux
/// what was written to a swap file stays in the swap cache until memory is short, in ours it goes at
/// once.
pub(super) fn maybe_in_swap_cache(entry: u64, swap: Swap) -> bool {
    const PRESENT: u64 = 1 << 63;
    swap == Swap::Both && entry & PRESENT == 0
}

/// Why what is in the page cache is not compared any more after a call, if so.
pub(super) fn cached_after(call: &Call) -> Option<&'static str> {
    is_pageout(call).then_some("reclaim")
}

fn is_pageout(call: &Call) -> bool {
    call.kind == Kind::Madvise && call.args[2] == 21
}

/// Whether a field of smaps is the same on both sides, or is not compared.
pub(super) fn smaps_field(name: &str, kernel: &str, ours: &str) -> bool {
    if kernel == ours {
        return true;
    }
    if name == "VmFlags" {
        let left = |flags: &str| {
            let flags = flags.split(' ').filter(|flag| {
                !DECLARED.iter().any(|it| matches!(it.shows, Shows::VmFlag(name) if name == *flag))
            });
            flags.map(str::to_owned).collect::<Vec<_>>()
        };
        return left(kernel) == left(ours);
    }
    DECLARED.iter().any(|it| matches!(it.shows, Shows::Field(field) if field == name))
}
