//! Addresses, ranges, rights, area flags and error numbers shared by every Kilburn crate.
//!
//! Nothing here knows about tables, areas or frames; everything else is built on it.
//!
//! - [`VirtAddr`], [`PhysAddr`], [`Pfn`]: newtypes, arithmetic on them is checked ([`addr`]).
//! - [`AddrRange`]: a half-open range of virtual addresses ([`range`]).
//! - [`Prot`], [`VmFlags`], [`Access`]: what may be done, and what is being done ([`rights`]).
//! - [`Errno`]: Linux's error numbers ([`errno`]).
//!
//! An address from a guest is a number until it was checked; arithmetic says where it ends:
//!
//! ```
//! use kilburn_addr::{AddrRange, Errno, PAGE_SIZE, Prot, VirtAddr, VmFlags};
//!
//! let at = VirtAddr::new(0x1234);
//! assert_eq!((at.page_down().get(), at.page_offset()), (0x1000, 0x234));
//! assert_eq!(VirtAddr::new(u64::MAX).checked_add(1), None);
//!
//! let range = AddrRange::with_len(at.page_down(), 2 * PAGE_SIZE).expect("does not wrap");
//! assert!(range.contains(at) && range.pages() == 2);
//! assert_eq!(AddrRange::with_len(VirtAddr::new(u64::MAX), PAGE_SIZE), None);
//!
//! assert_eq!(VmFlags::from_prot(Prot::READ | Prot::WRITE), VmFlags::READ | VmFlags::WRITE);
//! assert_eq!(Errno::ENOMEM.to_return_value() as i64, -12);
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod errno;
pub mod range;
pub mod rights;

pub use addr::{PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
pub use errno::Errno;
pub use range::AddrRange;
pub use rights::{Access, Prot, VmFlags};
