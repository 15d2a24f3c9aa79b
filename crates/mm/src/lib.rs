//! The memory manager: address spaces, areas, faults, copy-on-write, page cache, accounting.

pub mod layout;
