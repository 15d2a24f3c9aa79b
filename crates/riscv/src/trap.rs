//! Why a hart stopped.

use kilburn_addr::{Access, VirtAddr};

/// The reason [`Hart::run`](crate::Hart::run) returned. All are precise: `pc` is the instruction
/// named below, everything before it has happened, and nothing of it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// `ecall`; `pc` is at it, whoever serves the call goes on 4 bytes further.
    Syscall,
    /// There is no translation that permits the access.
    PageFault {
        /// The address that could not be translated. For an instruction, a load or a store that
        /// straddles two pages: the first byte in the page that is missing.
        addr: VirtAddr,
        /// What was tried.
        access: Access,
    },
    /// A translation leads to a frame that does not exist (Linux: SIGBUS).
    AccessFault {
        /// The address.
        addr: VirtAddr,
        /// What was tried.
        access: Access,
    },
    /// An atomic on an address that is not aligned (Linux: SIGBUS, BUS_ADRALN).
    Misaligned {
        /// The address.
        addr: VirtAddr,
        /// What was tried: `lr` reads, `sc` and atomics write.
        access: Access,
    },
    /// `ebreak`, in either length.
    Breakpoint,
    /// An encoding or a register that a user program has not (Linux: SIGILL, ILL_ILLOPC).
    Illegal {
        /// The instruction; a compressed one in the lower half.
        bits: u32,
    },
    /// The budget is used up; `pc` is the next instruction.
    Quantum,
}
