//! Open files: what a descriptor refers to.
//!
//! [`OpenFile`] is Linux's `struct file`: flags, position, and the [`FileOps`] of whatever was
//! opened. Descriptors that came from one `open` (dup, fork) share it. All operations are
//! non-blocking: EAGAIN means "ask [`FileOps::wait_queue`] and try again", which the system call
//! layer does unless `O_NONBLOCK` is set; poll, select and epoll use the same queue.
//!
//! Neighbours: [`crate::fs::fd_table`] holds these; [`crate::fs::regular`] and
//! [`crate::fs::directory`] are the operations of files with an inode of the usual kind.

use crate::fs::dentry::Path;
use crate::fs::inode::{DirEntry, InodeRef};
use crate::fs::locks::{LockTable, Owner};
use crate::fs::seals::{Seals, Shared};
use crate::fs::stat::FileType;
use crate::fs::write_access::WriteAccess;
use crate::sched::wait::WaitQueue;
use bitflags::bitflags;
use kilburn_addr::Errno;
use kilburn_mm::ErrorCursor;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

bitflags! {
    /// `open` flags (include/uapi/asm-generic/fcntl.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct OpenFlags: u32 {
        /// Open for writing.
        const WRONLY = 0o1;
        /// Open for reading and writing.
        const RDWR = 0o2;
        /// Make the file when it is not there.
        const CREAT = 0o100;
        /// With `CREAT`: fail when it is there.
        const EXCL = 0o200;
        /// Do not take it as controlling terminal.
        const NOCTTY = 0o400;
        /// Cut to nothing.
        const TRUNC = 0o1000;
        /// Each write goes to the end.
        const APPEND = 0o2000;
        /// Answer EAGAIN instead of waiting.
        const NONBLOCK = 0o4000;
        /// Each write reaches the store.
        const DSYNC = 0o1_0000;
        /// SIGIO when ready.
        const ASYNC = 0o2_0000;
        /// Around the page cache.
        const DIRECT = 0o4_0000;
        /// 64-bit sizes; always so here.
        const LARGEFILE = 0o10_0000;
        /// Must be a directory.
        const DIRECTORY = 0o20_0000;
        /// The last component must not be a symbolic link.
        const NOFOLLOW = 0o40_0000;
        /// Reading leaves the access time.
        const NOATIME = 0o100_0000;
        /// Close on exec; a property of the descriptor.
        const CLOEXEC = 0o200_0000;
        /// With `DSYNC`: attributes as well.
        const SYNC = 0o400_0000;
        /// Only a place, no I/O.
        const PATH = 0o1000_0000;
        /// A file without a name; only together with `DIRECTORY`.
        const TMPFILE = 0o2000_0000;
    }
}

impl OpenFlags {
    /// The access mode bits.
    pub(crate) const ACCMODE: u32 = 3;
    /// What `F_SETFL` changes.
    pub(crate) const SETFL: Self = Self::APPEND
        .union(Self::NONBLOCK)
        .union(Self::ASYNC)
        .union(Self::DIRECT)
        .union(Self::NOATIME);

    /// Whether reads are permitted.
    pub(crate) const fn readable(self) -> bool {
        matches!(self.bits() & Self::ACCMODE, 0 | 2) && !self.contains(Self::PATH)
    }

    /// Whether writes are permitted.
    pub(crate) const fn writable(self) -> bool {
        matches!(self.bits() & Self::ACCMODE, 1 | 2) && !self.contains(Self::PATH)
    }
}

bitflags! {
    /// Readiness (include/uapi/asm-generic/poll.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct PollEvents: u32 {
        /// Bytes to read, or end of file.
        const IN = 0x1;
        /// Urgent data.
        const PRI = 0x2;
        /// Room to write.
        const OUT = 0x4;
        /// Error; reported unasked.
        const ERR = 0x8;
        /// The other side is gone; reported unasked.
        const HUP = 0x10;
        /// No such descriptor; reported unasked.
        const NVAL = 0x20;
        /// As `IN`.
        const RDNORM = 0x40;
        /// Priority band data.
        const RDBAND = 0x80;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Room for priority band data.
        const WRBAND = 0x200;
        /// The other side will write no more.
        const RDHUP = 0x2000;
    }
}

impl PollEvents {
    /// Readable.
    pub(crate) const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// Writable.
    pub(crate) const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
    /// Both, as a regular file always is (Linux `DEFAULT_POLLMASK`).
    pub(crate) const ALWAYS: Self = Self::READABLE.union(Self::WRITABLE);
}

