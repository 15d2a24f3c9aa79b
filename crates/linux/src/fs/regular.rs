//! Open regular files and open directories of ordinary file systems.
//!
//! [`RegularFile`] reads and writes through the inode's page cache, which mappings share;
//! [`DirectoryFile`] lists a snapshot of the names, sorted, taken when reading starts at 0.
//! Neighbours: [`crate::fs::file`], [`crate::fs::page_cache`].

use crate::fs::dentry::Path;
use crate::fs::file::{EmitEntry, FileOps, OpenFile, OpenFlags, PollEvents, Whence, seek_in};
use crate::fs::inode::{DirEntry, InodeRef, Touch};
use crate::fs::stat::FileType;
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Operations of a regular file with a page cache.
pub(crate) struct RegularFile {
    inode: InodeRef,
}

impl RegularFile {
    /// Operations on `inode`, which has a page cache.
    pub(crate) fn new(inode: InodeRef) -> Self {
        Self { inode }
    }
}

impl FileOps for RegularFile {
    fn read(&self, file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let cache = self.inode.page_cache().ok_or(Errno::EINVAL)?;
        let done = cache.read_at(pos, into)?;
        if !file.flags().contains(OpenFlags::NOATIME) && !into.is_empty() {
            self.inode.touch(Touch::ATIME);
        }
        Ok(done)
    }

    fn write(&self, file: &OpenFile, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let cache = self.inode.page_cache().ok_or(Errno::EINVAL)?;
        if from.is_empty() {
            return Ok(0);
        }
        let room = OpenFile::POSITION_MAX.saturating_sub(pos);
        if room == 0 {
            return Err(Errno::EFBIG);
        }
        if let Some(seals) = self.inode.seals() {
            seals.check_write()?;
            let end = pos.saturating_add(from.len() as u64);
            if end > cache.size() {
                seals.check_resize(cache.size(), end)?;
            }
        }
        let from = &from[..from.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let done = match cache.write_at(pos, from) {
            // Memory may be full of what other files have not written back.
            Err(Errno::ENOMEM) if !cache.is_shmem() => {
                // Whoever has one that fails open is told.
                let _ = self.inode.file_system().write_back();
                cache.write_at(pos, from)?
            }
            done => done?,
        };
        self.inode.touch(Touch::MTIME | Touch::CTIME);
        if file.flags().intersects(OpenFlags::DSYNC | OpenFlags::SYNC) {
            file.sync()?;
        }
        Ok(done)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        seek_in(file.position(), Some(self.inode.stat()?.size), offset, whence)
    }

    fn flush(&self, file: &OpenFile) -> Result<(), Errno> {
        if file.flags().writable() { self.inode.writer_closed() } else { Ok(()) }
    }

    fn release(&self, file: &OpenFile) {
        if file.flags().writable() {
            // Nobody is left to be told; the pages stay dirty and a later sync tries again.
            let _ = self.inode.writer_closed();
        }
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        PollEvents::ALWAYS
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Operations of a directory.
pub(crate) struct DirectoryFile {
    /// `.`, `..` and the names, as they were when reading started.
    snapshot: RefCell<Option<Rc<[DirEntry]>>>,
}

impl DirectoryFile {
    /// Operations on the directory an [`OpenFile`] is made for.
    pub(crate) fn new() -> Self {
        Self { snapshot: RefCell::new(None) }
    }

    /// Names of a directory in the order they are listed.
    fn list(path: &Path) -> Result<Rc<[DirEntry]>, Errno> {
        let inode = path.inode();
        let mut names = inode.read_dir()?;
        for (name, child) in path.dentry.mounted_children() {
            let place = Path { mount: Arc::clone(&path.mount), dentry: child };
            let top = place.into_mounted();
            let (ino, kind) = (top.inode().stat()?.ino, top.inode().kind());
            if !names.iter().any(|known| known.name == name) {
                names.push(DirEntry { name, ino, kind });
            }
        }
        let parent = path.dentry.parent().map_or_else(|| inode.stat(), |dir| dir.inode().stat())?;
        let dot =
            |name: &[u8], ino| DirEntry { name: name.to_vec(), ino, kind: FileType::Directory };
        let mut all = vec![dot(b".", inode.stat()?.ino), dot(b"..", parent.ino)];
        all.append(&mut names);
        Ok(all.into())
    }
}

impl FileOps for DirectoryFile {
    fn read(&self, _file: &OpenFile, _pos: u64, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EISDIR)
    }

    fn read_dir(&self, file: &OpenFile, pos: u64, emit: &mut EmitEntry<'_>) -> Result<u64, Errno> {
        if file.path().dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        let known = self.snapshot.borrow().clone();
        let names = match known {
            Some(names) if pos != 0 => names,
            _ => {
                let names = Self::list(file.path())?;
                *self.snapshot.borrow_mut() = Some(Rc::clone(&names));
                names
            }
        };
        file.inode().touch(Touch::ATIME);
        let mut at = pos;
        while let Some(entry) = usize::try_from(at).ok().and_then(|i| names.get(i)) {
            if !emit(entry, at + 1) {
                break;
            }
            at += 1;
        }
        Ok(at)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        match whence {
            Whence::Set | Whence::Current => seek_in(file.position(), None, offset, whence),
            Whence::End | Whence::Data | Whence::Hole => Err(Errno::EINVAL),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
