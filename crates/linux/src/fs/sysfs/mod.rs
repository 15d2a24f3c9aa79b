//! `/sys`: processors, the memory node, and how memory is managed.
//!
//! [`SysFs`] is a fixed tree of [`Entry`]s, built when somebody first looks ([`tree`] lists them);
//! a file's text is made when it is read from the start. What the machine does not have is not
//! there. Source: Linux 6.18 drivers/base/{cpu,node,topology}.c, mm/{ksm,huge_memory}.c, checked
//! on a real riscv64 kernel. Neighbours: [`crate::fs::procfs`] is the same idea.

mod tree;

use crate::fs::boot::KernelLink;
use crate::fs::file::{FileOps, OpenFile, OpenFlags, Whence, seek_in};
use crate::fs::inode::{DirEntry, FileSystem, Inode, InodeRef, SetAttr};
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs, Timespec};
use crate::kernel::Kernel;
use crate::time::BOOT_REALTIME;
use kilburn_addr::{Errno, PAGE_SIZE};
use parking_lot::Mutex;
use send_wrapper::SendWrapper;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};

/// Magic number of sysfs.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Makes a file's text.
type Text = Box<dyn Fn(&Kernel) -> String + Send + Sync>;
/// Takes what a program writes.
type Write = fn(&Kernel, &str) -> Result<(), Errno>;

/// What is at one path.
pub(super) enum Entry {
    /// A folder: names, and where they are in the tree.
    Dir(BTreeMap<Vec<u8>, usize>),
    /// A symbolic link.
    Link(String),
    /// A file; without [`Write`] it is for reading only.
    File(Text, Option<Write>),
}

/// The file system.
pub(crate) struct SysFs {
    device: Device,
    link: SendWrapper<KernelLink>,
    tree: OnceLock<Vec<Entry>>,
    live: Mutex<BTreeMap<usize, Weak<SysInode>>>,
}

impl SysFs {
    /// The root directory of a `/sys` for the kernel behind `link`.
    pub(crate) fn mount(device: Device, link: KernelLink) -> InodeRef {
        let link = SendWrapper::new(link);
        let (tree, live) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { device, link, tree, live }).inode(tree::ROOT)
    }

    fn kernel(&self) -> Result<Rc<Kernel>, Errno> {
        self.link.get().ok_or(Errno::ENODEV)
    }

    fn entry(&self, at: usize) -> Result<&Entry, Errno> {
        if self.tree.get().is_none() {
            let harts = self.kernel()?.cpus.count();
            let _ = self.tree.set(tree::build(harts));
        }
        self.tree.get().and_then(|tree| tree.get(at)).ok_or(Errno::ENOENT)
    }

    fn inode(self: &Arc<Self>, at: usize) -> InodeRef {
        let mut live = self.live.lock();
        if let Some(known) = live.get(&at).and_then(Weak::upgrade) {
            return known;
        }
        let inode = Arc::new(SysInode { fs: Arc::clone(self), at });
        live.insert(at, Arc::downgrade(&inode));
        inode
    }

    fn kind(&self, at: usize) -> FileType {
        match self.entry(at) {
            Ok(Entry::File(..)) => FileType::Regular,
            Ok(Entry::Link(_)) => FileType::Symlink,
            // The root is asked for before there is a kernel.
            Ok(Entry::Dir(_)) | Err(_) => FileType::Directory,
        }
    }
}

impl FileSystem for SysFs {
    fn type_name(&self) -> &'static str {
        "sysfs"
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        Ok(Kstatfs::simple(SYSFS_MAGIC))
    }
}

/// A file of `/sys`, as long as somebody holds it.
struct SysInode {
    fs: Arc<SysFs>,
    at: usize,
}

