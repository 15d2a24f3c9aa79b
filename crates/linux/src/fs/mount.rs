//! Mounts: trees put onto dentries of other trees.
//!
//! A [`Mount`] is (part of) a file system at a place of the name space, with [`MountFlags`].
//! Neighbours: [`crate::fs::mounting`] makes and removes them; [`crate::fs::dentry`] finds them.

use crate::fs::dentry::{Dentry, Path};
use crate::fs::inode::FileSystem;
use parking_lot::{Mutex, RwLock};
use std::sync::{Arc, Weak};

/// How a mount may be used (`MNT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MountFlags {
    /// Nothing is changed through it.
    pub(crate) readonly: bool,
    /// No set-ID execution.
    pub(crate) nosuid: bool,
    /// No device nodes.
    pub(crate) nodev: bool,
    /// No execution at all.
    pub(crate) noexec: bool,
}

impl MountFlags {
    /// As `/proc/mounts` writes them.
    pub(crate) fn words(self) -> String {
        let word = |on, word| if on { word } else { "" };
        let access = if self.readonly { "ro" } else { "rw" };
        let (suid, dev) = (word(self.nosuid, ",nosuid"), word(self.nodev, ",nodev"));
        format!("{access}{suid}{dev}{},relatime", word(self.noexec, ",noexec"))
    }

    /// As `statfs` shows them (`ST_*`), with the access-time rule that all mounts have.
    pub(crate) fn statfs_bits(self) -> u64 {
        const ST_RDONLY: u64 = 1;
        const ST_NOSUID: u64 = 2;
        const ST_NODEV: u64 = 4;
        const ST_NOEXEC: u64 = 8;
        const ST_RELATIME: u64 = 4096;
        let bit = |on, bit| if on { bit } else { 0 };
        bit(self.readonly, ST_RDONLY)
            | bit(self.nosuid, ST_NOSUID)
            | bit(self.nodev, ST_NODEV)
            | bit(self.noexec, ST_NOEXEC)
            | ST_RELATIME
    }
}

/// Number of every mount outside the name space.
const PSEUDO_MOUNT_ID: u64 = 1;

/// Where a mount is: the mount below, and the dentry of it.
type On = (Weak<Mount>, Weak<Dentry>);

/// A tree put into the name space.
pub(crate) struct Mount {
    /// As `statx` and mountinfo number it.
    pub(crate) id: u64,
    /// The file system.
    pub(crate) file_system: Arc<dyn FileSystem>,
    /// Its root; below the file system's own root for a bind mount of a part.
    pub(crate) root: Arc<Dentry>,
    /// First column of `/proc/mounts`.
    pub(crate) source: Vec<u8>,
    /// `None` for the root of everything, for pseudo mounts and once unmounted.
    on: Mutex<Option<On>>,
    flags: RwLock<MountFlags>,
}

impl Mount {
    /// A mount of `root` that is nowhere yet.
    pub(crate) fn new(id: u64, root: Arc<Dentry>, source: Vec<u8>, flags: MountFlags) -> Arc<Self> {
        let file_system = root.inode().file_system();
        Self::of(id, file_system, root, source, flags)
    }

    /// A mount outside the name space (pipes, sockets, anonymous inodes).
    pub(crate) fn pseudo(file_system: Arc<dyn FileSystem>, root: Arc<Dentry>) -> Arc<Self> {
        let flags = MountFlags::default();
        Self::of(PSEUDO_MOUNT_ID, file_system, root, b"none".to_vec(), flags)
    }

    fn of(
        id: u64,
        file_system: Arc<dyn FileSystem>,
        root: Arc<Dentry>,
        source: Vec<u8>,
        flags: MountFlags,
    ) -> Arc<Self> {
        let (on, flags) = (Mutex::new(None), RwLock::new(flags));
        Arc::new(Self { id, file_system, root, source, on, flags })
    }

    /// Whether it is outside the name space.
    pub(crate) fn is_pseudo(&self) -> bool {
        self.id == PSEUDO_MOUNT_ID
    }

    /// Restrictions now.
    pub(crate) fn flags(&self) -> MountFlags {
        *self.flags.read()
    }

    /// Other restrictions from now on.
    pub(crate) fn set_flags(&self, flags: MountFlags) {
        *self.flags.write() = flags;
    }

    /// It is at `place` from now on; at none: it was unmounted.
    pub(crate) fn set_place(&self, place: Option<&Path>) {
        let on = place.map(|at| (Arc::downgrade(&at.mount), Arc::downgrade(&at.dentry)));
        *self.on.lock() = on;
    }

    /// Whether it sits on a dentry of `under`.
    pub(crate) fn is_on(&self, under: &Arc<Self>) -> bool {
        let on = self.on.lock();
        on.as_ref().is_some_and(|(mount, _)| std::ptr::eq(mount.as_ptr(), Arc::as_ptr(under)))
    }

    /// Where it is mounted.
    pub(crate) fn parent(&self) -> Option<Path> {
        let on = self.on.lock();
        let (mount, dentry) = on.as_ref()?;
        Some(Path { mount: mount.upgrade()?, dentry: dentry.upgrade()? })
    }
}
