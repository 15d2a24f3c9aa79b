//! The system calls, one a file. Raw arguments in, Linux's answer out.
//!
//! Each first plans, which can fail, then commits, which cannot. Checks come in the order Linux
//! 6.18 makes them, so that a call wrong in two ways answers the same errno.

mod brk;
pub mod mmap;
mod mprotect;
mod munmap;
mod pending;
mod populate;

pub(crate) use brk::DATA_FLAGS;
