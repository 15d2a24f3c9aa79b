//! Open files of `/proc`.
//!
//! [`ProcFile`] is text, made anew whenever reading does not go on where it stopped, as Linux's
//! seq_file does; [`MemFile`] and [`PagemapFile`] show an address space, which they do not keep
//! alive. Source: Linux 6.18 fs/seq_file.c, fs/proc/.

use super::task::TaskFile;
use super::{Node, ProcFs};
use crate::fs::file::{FileOps, OpenFile, PollEvents, Whence, seek_in};
use crate::host::Mm;
use crate::sched::wait::WaitQueue;
use kilburn_addr::{Errno, PAGE_SHIFT, VirtAddr};
use kilburn_mm::{RemoteRights, ShowFrames};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

/// How a text is read in pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// From any position (`seq_file`); no end to seek from.
    Sequence,
    /// From any position; it has an end to seek from, at 0.
    Bytes,
    /// Only from the start, in one piece (`proc_dointvec`); it has an end to seek from, at 0.
    Number,
}

/// A file that is text.
pub(super) struct ProcFile {
    fs: Arc<ProcFs>,
    node: Node,
    text: RefCell<Vec<u8>>,
    /// Where reading goes on without making the text anew; 0 at first.
    next: Cell<u64>,
    /// Changes of the mount table that this file has told of.
    mount_changes: Cell<u64>,
}

impl ProcFile {
    pub(super) fn new(fs: Arc<ProcFs>, node: Node) -> Self {
        let mount_changes = Cell::new(fs.mount_changes());
        Self { fs, node, text: RefCell::default(), next: Cell::new(0), mount_changes }
    }

    fn shows_mounts(&self) -> bool {
        matches!(self.node, Node::File(_, file) if file.shows_mounts())
    }
}

impl FileOps for ProcFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if pos > 0 && self.node.reading() == Reading::Number {
            return Ok(0);
        }
        let mut text = self.text.borrow_mut();
        if pos == 0 || pos != self.next.get() {
            *text = self.fs.text(self.node)?;
        }
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(text.len());
        let n = (text.len() - from).min(into.len());
        into[..n].copy_from_slice(&text[from..from + n]);
        self.next.set(pos.saturating_add(n as u64));
        Ok(n)
    }

    fn write(&self, _file: &OpenFile, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        // A number is written whole, at the start; more is taken and ignored
        // (`sysctl_writes_strict` 1).
        if pos == 0 || self.node.reading() != Reading::Number {
            self.fs.write(self.node, from)?;
        }
        Ok(from.len())
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        let size = (self.node.reading() != Reading::Sequence).then_some(0);
        match whence {
            Whence::Set | Whence::Current | Whence::End => {
                seek_in(file.position(), size, offset, whence)
            }
            Whence::Data | Whence::Hole => Err(Errno::EINVAL),
        }
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        if !self.shows_mounts() {
            return PollEvents::ALWAYS;
        }
        let now = self.fs.mount_changes();
        let changed = self.mount_changes.replace(now) != now;
        let news = if changed { PollEvents::ERR | PollEvents::PRI } else { PollEvents::empty() };
        PollEvents::READABLE | news
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        if self.shows_mounts() { self.fs.mount_queue() } else { None }
    }

    fn can_epoll(&self) -> bool {
        self.shows_mounts() || matches!(self.node, Node::System(_))
    }

    /// Asked on 6.18: of a task's files only those about mounts; programs then fall back to read().
    fn can_splice_from(&self) -> bool {
        matches!(self.node, Node::System(_))
            || matches!(self.node, Node::File(_, TaskFile::Mounts | TaskFile::Mountinfo))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The position in a file whose positions are addresses (Linux `mem_lseek`).
fn seek_address(file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
    match whence {
        Whence::Set => Ok(offset as u64),
        Whence::Current => Ok(file.position().wrapping_add_signed(offset)),
        Whence::End | Whence::Data | Whence::Hole => Err(Errno::EINVAL),
    }
}

/// `/proc/PID/mem`: positions are addresses.
pub(super) struct MemFile {
    mm: Weak<Mm>,
}

impl MemFile {
    /// The memory of `mm`; `None` for a process without: it reads as empty.
    pub(super) fn new(mm: Option<&Arc<Mm>>) -> Self {
        Self { mm: mm.map(Arc::downgrade).unwrap_or_default() }
    }
}

impl FileOps for MemFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let Some(mm) = self.mm.upgrade() else { return Ok(0) };
        match mm.read_remote(VirtAddr::new(pos), into, RemoteRights::Forced) {
            0 if !into.is_empty() => Err(Errno::EIO),
            done => Ok(done),
        }
    }

    fn write(&self, _file: &OpenFile, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let Some(mm) = self.mm.upgrade() else { return Ok(0) };
        match mm.write_remote(VirtAddr::new(pos), from, RemoteRights::Forced) {
            0 if !from.is_empty() => Err(Errno::EIO),
            done => Ok(done),
        }
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        seek_address(file, offset, whence)
    }

    fn can_epoll(&self) -> bool {
        false
    }

    fn can_splice_from(&self) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Bytes of one entry of pagemap.
const ENTRY_BYTES: u64 = 8;

/// `/proc/PID/pagemap`: eight bytes a page, at eight times the page's number.
pub(super) struct PagemapFile {
    mm: Weak<Mm>,
    show: ShowFrames,
}

impl PagemapFile {
    /// The pages of `mm`; `show` frames as the opener's capability was.
    pub(super) fn new(mm: Option<&Arc<Mm>>, show: ShowFrames) -> Self {
        Self { mm: mm.map(Arc::downgrade).unwrap_or_default(), show }
    }
}

impl FileOps for PagemapFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let Some(mm) = self.mm.upgrade() else { return Ok(0) };
        if !pos.is_multiple_of(ENTRY_BYTES) || !(into.len() as u64).is_multiple_of(ENTRY_BYTES) {
            return Err(Errno::EINVAL);
        }
        let (first, end) = (pos / ENTRY_BYTES, mm.layout().task_size().get() >> PAGE_SHIFT);
        let count = (into.len() as u64 / ENTRY_BYTES).min(end.saturating_sub(first));
        let mut entries = vec![0; count as usize];
        mm.pagemap(first, &mut entries, self.show);
        let bytes = entries.iter().flat_map(|entry: &u64| entry.to_le_bytes());
        into.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Ok((count * ENTRY_BYTES) as usize)
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        seek_address(file, offset, whence)
    }

    fn can_epoll(&self) -> bool {
        false
    }

    fn can_splice_from(&self) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