/// `lseek`'s last argument, 0 to 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whence {
    /// From the start.
    Set,
    /// From the position.
    Current,
    /// From the end.
    End,
    /// The next byte that is no hole.
    Data,
    /// The next hole.
    Hole,
}

/// What an `ioctl` answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IoctlAnswer {
    /// A number, in the result register.
    Value(u64),
    /// Zero, and these bytes where the argument points.
    Bytes(Vec<u8>),
}

/// An `ioctl` request: the command, its raw argument, and what the argument points to as far as
/// the command reads memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoctlRequest<'a> {
    /// Command number.
    pub(crate) command: u32,
    /// The argument itself.
    pub(crate) argument: u64,
    /// The bytes at the argument; empty for commands that read none.
    pub(crate) input: &'a [u8],
    /// Who asks.
    pub(crate) caller: IoctlCaller,
}

/// The process that makes an `ioctl`, as terminals need to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IoctlCaller {
    /// Process.
    pub(crate) pid: u32,
    /// Its process group.
    pub(crate) pgid: u32,
    /// Its session.
    pub(crate) sid: u32,
}

/// A consumer of directory entries: the entry and the position after it; false: no room.
pub(crate) type EmitEntry<'a> = dyn FnMut(&DirEntry, u64) -> bool + 'a;

/// What an open file does (Linux `file_operations`).
pub(crate) trait FileOps: Any {
    /// Whether the file has a position; a stream has none and answers ESPIPE to `lseek`.
    fn is_stream(&self) -> bool {
        false
    }

    /// Reads at `pos` (meaningless for streams); 0: end of file.
    ///
    /// # Errors
    /// EAGAIN when it would have to wait; EINVAL when it cannot be read; EISDIR.
    fn read(&self, _file: &OpenFile, _pos: u64, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Writes at `pos`; may take less than all.
    ///
    /// # Errors
    /// EAGAIN when it would have to wait; EPIPE without a reader; EINVAL when it cannot be written.
    fn write(&self, _file: &OpenFile, _pos: u64, _from: &[u8]) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    /// Whether a write moves the position of a file that has one.
    fn moves_by_writing(&self) -> bool {
        !self.is_stream()
    }

    /// The position `lseek` would set.
    ///
    /// # Errors
    /// ESPIPE for streams; EINVAL; ENXIO past the end for `Data` and `Hole`.
    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        if self.is_stream() {
            return Err(Errno::ESPIPE);
        }
        seek_in(file.position(), None, offset, whence)
    }

    /// Entries from `pos` on; stops when `emit` says so.
    ///
    /// # Errors
    /// ENOTDIR when it is no directory.
    fn read_dir(&self, _f: &OpenFile, _pos: u64, _emit: &mut EmitEntry<'_>) -> Result<u64, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// What is ready now.
    fn poll(&self, _file: &OpenFile) -> PollEvents {
        PollEvents::ALWAYS
    }

    /// Woken when [`poll`](Self::poll) may say more; `None`: it never changes.
    fn wait_queue(&self) -> Option<WaitQueue> {
        None
    }

    /// All queues of which a wake-up may change what [`poll`](Self::poll) says.
    fn wait_queues(&self) -> Vec<WaitQueue> {
        self.wait_queue().into_iter().collect()
    }

    /// Whether the file can be watched by epoll at all.
    fn can_epoll(&self) -> bool {
        self.wait_queue().is_some()
    }

    /// Whether sendfile and splice can take bytes out of it (Linux `splice_read`).
    fn can_splice_from(&self) -> bool {
        true
    }

    /// `false` while `open` has to wait (a FIFO without a partner).
    fn is_open_complete(&self) -> bool {
        true
    }

    /// Device-specific commands.
    ///
    /// # Errors
    /// ENOTTY for those it does not know.
    fn ioctl(&self, _file: &OpenFile, _request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        Err(Errno::ENOTTY)
    }

    /// A descriptor was closed (others may remain).
    ///
    /// # Errors
    /// A late error of writing back.
    fn flush(&self, _file: &OpenFile) -> Result<(), Errno> {
        Ok(())
    }

    /// The last reference went.
    fn release(&self, _file: &OpenFile) {}

    /// Lines for `/proc/PID/fdinfo` beyond the common ones.
    fn fdinfo(&self) -> String {
        String::new()
    }

    /// For calls that work on one kind of file only (epoll, eventfd).
    fn as_any(&self) -> &dyn Any;
}

/// The position that `lseek` sets in a file of this size, or of none.
///
/// # Errors
/// EINVAL when it would be negative, or there is no size to count from; ENXIO for `Data` and
/// `Hole` past the end; EOVERFLOW.
pub(crate) fn seek_in(
    now: u64,
    size: Option<u64>,
    offset: i64,
    whence: Whence,
) -> Result<u64, Errno> {
    let base = match whence {
        Whence::Set => 0,
        Whence::Current => now,
        Whence::End => size.ok_or(Errno::EINVAL)?,
        Whence::Data | Whence::Hole => {
            let size = size.ok_or(Errno::EINVAL)?;
            let at = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            if at >= size {
                return Err(Errno::ENXIO);
            }
            // A file without holes but the one at its end.
            return Ok(if whence == Whence::Data { at } else { size });
        }
    };
    let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
    let at = base.checked_add(offset).ok_or(Errno::EINVAL)?;
    u64::try_from(at).map_err(|_| Errno::EINVAL)
}

/// An open file description (Linux `struct file`).
pub(crate) struct OpenFile {
    ops: Box<dyn FileOps>,
    path: Path,
    flags: Cell<OpenFlags>,
    position: Cell<u64>,
    /// Who gets SIGIO (`F_SETOWN`).
    owner: Cell<i32>,
    /// Keeps the file from being executed as long as it can be written through here.
    write_access: RefCell<Option<WriteAccess>>,
    /// What it was told of failed write-back.
    errors: Arc<ErrorCursor>,
    /// The identity under which this file itself holds locks, once it asked for one.
    lock_owner: RefCell<Option<(Rc<LockTable>, Owner)>>,
}

impl OpenFile {
    /// The longest file position.
    pub(crate) const POSITION_MAX: u64 = i64::MAX as u64;

