//! Opening files.
//!
//! [`OpenHow`] is what a call asks, checked as Linux checks it ([`OpenHow::new`]); [`Vfs::open`]
//! finds or makes the file, checks rights and gives an [`OpenFile`]. Source: Linux 6.18 fs/open.c:
//! `build_open_flags`, fs/namei.c: `path_openat`. Neighbours: [`crate::fs::walk`].

use crate::fs::dentry::Path;
use crate::fs::devices;
use crate::fs::file::{FileOps, OpenFile, OpenFlags, PathOnly};
use crate::fs::fs_struct::FsStruct;
use crate::fs::inode::{Access, InodeRef, NewInode, NewKind, Target};
use crate::fs::perm::{May, may_access, owner_or_capable};
use crate::fs::regular::{DirectoryFile, RegularFile};
use crate::fs::stat::{FileType, Kstat, S_ISVTX};
use crate::fs::vfs::Vfs;
use crate::fs::walk::{Last, LastLink, Resolve, Walk};
use crate::fs::write_access::WriteAccess;
use crate::task::Creds;
use kilburn_addr::Errno;
use std::rc::Rc;
use std::sync::Arc;

/// A checked request to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OpenHow {
    /// Flags.
    pub(crate) flags: OpenFlags,
    /// Permission bits of a file that is made; umask not yet applied.
    pub(crate) perm: u32,
    /// Restrictions of the walk.
    pub(crate) resolve: Resolve,
}

impl OpenHow {
    /// As `openat` takes it: unknown flags are ignored.
    ///
    /// # Errors
    /// EINVAL for impossible combinations.
    pub(crate) fn new(flags: u32, mode: u32) -> Result<Self, Errno> {
        let flags = OpenFlags::from_bits_truncate(flags);
        Self::checked(flags, mode & 0o7777, Resolve::empty())
    }

    /// Checks combinations of flags.
    ///
    /// # Errors
    /// EINVAL for impossible ones.
    pub(crate) fn checked(flags: OpenFlags, perm: u32, resolve: Resolve) -> Result<Self, Errno> {
        let mut flags = flags;
        if flags.contains(OpenFlags::TMPFILE) {
            if !flags.contains(OpenFlags::DIRECTORY) || flags.contains(OpenFlags::CREAT) {
                return Err(Errno::EINVAL);
            }
            if !(flags - OpenFlags::PATH).writable() {
                return Err(Errno::EINVAL);
            }
        }
        if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        if flags.contains(OpenFlags::PATH) {
            flags &=
                OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
        }
        let makes = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
        Ok(Self { flags, perm: if makes { perm } else { 0 }, resolve })
    }

    /// The rights that opening an existing file needs.
    fn wanted(self) -> May {
        if self.flags.contains(OpenFlags::PATH) {
            return May::empty();
        }
        let mut wanted = match self.flags.bits() & OpenFlags::ACCMODE {
            0 => May::READ,
            1 => May::WRITE,
            _ => May::READ | May::WRITE,
        };
        if self.flags.contains(OpenFlags::TRUNC) {
            wanted |= May::WRITE;
        }
        wanted
    }
}

/// Whether the file was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Made,
}

impl Vfs {
    /// Opens `path`, relative to `from`.
    ///
    /// # Errors
    /// As `openat2(2)`.
    pub(crate) fn open(
        &self,
        creds: &Creds,
        fs: &FsStruct,
        from: &Path,
        path: &[u8],
        how: OpenHow,
    ) -> Result<Rc<OpenFile>, Errno> {
        let mut walk = Walk::restricted(creds, fs.root(), from, how.resolve);
        if how.flags.contains(OpenFlags::TMPFILE) {
            return self.open_nameless(creds, fs, &mut walk, from, path, how);
        }
        let (place, origin) = if how.flags.contains(OpenFlags::CREAT) {
            self.find_or_make(creds, fs, &mut walk, from, path, how)?
        } else {
            let nofollow = how.flags.contains(OpenFlags::NOFOLLOW);
            let last = if nofollow { LastLink::Keep } else { LastLink::Follow };
            (walk.resolve(from, path, last)?, Origin::Found)
        };
        self.open_place(creds, place, how, origin)
    }

