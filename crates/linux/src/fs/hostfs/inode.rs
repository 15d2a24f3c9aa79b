//! An inode of a host folder.

use super::handle::Handle;
use super::{HostFs, Key, errno, errno_of};
use crate::fs::inode::{
    Access, DirEntry, FileSystem, Inode, InodeRef, NewInode, NewKind, RenameMode, SetAttr, Touch,
    XattrMode,
};
use crate::fs::page_cache::PageCache;
use crate::fs::pipe::{Fifo, Naming};
use crate::fs::stat::{FileType, Kstat, S_ISGID, Timespec};
use kilburn_addr::Errno;
use kilburn_mm::BackingStore;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, RenameFlags, XattrFlags};
use std::any::Any;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The times the guest sees, where it changed something.
#[derive(Clone, Copy)]
struct Times {
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
}

struct View {
    /// The host's attributes after the last thing we did.
    seen: Kstat,
    /// The guest's own times.
    times: Option<Times>,
    /// The host has other times than `times`.
    times_pending: bool,
}

/// A file of the host.
pub(super) struct HostInode {
    fs: Arc<HostFs>,
    key: Key,
    kind: FileType,
    handle: Handle,
    view: Mutex<View>,
    cache: OnceLock<PageCache>,
    fifo: OnceLock<Fifo>,
    referenced: AtomicBool,
}

/// Whether the host's file was changed between two looks at it.
fn differs(a: &Kstat, b: &Kstat) -> bool {
    (a.size, a.mtime, a.ctime) != (b.size, b.mtime, b.ctime)
}

