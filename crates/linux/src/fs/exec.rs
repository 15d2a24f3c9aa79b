//! Files as programs and as mappings.
//!
//! [`Vfs::open_exec`] opens a program for exec; [`OpenFile::for_mmap`] gives what the memory
//! manager maps. [`Mapping`] is the part of an open file that a mapping keeps: it is `Send + Sync`
//! and outlives the descriptor.

use crate::fs::dentry::Path;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::inode::{Access, InodeRef};
use crate::fs::names::{At, Who};
use crate::fs::perm::{May, may_access};
use crate::fs::stat::FileType;
use crate::fs::vfs::Vfs;
use crate::fs::walk::LastLink;
use crate::fs::write_access::DenyWrite;
use crate::host::MachineHost;
use crate::task::Creds;
use kilburn_addr::Errno;
use kilburn_mm::{AddressSpace, ErrorCursor, FileForMap, FileIdentity, MappedFile};
use std::sync::Arc;

/// A program file, open for exec.
pub(crate) struct ExecFile {
    place: Path,
    root: Path,
    /// As long as it is executed nobody may write to it.
    _deny: DenyWrite,
    perm: u32,
    uid: u32,
    gid: u32,
}

impl ExecFile {
    /// Reads at `pos`; less than asked only at the end.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) fn read_at(&self, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        self.place.inode().page_cache().ok_or(Errno::EACCES)?.read_at(pos, into)
    }

    /// Permission and set-ID bits; no set-ID where the mount forbids it.
    pub(crate) fn mode(&self) -> u32 {
        if self.place.mount.flags().nosuid { self.perm & 0o1777 } else { self.perm }
    }

    /// Owner.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Group.
    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// What to map.
    pub(crate) fn mapped(&self) -> Arc<dyn MappedFile<MachineHost>> {
        Arc::new(Mapping {
            place: self.place.clone(),
            root: self.root.clone(),
            errors: Arc::default(),
        })
    }
}

impl Vfs {
    /// Opens a program (Linux fs/exec.c: `do_open_execat`).
    ///
    /// # Errors
    /// EACCES for what is no regular file, not executable, or on a noexec mount; ETXTBSY for what
    /// is open for writing; ENOENT, ELOOP ...
    pub(crate) fn open_exec(
        &self,
        who: Who<'_>,
        at: At<'_>,
        last: LastLink,
    ) -> Result<ExecFile, Errno> {
        let place = self.lookup(who, at, last)?;
        self.exec_place(who.creds, place)
    }

    /// Opens the program at `place`.
    ///
    /// # Errors
    /// As [`open_exec`](Self::open_exec).
    pub(crate) fn exec_place(&self, creds: &Creds, place: Path) -> Result<ExecFile, Errno> {
        let inode = place.inode();
        if inode.kind() == FileType::Symlink {
            return Err(Errno::ELOOP);
        }
        let stat = inode.stat()?;
        if stat.kind != FileType::Regular || place.mount.flags().noexec {
            return Err(Errno::EACCES);
        }
        may_access(creds, &stat, May::EXEC)?;
        if inode.page_cache().is_none() {
            return Err(Errno::EACCES);
        }
        inode.about_to_open(Access::Read)?;
        let (perm, uid, gid) = (stat.perm, stat.uid, stat.gid);
        let deny = self.writers().deny((stat.dev.encode(), stat.ino))?;
        Ok(ExecFile { place, root: self.root().clone(), _deny: deny, perm, uid, gid })
    }
}

/// What a mapping keeps of a file.
struct Mapping {
    place: Path,
    root: Path,
    errors: Arc<ErrorCursor>,
}

impl Mapping {
    fn inode(&self) -> &InodeRef {
        self.place.inode()
    }
}

impl MappedFile<MachineHost> for Mapping {
    fn mapping(&self) -> Option<&Arc<AddressSpace<MachineHost>>> {
        Some(self.inode().page_cache()?.address_space())
    }

    fn error_cursor(&self) -> Option<&ErrorCursor> {
        Some(&self.errors)
    }

    fn is_zero_device(&self) -> bool {
        is_zero_device(self.inode())
    }

    fn identity(&self) -> FileIdentity {
        let Ok(stat) = self.inode().stat() else { return FileIdentity::default() };
        FileIdentity { major: stat.dev.major, minor: stat.dev.minor, inode: stat.ino }
    }

    fn path(&self) -> String {
        String::from_utf8_lossy(&self.place.text(&self.root)).into_owned()
    }
}

fn is_zero_device(inode: &InodeRef) -> bool {
    inode.kind() == FileType::CharDevice
        && inode.stat().is_ok_and(|stat| stat.rdev == crate::fs::devices::ZERO)
}

impl OpenFile {
    /// What `mmap` maps (Linux `file_operations::mmap`).
    ///
    /// # Errors
    /// ENODEV for what cannot be mapped; EBADF for `O_PATH` files.
    pub(crate) fn for_mmap(&self) -> Result<FileForMap<MachineHost>, Errno> {
        let flags = self.flags();
        if flags.contains(OpenFlags::PATH) {
            return Err(Errno::EBADF);
        }
        if self.inode().page_cache().is_none() && !is_zero_device(self.inode()) {
            return Err(Errno::ENODEV);
        }
        let root = self.path().root_of_everything();
        let errors = Arc::clone(self.error_cursor());
        let file = Arc::new(Mapping { place: self.path().clone(), root, errors });
        Ok(FileForMap {
            file,
            readable: flags.readable(),
            writable: flags.writable(),
            noexec: self.path().mount.flags().noexec,
            write_sealed: self.check_write_seal().is_err(),
        })
    }
}