impl SysInode {
    fn names(&self) -> Result<&BTreeMap<Vec<u8>, usize>, Errno> {
        match self.fs.entry(self.at)? {
            Entry::Dir(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn perm(&self) -> u32 {
        match self.fs.entry(self.at) {
            Ok(Entry::File(_, Some(_))) => 0o644,
            Ok(Entry::File(_, None)) => 0o444,
            Ok(Entry::Link(_)) => 0o777,
            Ok(Entry::Dir(_)) | Err(_) => 0o755,
        }
    }
}

impl Inode for SysInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        self.fs.kind(self.at)
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        let is_file = self.kind() == FileType::Regular;
        let subdirs = match self.names() {
            Ok(names) => names.values().filter(|at| self.fs.kind(**at) == FileType::Directory),
            Err(_) => return Ok(self.kstat(u64::from(is_file) * PAGE_SIZE, 1)),
        };
        Ok(self.kstat(0, 2 + subdirs.count() as u32))
    }

    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn truncate(&self, _size: u64) -> Result<(), Errno> {
        // Opening with O_TRUNC, as a shell's `>` does, changes nothing.
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef, Errno> {
        let at = self.names()?.get(name).ok_or(Errno::ENOENT)?;
        Ok(self.fs.inode(*at))
    }

    fn read_dir(&self) -> Result<Vec<DirEntry>, Errno> {
        let entry = |(name, at): (&Vec<u8>, &usize)| DirEntry {
            name: name.clone(),
            ino: *at as u64 + 1,
            kind: self.fs.kind(*at),
        };
        Ok(self.names()?.iter().map(entry).collect())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match self.fs.entry(self.at)? {
            Entry::Link(text) => Ok(text.clone().into_bytes()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(&self, flags: OpenFlags) -> Option<Result<Box<dyn FileOps>, Errno>> {
        if self.kind() != FileType::Regular {
            return None;
        }
        // Linux fs/kernfs/file.c: kernfs_fop_open: what cannot be written is not opened for it,
        // not even by root.
        if flags.writable() && self.perm() & 0o222 == 0 {
            return Some(Err(Errno::EACCES));
        }
        let (fs, at) = (Arc::clone(&self.fs), self.at);
        Some(Ok(Box::new(SysFile { fs, at, text: RefCell::default(), next: Cell::new(0) })))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl SysInode {
    fn kstat(&self, size: u64, nlink: u32) -> Kstat {
        let boot = Timespec::from_nanos(BOOT_REALTIME);
        Kstat {
            dev: self.fs.device,
            ino: self.at as u64 + 1,
            kind: self.kind(),
            perm: self.perm(),
            nlink,
            uid: 0,
            gid: 0,
            rdev: Device::default(),
            size,
            blksize: PAGE_SIZE as u32,
            blocks: 0,
            atime: boot,
            mtime: boot,
            ctime: boot,
            btime: None,
        }
    }
}

impl Drop for SysInode {
    fn drop(&mut self) {
        let mut live = self.fs.live.lock();
        if live.get(&self.at).is_some_and(|known| known.strong_count() == 0) {
            live.remove(&self.at);
        }
    }
}

/// An open file of `/sys`.
struct SysFile {
    fs: Arc<SysFs>,
    at: usize,
    text: RefCell<String>,
    /// Where reading goes on without making the text anew; 0 at first.
    next: Cell<u64>,
}

impl FileOps for SysFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let mut text = self.text.borrow_mut();
        if pos == 0 || pos != self.next.get() {
            let Entry::File(make, _) = self.fs.entry(self.at)? else { return Err(Errno::EINVAL) };
            *text = make(&*self.fs.kernel()?);
        }
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(text.len());
        let n = (text.len() - from).min(into.len());
        into[..n].copy_from_slice(&text.as_bytes()[from..from + n]);
        self.next.set(pos.saturating_add(n as u64));
        Ok(n)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let Entry::File(_, Some(write)) = self.fs.entry(self.at)? else {
            return Err(Errno::EIO);
        };
        if from.is_empty() {
            return Ok(0);
        }
        let text = str::from_utf8(from).map_err(|_| Errno::EINVAL)?;
        write(&*self.fs.kernel()?, text.strip_suffix('\n').unwrap_or(text))?;
        Ok(from.len())
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        seek_in(file.position(), Some(PAGE_SIZE), offset, whence)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