    /// Opens what is at `place`.
    ///
    /// # Errors
    /// ELOOP for a link, EISDIR, ENXIO, EACCES, EPERM.
    pub(crate) fn open_found(
        &self,
        creds: &Creds,
        place: Path,
        how: OpenHow,
    ) -> Result<Rc<OpenFile>, Errno> {
        self.open_place(creds, place, how, Origin::Found)
    }

    fn find_or_make(
        &self,
        creds: &Creds,
        fs: &FsStruct,
        walk: &mut Walk<'_>,
        from: &Path,
        path: &[u8],
        how: OpenHow,
    ) -> Result<(Path, Origin), Errno> {
        let mut from = from.clone();
        let mut path = path.to_vec();
        loop {
            let parent = walk.resolve_parent(&from, &path)?;
            let name = match parent.last {
                Last::Name(name) if !parent.trailing_slash => name,
                Last::Name(_) => return Err(Errno::EISDIR),
                _ if how.flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST),
                _ => return Err(Errno::EISDIR),
            };
            let exclusive = how.flags.contains(OpenFlags::EXCL);
            let found = match walk.child(&parent.dir, &name) {
                Err(Errno::ENOENT) => {
                    parent.dir.want_write()?;
                    let made =
                        self.make(creds, fs, &parent.dir, &name, NewKind::Regular, how.perm)?;
                    return Ok((made, Origin::Made));
                }
                found => found?,
            };
            if exclusive {
                return Err(Errno::EEXIST);
            }
            if found.inode().kind() != FileType::Symlink {
                may_create_over(creds, &parent.dir, &found)?;
                return Ok((found, Origin::Found));
            }
            if how.flags.contains(OpenFlags::NOFOLLOW) {
                return Ok((found, Origin::Found));
            }
            match walk.follow(&parent.dir, &found)? {
                Target::Jump(place) => return Ok((place, Origin::Found)),
                Target::Text(text) => path = text,
            }
            from = parent.dir;
        }
    }

    /// Makes `name` in `dir`, after checking that the caller may.
    ///
    /// # Errors
    /// EACCES, ENOENT in a removed directory, what the file system answers.
    pub(crate) fn make(
        &self,
        creds: &Creds,
        fs: &FsStruct,
        dir: &Path,
        name: &[u8],
        what: NewKind<'_>,
        perm: u32,
    ) -> Result<Path, Errno> {
        if dir.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        may_access(creds, &dir.inode().stat()?, May::WRITE | May::EXEC)?;
        let perm = match what {
            NewKind::Symlink(_) => 0o777,
            _ => perm & !fs.umask(),
        };
        let new = NewInode { what, perm, uid: creds.fsuid, gid: creds.fsgid };
        let inode = dir.inode().create(name, &new)?;
        Ok(Path { mount: Arc::clone(&dir.mount), dentry: dir.dentry.child(name, inode) })
    }

    fn open_nameless(
        &self,
        creds: &Creds,
        fs: &FsStruct,
        walk: &mut Walk<'_>,
        from: &Path,
        path: &[u8],
        how: OpenHow,
    ) -> Result<Rc<OpenFile>, Errno> {
        let nofollow = how.flags.contains(OpenFlags::NOFOLLOW);
        let last = if nofollow { LastLink::Keep } else { LastLink::Follow };
        let dir = walk.resolve(from, path, last)?;
        if dir.inode().kind() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        dir.want_write()?;
        may_access(creds, &dir.inode().stat()?, May::WRITE | May::EXEC)?;
        let perm = how.perm & !fs.umask();
        let new = NewInode { what: NewKind::Regular, perm, uid: creds.fsuid, gid: creds.fsgid };
        let inode = dir.inode().create_nameless(&new)?;
        let name = format!("#{}", inode.stat()?.ino).into_bytes();
        let dentry = dir.dentry.removed_child(&name, inode);
        let place = Path { mount: Arc::clone(&dir.mount), dentry };
        let mut how = how;
        how.flags -= OpenFlags::TMPFILE | OpenFlags::DIRECTORY;
        let file = self.open_place(creds, place, how, Origin::Made)?;
        Ok(file)
    }

    fn open_place(
        &self,
        creds: &Creds,
        place: Path,
        how: OpenHow,
        origin: Origin,
    ) -> Result<Rc<OpenFile>, Errno> {
        let inode = place.inode();
        let kind = inode.kind();
        let directory = how.flags.contains(OpenFlags::DIRECTORY);
        if directory && kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if how.flags.contains(OpenFlags::PATH) {
            return Ok(OpenFile::new(Box::new(PathOnly), place, how.flags));
        }
        if origin == Origin::Found {
            may_open(creds, &place, how)?;
        }
        let access = (kind == FileType::Regular && how.flags.writable())
            .then(|| self.write_access(inode))
            .transpose()?;
        let ops = self.ops_of(&place, how.flags)?;
        if origin == Origin::Found
            && kind == FileType::Regular
            && how.flags.contains(OpenFlags::TRUNC)
        {
            self.truncate_inode(creds, inode, 0)?;
        }
        let file = OpenFile::new(ops, place, how.flags);
        if let Some(access) = access {
            file.hold_write_access(access);
        }
        Ok(file)
    }

    /// The right to write to a regular file.
    ///
    /// # Errors
    /// ETXTBSY while it is executed.
    pub(crate) fn write_access(&self, inode: &InodeRef) -> Result<WriteAccess, Errno> {
        let stat = inode.stat()?;
        self.writers().allow((stat.dev.encode(), stat.ino))
    }

    /// What an open file of this inode does.
    fn ops_of(&self, place: &Path, flags: OpenFlags) -> Result<Box<dyn FileOps>, Errno> {
        let inode = place.inode();
        if let Some(ops) = inode.open(flags) {
            return ops;
        }
        let access = if flags.writable() || flags.contains(OpenFlags::TRUNC) {
            Access::Write
        } else {
            Access::Read
        };
        Ok(match inode.kind() {
            FileType::Regular => {
                inode.about_to_open(access)?;
                Box::new(RegularFile::new(Arc::clone(inode)))
            }
            FileType::Directory => Box::new(DirectoryFile::new()),
            FileType::Fifo => {
                let fifo = inode.fifo().ok_or(Errno::ENXIO)?;
                Box::new(fifo.open(Arc::clone(inode), flags)?)
            }
            FileType::CharDevice => self.open_device(inode.stat()?.rdev)?,
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::BlockDevice | FileType::Socket | FileType::Anonymous => {
                return Err(Errno::ENXIO);
            }
        })
    }

    fn open_device(&self, device: crate::fs::stat::Device) -> Result<Box<dyn FileOps>, Errno> {
        devices::open(device, self.random(), self.stdio().tty())
    }
}

