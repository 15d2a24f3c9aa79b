//! What a process has of the name space: root, working directory, umask.

use crate::fs::dentry::Path;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Root, working directory and umask of a process (Linux `fs_struct`); shared by `CLONE_FS`.
pub(crate) struct FsStruct {
    root: RefCell<Path>,
    cwd: RefCell<Path>,
    umask: Cell<u32>,
}

impl FsStruct {
    /// A process that starts at `cwd` with the usual umask 022.
    pub(crate) fn new(root: Path, cwd: Path) -> Rc<Self> {
        let umask = Cell::new(0o022);
        Rc::new(Self { root: RefCell::new(root), cwd: RefCell::new(cwd), umask })
    }

    /// An own copy: fork without `CLONE_FS`.
    pub(crate) fn fork_copy(&self) -> Rc<Self> {
        let copy = Self::new(self.root(), self.cwd());
        copy.umask.set(self.umask.get());
        copy
    }

    /// Where absolute paths start.
    pub(crate) fn root(&self) -> Path {
        self.root.borrow().clone()
    }

    /// Where relative paths start.
    pub(crate) fn cwd(&self) -> Path {
        self.cwd.borrow().clone()
    }

    /// `chroot`.
    pub(crate) fn set_root(&self, root: Path) {
        let old = self.root.replace(root);
        drop(old);
    }

    /// `chdir`.
    pub(crate) fn set_cwd(&self, cwd: Path) {
        let old = self.cwd.replace(cwd);
        drop(old);
    }

    /// Permission bits that new files do not get.
    pub(crate) fn umask(&self) -> u32 {
        self.umask.get()
    }

    /// Sets the umask; answers the old one.
    pub(crate) fn set_umask(&self, umask: u32) -> u32 {
        self.umask.replace(umask & 0o777)
    }
}
