//! Translation hardware: TLBs with ASIDs and the page-table walker.
//!
//! - [`Mmu`]: what a hart asks for a translation; a TLB in front of the walker ([`mmu`]).
//! - [`Tlb`]: a set-associative, ASID-tagged translation cache ([`tlb`]).
//! - [`Space`]: the address space a hart runs in, what `satp` holds.
//! - [`Model`]: real parts' translation hardware, with what it costs: two levels of TLBs, walk
//!   caches, caches in front of memory, causes of misses ([`model`]).
//! - [`Translator`]: the seam to a hart that asks for every access ([`translator`]).
//! - [`textbook`]: systems of any size, explained field by field.
//!
//! Nothing here knows an area (`kilburn-mm`) or an instruction (`kilburn-riscv`).
//!
//! **tlb-within-tables**: after a flush returns, no TLB holds a translation that the tables do
//! not. [`Mmu::check`] looks at every entry of a space.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod mmu;
pub mod model;
pub mod textbook;
pub mod tlb;
pub mod translator;

pub use mmu::{Flush, Mapping, Mmu, MmuStats, Space, Stale, probe};
pub use model::{Cause, Model, ModelConfig, ModelFault, ModelStats};
pub use tlb::{Tlb, TlbGeometry};
pub use translator::Translator;
