//! The RV64GC hart: predecoded blocks, exact floating point, precise traps.
//!
//! - [`Hart`]: one processor; [`Hart::run`] executes until a [`Trap`] ([`hart`]).
//! - [`Regs`]: a task's registers ([`regs`]).
//! - [`fp`]: the F and D extensions' arithmetic.
//! - [`GuestRam`]: the machine's physical memory ([`ram`]).
//! - [`Space`]: the address space to run in.

#![deny(unsafe_code)]

mod block;
mod code;
mod decode;
mod exec;
pub mod fp;
pub mod hart;
mod host;
mod op;
pub mod ram;
pub mod regs;
mod state;
pub mod stats;
mod translate;
pub mod trap;

pub use hart::{CounterAccess, Hart, HartConfig, TimeSource};
pub use kilburn_mmu::{Cause, Flush, MmuStats, Space, Stale, TlbGeometry, Translator};
pub use ram::{GuestRam, RamError};
pub use regs::Regs;
pub use stats::HartStats;
pub use trap::Trap;
