//! Page-table formats, walks and ranged cursors over tables in physical memory.
//!
//! - [`PhysMem`]: the memory the tables live in; supplied by the host ([`phys_mem`]).
//! - [`Format`]: how an entry is laid out and an address split ([`format`]); [`Sv`] is RISC-V's
//!   Sv39, Sv48 and Sv57 ([`sv`]).
//! - [`Tables`], [`Cursor`]: what software does with tables, page by page and by ranges ([`tables`]).
//! - [`walk`](walk::walk): what the hardware does with an address ([`walk`]).
//!
//! Nothing here knows an area or a frame's owner; that is `kilburn-mm`.
#![no_std]
#![forbid(unsafe_code)]

pub mod format;
pub mod phys_mem;
pub mod sv;
pub mod tables;
pub mod walk;

pub use format::{Entry, Format, Leaf, LeafFlags};
pub use phys_mem::PhysMem;
pub use sv::Sv;
pub use tables::{Cursor, LeafSpan, TableSource, Tables};
