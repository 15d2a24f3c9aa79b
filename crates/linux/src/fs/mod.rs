//! Everything behind a descriptor or a path.

use kilburn_addr::Errno;
use std::rc::Rc;

/// The open files of a process (Linux `files_struct`).
#[derive(Debug, Default)]
pub(crate) struct FdTable;

impl FdTable {
    /// A table of its own with the same open files (Linux `dup_fd`): fork.
    pub(crate) fn fork_copy(&self) -> Result<Rc<Self>, Errno> {
        Ok(Rc::new(Self))
    }

    /// Closes what is marked close-on-exec.
    pub(crate) fn close_on_exec(&self) {}
}

/// Root, working directory and umask of a process (Linux `fs_struct`).
#[derive(Debug, Default)]
pub(crate) struct FsStruct;

impl FsStruct {
    /// An own copy: fork without `CLONE_FS`.
    pub(crate) fn fork_copy(&self) -> Rc<Self> {
        Rc::new(Self)
    }
}