    /// An open file at `path`. `flags` lose what only concerned `open` itself.
    pub(crate) fn new(ops: Box<dyn FileOps>, path: Path, flags: OpenFlags) -> Rc<Self> {
        let gone = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOCTTY | OpenFlags::TRUNC;
        let flags = Cell::new(flags - gone - OpenFlags::CLOEXEC);
        let (position, owner) = (Cell::new(0), Cell::new(0));
        let (write_access, lock_owner) = (RefCell::default(), RefCell::default());
        let errors = path.inode().page_cache().map(|cache| cache.error_cursor());
        let errors = Arc::new(errors.unwrap_or_default());
        Rc::new(Self { ops, path, flags, position, owner, write_access, errors, lock_owner })
    }

    /// What it was told of failed write-back; its mappings share it.
    pub(crate) fn error_cursor(&self) -> &Arc<ErrorCursor> {
        &self.errors
    }

    /// Tells of write-back that failed since this file was last told (Linux
    /// `file_check_and_advance_wb_err`).
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn check_write_back(&self) -> Result<(), Errno> {
        let cache = self.inode().page_cache();
        cache.map_or(Ok(()), |cache| cache.check_errors(&self.errors))
    }

    /// Writes back what is dirty, and tells of what failed (Linux `vfs_fsync`).
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        let synced = self.inode().sync();
        self.check_write_back()?;
        synced
    }

    /// Keeps the file from being executed until this open file is closed.
    pub(crate) fn hold_write_access(&self, access: WriteAccess) {
        self.write_access.replace(Some(access));
    }