impl HostInode {
    pub(super) fn new(fs: &Arc<HostFs>, handle: Handle, stat: &Kstat) -> Arc<Self> {
        let view = View { seen: *stat, times: None, times_pending: false };
        Arc::new(Self {
            fs: Arc::clone(fs),
            key: (stat.dev.encode(), stat.ino),
            kind: stat.kind,
            handle,
            view: Mutex::new(view),
            cache: OnceLock::new(),
            fifo: OnceLock::new(),
            referenced: AtomicBool::new(true),
        })
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Whether it was found since the last call.
    pub(super) fn take_referenced(&self) -> bool {
        self.referenced.swap(false, Ordering::Relaxed)
    }

    fn of(inode: &InodeRef) -> Result<&Self, Errno> {
        inode.as_any().downcast_ref().ok_or(Errno::EXDEV)
    }

    /// We changed the host's file: what it says now is no news.
    fn settle(&self) {
        if let Ok(host) = self.handle.stat() {
            let mut view = self.view.lock();
            if view.times.is_none() {
                let (atime, mtime, ctime) = (view.seen.atime, view.seen.mtime, view.seen.ctime);
                view.times = Some(Times { atime, mtime, ctime });
            }
            view.seen = host;
        }
    }

    /// Sets the guest's own times.
    fn change_times(&self, change: impl FnOnce(&mut Times)) {
        let mut view = self.view.lock();
        let seen = view.seen;
        let times = view.times.get_or_insert(Times {
            atime: seen.atime,
            mtime: seen.mtime,
            ctime: seen.ctime,
        });
        let before = times.mtime;
        change(times);
        if times.mtime != before {
            view.times_pending = true;
        }
    }

    /// Gives the host the guest's times.
    fn push_times(&self) {
        let times = {
            let mut view = self.view.lock();
            if !std::mem::take(&mut view.times_pending) {
                return;
            }
            view.times
        };
        if let Some(times) = times {
            // A host file that is not ours keeps the host's times; the guest sees its own.
            let _ = self.handle.set_times(times.atime, times.mtime);
        }
    }

    /// A name in this directory changed.
    fn changed_names(&self) {
        let now = self.fs.clock.now();
        self.settle();
        self.change_times(|times| (times.mtime, times.ctime) = (now, now));
        self.push_times();
        self.settle();
    }

    /// A name of this inode came or went.
    fn changed_links(&self) {
        let now = self.fs.clock.now();
        self.settle();
        self.change_times(|times| times.ctime = now);
        if self.view.lock().seen.nlink == 0 {
            self.fs.unkeep(self.key);
        }
    }

    /// The contents on the host, or what fails in their place.
    fn store(&self) -> Option<Box<dyn BackingStore>> {
        let store = self.handle.store()?;
        Some(match &self.fs.failing {
            Some(failing) => failing.store(self.key, &self.handle, store),
            None => Box::new(store),
        })
    }

    fn known(&self, name: &[u8]) -> Result<Option<Arc<Self>>, Errno> {
        let stat = self.handle.stat_child(name)?;
        Ok(self.fs.find((stat.dev.encode(), stat.ino)))
    }

    fn find(&self, name: &[u8]) -> Result<Arc<Self>, Errno> {
        let stat = self.handle.stat_child(name)?;
        let key = (stat.dev.encode(), stat.ino);
        if let Some(known) = self.fs.find(key) {
            let stale = if known.handle.take_wrote() {
                // Reclaim or swap wrote: what the host says now is no news.
                known.settle();
                false
            } else {
                differs(&known.view.lock().seen, &stat)
            };
            // Held by the list of kept inodes and by us: nobody else sees the old contents.
            let unused = Arc::strong_count(&known) <= 2;
            if !(stale && unused) {
                known.referenced.store(true, Ordering::Relaxed);
                return Ok(known);
            }
            self.fs.unkeep(key);
            self.fs.forget_content(key);
        }
        let (handle, stat) = self.handle.open(name)?;
        Ok(self.fs.adopt(handle, &stat))
    }

    /// Finishes what was just made: owner, bits, times.
    fn finish_new(&self, handle: Handle, new: &NewInode<'_>) -> Result<Arc<Self>, Errno> {
        let dir = self.handle.stat()?;
        let mut new = *new;
        if dir.perm & S_ISGID != 0 {
            new.gid = dir.gid;
            if new.what == NewKind::Directory {
                new.perm |= S_ISGID;
            }
        }
        let made = handle.stat()?;
        self.fs.forget_content((made.dev.encode(), made.ino));
        if (made.uid, made.gid) != (new.uid, new.gid) {
            // Without the right to give files away they stay ours.
            let _ = handle.set_owner(Some(new.uid), Some(new.gid));
        }
        if new.what.file_type() != FileType::Symlink {
            handle.set_perm(new.perm)?;
        }
        let stat = handle.stat()?;
        let inode = self.fs.adopt(handle, &stat);
        let now = self.fs.clock.now();
        inode.change_times(|times| *times = Times { atime: now, mtime: now, ctime: now });
        inode.push_times();
        inode.settle();
        Ok(inode)
    }

    fn make(&self, name: &[u8], what: NewKind<'_>) -> Result<Handle, Errno> {
        let dir = self.handle.as_dir()?;
        let path = OsStr::from_bytes(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        match what {
            NewKind::Regular => return self.handle.create(name),
            NewKind::Directory => dir.create_dir(path).map_err(|e| errno_of(&e))?,
            NewKind::Symlink(text) => {
                dir.symlink_contents(OsStr::from_bytes(text), path).map_err(|e| errno_of(&e))?;
            }
            NewKind::Fifo | NewKind::Socket => {
                let kind = if what == NewKind::Fifo {
                    rustix::fs::FileType::Fifo
                } else {
                    rustix::fs::FileType::Socket
                };
                rustix::fs::mknodat(dir, path, kind, mode, 0).map_err(errno)?;
            }
            // A device node would be a real one, there for the host's own users.
            NewKind::Device(..) => return Err(Errno::EPERM),
        }
        Ok(self.handle.open(name)?.0)
    }

    fn rename_on_host(
        &self,
        name: &[u8],
        new_dir: &Self,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let (from, to) = (self.handle.as_dir()?, new_dir.handle.as_dir()?);
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(from, name, to, new_name, flags).map_err(errno)
    }
}

impl Inode for HostInode {
    fn file_system(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn stat(&self) -> Result<Kstat, Errno> {
        if self.handle.take_wrote() {
            self.settle();
        }
        let host = self.handle.stat()?;
        let mut view = self.view.lock();
        if differs(&view.seen, &host) {
            // Changed from outside: the host's times are the truth again.
            view.seen = host;
            view.times = None;
        }
        let mut stat = host;
        if let Some(times) = view.times {
            (stat.atime, stat.mtime, stat.ctime) = (times.atime, times.mtime, times.ctime);
        }
        drop(view);
        if let Some(cache) = self.cache.get() {
            stat.size = cache.size();
        }
        Ok(stat)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if change.uid.is_some() || change.gid.is_some() {
            self.handle.set_owner(change.uid, change.gid)?;
        }
        // After the owner: changing that clears the set-ID bits.
        if let Some(perm) = change.perm {
            self.handle.set_perm(perm)?;
        }
        let now = self.fs.clock.now();
        self.settle();
        self.change_times(|times| {
            times.atime = change.atime.unwrap_or(times.atime);
            times.mtime = change.mtime.unwrap_or(times.mtime);
            times.ctime = now;
        });
        if change.atime.is_some() || change.mtime.is_some() {
            self.view.lock().times_pending = true;
            self.push_times();
            self.settle();
        }
        Ok(())
    }

    fn touch(&self, times: Touch) {
        const DAY: i64 = 24 * 60 * 60;
        let now = self.fs.clock.now();
        self.change_times(|own| {
            let stale = own.atime <= own.mtime
                || own.atime <= own.ctime
                || now.seconds - own.atime.seconds >= DAY;
            if times.contains(Touch::ATIME) && stale {
                own.atime = now;
            }
            if times.contains(Touch::MTIME) {
                own.mtime = now;
            }
            if times.contains(Touch::CTIME) {
                own.ctime = now;
            }
        });
    }

    fn page_cache(&self) -> Option<&PageCache> {
        if self.kind != FileType::Regular {
            return None;
        }
        Some(self.cache.get_or_init(|| {
            let size = self.handle.stat().map_or(0, |stat| stat.size);
            match self.store() {
                Some(store) => self.fs.caches.backed(store, size),
                None => self.fs.caches.in_memory(0),
            }
        }))
    }

    fn truncate(&self, size: u64) -> Result<(), Errno> {
        self.handle.ensure_writable()?;
        let cache = self.page_cache().ok_or(Errno::EINVAL)?;
        cache.truncate(size)
    }

    fn allocate(&self, bytes: Range<u64>) -> Result<(), Errno> {
        self.handle.ensure_writable()?;
        self.handle.allocate(bytes)
    }

    fn swap_store(&self) -> Result<Box<dyn BackingStore>, Errno> {
        self.sync()?;
        if self.handle.has_holes()? {
            return Err(Errno::EINVAL);
        }
        self.store().ok_or(Errno::EINVAL)
    }

    fn is_swap_file(&self) -> bool {
        self.cache.get().is_some_and(|cache| cache.is_swap_file())
    }

    fn write_back(&self) -> Result<(), Errno> {
        if let Some(cache) = self.cache.get() {
            cache.write_back(0..u64::MAX)?;
        }
        if self.handle.take_wrote() {
            self.settle();
        }
        self.push_times();
        self.settle();
        Ok(())
    }

    fn sync(&self) -> Result<(), Errno> {
        self.write_back()?;
        self.cache.get().map_or(Ok(()), |cache| cache.sync(0..u64::MAX))
    }

    fn writer_closed(&self) -> Result<(), Errno> {
        self.write_back()
    }

    fn about_to_open(&self, access: Access) -> Result<(), Errno> {
        match (self.kind, access) {
            (FileType::Regular, Access::Write) => self.handle.ensure_writable(),
            (FileType::Regular, Access::Read) => self.handle.ensure_readable(),
            _ => Ok(()),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef, Errno> {
        self.find(name).map(|inode| inode as InodeRef)
    }

    fn read_dir(&self) -> Result<Vec<DirEntry>, Errno> {
        let mut names = Vec::new();
        for entry in self.handle.list()? {
            let entry = entry.map_err(errno)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let known = FileType::from_mode(entry.file_type().as_raw_mode());
            let kind = match known {
                Some(kind) => kind,
                None => match self.handle.stat_child(name) {
                    Ok(stat) => stat.kind,
                    Err(_) => continue,
                },
            };
            names.push(DirEntry { name: name.to_vec(), ino: entry.ino(), kind });
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        let handle = self.make(name, new.what)?;
        let inode = self.finish_new(handle, new)?;
        self.changed_names();
        Ok(inode)
    }

    fn create_nameless(&self, new: &NewInode<'_>) -> Result<InodeRef, Errno> {
        let handle = self.handle.create_nameless()?;
        Ok(self.finish_new(handle, new)?)
    }

    fn link(&self, name: &[u8], target: &InodeRef) -> Result<(), Errno> {
        let target = Self::of(target)?;
        let dir = self.handle.as_dir()?;
        let direct =
            target.handle.with_fd(|fd| rustix::fs::linkat(fd, "", dir, name, AtFlags::EMPTY_PATH));
        if matches!(direct, Err(rustix::io::Errno::NOENT)) {
            // Without CAP_DAC_READ_SEARCH the host wants it by name.
            let path = target.handle.proc_path();
            rustix::fs::linkat(rustix::fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)
                .map_err(errno)?;
        } else {
            direct.map_err(errno)?;
        }
        target.changed_links();
        self.changed_names();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        let known = self.known(name)?;
        let dir = self.handle.as_dir()?;
        dir.remove_file(OsStr::from_bytes(name)).map_err(|e| errno_of(&e))?;
        if let Some(inode) = known {
            inode.changed_links();
        }
        self.changed_names();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<(), Errno> {
        let known = self.known(name)?;
        let dir = self.handle.as_dir()?;
        dir.remove_dir(OsStr::from_bytes(name)).map_err(|e| errno_of(&e))?;
        if let Some(inode) = known {
            inode.changed_links();
        }
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
        let new_dir = Self::of(new_dir)?;
        let moved = self.known(name)?;
        let victim = new_dir.known(new_name).ok().flatten();
        self.rename_on_host(name, new_dir, new_name, mode)?;
        for inode in [moved, victim].into_iter().flatten() {
            inode.changed_links();
        }
        self.changed_names();
        new_dir.changed_names();
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        let text = self.handle.with_fd(|fd| rustix::fs::readlinkat(fd, "", Vec::new()));
        Ok(text.map_err(errno)?.into_bytes())
    }

    fn fifo(&self) -> Option<Fifo> {
        (self.kind == FileType::Fifo)
            .then(|| self.fifo.get_or_init(|| Fifo::new(Naming::Named)).clone())
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; 65536];
        let path = self.handle.proc_path();
        let len = rustix::fs::getxattr(path, name, &mut value[..]).map_err(errno)?;
        value.truncate(len);
        Ok(value)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), Errno> {
        let flags = match mode {
            XattrMode::Either => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        rustix::fs::setxattr(self.handle.proc_path(), name, value, flags).map_err(errno)?;
        self.changed_links();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::removexattr(self.handle.proc_path(), name).map_err(errno)?;
        self.changed_links();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = vec![0; 65536];
        let len = match rustix::fs::listxattr(self.handle.proc_path(), &mut names[..]) {
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            answer => answer.map_err(errno)?,
        };
        names.truncate(len);
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        if self.write_back().is_err() {
            self.fs.count_lost_write();
        }
        self.fs.forget(self.key);
    }
}
