//! Host descriptors behind inodes, and the only host calls that take names.
//!
//! A [`Handle`] is opened with `O_PATH | O_NOFOLLOW`: it names a file without opening it. A regular
//! file's handle is exchanged for a real descriptor when its contents are first needed, through
//! `/proc/self/fd`, which reaches that very file whatever happened to its name since.
//! [`HostStore`] is the store under a file's page cache.

use super::{errno, errno_of};
use crate::fs::stat::{Device, FileType, Kstat, Timespec};
use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use kilburn_addr::{Errno, PAGE_SIZE};
use kilburn_mm::BackingStore;
use parking_lot::RwLock;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, SeekFrom, StatxFlags, Timestamps};
use rustix::io::{pread, pwrite};
use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a handle can do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Path,
    Read,
    ReadWrite,
}

struct File {
    fd: RwLock<(OwnedFd, Level)>,
    /// The store wrote since this was last asked: the host's times moved because of us.
    wrote: AtomicBool,
}

enum Kind {
    Dir(Dir),
    Other(Arc<File>),
}

/// A host file.
pub(super) struct Handle(Kind);

impl Handle {
    /// A directory.
    pub(super) fn dir(dir: Dir) -> Self {
        Self(Kind::Dir(dir))
    }

    fn file(fd: OwnedFd, level: Level) -> Self {
        let wrote = AtomicBool::new(false);
        Self(Kind::Other(Arc::new(File { fd: RwLock::new((fd, level)), wrote })))
    }

    /// Opens `name` in this directory, a symbolic link as itself.
    pub(super) fn open(&self, name: &[u8]) -> Result<(Self, Kstat), Errno> {
        let dir = self.as_dir()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits() as i32).follow(FollowSymlinks::No);
        let file = dir.open_with(OsStr::from_bytes(name), &options).map_err(|e| errno_of(&e))?;
        let fd = OwnedFd::from(file.into_std());
        let stat = stat_fd(fd.as_fd())?;
        if stat.kind == FileType::Directory {
            return Ok((Self::dir(Dir::from_std_file(fd.into())), stat));
        }
        Ok((Self::file(fd, Level::Path), stat))
    }

    /// Makes the regular file `name` in this directory.
    pub(super) fn create(&self, name: &[u8]) -> Result<Self, Errno> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).follow(FollowSymlinks::No);
        let dir = self.as_dir()?;
        let file = dir.open_with(OsStr::from_bytes(name), &options).map_err(|e| errno_of(&e))?;
        Ok(Self::file(OwnedFd::from(file.into_std()), Level::ReadWrite))
    }

    /// Makes a regular file without a name in this directory.
    pub(super) fn create_nameless(&self) -> Result<Self, Errno> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.as_dir()?, ".", flags, Mode::RUSR | Mode::WUSR);
        Ok(Self::file(fd.map_err(errno)?, Level::ReadWrite))
    }

    /// The directory.
    pub(super) fn as_dir(&self) -> Result<&Dir, Errno> {
        match &self.0 {
            Kind::Dir(dir) => Ok(dir),
            Kind::Other(_) => Err(Errno::ENOTDIR),
        }
    }

    /// The names in this directory.
    pub(super) fn list(&self) -> Result<rustix::fs::Dir, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.as_dir()?, ".", flags, Mode::empty()).map_err(errno)?;
        rustix::fs::Dir::new(fd).map_err(errno)
    }

    /// Attributes on the host.
    pub(super) fn stat(&self) -> Result<Kstat, Errno> {
        self.with_fd(stat_fd)
    }

    /// Attributes on the host of `name` in this directory.
    pub(super) fn stat_child(&self, name: &[u8]) -> Result<Kstat, Errno> {
        stat_at(self.as_dir()?.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Calls `f` with the descriptor, of whatever level it is.
    pub(super) fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match &self.0 {
            Kind::Dir(dir) => f(dir.as_fd()),
            Kind::Other(file) => f(file.fd.read().0.as_fd()),
        }
    }

    /// Changes permission bits.
    pub(super) fn set_perm(&self, perm: u32) -> Result<(), Errno> {
        let proc = rustix_linux_procfs::proc_self_fd().map_err(errno)?;
        let mode = Mode::from_raw_mode(perm);
        self.with_fd(|fd| {
            let name = fd.as_raw_fd().to_string();
            rustix::fs::chmodat(proc, name, mode, AtFlags::empty()).map_err(errno)
        })
    }

    /// Changes owner and group.
    pub(super) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let uid = uid.map(rustix::fs::Uid::from_raw);
        let gid = gid.map(rustix::fs::Gid::from_raw);
        self.with_fd(|fd| rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH).map_err(errno))
    }

    /// Sets both times.
    pub(super) fn set_times(&self, atime: Timespec, mtime: Timespec) -> Result<(), Errno> {
        let raw = |time: Timespec| rustix::fs::Timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanos),
        };
        let times = Timestamps { last_access: raw(atime), last_modification: raw(mtime) };
        self.with_fd(|fd| rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH).map_err(errno))
    }

    /// Where extended attributes of this file are reached.
    pub(super) fn proc_path(&self) -> String {
        self.with_fd(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }

    /// Whether the store wrote to the host since the last call.
    pub(super) fn take_wrote(&self) -> bool {
        match &self.0 {
            Kind::Dir(_) => false,
            Kind::Other(file) => file.wrote.swap(false, Ordering::Relaxed),
        }
    }

    /// Makes sure that the contents can be written.
    pub(super) fn ensure_writable(&self) -> Result<(), Errno> {
        match &self.0 {
            Kind::Dir(_) => Err(Errno::EISDIR),
            Kind::Other(file) => file.raise(Level::ReadWrite),
        }
    }

    /// Makes sure that the contents can be read.
    pub(super) fn ensure_readable(&self) -> Result<(), Errno> {
        match &self.0 {
            Kind::Dir(_) => Err(Errno::EISDIR),
            Kind::Other(file) => file.raise(Level::Read),
        }
    }

    /// Has the host find room for these bytes of the contents; their size stays.
    pub(super) fn allocate(&self, bytes: Range<u64>) -> Result<(), Errno> {
        let how = FallocateFlags::KEEP_SIZE;
        let (start, len) = (bytes.start, bytes.end - bytes.start);
        match self.with_fd(|fd| rustix::fs::fallocate(fd, how, start, len)) {
            // A file system without the operation finds room as it is needed.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            answer => answer.map_err(errno),
        }
    }

    /// Whether the host has no room yet for some page of the contents.
    pub(super) fn has_holes(&self) -> Result<bool, Errno> {
        self.ensure_readable()?;
        let stat = self.stat()?;
        let whole = stat.size / PAGE_SIZE * PAGE_SIZE;
        if whole == 0 {
            return Ok(false);
        }
        match self.with_fd(|fd| rustix::fs::seek(fd, SeekFrom::Hole(0))) {
            // Room that nothing was written to counts as a hole there, and as blocks here.
            Ok(first) if first < whole => Ok(stat.blocks * 512 < whole),
            Ok(_) | Err(rustix::io::Errno::INVAL) => Ok(false),
            Err(error) => Err(errno(error)),
        }
    }

    /// The store for the contents of this regular file.
    pub(super) fn store(&self) -> Option<HostStore> {
        match &self.0 {
            Kind::Dir(_) => None,
            Kind::Other(file) => Some(HostStore(Arc::clone(file))),
        }
    }
}

