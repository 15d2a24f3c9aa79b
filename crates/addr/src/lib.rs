//! Addresses, ranges, rights, area flags and error numbers shared by every Kilburn crate.
//!
//! Nothing here knows about tables, areas or frames; everything else is built on it.
//!
//! - [`VirtAddr`], [`PhysAddr`], [`Pfn`]: newtypes, arithmetic on them is checked ([`addr`]).
//! - [`AddrRange`]: a half-open range of virtual addresses ([`range`]).
//! - [`Prot`], [`VmFlags`], [`Access`]: what may be done, and what is being done ([`rights`]).
//! - [`Errno`]: Linux's error numbers ([`errno`]).
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
