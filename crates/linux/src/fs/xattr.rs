//! Extended attributes: who may touch which name.
//!
//! Source: Linux 6.18 fs/xattr.c: `xattr_permission`. Neighbours: inodes store them.

use crate::fs::dentry::Path;
use crate::fs::inode::{InodeRef, XattrMode};
use crate::fs::perm::{May, may_access, owner_or_capable};
use crate::fs::stat::{FileType, S_ISVTX};
use crate::fs::vfs::Vfs;
use crate::task::{Capability, Creds};
use kilburn_addr::Errno;

fn may_use(creds: &Creds, inode: &InodeRef, name: &[u8], want: May) -> Result<(), Errno> {
    let writes = want == May::WRITE;
    if name.starts_with(b"security.") || name.starts_with(b"system.") {
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        if creds.has_cap(Capability::SysAdmin) {
            return Ok(());
        }
        return Err(if writes { Errno::EPERM } else { Errno::ENODATA });
    }
    if !name.starts_with(b"user.") {
        return Err(Errno::EOPNOTSUPP);
    }
    let stat = inode.stat()?;
    if !matches!(stat.kind, FileType::Regular | FileType::Directory) {
        return Err(if writes { Errno::EPERM } else { Errno::ENODATA });
    }
    let sticky = stat.kind == FileType::Directory && stat.perm & S_ISVTX != 0;
    if sticky && writes && !owner_or_capable(creds, &stat) {
        return Err(Errno::EPERM);
    }
    may_access(creds, &stat, want)
}

impl Vfs {
    /// `getxattr`.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODATA, EACCES.
    pub(crate) fn get_xattr(
        &self,
        creds: &Creds,
        inode: &InodeRef,
        name: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        may_use(creds, inode, name, May::READ)?;
        inode.get_xattr(name)
    }

    /// `setxattr`.
    ///
    /// # Errors
    /// EOPNOTSUPP, EEXIST, ENODATA, EPERM, EACCES.
    pub(crate) fn set_xattr(
        &self,
        creds: &Creds,
        place: &Path,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Errno> {
        place.want_write()?;
        let inode = place.inode();
        may_use(creds, inode, name, May::WRITE)?;
        inode.set_xattr(name, value, mode)
    }

    /// `removexattr`.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODATA, EPERM, EACCES.
    pub(crate) fn remove_xattr(
        &self,
        creds: &Creds,
        place: &Path,
        name: &[u8],
    ) -> Result<(), Errno> {
        place.want_write()?;
        let inode = place.inode();
        may_use(creds, inode, name, May::WRITE)?;
        inode.remove_xattr(name)
    }
}
