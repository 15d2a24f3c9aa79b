//! The system calls, one a file. Raw arguments in, Linux's answer out.
//!
//! Each first plans, which can fail, then commits, which cannot. Checks come in the order Linux
//! 6.18 makes them, so that a call wrong in two ways answers the same errno.

mod advise_pages;
mod brk;
mod madvise;
mod mincore;
mod mlock;
pub mod mmap;
mod mprotect;
mod mremap;
mod mseal;
mod msync;
mod munmap;
mod populate;
pub mod process_madvise;
mod remap_file_pages;
mod request;
pub mod shm;

pub(crate) use brk::DATA_FLAGS;
