//! Making, removing and moving names; changing attributes.
//!
//! One method of [`Vfs`] a system call, arguments already decoded. Each finds its places, checks
//! rights in Linux's order, asks the inode, and keeps the dentries in step. Source: Linux 6.18
//! fs/namei.c, fs/attr.c, fs/open.c. Neighbours: [`crate::fs::open`], [`crate::fs::walk`].

use crate::fs::dentry::Path;
use crate::fs::file::OpenFile;
use crate::fs::fs_struct::FsStruct;
use crate::fs::inode::{InodeRef, NewKind, RenameMode, SetAttr, Touch};
use crate::fs::perm::{May, may_access, may_delete, owner_or_capable};
use crate::fs::stat::{FileType, Kstat, S_ISGID, S_ISUID, Timespec};
use crate::fs::vfs::Vfs;
use crate::fs::walk::{Last, LastLink, Parent, Walk};
use crate::task::{Capability, Creds};
use kilburn_addr::Errno;
use std::sync::Arc;

/// Who asks, and from where: what every call on a path has.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    /// Identity.
    pub(crate) creds: &'a Creds,
    /// Root, working directory, umask.
    pub(crate) fs: &'a FsStruct,
}

impl<'a> Who<'a> {
    /// A new path walk.
    pub(crate) fn walk(self) -> Walk<'a> {
        Walk::new(self.creds, self.fs.root())
    }
}

/// A path as a call names it: where relative paths start, and the text.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    /// Start of relative paths.
    pub(crate) from: &'a Path,
    /// The text.
    pub(crate) text: &'a [u8],
}

/// What `unlinkat` is to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remove {
    /// Anything but a directory.
    File,
    /// An empty directory.
    Directory,
}

/// A time as `utimensat` gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NewTime {
    /// `UTIME_OMIT`.
    Keep,
    /// `UTIME_NOW`.
    Now,
    /// This moment.
    Set(Timespec),
}

impl Vfs {
    /// `mkdirat`, `mknodat`, `symlinkat`: makes what `at` names.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EACCES, EPERM, what the file system answers.
    pub(crate) fn create(
        &self,
        who: Who<'_>,
        at: At<'_>,
        what: NewKind<'_>,
        perm: u32,
    ) -> Result<(), Errno> {
        let mut walk = who.walk();
        let parent = walk.resolve_parent(at.from, at.text)?;
        let name = new_name(&mut walk, &parent, what.file_type() == FileType::Directory)?;
        parent.dir.want_write()?;
        let is_whiteout =
            matches!(what, NewKind::Device(FileType::CharDevice, d) if d.encode() == 0);
        if matches!(what, NewKind::Device(..))
            && !is_whiteout
            && !who.creds.has_cap(Capability::Mknod)
        {
            return Err(Errno::EPERM);
        }
        self.make(who.creds, who.fs, &parent.dir, &name, what, perm).map(drop)
    }

    /// `linkat`: gives `target` the name `at`.
    ///
    /// # Errors
    /// EXDEV between file systems, EPERM for directories, EEXIST, EACCES.
    pub(crate) fn link(&self, who: Who<'_>, target: &Path, at: At<'_>) -> Result<(), Errno> {
        let mut walk = who.walk();
        let parent = walk.resolve_parent(at.from, at.text)?;
        let name = new_name(&mut walk, &parent, false)?;
        parent.dir.want_write()?;
        if !Arc::ptr_eq(&target.mount, &parent.dir.mount) && !target.mount.is_pseudo() {
            return Err(Errno::EXDEV);
        }
        let stat = target.inode().stat()?;
        may_link(who.creds, &stat)?;
        let dir = parent.dir.inode();
        may_access(who.creds, &dir.stat()?, May::WRITE | May::EXEC)?;
        if target.inode().file_system().device() != dir.file_system().device() {
            return Err(Errno::EXDEV);
        }
        if stat.kind == FileType::Directory {
            return Err(Errno::EPERM);
        }
        dir.link(&name, target.inode())
    }

