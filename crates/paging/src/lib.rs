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
//! Software maps a page, hardware finds it:
//!
//! ```
//! use kilburn_addr::{Access, Pfn, PhysAddr, VirtAddr};
//! use kilburn_paging::walk::{WalkFault, walk};
//! use kilburn_paging::{Leaf, LeafFlags, PhysMem, Sv, TableSource, Tables};
//! # use std::cell::Cell;
//! # struct Ram(Vec<Cell<u64>>);
//! # impl PhysMem for Ram {
//! #     fn load(&self, at: PhysAddr) -> u64 { self.0[at.get() as usize / 8].get() }
//! #     fn store(&self, at: PhysAddr, value: u64) { self.0[at.get() as usize / 8].set(value) }
//! #     fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
//! #         let found = self.load(at);
//! #         if found == current { self.store(at, new); Ok(()) } else { Err(found) }
//! #     }
//! #     fn read(&self, _: PhysAddr, _: &mut [u8]) { unreachable!() }
//! #     fn write(&self, _: PhysAddr, _: &[u8]) { unreachable!() }
//! #     fn zero(&self, _: Pfn) { unreachable!() }
//! #     fn copy(&self, _: Pfn, _: Pfn) { unreachable!() }
//! # }
//! # struct Frames(Cell<u64>);
//! # impl TableSource for Frames {
//! #     fn alloc_table(&self, _: u8) -> Option<Pfn> { Some(Pfn::new(self.0.replace(self.0.get() + 1))) }
//! #     fn free_table(&self, _: Pfn, _: u8) {}
//! # }
//! # let ram = Ram((0..8 * 512).map(|_| Cell::new(0)).collect());
//! # let frames = Frames(Cell::new(2));
//! let root = Pfn::new(1);
//! let tables = Tables::new(&ram, Sv::SV39, root);
//! let va = VirtAddr::new(0x4_0000_1234);
//! let page = Leaf { pfn: Pfn::new(7), flags: LeafFlags::READ | LeafFlags::USER };
//! tables.cursor().map(va, page, &frames).expect("two tables on the way");
//!
//! let found = walk(&ram, Sv::SV39, root, va, Access::Read).expect("mapped readable");
//! assert_eq!(found.leaf.pfn.base().get() + va.page_offset(), 0x7234);
//! assert!(found.leaf.flags.contains(LeafFlags::ACCESSED), "set by the walk");
//! assert_eq!(walk(&ram, Sv::SV39, root, va, Access::Write), Err(WalkFault::Denied));
//! ```
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
