//! A file system in memory: tmpfs, the default root, and `/dev`.
//!
//! [`MemFs`] numbers inodes and knows limits; [`MemInode`] is an inode; a directory owns its
//! children. Contents of regular files are page caches without a store behind them. Names are
//! listed newest first, as tmpfs lists them. Neighbours: [`crate::fs::vfs`] mounts these.

use crate::fs::clock::Clock;
use crate::fs::inode::{
    DirEntry, FileSystem, Inode, InodeRef, NewInode, NewKind, RenameMode, SetAttr, Touch, XattrMode,
};
use crate::fs::page_cache::{PageCache, PageCaches};
use crate::fs::pipe::{Fifo, Naming};
use crate::fs::seals::{F_SEAL_SEAL, Seals};
use crate::fs::stat::{Device, FileType, Kstat, Kstatfs, S_ISGID, Timespec};
use crate::fs::walk::NAME_MAX;
use kilburn_addr::{Errno, PAGE_SIZE};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Magic number of tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// What a name adds to the size of its directory.
const DIRENT_BYTES: u64 = 20;
/// Largest extended attribute.
const XATTR_SIZE_MAX: usize = 65536;

/// A file system in memory.
pub(crate) struct MemFs {
    type_name: &'static str,
    device: Device,
    next_ino: AtomicU64,
    /// Pages it may hold, as `statfs` tells.
    pages_max: u64,
    caches: PageCaches,
    clock: Clock,
    /// Held over each change of the tree.
    tree: Mutex<()>,
}

impl MemFs {
    /// An empty file system; the answer is its root directory.
    pub(crate) fn mount(
        type_name: &'static str,
        device: Device,
        options: &MemFsOptions,
        caches: PageCaches,
        clock: Clock,
    ) -> Arc<MemInode> {
        let next_ino = AtomicU64::new(1);
        let tree = Mutex::new(());
        let pages_max = options.pages_max;
        let fs = Arc::new(Self { type_name, device, next_ino, pages_max, caches, clock, tree });
        let MemFsOptions { perm, uid, gid, .. } = *options;
        MemInode::new(&fs, &NewInode { what: NewKind::Directory, perm, uid, gid })
    }
}

/// How a file system in memory is mounted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemFsOptions {
    /// Permission bits of the root directory.
    pub(crate) perm: u32,
    /// Its owner.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// Pages it may hold, as `statfs` tells.
    // DIVERGENCE(tmpfs-size): a tmpfs shows its size and does not enforce it; what ends it is the
    // machine's memory.
    pub(crate) pages_max: u64,
}

impl MemFsOptions {
    /// As mounted without options in a machine with this much memory.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        Self { perm: 0o1777, uid: 0, gid: 0, pages_max: memory_bytes / 2 / PAGE_SIZE }
    }

    /// Reads the options of mount(2), separated by commas (Linux `shmem_parse_one`).
    ///
    /// # Errors
    /// EINVAL for an unknown one or a bad value.
    pub(crate) fn parse(text: &[u8], memory_bytes: u64) -> Result<Self, Errno> {
        let mut options = Self::new(memory_bytes);
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |radix| u32::from_str_radix(value, radix).map_err(|_| Errno::EINVAL);
            match name {
                "mode" => options.perm = number(8)? & 0o7777,
                "uid" => options.uid = number(10)?,
                "gid" => options.gid = number(10)?,
                "size" => options.pages_max = size(value, memory_bytes)?.div_ceil(PAGE_SIZE),
                "nr_blocks" => options.pages_max = size(value, memory_bytes)?,
                "inode64" if value.is_empty() => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// A size with its suffix: k, m, g, or a percentage of memory.
fn size(text: &str, memory_bytes: u64) -> Result<u64, Errno> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    let scaled = match suffix {
        "" => Some(number),
        "k" | "K" => number.checked_mul(1 << 10),
        "m" | "M" => number.checked_mul(1 << 20),
        "g" | "G" => number.checked_mul(1 << 30),
        "%" => number.checked_mul(memory_bytes).map(|bytes| bytes / 100),
        _ => None,
    };
    scaled.ok_or(Errno::EINVAL)
}

impl FileSystem for MemFs {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        Ok(Kstatfs {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE,
            blocks: self.pages_max,
            blocks_free: self.pages_max,
            blocks_available: self.pages_max,
            files: self.pages_max,
            files_free: self.pages_max,
            name_length: NAME_MAX as u64,
            flags: 0,
        })
    }
}

