//! Page-table formats, walks and ranged cursors over tables in physical memory.
//!
//! - [`PhysMem`]: the memory the tables live in; supplied by the host ([`phys_mem`]).
//! - [`Format`]: how an entry is laid out and an address split ([`format`]); [`Sv`] is RISC-V's
//!   Sv39, Sv48 and Sv57 ([`sv`]).
//! - [`Tables`], [`Cursor`]: what software does with tables, page by page and by ranges ([`tables`]).
//! - [`walk`](walk::walk): what the machine's hardware does with an address ([`walk`]).
//! - [`HardwareFormat`]: the same for formats of every shape, step by step ([`hardware`]): RISC-V's
//!   [`Sv32`] and [`SvNapot`] ([`sv32`]), x86's three ([`x86`]), [`Aarch64`] ([`aarch64`]), and
//!   [`Textbook`] systems of any width ([`textbook`]).
//! - [`Footprint`]: what tables cost ([`footprint`]).
//!
//! Nothing here knows an area or a frame's owner; that is `kilburn-mm`.
#![no_std]
#![forbid(unsafe_code)]

pub mod aarch64;
pub mod footprint;
pub mod format;
pub mod hardware;
pub mod phys_mem;
pub mod sv;
pub mod sv32;
pub mod tables;
pub mod textbook;
pub mod walk;
pub mod x86;

pub use aarch64::Aarch64;
pub use footprint::Footprint;
pub use format::{Entry, Format, Leaf, LeafFlags};
pub use hardware::HardwareFormat;
pub use phys_mem::PhysMem;
pub use sv::Sv;
pub use sv32::{Sv32, SvNapot};
pub use tables::{Cursor, LeafSpan, TableSource, Tables};
pub use textbook::Textbook;
pub use x86::{X86_64, X86Pae, X86TwoLevel};