    /// `unlinkat`.
    ///
    /// # Errors
    /// ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EBUSY for mount points, EACCES, EPERM.
    pub(crate) fn unlink(&self, who: Who<'_>, at: At<'_>, remove: Remove) -> Result<(), Errno> {
        let mut walk = who.walk();
        let parent = walk.resolve_parent(at.from, at.text)?;
        let name = match (&parent.last, remove) {
            (Last::Name(name), _) => name.clone(),
            (_, Remove::File) => return Err(Errno::EISDIR),
            (Last::DotDot, Remove::Directory) => return Err(Errno::ENOTEMPTY),
            (Last::Dot, Remove::Directory) => return Err(Errno::EINVAL),
            (Last::Root, Remove::Directory) => return Err(Errno::EBUSY),
        };
        parent.dir.want_write()?;
        let victim = walk.child(&parent.dir, &name)?;
        let is_dir = victim.inode().kind() == FileType::Directory;
        if remove == Remove::File && parent.trailing_slash {
            return Err(if is_dir { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        check_removable(who.creds, &parent.dir, &victim)?;
        match (remove, is_dir) {
            (Remove::File, true) => return Err(Errno::EISDIR),
            (Remove::Directory, false) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if !Arc::ptr_eq(&victim.mount, &parent.dir.mount) {
            return Err(Errno::EBUSY);
        }
        match remove {
            Remove::File => parent.dir.inode().unlink(&name)?,
            Remove::Directory => parent.dir.inode().rmdir(&name)?,
        }
        parent.dir.dentry.forget_child(&name);
        Ok(())
    }

    /// `renameat2`.
    ///
    /// # Errors
    /// EXDEV, EBUSY, EINVAL into itself, ENOTEMPTY, EEXIST, EISDIR, ENOTDIR, EACCES, EPERM.
    pub(crate) fn rename(
        &self,
        who: Who<'_>,
        old: At<'_>,
        new: At<'_>,
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let mut walk = who.walk();
        let from = walk.resolve_parent(old.from, old.text)?;
        let to = walk.resolve_parent(new.from, new.text)?;
        if !Arc::ptr_eq(&from.dir.mount, &to.dir.mount) {
            return Err(Errno::EXDEV);
        }
        let Last::Name(old_name) = &from.last else { return Err(Errno::EBUSY) };
        let Last::Name(name) = &to.last else {
            return Err(if mode == RenameMode::NoReplace { Errno::EEXIST } else { Errno::EBUSY });
        };
        from.dir.want_write()?;
        let moved = walk.child(&from.dir, old_name)?;
        let target = match walk.child(&to.dir, name) {
            Err(Errno::ENOENT) => None,
            found => Some(found?),
        };
        check_rename(who.creds, &from, &to, &moved, target.as_ref(), mode)?;
        if target.as_ref().is_some_and(|t| Arc::ptr_eq(t.inode(), moved.inode())) {
            // Two names of one file: nothing to do.
            return Ok(());
        }
        from.dir.inode().rename(old_name, to.dir.inode(), name, mode)?;
        if mode == RenameMode::Exchange {
            from.dir.dentry.exchange_children(old_name, &to.dir.dentry, name);
        } else {
            from.dir.dentry.move_child(old_name, &to.dir.dentry, name);
        }
        Ok(())
    }

    /// `fchmodat`: replaces the permission bits.
    ///
    /// # Errors
    /// EPERM when not the owner, or when execute bits are sealed; EOPNOTSUPP for symbolic links.
    pub(crate) fn chmod(&self, creds: &Creds, place: &Path, perm: u32) -> Result<(), Errno> {
        place.want_write()?;
        let inode = place.inode();
        let stat = inode.stat()?;
        if inode.kind() == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if !owner_or_capable(creds, &stat) {
            return Err(Errno::EPERM);
        }
        let mut perm = perm & 0o7777;
        if !creds.in_group(stat.gid) && !creds.has_cap(Capability::Fsetid) {
            perm &= !S_ISGID;
        }
        if let Some(seals) = inode.seals() {
            seals.check_mode(stat.mode(), perm)?;
        }
        inode.set_attr(&SetAttr { perm: Some(perm), ..SetAttr::default() })
    }

    /// `fchownat`: replaces owner and group.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn chown(
        &self,
        creds: &Creds,
        place: &Path,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        place.want_write()?;
        let inode = place.inode();
        let stat = inode.stat()?;
        if !creds.has_cap(Capability::Chown) {
            let owner = creds.fsuid == stat.uid;
            let uid_ok = uid.is_none_or(|uid| owner && uid == stat.uid);
            let gid_ok = gid.is_none_or(|gid| owner && (creds.in_group(gid) || gid == stat.gid));
            if !uid_ok || !gid_ok {
                return Err(Errno::EPERM);
            }
        }
        let perm = (stat.kind != FileType::Directory).then(|| without_privileges(stat.perm));
        let perm = perm.filter(|perm| *perm != stat.perm);
        inode.set_attr(&SetAttr { perm, uid, gid, ..SetAttr::default() })
    }

    /// `utimensat`.
    ///
    /// # Errors
    /// EPERM, EACCES.
    pub(crate) fn set_times(
        &self,
        creds: &Creds,
        place: &Path,
        atime: NewTime,
        mtime: NewTime,
    ) -> Result<(), Errno> {
        place.want_write()?;
        let inode = place.inode();
        if (atime, mtime) == (NewTime::Keep, NewTime::Keep) {
            return Ok(());
        }
        let stat = inode.stat()?;
        if !owner_or_capable(creds, &stat) {
            if (atime, mtime) != (NewTime::Now, NewTime::Now) {
                return Err(Errno::EPERM);
            }
            may_access(creds, &stat, May::WRITE)?;
        }
        let now = self.clock().now();
        let moment = |time| match time {
            NewTime::Keep => None,
            NewTime::Now => Some(now),
            NewTime::Set(time) => Some(time),
        };
        inode.set_attr(&SetAttr {
            atime: moment(atime),
            mtime: moment(mtime),
            ..SetAttr::default()
        })
    }

    /// `truncate` on a path: checks rights, then cuts.
    ///
    /// # Errors
    /// EISDIR, EINVAL for what has no size, EACCES, what the store answers.
    pub(crate) fn truncate(&self, creds: &Creds, place: &Path, size: u64) -> Result<(), Errno> {
        place.want_write()?;
        let inode = place.inode();
        match inode.kind() {
            FileType::Directory => return Err(Errno::EISDIR),
            FileType::Regular => {}
            _ => return Err(Errno::EINVAL),
        }
        may_access(creds, &inode.stat()?, May::WRITE)?;
        let _writing = self.write_access(inode)?;
        self.truncate_inode(creds, inode, size)?;
        inode.writer_closed()
    }

    /// Cuts or extends a file that is open for writing.
    ///
    /// # Errors
    /// What the store answers; EPERM when sealed.
    pub(crate) fn truncate_open(
        &self,
        creds: &Creds,
        file: &OpenFile,
        size: u64,
    ) -> Result<(), Errno> {
        self.truncate_inode(creds, file.inode(), size)
    }

    /// Cuts or extends a regular file.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) fn truncate_inode(
        &self,
        creds: &Creds,
        inode: &InodeRef,
        size: u64,
    ) -> Result<(), Errno> {
        self.drop_privileges(creds, inode)?;
        inode.truncate(size)?;
        inode.touch(Touch::MTIME | Touch::CTIME);
        Ok(())
    }

    /// A change of contents takes the set-ID bits away (Linux `file_remove_privs`).
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) fn drop_privileges(&self, creds: &Creds, inode: &InodeRef) -> Result<(), Errno> {
        if creds.has_cap(Capability::Fsetid) || inode.kind() != FileType::Regular {
            return Ok(());
        }
        let stat = inode.stat()?;
        let perm = without_privileges(stat.perm);
        if perm == stat.perm {
            return Ok(());
        }
        inode.set_attr(&SetAttr { perm: Some(perm), ..SetAttr::default() })
    }

    /// `faccessat`: checks `want` for `creds` (real ids already in place when asked so).
    ///
    /// # Errors
    /// EACCES.
    pub(crate) fn access(&self, creds: &Creds, place: &Path, want: May) -> Result<(), Errno> {
        let stat = place.inode().stat()?;
        if want.contains(May::EXEC) && place.mount.flags().noexec && stat.kind == FileType::Regular
        {
            return Err(Errno::EACCES);
        }
        if want.contains(May::WRITE) && !stat.kind.is_special() {
            place.want_write()?;
        }
        may_access(creds, &stat, want)
    }

    /// The place `at` names.
    ///
    /// # Errors
    /// As [`Walk::resolve`].
    pub(crate) fn lookup(&self, who: Who<'_>, at: At<'_>, last: LastLink) -> Result<Path, Errno> {
        who.walk().resolve(at.from, at.text, last)
    }

    /// A directory to change to (`chdir`, `chroot`).
    ///
    /// # Errors
    /// ENOTDIR, EACCES.
    pub(crate) fn directory(&self, who: Who<'_>, at: At<'_>) -> Result<Path, Errno> {
        let place = self.lookup(who, at, LastLink::Follow)?;
        self.check_directory(who.creds, &place)?;
        Ok(place)
    }

    /// Whether `place` can be changed to.
    ///
    /// # Errors
    /// ENOTDIR, EACCES.
    pub(crate) fn check_directory(&self, creds: &Creds, place: &Path) -> Result<(), Errno> {
        if place.inode().kind() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        may_access(creds, &place.inode().stat()?, May::EXEC)
    }
}

/// Mode bits without set-ID, as a change of owner or contents leaves them.
fn without_privileges(perm: u32) -> u32 {
    // Set-group-ID without group execution once meant mandatory locking and stays.
    let gid = if perm & 0o010 != 0 { S_ISGID } else { 0 };
    perm & !(S_ISUID | gid)
}

/// The name to be made, which must not be there yet (Linux `filename_create`).
fn new_name(walk: &mut Walk<'_>, parent: &Parent, directory: bool) -> Result<Vec<u8>, Errno> {
    let Last::Name(name) = &parent.last else { return Err(Errno::EEXIST) };
    match walk.child(&parent.dir, name) {
        Ok(_) => Err(Errno::EEXIST),
        Err(Errno::ENOENT) if parent.trailing_slash && !directory => Err(Errno::ENOENT),
        Err(Errno::ENOENT) => Ok(name.clone()),
        Err(errno) => Err(errno),
    }
}

/// `fs.protected_hardlinks`: a link to somebody else's file needs reading and writing it.
fn may_link(creds: &Creds, stat: &Kstat) -> Result<(), Errno> {
    if owner_or_capable(creds, stat) {
        return Ok(());
    }
    let special = stat.kind != FileType::Regular
        || stat.perm & S_ISUID != 0
        || stat.perm & (S_ISGID | 0o010) == S_ISGID | 0o010;
    if special || may_access(creds, stat, May::READ | May::WRITE).is_err() {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Whether `victim` may be taken out of `dir` (Linux `may_delete`).
fn check_removable(creds: &Creds, dir: &Path, victim: &Path) -> Result<(), Errno> {
    let dir = dir.inode().stat()?;
    may_access(creds, &dir, May::WRITE | May::EXEC)?;
    may_delete(creds, &dir, &victim.inode().stat()?)?;
    if victim.inode().is_swap_file() { Err(Errno::EPERM) } else { Ok(()) }
}

fn check_rename(
    creds: &Creds,
    from: &Parent,
    to: &Parent,
    moved: &Path,
    target: Option<&Path>,
    mode: RenameMode,
) -> Result<(), Errno> {
    let is_dir = |place: &Path| place.inode().kind() == FileType::Directory;
    match (mode, target) {
        (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
        (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
        _ => {}
    }
    let exchange = mode == RenameMode::Exchange;
    if exchange && to.trailing_slash && !target.is_some_and(is_dir) {
        return Err(Errno::ENOTDIR);
    }
    if !is_dir(moved) && (from.trailing_slash || !exchange && to.trailing_slash) {
        return Err(Errno::ENOTDIR);
    }
    if to.dir.dentry.is_below(&moved.dentry) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = target {
        if from.dir.dentry.is_below(&target.dentry) {
            return Err(if mode == RenameMode::Exchange {
                Errno::EINVAL
            } else {
                Errno::ENOTEMPTY
            });
        }
        if Arc::ptr_eq(target.inode(), moved.inode()) {
            return Ok(());
        }
    }
    check_removable(creds, &from.dir, moved)?;
    match target {
        None => may_access(creds, &to.dir.inode().stat()?, May::WRITE | May::EXEC)?,
        Some(target) => {
            check_removable(creds, &to.dir, target)?;
            if mode != RenameMode::Exchange {
                match (is_dir(moved), is_dir(target)) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
    }
    // What something is mounted on stays where it is.
    let mounted = |place: &Path| !Arc::ptr_eq(&place.mount, &from.dir.mount);
    if mounted(moved) || target.is_some_and(mounted) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}