/// What changes about an inode besides its contents.
struct Attr {
    perm: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A directory's names; the number orders them by age.
#[derive(Default)]
struct Names {
    by_name: BTreeMap<Vec<u8>, (u64, Arc<MemInode>)>,
    next: u64,
    /// Was removed; nothing can be made in it any more.
    removed: bool,
}

impl Names {
    fn insert(&mut self, name: &[u8], inode: Arc<MemInode>) {
        let age = self.next;
        self.next += 1;
        self.by_name.insert(name.to_vec(), (age, inode));
    }

    fn get(&self, name: &[u8]) -> Option<&Arc<MemInode>> {
        self.by_name.get(name).map(|(_, inode)| inode)
    }
}

enum Data {
    Regular(PageCache, Seals),
    Directory(Mutex<Names>),
    Symlink(Vec<u8>),
    Fifo(Fifo),
    Socket,
    Device(FileType, Device),
}

/// An inode in memory.
pub(crate) struct MemInode {
    fs: Arc<MemFs>,
    ino: u64,
    birth: Timespec,
    attr: Mutex<Attr>,
    data: Data,
}

impl MemInode {
    fn new(fs: &Arc<MemFs>, new: &NewInode<'_>) -> Arc<Self> {
        let now = fs.clock.now();
        let (data, nlink) = match new.what {
            NewKind::Regular => (Data::Regular(fs.caches.in_memory(0), Seals::new(F_SEAL_SEAL)), 1),
            NewKind::Directory => (Data::Directory(Mutex::default()), 2),
            NewKind::Symlink(text) => (Data::Symlink(text.to_vec()), 1),
            NewKind::Fifo => (Data::Fifo(Fifo::new(Naming::Named)), 1),
            NewKind::Socket => (Data::Socket, 1),
            NewKind::Device(kind, device) => (Data::Device(kind, device), 1),
        };
        let attr = Attr {
            perm: new.perm,
            uid: new.uid,
            gid: new.gid,
            nlink,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
        };
        let ino = fs.next_ino.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { fs: Arc::clone(fs), ino, birth: now, attr: Mutex::new(attr), data })
    }

    /// Drops all names below: the machine ends.
    pub(crate) fn clear(&self) {
        if let Data::Directory(names) = &self.data {
            let names = std::mem::take(&mut names.lock().by_name);
            drop(names);
        }
    }

