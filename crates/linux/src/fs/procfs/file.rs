//! Open files of `/proc`.

use super::task::TaskFile;
use super::{Node, ProcFs};
use crate::fs::file::{FileOps, OpenFile, Whence, seek_in};
use crate::host::Mm;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::RemoteRights;
use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

/// A file whose text is made anew whenever it is read from the start.
pub(super) struct ProcFile {
    fs: Arc<ProcFs>,
    node: Node,
    text: RefCell<Option<Vec<u8>>>,
}

impl ProcFile {
    pub(super) fn new(fs: Arc<ProcFs>, node: Node) -> Self {
        Self { fs, node, text: RefCell::new(None) }
    }
}

impl FileOps for ProcFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let mut text = self.text.borrow_mut();
        if pos == 0 || text.is_none() {
            *text = Some(self.fs.text(self.node)?);
        }
        let text = text.as_deref().unwrap_or_default();
        let from = usize::try_from(pos).unwrap_or(usize::MAX).min(text.len());
        let n = (text.len() - from).min(into.len());
        into[..n].copy_from_slice(&text[from..from + n]);
        Ok(n)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        self.fs.write(self.node, from)?;
        Ok(from.len())
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        match whence {
            Whence::Set | Whence::Current => seek_in(file.position(), None, offset, whence),
            Whence::End | Whence::Data | Whence::Hole => Err(Errno::EINVAL),
        }
    }

    /// Asked on 6.18: of a task's files only those about mounts; programs then fall back to read().
    fn can_splice_from(&self) -> bool {
        matches!(self.node, Node::System(_) | Node::File(_, TaskFile::Mounts | TaskFile::Mountinfo))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `/proc/PID/mem`: positions are addresses.
pub(super) struct MemFile {
    mm: Arc<Mm>,
}

impl MemFile {
    pub(super) fn new(mm: Arc<Mm>) -> Self {
        Self { mm }
    }
}

impl FileOps for MemFile {
    fn read(&self, _file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        match self.mm.read_remote(VirtAddr::new(pos), into, RemoteRights::Forced) {
            0 if !into.is_empty() => Err(Errno::EIO),
            done => Ok(done),
        }
    }

    fn write(&self, _file: &OpenFile, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        match self.mm.write_remote(VirtAddr::new(pos), from, RemoteRights::Forced) {
            0 if !from.is_empty() => Err(Errno::EIO),
            done => Ok(done),
        }
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        match whence {
            Whence::Set => Ok(offset as u64),
            Whence::Current => Ok(file.position().wrapping_add_signed(offset)),
            Whence::End | Whence::Data | Whence::Hole => Err(Errno::EINVAL),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
