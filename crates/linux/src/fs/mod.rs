//! Everything behind a descriptor or a path.
//!
//! From the bottom: [`inode`] is the seam to file systems ([`hostfs`], [`memfs`], [`pseudo`]);
//! [`dentry`] gives inodes names and joins trees by mounts; [`walk`] follows paths; [`vfs`] is the
//! machine's name space, with operations in [`open`] and [`names`]. [`file`] is an open file, with
//! operations per kind in [`regular`], [`pipe`], [`devices`]; [`fd_table`] numbers open files,
//! [`fs_struct`] is a process's root and working directory. System calls are in
//! `syscall/fs`; they wait, this never does.

mod boot;
mod cgroupfs;
mod clock;
#[cfg(test)]
mod confinement;
mod dentry;
mod devices;
mod epoll;
mod eventfd;
mod exec;
mod fd_table;
mod file;
mod fs_struct;
mod hostfs;
mod hugetlb;
pub(crate) mod inet;
mod inode;
mod locks;
mod memfs;
mod mount;
mod mounting;
mod names;
mod open;
#[cfg(test)]
mod oracle;
mod page_cache;
mod perm;
mod pipe;
mod pipe_pages;
mod procfs;
mod pseudo;
mod random;
mod regular;
mod seals;
mod signalfd;
mod stat;
mod stdio;
mod sysfs;
mod timerfd;
mod tty;
mod unix;
mod userfaultfd;
mod vfs;
mod walk;
mod write_access;
mod xattr;

pub(crate) use cgroupfs::{Attributes, CgroupInode};
pub(crate) use dentry::Path;
pub(crate) use epoll::{Epoll, Interest, Mode, Ready};
pub(crate) use eventfd::{EventFd, Take};
pub(crate) use exec::ExecFile;
pub(crate) use fd_table::{FdFlags, FdTable};
pub(crate) use file::{
    FileOps, IoctlAnswer, IoctlCaller, IoctlRequest, OpenFile, OpenFlags, PollEvents, Whence,
};
pub(crate) use fs_struct::FsStruct;
pub(crate) use hugetlb::HugeSize;
pub(crate) use inode::{DirEntry, InodeRef, NewKind, RenameMode, Touch, XattrMode};
pub(crate) use locks::{Lock, LockKind, Space};
pub(crate) use mount::MountFlags;
pub(crate) use mounting::{Depth, Unmount};
pub(crate) use names::{At, NewTime, Remove, Who};
pub(crate) use open::OpenHow;
pub(crate) use perm::May;
pub(crate) use pipe::{PIPE_MAX_SIZE, PipeEnd};
pub(crate) use procfs::{Ids, may_inspect};
pub(crate) use seals::{F_SEAL_EXEC, F_SEAL_SEAL};
pub(crate) use signalfd::SignalFd;
pub(crate) use stat::{Device, FileType, Timespec};
pub(crate) use timerfd::TimerFd;
pub(crate) use unix::{
    Address, BUFFER_BYTES, Peek, PeerCred, Received, SocketFile, SocketKind, UnixSocket,
};
pub(crate) use userfaultfd::{Monitor, MonitorDevice, Userfaults};
pub(crate) use vfs::Vfs;
pub(crate) use walk::{LastLink, Resolve};