    /// What it does.
    pub(crate) fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }

    /// Its operations as a certain kind.
    pub(crate) fn ops_as<T: 'static>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode.
    pub(crate) fn inode(&self) -> &InodeRef {
        self.path.inode()
    }

    /// Flags as `F_GETFL` shows them.
    pub(crate) fn flags(&self) -> OpenFlags {
        self.flags.get()
    }

    /// Replaces the changeable flags.
    pub(crate) fn set_flags(&self, flags: OpenFlags) {
        let kept = self.flags.get() - OpenFlags::SETFL;
        self.flags.set(kept | (flags & OpenFlags::SETFL));
    }

    /// Whether calls answer EAGAIN instead of waiting.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.flags.get().contains(OpenFlags::NONBLOCK)
    }

    /// Whether it is only a place (`O_PATH`).
    pub(crate) fn is_path_only(&self) -> bool {
        self.flags.get().contains(OpenFlags::PATH)
    }

    /// `F_GETOWN`.
    pub(crate) fn owner(&self) -> i32 {
        self.owner.get()
    }

    /// `F_SETOWN`.
    pub(crate) fn set_owner(&self, owner: i32) {
        self.owner.set(owner);
    }

    /// The identity under which this file holds `flock` and open-file-description locks.
    pub(crate) fn lock_owner(&self, locks: &Rc<LockTable>) -> Owner {
        let mut slot = self.lock_owner.borrow_mut();
        slot.get_or_insert_with(|| (Rc::clone(locks), locks.new_owner())).1
    }

    /// The seals of its inode.
    pub(crate) fn seals(&self) -> Option<&Seals> {
        self.inode().seals()
    }

    /// `F_ADD_SEALS`.
    ///
    /// # Errors
    /// EINVAL where seals do not exist, or for unknown ones; EPERM when not open for writing, or
    /// sealed against it; EBUSY when writes shall be sealed while a mapping may write.
    pub(crate) fn add_seals(&self, seals: u32) -> Result<(), Errno> {
        let own = self.seals().ok_or(Errno::EINVAL)?;
        if !self.flags().writable() {
            return Err(Errno::EPERM);
        }
        let mapped = self.inode().page_cache().is_some_and(|cache| cache.is_writably_mapped());
        let shared = if mapped { Shared::Writably } else { Shared::ReadOnly };
        own.add(seals, shared, self.inode().stat()?.mode())
    }

    /// Whether seals permit to change bytes.
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_write_seal(&self) -> Result<(), Errno> {
        self.seals().map_or(Ok(()), Seals::check_write)
    }

    /// Position of the next read or write.
    pub(crate) fn position(&self) -> u64 {
        self.position.get()
    }

    /// Moves the position.
    pub(crate) fn set_position(&self, position: u64) {
        self.position.set(position);
    }

    /// Reads at the position and moves it.
    ///
    /// # Errors
    /// EBADF when not open for reading; as [`FileOps::read`].
    pub(crate) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        let done = self.read_at(self.position(), into)?;
        if !self.ops.is_stream() {
            self.set_position(self.position() + done as u64);
        }
        Ok(done)
    }

    /// Reads at `pos`.
    ///
    /// # Errors
    /// EBADF when not open for reading; as [`FileOps::read`].
    pub(crate) fn read_at(&self, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if !self.flags().readable() {
            return Err(Errno::EBADF);
        }
        self.ops.read(self, pos, into)
    }

    /// Writes at the position (the end with `O_APPEND`) and moves it.
    ///
    /// # Errors
    /// EBADF when not open for writing; as [`FileOps::write`].
    pub(crate) fn write(&self, from: &[u8]) -> Result<usize, Errno> {
        let pos = self.write_position(self.position())?;
        let done = self.write_at(pos, from)?;
        if self.ops.moves_by_writing() {
            self.set_position(pos + done as u64);
        }
        Ok(done)
    }

    /// Writes at `pos`.
    ///
    /// # Errors
    /// EBADF when not open for writing; as [`FileOps::write`].
    pub(crate) fn write_at(&self, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        if !self.flags().writable() {
            return Err(Errno::EBADF);
        }
        self.ops.write(self, pos, from)
    }

    /// Where a write meant for `pos` goes: the end with `O_APPEND`.
    ///
    /// # Errors
    /// What the file's size answers.
    pub(crate) fn write_position(&self, pos: u64) -> Result<u64, Errno> {
        if self.flags().contains(OpenFlags::APPEND) && self.inode().kind() == FileType::Regular {
            Ok(self.inode().stat()?.size)
        } else {
            Ok(pos)
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.ops.release(self);
        if let Some((locks, owner)) = self.lock_owner.take() {
            locks.release(owner, self);
        }
    }
}

/// The operations of an `O_PATH` file: none.
pub(crate) struct PathOnly;

impl FileOps for PathOnly {
    fn read(&self, _file: &OpenFile, _pos: u64, _into: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, _from: &[u8]) -> Result<usize, Errno> {
        Err(Errno::EBADF)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeking_counts_from_the_named_place_and_never_below_zero() {
        assert_eq!(seek_in(5, Some(10), 3, Whence::Current), Ok(8));
        assert_eq!(seek_in(5, Some(10), -6, Whence::Current), Err(Errno::EINVAL));
        assert_eq!(seek_in(5, Some(10), -10, Whence::End), Ok(0));
        assert_eq!(seek_in(5, Some(10), 100, Whence::End), Ok(110));
        assert_eq!(seek_in(0, Some(10), 10, Whence::Data), Err(Errno::ENXIO));
        assert_eq!(seek_in(0, Some(10), 3, Whence::Hole), Ok(10));
        assert_eq!(seek_in(0, None, 0, Whence::End), Err(Errno::EINVAL));
    }
}