impl File {
    fn raise(&self, wanted: Level) -> Result<(), Errno> {
        if self.fd.read().1 >= wanted {
            return Ok(());
        }
        let mut held = self.fd.write();
        let access = if wanted == Level::ReadWrite { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let proc = rustix_linux_procfs::proc_self_fd().map_err(errno)?;
        let name = held.0.as_raw_fd().to_string();
        let fd = rustix::fs::openat(proc, name, flags, Mode::empty()).map_err(errno)?;
        *held = (fd, wanted);
        Ok(())
    }
}

fn stat_fd(fd: BorrowedFd<'_>) -> Result<Kstat, Errno> {
    stat_at(fd, b"", AtFlags::EMPTY_PATH)
}

fn stat_at(fd: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<Kstat, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let host = rustix::fs::statx(fd, name, flags, wanted).map_err(errno)?;
    let time = |t: rustix::fs::StatxTimestamp| Timespec { seconds: t.tv_sec, nanos: t.tv_nsec };
    let mode = u32::from(host.stx_mode);
    let has_btime = host.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(Kstat {
        dev: Device::new(host.stx_dev_major, host.stx_dev_minor),
        ino: host.stx_ino,
        kind: FileType::from_mode(mode).ok_or(Errno::EIO)?,
        perm: mode & 0o7777,
        nlink: host.stx_nlink,
        uid: host.stx_uid,
        gid: host.stx_gid,
        rdev: Device::new(host.stx_rdev_major, host.stx_rdev_minor),
        size: host.stx_size,
        blksize: host.stx_blksize,
        blocks: host.stx_blocks,
        atime: time(host.stx_atime),
        mtime: time(host.stx_mtime),
        ctime: time(host.stx_ctime),
        btime: has_btime.then(|| time(host.stx_btime)),
    })
}

/// The contents of a host file, by pages.
pub(super) struct HostStore(Arc<File>);

impl BackingStore for HostStore {
    fn read_page(&self, index: u64, into: &mut [u8; 4096]) -> Result<(), Errno> {
        self.0.raise(Level::Read)?;
        let held = self.0.fd.read();
        let mut done = 0;
        while done < into.len() {
            let at = index * PAGE_SIZE + done as u64;
            match pread(&held.0, &mut into[done..], at) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(errno(error)),
            }
        }
        into[done..].fill(0);
        Ok(())
    }

    fn write_page(&self, index: u64, from: &[u8]) -> Result<(), Errno> {
        self.0.raise(Level::ReadWrite)?;
        self.0.wrote.store(true, Ordering::Relaxed);
        let held = self.0.fd.read();
        let mut done = 0;
        while done < from.len() {
            let at = index * PAGE_SIZE + done as u64;
            match pwrite(&held.0, &from[done..], at) {
                Ok(0) => return Err(Errno::EIO),
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(errno(error)),
            }
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        self.0.raise(Level::ReadWrite)?;
        self.0.wrote.store(true, Ordering::Relaxed);
        rustix::fs::ftruncate(&self.0.fd.read().0, size).map_err(errno)
    }

    fn sync(&self) -> Result<(), Errno> {
        self.0.raise(Level::Read)?;
        rustix::fs::fdatasync(&self.0.fd.read().0).map_err(errno)
    }
}