    fn names(&self) -> Result<&Mutex<Names>, Errno> {
        match &self.data {
            Data::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn is_dir(&self) -> bool {
        matches!(self.data, Data::Directory(_))
    }

    fn changed_names(&self) {
        self.touch(Touch::MTIME | Touch::CTIME);
    }

    fn add_links(&self, count: i32) {
        let mut attr = self.attr.lock();
        attr.nlink = attr.nlink.saturating_add_signed(count);
        attr.ctime = self.fs.clock.now();
    }

    fn of(inode: &InodeRef) -> Result<&Self, Errno> {
        inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }

    fn find(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        self.names()?.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// Whether it is a directory with names in it.
    fn has_names(&self) -> bool {
        matches!(&self.data, Data::Directory(names) if !names.lock().by_name.is_empty())
    }

    /// `inode` lost a name in this directory.
    fn dropped_name(&self, inode: &Self) {
        if let Data::Directory(names) = &inode.data {
            names.lock().removed = true;
            inode.add_links(-2);
            self.add_links(-1);
        } else {
            inode.add_links(-1);
        }
    }

    /// Puts `inode` under `name`, where there is nothing yet.
    fn add_name(&self, name: &[u8], inode: Arc<Self>) -> Result<(), Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut names = self.names()?.lock();
        if names.removed {
            return Err(Errno::ENOENT);
        }
        if names.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        names.insert(name, inode);
        Ok(())
    }

    fn exchange(&self, name: &[u8], other: &Self, other_name: &[u8]) -> Result<(), Errno> {
        let (first, second) = (self.find(name)?, other.find(other_name)?);
        if let Some(entry) = self.names()?.lock().by_name.get_mut(name) {
            entry.1 = Arc::clone(&second);
        }
        if let Some(entry) = other.names()?.lock().by_name.get_mut(other_name) {
            entry.1 = Arc::clone(&first);
        }
        if !std::ptr::eq(self, other) && first.is_dir() != second.is_dir() {
            let (to_other, to_self) = if first.is_dir() { (1, -1) } else { (-1, 1) };
            other.add_links(to_other);
            self.add_links(to_self);
        }
        first.touch(Touch::CTIME);
        second.touch(Touch::CTIME);
        Ok(())
    }
}

impl Inode for MemInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        match &self.data {
            Data::Regular(..) => FileType::Regular,
            Data::Directory(_) => FileType::Directory,
            Data::Symlink(_) => FileType::Symlink,
            Data::Fifo(_) => FileType::Fifo,
            Data::Socket => FileType::Socket,
            Data::Device(kind, _) => *kind,
        }
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        let (size, blocks, rdev) = match &self.data {
            Data::Regular(cache, _) => (cache.size(), cache.blocks(), Device::default()),
            Data::Directory(names) => {
                ((names.lock().by_name.len() as u64 + 2) * DIRENT_BYTES, 0, Device::default())
            }
            Data::Symlink(text) => (text.len() as u64, 0, Device::default()),
            Data::Fifo(_) | Data::Socket => (0, 0, Device::default()),
            Data::Device(_, device) => (0, 0, *device),
        };
        let attr = self.attr.lock();
        Ok(Kstat {
            dev: self.fs.device,
            ino: self.ino,
            kind: self.kind(),
            perm: attr.perm,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev,
            size,
            blksize: PAGE_SIZE as u32,
            blocks,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: Some(self.birth),
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
        const DAY: i64 = 24 * 60 * 60;
        let now = self.fs.clock.now();
        let mut attr = self.attr.lock();
        let stale = attr.atime <= attr.mtime
            || attr.atime <= attr.ctime
            || now.seconds - attr.atime.seconds >= DAY;
        if times.contains(Touch::ATIME) && stale {
            attr.atime = now;
        }
        if times.contains(Touch::MTIME) {
            attr.mtime = now;
        }
        if times.contains(Touch::CTIME) {
            attr.ctime = now;
        }
    }

    fn page_cache(&self) -> Option<&PageCache> {
        match &self.data {
            Data::Regular(cache, _) => Some(cache),
            _ => None,
        }
    }

    fn truncate(&self, size: u64) -> Result<(), Errno> {
        let Data::Regular(cache, seals) = &self.data else { return Err(Errno::EINVAL) };
        seals.check_resize(cache.size(), size)?;
        cache.truncate(size)
    }

    fn seals(&self) -> Option<&Seals> {
        match &self.data {
            Data::Regular(_, seals) => Some(seals),
            _ => None,
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef, Errno> {
        self.find(name).map(|inode| inode as InodeRef)
    }

    fn read_dir(&self) -> Result<Vec<DirEntry>, Errno> {
        let names = self.names()?.lock();
        let mut by_age: Vec<_> = names.by_name.iter().collect();
        by_age.sort_by_key(|(_, (age, _))| std::cmp::Reverse(*age));
        Ok(by_age
            .into_iter()
            .map(|(name, (_, inode))| DirEntry {
                name: name.clone(),
                ino: inode.ino,
                kind: inode.kind(),
            })
            .collect())
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        let _tree = self.fs.tree.lock();
        let (dir_perm, dir_gid) = {
            let attr = self.attr.lock();
            (attr.perm, attr.gid)
        };
        let mut new = *new;
        if dir_perm & S_ISGID != 0 {
            new.gid = dir_gid;
            if new.what == NewKind::Directory {
                new.perm |= S_ISGID;
            }
        }
        let inode = MemInode::new(&self.fs, &new);
        self.add_name(name, Arc::clone(&inode))?;
        if inode.is_dir() {
            self.add_links(1);
        }
        self.changed_names();
        Ok(inode)
    }

    fn create_nameless(&self, new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        let inode = MemInode::new(&self.fs, new);
        inode.attr.lock().nlink = 0;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &InodeRef) -> Result<(), Errno> {
        let _tree = self.fs.tree.lock();
        let inode = Arc::clone(target) as Arc<dyn Any + Send + Sync>;
        let inode = inode.downcast::<Self>().map_err(|_| Errno::EXDEV)?;
        self.add_name(name, Arc::clone(&inode))?;
        inode.add_links(1);
        self.changed_names();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        let _tree = self.fs.tree.lock();
        let inode = self.find(name)?;
        if inode.is_dir() {
            return Err(Errno::EISDIR);
        }
        self.names()?.lock().by_name.remove(name);
        self.dropped_name(&inode);
        self.changed_names();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        let _tree = self.fs.tree.lock();
        let inode = self.find(name)?;
        if !inode.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if inode.has_names() {
            return Err(Errno::ENOTEMPTY);
        }
        self.names()?.lock().by_name.remove(name);
        self.dropped_name(&inode);
        self.changed_names();
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &InodeRef,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let _tree = self.fs.tree.lock();
        let new_dir = Self::of(new_dir)?;
        let inode = self.find(name)?;
        if mode == RenameMode::Exchange {
            self.exchange(name, new_dir, new_name)?;
        } else {
            let victim = match new_dir.find(new_name) {
                Err(Errno::ENOENT) => None,
                found => Some(found?),
            };
            if let Some(victim) = victim {
                if mode == RenameMode::NoReplace {
                    return Err(Errno::EEXIST);
                }
                if Arc::ptr_eq(&victim, &inode) {
                    return Ok(());
                }
                match (inode.is_dir(), victim.is_dir()) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ if victim.has_names() => return Err(Errno::ENOTEMPTY),
                    _ => {}
                }
                new_dir.names()?.lock().by_name.remove(new_name);
                new_dir.dropped_name(&victim);
            }
            new_dir.add_name(new_name, Arc::clone(&inode))?;
            self.names()?.lock().by_name.remove(name);
            if inode.is_dir() && !std::ptr::eq(self, new_dir) {
                self.add_links(-1);
                new_dir.add_links(1);
            }
            inode.touch(Touch::CTIME);
        }
        self.changed_names();
        new_dir.changed_names();
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        match &self.data {
            Data::Symlink(text) => Ok(text.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn fifo(&self) -> Option<Fifo> {
        match &self.data {
            Data::Fifo(fifo) => Some(fifo.clone()),
            _ => None,
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.attr.lock().xattrs.get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno::E2BIG);
        }
        let mut attr = self.attr.lock();
        match (mode, attr.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Errno::EEXIST),
            (XattrMode::Replace, false) => return Err(Errno::ENODATA),
            _ => {}
        }
        attr.xattrs.insert(name.to_vec(), value.to_vec());
        attr.ctime = self.fs.clock.now();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        let mut attr = self.attr.lock();
        attr.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        attr.ctime = self.fs.clock.now();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.attr.lock().xattrs.keys().cloned().collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MemInode {
    /// Takes a whole tree apart without recursion: a guest may nest directories as deep as it likes.
    fn drop(&mut self) {
        let Data::Directory(names) = &mut self.data else { return };
        let mut doomed: Vec<_> =
            std::mem::take(&mut names.get_mut().by_name).into_values().collect();
        while let Some((_, inode)) = doomed.pop() {
            if let Some(mut inode) = Arc::into_inner(inode)
                && let Data::Directory(names) = &mut inode.data
            {
                doomed.extend(std::mem::take(&mut names.get_mut().by_name).into_values());
            }
        }
    }
}