/// Checks that an existing file may be opened so (Linux `may_open`).
fn may_open(creds: &Creds, place: &Path, how: OpenHow) -> Result<(), Errno> {
    let inode = place.inode();
    let wanted = how.wanted();
    match inode.kind() {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Directory
            if (wanted.contains(May::WRITE) || how.flags.contains(OpenFlags::CREAT)) =>
        {
            return Err(Errno::EISDIR);
        }
        FileType::CharDevice | FileType::BlockDevice if place.mount.flags().nodev => {
            return Err(Errno::EACCES);
        }
        _ => {}
    }
    let stat = inode.stat()?;
    may_access(creds, &stat, wanted)?;
    if wanted.contains(May::WRITE) && !stat.kind.is_special() {
        place.want_write()?;
    }
    if how.flags.contains(OpenFlags::NOATIME) && !owner_or_capable(creds, &stat) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `fs.protected_regular` = 2 and `fs.protected_fifos` = 1, as Debian sets them: in a sticky
/// directory, `O_CREAT` does not open what somebody else put there.
fn may_create_over(creds: &Creds, dir: &Path, found: &Path) -> Result<(), Errno> {
    let dir: Kstat = dir.inode().stat()?;
    if dir.perm & S_ISVTX == 0 {
        return Ok(());
    }
    let stat = found.inode().stat()?;
    let guarded = match stat.kind {
        FileType::Regular => dir.perm & 0o022 != 0,
        FileType::Fifo => dir.perm & 0o002 != 0,
        _ => false,
    };
    let ours = stat.uid == dir.uid || stat.uid == creds.fsuid;
    if guarded && !ours { Err(Errno::EACCES) } else { Ok(()) }
}
