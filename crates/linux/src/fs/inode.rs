//! Inodes and file systems: the seam between path walking and what stores files.
//!
//! [`Inode`] is Linux's `struct inode` with its `inode_operations`; [`FileSystem`] is the super
//! block. Path walking, permission checks, `..`, symlinks and mount points are not theirs: they
//! answer for one name in one directory. Inodes are `Send + Sync` because a memory mapping keeps
//! them; what belongs to one task sits in [`crate::fs::file`].
//!
//! Neighbours: [`crate::fs::hostfs`], [`crate::fs::memfs`], [`crate::fs::procfs`] implement this;
//! [`crate::fs::dentry`] gives inodes their names.

use crate::fs::dentry::Path;
use crate::fs::file::{FileOps, OpenFlags};
use crate::fs::hugetlb::HugeSize;
use crate::fs::page_cache::PageCache;
use crate::fs::pipe::Fifo;
use crate::fs::seals::Seals;
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs, Timespec};
use bitflags::bitflags;
use kilburn_addr::Errno;
use kilburn_mm::BackingStore;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// A shared inode.
pub(crate) type InodeRef = Arc<dyn Inode>;

/// What is to be made in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewInode<'a> {
    /// What it is.
    pub(crate) what: NewKind<'a>,
    /// Permission bits, umask already applied.
    pub(crate) perm: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// The kinds of inode a program can make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NewKind<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link with this text.
    Symlink(&'a [u8]),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A device node.
    Device(FileType, Device),
}

impl NewKind<'_> {
    /// The type the inode will have.
    pub(crate) const fn file_type(self) -> FileType {
        match self {
            Self::Regular => FileType::Regular,
            Self::Directory => FileType::Directory,
            Self::Symlink(_) => FileType::Symlink,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::Device(kind, _) => kind,
        }
    }
}

/// Attributes to change; `None` stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SetAttr {
    /// Permission bits.
    pub(crate) perm: Option<u32>,
    /// Owner.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
    /// Last read.
    pub(crate) atime: Option<Timespec>,
    /// Last change of the contents.
    pub(crate) mtime: Option<Timespec>,
}

bitflags! {
    /// Times to set to now.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Touch: u32 {
        /// Last read; kept under the `relatime` rule.
        const ATIME = 1;
        /// Last change of the contents.
        const MTIME = 2;
        /// Last change of the inode.
        const CTIME = 4;
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Only reading.
    Read,
    /// Writing, perhaps reading too.
    Write,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DirEntry {
    /// The name.
    pub(crate) name: Vec<u8>,
    /// Inode number.
    pub(crate) ino: u64,
    /// Type.
    pub(crate) kind: FileType,
}

/// Where a symbolic link leads.
pub(crate) enum Target {
    /// A path to walk.
    Text(Vec<u8>),
    /// Straight to a place, as `/proc/self/fd/3` does.
    Jump(Path),
}

/// How `rename` treats an existing target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail with EEXIST.
    NoReplace,
    /// Swap the two names.
    Exchange,
}

/// How `setxattr` treats an existing attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum XattrMode {
    /// Create or replace.
    Either,
    /// Fail with EEXIST when it is there (`XATTR_CREATE`).
    Create,
    /// Fail with ENODATA when it is not (`XATTR_REPLACE`).
    Replace,
}

/// An inode of some file system.
///
/// Directory operations answer ENOTDIR unless overridden; making and removing names answers
/// EPERM, as file systems without the operation do on Linux.
pub(crate) trait Inode: Send + Sync + Any {
    /// The super block.
    fn file_system(&self) -> Arc<dyn FileSystem>;

    /// Type; never changes.
    fn kind(&self) -> FileType;

    /// Attributes now.
    ///
    /// # Errors
    /// What the store answers.
    fn stat(&self) -> Result<Kstat, Errno>;

    /// Changes attributes; `ctime` becomes now.
    ///
    /// # Errors
    /// What the store answers; EPERM where attributes are fixed.
    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Sets times to now, silently nothing where they are fixed.
    fn touch(&self, _times: Touch) {}

    /// The contents of a regular file.
    fn page_cache(&self) -> Option<&PageCache> {
        None
    }

    /// Cuts or extends a regular file.
    ///
    /// # Errors
    /// EINVAL when it has no size to set; what the store answers.
    fn truncate(&self, size: u64) -> Result<(), Errno> {
        match self.page_cache() {
            Some(cache) => cache.truncate(size),
            None => Err(Errno::EINVAL),
        }
    }

    /// Sees to it that the store has room for these bytes of a regular file, which does not grow by
    /// that. A store that cannot promise it promises nothing.
    ///
    /// # Errors
    /// What the store answers, such as ENOSPC.
    fn allocate(&self, _bytes: Range<u64>) -> Result<(), Errno> {
        Ok(())
    }

