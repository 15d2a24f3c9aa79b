//! The system calls, one a file. Raw arguments in, Linux's answer out.

pub mod mmap;
pub mod pending;
