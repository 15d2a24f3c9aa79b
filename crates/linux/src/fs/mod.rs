//! Everything behind a descriptor or a path.
//!
//! From the bottom: [`inode`] is the seam to file systems ([`hostfs`], [`memfs`], [`pseudo`]);
//! [`dentry`] gives inodes names and joins trees by mounts; [`walk`] follows paths; [`vfs`] is the
//! machine's name space, with operations in [`open`] and [`names`]. [`file`] is an open file, with
//! operations per kind in [`regular`], [`pipe`], [`devices`]; [`fd_table`] numbers open files,
//! [`fs_struct`] is a process's root and working directory. System calls are in
//! `syscall/fs`; they wait, this never does.

mod clock;
pub(crate) mod dentry;
mod devices;
mod fd_table;
mod file;
mod fs_struct;
mod hostfs;
mod inode;
mod locks;
mod memfs;
mod names;
mod open;
#[cfg(test)]
mod oracle;
mod page_cache;
mod perm;
mod pipe;
mod pseudo;
mod random;
mod regular;
mod stat;
mod vfs;
mod walk;

pub(crate) use crate::fs_standin::ExecFile;
pub(crate) use fd_table::FdTable;
pub(crate) use file::OpenFile;
pub(crate) use fs_struct::FsStruct;
pub(crate) use vfs::Vfs;
