//! Inodes that no directory names: pipes, sockets, anonymous inodes.
//!
//! [`PseudoFs`] is the file system they claim to be in (Linux pipefs, sockfs, anon_inodefs).
//! Neighbours: [`crate::fs::vfs`] makes open files of them.

use crate::fs::clock::Clock;
use crate::fs::dentry::{Dentry, Path};
use crate::fs::file::{FileOps, OpenFlags};
use crate::fs::inode::{FileSystem, Inode, InodeRef, SetAttr, Touch};
use crate::fs::mount::Mount;
use crate::fs::pipe::Fifo;
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs, Timespec};
use crate::fs::stdio::{Standard, host_errno};
use kilburn_addr::{Errno, PAGE_SIZE};
use parking_lot::Mutex;
use send_wrapper::SendWrapper;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the operations of one more open file of a stream.
pub(crate) type Opener = Box<dyn Fn() -> Box<dyn FileOps>>;

/// What stands behind descriptors 0 to 2.
pub(crate) struct StreamSource {
    pub(crate) kind: FileType,
    pub(crate) rdev: Device,
    /// The host's stream, which knows its size; `None`: captured.
    pub(crate) host: Option<Standard>,
    /// Opens it anew, as `/dev/stdout` does.
    pub(crate) opener: Opener,
}

impl StreamSource {
    /// The host's file.
    fn file(&self) -> Option<Standard> {
        self.host.filter(|_| self.kind == FileType::Regular)
    }

    /// Bytes, and blocks of 512 of them.
    fn size(&self) -> (u64, u64) {
        let stat = self.file().and_then(|stream| rustix::fs::fstat(stream.host()).ok());
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        stat.map_or((0, 0), |stat| (unsigned(stat.st_size), unsigned(stat.st_blocks)))
    }
}

/// A file system without names.
pub(crate) struct PseudoFs {
    type_name: &'static str,
    device: Device,
    magic: u64,
    clock: Clock,
    next_ino: Arc<AtomicU64>,
}

impl PseudoFs {
    /// A file system of this type; inode numbers come from the shared counter `next_ino`.
    pub(crate) fn new(
        type_name: &'static str,
        device: Device,
        magic: u64,
        clock: Clock,
        next_ino: &Arc<AtomicU64>,
    ) -> Arc<Self> {
        Arc::new(Self { type_name, device, magic, clock, next_ino: Arc::clone(next_ino) })
    }

    /// A new inode.
    pub(crate) fn inode(
        self: &Arc<Self>,
        kind: FileType,
        perm: u32,
        fifo: Option<Fifo>,
    ) -> InodeRef {
        let now = self.clock.now();
        let attr = Attr { perm, uid: 0, gid: 0, atime: now, mtime: now, ctime: now };
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let attr = Mutex::new(attr);
        Arc::new(PseudoInode { fs: Arc::clone(self), ino, kind, fifo, source: None, attr })
    }

    /// An inode for one of the streams the machine was started with.
    pub(crate) fn stream_inode(self: &Arc<Self>, source: StreamSource) -> InodeRef {
        let now = self.clock.now();
        let attr = Attr { perm: 0o600, uid: 0, gid: 0, atime: now, mtime: now, ctime: now };
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let attr = Mutex::new(attr);
        let kind = source.kind;
        let source = Some(SendWrapper::new(source));
        Arc::new(PseudoInode { fs: Arc::clone(self), ino, kind, fifo: None, source, attr })
    }

    /// A place for `inode` that prints as `text`.
    pub(crate) fn place(self: &Arc<Self>, inode: InodeRef, text: Vec<u8>) -> Path {
        let dentry = Dentry::nameless(inode, text);
        let fs = Arc::clone(self) as Arc<dyn FileSystem>;
        Path { mount: Mount::pseudo(fs, Arc::clone(&dentry)), dentry }
    }
}

impl FileSystem for PseudoFs {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        Ok(Kstatfs::simple(self.magic))
    }
}

struct Attr {
    perm: u32,
    uid: u32,
    gid: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
}

struct PseudoInode {
    fs: Arc<PseudoFs>,
    ino: u64,
    kind: FileType,
    fifo: Option<Fifo>,
    source: Option<SendWrapper<StreamSource>>,
    attr: Mutex<Attr>,
}

impl Inode for PseudoInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        let attr = self.attr.lock();
        let (size, blocks) = self.source.as_ref().map_or((0, 0), |source| source.size());
        Ok(Kstat {
            dev: self.fs.device,
            ino: self.ino,
            kind: self.kind,
            perm: attr.perm,
            nlink: 1,
            uid: attr.uid,
            gid: attr.gid,
            rdev: self.source.as_ref().map_or_else(Device::default, |source| source.rdev),
            size,
            blksize: PAGE_SIZE as u32,
            blocks,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: None,
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let mut attr = self.attr.lock();
        attr.perm = change.perm.unwrap_or(attr.perm);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.unwrap_or(attr.atime);
        attr.mtime = change.mtime.unwrap_or(attr.mtime);
        attr.ctime = self.fs.clock.now();
        Ok(())
    }

    fn touch(&self, times: Touch) {
        let now = self.fs.clock.now();
        let mut attr = self.attr.lock();
        if times.contains(Touch::MTIME) {
            attr.mtime = now;
        }
        if times.contains(Touch::CTIME) {
            attr.ctime = now;
        }
    }

    fn fifo(&self) -> Option<Fifo> {
        self.fifo.clone()
    }

    fn truncate(&self, size: u64) -> Result<(), Errno> {
        let Some(source) = &self.source else { return Err(Errno::EINVAL) };
        match source.file() {
            Some(stream) => rustix::fs::ftruncate(stream.host(), size).map_err(host_errno),
            // `> /dev/stdout` is no error when that is a pipe or a terminal (Linux `O_TRUNC`).
            None => Ok(()),
        }
    }

    fn open(&self, _flags: OpenFlags) -> Option<Result<Box<dyn FileOps>, Errno>> {
        self.source.as_ref().map(|source| Ok((source.opener)()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