    /// The contents of a regular file past its page cache, for swap to lie in: the store has all of
    /// it, holes excluded (Linux `swap_activate`).
    ///
    /// # Errors
    /// EINVAL where swap cannot be; what the store answers.
    fn swap_store(&self) -> Result<Box<dyn BackingStore>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Whether swap lies in it (Linux `IS_SWAPFILE`).
    fn is_swap_file(&self) -> bool {
        false
    }

    /// Hands what is only in the machine's memory to the store: contents and attributes.
    ///
    /// # Errors
    /// What the store answers.
    fn write_back(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// [`Self::write_back`], and waits until the store has made it durable.
    ///
    /// # Errors
    /// What the store answers.
    fn sync(&self) -> Result<(), Errno> {
        self.write_back()
    }

    /// The last writer closed the file: a store outside the machine gets the bytes now.
    ///
    /// # Errors
    /// What the store answers.
    fn writer_closed(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Prepares for being opened, for writing or only for reading.
    ///
    /// # Errors
    /// What the store answers, such as EROFS.
    fn about_to_open(&self, _access: Access) -> Result<(), Errno> {
        Ok(())
    }

    /// The inode named `name`.
    ///
    /// # Errors
    /// ENOENT, ENAMETOOLONG.
    fn lookup(&self, _name: &[u8]) -> Result<InodeRef, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// All names, without `.` and `..`.
    ///
    /// # Errors
    /// What the store answers.
    fn read_dir(&self) -> Result<Vec<DirEntry>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Makes `name`.
    ///
    /// # Errors
    /// EEXIST, EPERM, what the store answers.
    fn create(&self, _name: &[u8], _new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        Err(Errno::EPERM)
    }

    /// A nameless regular file in this directory's file system (`O_TMPFILE`).
    ///
    /// # Errors
    /// EOPNOTSUPP where there is none.
    fn create_nameless(&self, _new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target`, of the same file system, one more name.
    ///
    /// # Errors
    /// EEXIST, EPERM, EMLINK.
    fn link(&self, _name: &[u8], _target: &InodeRef) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// ENOENT, EISDIR, EPERM.
    fn unlink(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENOTEMPTY, EPERM.
    fn rmdir(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Moves `name` to `new_name` in `new_dir`, a directory of the same file system.
    ///
    /// # Errors
    /// ENOENT, EEXIST, ENOTEMPTY, EISDIR, ENOTDIR, EPERM.
    fn rename(
        &self,
        _name: &[u8],
        _new_dir: &InodeRef,
        _new_name: &[u8],
        _mode: RenameMode,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// The text of a symbolic link, as `readlink` shows it.
    ///
    /// # Errors
    /// EINVAL when it is none.
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Where path walking goes from a symbolic link.
    ///
    /// # Errors
    /// EINVAL when it is none; EACCES and ENOENT for magic links.
    fn follow(&self) -> Result<Target, Errno> {
        self.read_link().map(Target::Text)
    }

    /// Whether following this link jumps ([`Target::Jump`]) instead of walking a text.
    fn is_magic_link(&self) -> bool {
        false
    }

    /// The pipe behind a FIFO.
    fn fifo(&self) -> Option<Fifo> {
        None
    }

    /// Operations of an inode whose bytes are made on the spot (procfs, anonymous inodes);
    /// `None`: what its type implies.
    ///
    /// # Errors
    /// What opening it answers.
    fn open(&self, _flags: OpenFlags) -> Option<Result<Box<dyn FileOps>, Errno>> {
        None
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP without support; ENODATA.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP without support; EEXIST, ENODATA as `mode` says.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _mode: XattrMode) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// EOPNOTSUPP without support; ENODATA.
    fn remove_xattr(&self, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of the extended attributes.
    ///
    /// # Errors
    /// What the store answers.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    /// The seals of a file in memory.
    fn seals(&self) -> Option<&Seals> {
        None
    }

    /// The size of its pages, if they are huge.
    fn huge_pages(&self) -> Option<HugeSize> {
        None
    }

    /// For operations between two inodes of one file system.
    fn as_any(&self) -> &dyn Any;
}

/// A mounted file system (Linux `super_block`).
pub(crate) trait FileSystem: Send + Sync {
    /// Type as `/proc/mounts` prints it.
    fn type_name(&self) -> &'static str;

    /// Device number of its inodes.
    fn device(&self) -> Device;

    /// Figures for `statfs`.
    ///
    /// # Errors
    /// What the store answers.
    fn statfs(&self) -> Result<Kstatfs, Errno>;

    /// Hands everything to the store that is only in the machine's memory.
    ///
    /// # Errors
    /// The first failure; the rest is still tried.
    fn write_back(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// [`Self::write_back`], and waits until all is durable.
    ///
    /// # Errors
    /// The first failure; the rest is still tried.
    fn sync(&self) -> Result<(), Errno> {
        self.write_back()
    }

    /// The machine ends, or memory is short: forgets cached inodes nobody uses.
    fn drop_caches(&self) {}
}
