//! Differences between the oracle's kernel and ours that are meant, all in one place.
//!
//! Our rights are riscv's, the oracle's machine is an x86-64; a kernel of another version or
//! configuration may answer otherwise. What is not here is a divergence.

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
    /// Whether it explains the two outcomes of a call.
    pub(super) explains: fn(&Call, kernel: Outcome, ours: Outcome) -> bool,
}

const ENOSYS: Outcome = Outcome::Returned(-38);

/// All of them. The first that explains two outcomes is counted; what is compared after the call
/// is left out for the rest of the case, which is over.
pub(super) const DECLARED: &[Declared] = &[
    Declared {
        id: "not-built",
        why: "the call is not there yet: it answers ENOSYS",
        explains: |_, kernel, ours| ours == ENOSYS && kernel != ENOSYS,
    },
    Declared {
        id: "prot-bits-of-x86",
        why: "PROT_* bits beyond the generic ones mean protection keys and such on x86",
        explains: |call, _, _| call.kind == Kind::Mprotect && call.args[2] & !0x0300_000f != 0,
    },
];

/// The difference that explains the outcomes, if they differ for a reason.
pub(super) fn explanation(
    call: &Call,
    kernel: Outcome,
    ours: Outcome,
) -> Option<&'static Declared> {
    DECLARED.iter().find(|declared| (declared.explains)(call, kernel, ours))
}
