//! A folder of the host as a file system of the guest.
//!
//! Ambient authority is used once, to open the folder ([`HostFs::mount`]). From there every host
//! call names one component below a directory handle that was reached the same way, and never
//! follows a symbolic link; `..`, links and absolute paths are resolved by [`crate::fs::walk`] in
//! the guest's own tree. So no path leads out, whatever the guest or a race with it arranges.
//!
//! One [`HostInode`] per host file (device and inode number), so hard links share one page cache.
//! Writes stay in the page cache until the file is closed by a writer, synced, or the machine
//! ends. Times are the guest's: what the guest changes carries its clock, on the host as well.
//! Directories are listed sorted by name: the host's order depends on its file system's history,
//! and a run must not. Owners are the host's. Device nodes cannot be made.
//!
//! Neighbours: [`inode`] is the inode, [`handle`] the host descriptors behind it, [`faults`] what
//! `--inject file:` has go wrong.

mod faults;
mod handle;
mod inode;

use crate::config::FileFaults;
use crate::fs::clock::Clock;
use crate::fs::inode::{FileSystem, Inode as _, InodeRef};
use crate::fs::page_cache::PageCaches;
use crate::fs::stat::{Device, Kstatfs};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use faults::FailingFiles;
use handle::Handle;
use inode::HostInode;
use kilburn_addr::Errno;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Magic number of Linux's own hostfs (User Mode Linux), the nearest relative.
const HOSTFS_MAGIC: u64 = 0x00c0_ffee;
/// Inodes kept although nobody uses them; each holds a host descriptor.
const KEPT_INODES: usize = 512;

/// Host device and inode number.
type Key = (u64, u64);

#[derive(Default)]
struct Inodes {
    /// All living inodes.
    by_key: BTreeMap<Key, Weak<HostInode>>,
    /// The most recently found ones, kept alive.
    kept: VecDeque<Arc<HostInode>>,
}

/// A host folder, mounted.
pub(crate) struct HostFs {
    device: Device,
    clock: Clock,
    caches: PageCaches,
    inodes: Mutex<Inodes>,
    root: Dir,
    /// Files that fail on purpose.
    failing: Option<Arc<FailingFiles>>,
    /// Failures of write-back that no system call could report.
    lost_writes: AtomicU64,
}

/// The error number of a failed host call.
fn errno_of(error: &io::Error) -> Errno {
    let number = error.raw_os_error().and_then(|raw| u16::try_from(raw).ok());
    number.map_or(Errno::EIO, Errno::from_number)
}

/// The error number of a failed host call made through rustix.
fn errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_number)
}

impl HostFs {
    /// Opens the host folder `path`; the answer is its root directory's inode. `faults` come with
    /// the seed they are drawn from.
    ///
    /// # Errors
    /// The host's, when it cannot be opened or is no folder.
    pub(crate) fn mount(
        path: &Path,
        caches: PageCaches,
        clock: Clock,
        faults: Option<(&FileFaults, u64)>,
    ) -> io::Result<InodeRef> {
        let root = Dir::open_ambient_dir(path, ambient_authority())?;
        let handle = Handle::dir(root.try_clone()?);
        let stat = handle.stat().map_err(|e| io::Error::from_raw_os_error(e.number().into()))?;
        let fs = Arc::new(Self {
            device: stat.dev,
            clock,
            caches,
            inodes: Mutex::default(),
            root,
            failing: faults
                .map(|(faults, seed)| FailingFiles::new(path, faults, seed))
                .transpose()?,
            lost_writes: AtomicU64::new(0),
        });
        Ok(fs.adopt(handle, &stat) as InodeRef)
    }

    /// The inode for a handle just opened: the living one of that file, or a new one.
    fn adopt(self: &Arc<Self>, handle: Handle, stat: &crate::fs::stat::Kstat) -> Arc<HostInode> {
        let key = (stat.dev.encode(), stat.ino);
        if let Some(known) = self.find(key) {
            return known;
        }
        let inode = HostInode::new(self, handle, stat);
        let mut inodes = self.inodes.lock();
        inodes.by_key.insert(key, Arc::downgrade(&inode));
        inodes.kept.push_back(Arc::clone(&inode));
        let dropped = inodes.trim(KEPT_INODES);
        drop(inodes);
        // Outside the lock: an inode that goes writes back and leaves the map.
        drop(dropped);
        inode
    }

    /// The living inode of a host file.
    fn find(&self, key: Key) -> Option<Arc<HostInode>> {
        self.inodes.lock().by_key.get(&key).and_then(Weak::upgrade)
    }

    /// Stops keeping an inode alive.
    fn unkeep(&self, key: Key) {
        let mut inodes = self.inodes.lock();
        let at = inodes.kept.iter().position(|inode| inode.key() == key);
        let inode = at.and_then(|at| inodes.kept.remove(at));
        drop(inodes);
        drop(inode);
    }

    /// A file's content is another's now, or somebody else's.
    fn forget_content(&self, key: Key) {
        if let Some(failing) = &self.failing {
            failing.forget(key);
        }
    }

    /// An inode died.
    fn forget(&self, key: Key) {
        let mut inodes = self.inodes.lock();
        if inodes.by_key.get(&key).is_some_and(|known| known.strong_count() == 0) {
            inodes.by_key.remove(&key);
        }
    }

    /// Calls `what` for every inode in use; answers the first failure.
    fn for_living(&self, what: impl Fn(&HostInode) -> Result<(), Errno>) -> Result<(), Errno> {
        let living: Vec<_> = self.inodes.lock().by_key.values().filter_map(Weak::upgrade).collect();
        let mut first = Ok(());
        for inode in living {
            first = first.and(what(&inode));
        }
        first
    }

    fn count_lost_write(&self) {
        self.lost_writes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inodes {
    /// Lets go of the inodes least recently found (second chance), down to `limit`.
    fn trim(&mut self, limit: usize) -> Vec<Arc<HostInode>> {
        let mut dropped = Vec::new();
        while self.kept.len() > limit {
            let Some(inode) = self.kept.pop_front() else { break };
            if inode.take_referenced() {
                self.kept.push_back(inode);
            } else {
                dropped.push(inode);
            }
        }
        dropped
    }
}

impl FileSystem for HostFs {
    fn type_name(&self) -> &'static str {
        "hostfs"
    }

    fn device(&self) -> Device {
        self.device
    }

    fn statfs(&self) -> Result<Kstatfs, Errno> {
        let host = rustix::fs::fstatvfs(&self.root).map_err(errno)?;
        Ok(Kstatfs {
            magic: HOSTFS_MAGIC,
            block_size: host.f_bsize,
            blocks: host.f_blocks,
            blocks_free: host.f_bfree,
            blocks_available: host.f_bavail,
            files: host.f_files,
            files_free: host.f_ffree,
            name_length: host.f_namemax,
            flags: 0,
        })
    }

    fn write_back(&self) -> Result<(), Errno> {
        self.for_living(HostInode::write_back)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.for_living(HostInode::sync)
    }

    fn drop_caches(&self) {
        let kept = std::mem::take(&mut self.inodes.lock().kept);
        drop(kept);
    }
}
