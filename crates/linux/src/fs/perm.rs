//! Permission checks on inodes.
//!
//! [`may_access`] is Linux's `inode_permission`, [`may_delete`] the sticky-directory rule,
//! [`owner_or_capable`] who may change an inode's attributes. Neighbours: [`Creds`] is who asks;
//! [`crate::fs::walk`] checks each directory it passes.

use crate::fs::stat::{FileType, Kstat, S_ISVTX};
use crate::task::{Capability, Creds};
use bitflags::bitflags;
use kilburn_addr::Errno;

bitflags! {
    /// Rights asked of an inode (`MAY_*`; the values of `access(2)`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct May: u32 {
        /// Execute, or pass through a directory.
        const EXEC = 1;
        /// Write, or change a directory.
        const WRITE = 2;
        /// Read, or list a directory.
        const READ = 4;
    }
}

/// Checks `want` on an inode (Linux 6.18 fs/namei.c: `generic_permission`).
///
/// # Errors
/// EACCES when the mode bits refuse and no capability overrides them.
pub(crate) fn may_access(cred: &Creds, stat: &Kstat, want: May) -> Result<(), Errno> {
    let shift = if cred.fsuid == stat.uid {
        6
    } else if cred.in_group(stat.gid) {
        3
    } else {
        0
    };
    if want.bits() & !(stat.perm >> shift) & 7 == 0 {
        return Ok(());
    }
    let is_dir = stat.kind == FileType::Directory;
    if cred.has_cap(Capability::DacReadSearch)
        && (want == May::READ || is_dir && !want.contains(May::WRITE))
    {
        return Ok(());
    }
    // Even root needs one x bit to execute a file.
    let executable = is_dir || stat.perm & 0o111 != 0;
    if cred.has_cap(Capability::DacOverride) && (!want.contains(May::EXEC) || executable) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// Whether `cred` may change mode and times of an inode.
pub(crate) fn owner_or_capable(cred: &Creds, stat: &Kstat) -> bool {
    cred.fsuid == stat.uid || cred.has_cap(Capability::Fowner)
}

/// The sticky rule for removing or renaming `victim` out of `dir` (Linux `check_sticky`).
///
/// # Errors
/// EPERM when `dir` is sticky and neither it nor the victim belongs to the caller.
pub(crate) fn may_delete(cred: &Creds, dir: &Kstat, victim: &Kstat) -> Result<(), Errno> {
    let sticky = dir.perm & S_ISVTX != 0;
    let owns =
        cred.fsuid == victim.uid || cred.fsuid == dir.uid || cred.has_cap(Capability::Fowner);
    if sticky && !owns { Err(Errno::EPERM) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::stat::{Device, Timespec};
    use std::rc::Rc;

    fn inode(kind: FileType, perm: u32, uid: u32, gid: u32) -> Kstat {
        let time = Timespec::default();
        Kstat {
            dev: Device::new(0, 1),
            ino: 1,
            kind,
            perm,
            nlink: 1,
            uid,
            gid,
            rdev: Device::default(),
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
        }
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Creds {
        Creds {
            fsuid: uid,
            fsgid: gid,
            groups: Rc::from(groups),
            cap_effective: 0,
            ..Creds::root()
        }
    }

    #[test]
    fn only_the_first_matching_class_counts() {
        let file = inode(FileType::Regular, 0o074, 10, 20);
        assert_eq!(may_access(&user(10, 20, &[]), &file, May::READ), Err(Errno::EACCES));
        assert_eq!(may_access(&user(11, 5, &[20]), &file, May::all()), Ok(()));
        assert_eq!(may_access(&user(11, 5, &[]), &file, May::WRITE), Err(Errno::EACCES));
        assert_eq!(may_access(&user(11, 5, &[]), &file, May::READ), Ok(()));
    }

    #[test]
    fn root_executes_only_what_has_an_x_bit_but_enters_any_directory() {
        let root = Creds::root();
        let file = inode(FileType::Regular, 0o666, 10, 20);
        assert_eq!(may_access(&root, &file, May::READ | May::WRITE), Ok(()));
        assert_eq!(may_access(&root, &file, May::EXEC), Err(Errno::EACCES));
        assert_eq!(may_access(&root, &inode(FileType::Directory, 0, 10, 20), May::all()), Ok(()));
    }

    #[test]
    fn in_a_sticky_directory_only_owners_delete() {
        let tmp = inode(FileType::Directory, 0o1777, 0, 0);
        let file = inode(FileType::Regular, 0o666, 10, 10);
        assert_eq!(may_delete(&user(11, 11, &[]), &tmp, &file), Err(Errno::EPERM));
        assert_eq!(may_delete(&user(10, 10, &[]), &tmp, &file), Ok(()));
        assert_eq!(may_delete(&Creds::root(), &tmp, &file), Ok(()));
    }
}
