//! Pipes and FIFOs.
//!
//! A [`Fifo`] is a ring of page-sized buffers between writers and readers, as Linux keeps it: at
//! most 16 (or `F_SETPIPE_SZ`) buffers; a short write joins the last buffer when it fits; a write
//! of at most [`PIPE_BUF`] bytes goes in as a whole or not at all. [`PipeEnd`] is an open end;
//! [`pipe`] makes both ends of an anonymous one, [`Fifo::open`] one of a named one.
//!
//! Source: Linux 6.18 fs/pipe.c. Neighbours: [`crate::fs::file`]; system calls raise SIGPIPE.

use crate::fs::file::{FileOps, IoctlAnswer, IoctlRequest, OpenFile, OpenFlags, PollEvents};
use crate::fs::inode::{InodeRef, Touch};
use crate::fs::pipe_pages::Charge;
use crate::sched::wait::WaitQueue;
use crate::task::Creds;
use kilburn_addr::{Errno, PAGE_SIZE};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

/// Longest write that is atomic.
pub(crate) const PIPE_BUF: usize = PAGE_SIZE as usize;
/// Buffers of a new pipe.
pub(crate) const BUFFERS: usize = 16;
/// Buffers of a new pipe whose user has too many (`PIPE_MIN_DEF_BUFFERS`).
pub(crate) const BUFFERS_MIN: usize = 2;
/// Largest pipe without `CAP_SYS_RESOURCE`, bytes (`/proc/sys/fs/pipe-max-size`).
pub(crate) const PIPE_MAX_SIZE: usize = 1 << 20;
/// `ioctl`: bytes that can be read.
pub(crate) const FIONREAD: u32 = 0x541b;

/// One page of a pipe.
struct Buffer {
    bytes: Vec<u8>,
    /// Already read.
    start: usize,
    /// A record of its own (`O_DIRECT`): neither merged nor read together with others.
    packet: bool,
}

struct Ring {
    buffers: VecDeque<Buffer>,
    limit: usize,
    /// What its user pays for the buffers.
    // DIVERGENCE(fifo-pages): named pipes count for nobody.
    charge: Option<Charge>,
    readers: u32,
    writers: u32,
    /// How many readers and writers there ever were; `open` waits for these to move.
    readers_ever: u64,
    writers_ever: u64,
}

/// Whether a pipe has a name: opening a named one waits for the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Naming {
    /// Made by `mkfifo`.
    Named,
    /// Made by `pipe`; opened again only through `/proc/PID/fd`.
    Anonymous,
}

struct Shared {
    ring: Mutex<Ring>,
    queue: WaitQueue,
    naming: Naming,
}

/// A pipe, shared by its ends and, if it has a name, its inode.
#[derive(Clone)]
pub(crate) struct Fifo(Arc<Shared>);

impl Fifo {
    /// An empty pipe nobody has open.
    pub(crate) fn new(naming: Naming) -> Self {
        let ring = Ring {
            buffers: VecDeque::new(),
            limit: BUFFERS,
            charge: None,
            readers: 0,
            writers: 0,
            readers_ever: 0,
            writers_ever: 0,
        };
        Self(Arc::new(Shared { ring: Mutex::new(ring), queue: WaitQueue::new(), naming }))
    }

    /// An empty anonymous pipe of the buffers that `charge` counts.
    pub(crate) fn charged(charge: Charge) -> Self {
        let fifo = Self::new(Naming::Anonymous);
        let mut ring = fifo.0.ring.lock();
        ring.limit = usize::try_from(charge.count()).unwrap_or(BUFFERS);
        ring.charge = Some(charge);
        drop(ring);
        fifo
    }

    /// Opens an end (Linux `fifo_open`). The open may be incomplete: see
    /// [`FileOps::is_open_complete`].
    ///
    /// # Errors
    /// ENXIO when opening for writing, without waiting, and nobody reads.
    pub(crate) fn open(&self, inode: InodeRef, flags: OpenFlags) -> Result<PipeEnd, Errno> {
        let (reads, writes) = (flags.readable(), flags.writable());
        let nonblocking = flags.contains(OpenFlags::NONBLOCK);
        let mut ring = self.0.ring.lock();
        let named = self.0.naming == Naming::Named;
        if named && writes && !reads && nonblocking && ring.readers == 0 {
            return Err(Errno::ENXIO);
        }
        let await_partner = match (reads, writes) {
            _ if nonblocking || !named => None,
            (true, false) if ring.writers == 0 => Some(Partner::Writer(ring.writers_ever)),
            (false, true) if ring.readers == 0 => Some(Partner::Reader(ring.readers_ever)),
            _ => None,
        };
        // A reader that did not wait sees no hang-up before the first writer came.
        let no_writer_yet = named && reads && !writes && ring.writers == 0;
        let writers_at_open = no_writer_yet.then_some(ring.writers_ever);
        ring.join(reads, writes);
        drop(ring);
        self.0.queue.wake_all();
        Ok(PipeEnd { fifo: self.clone(), inode, reads, writes, await_partner, writers_at_open })
    }

    /// Bytes that can be read.
    pub(crate) fn len(&self) -> usize {
        self.0.ring.lock().buffers.iter().map(|b| b.bytes.len() - b.start).sum()
    }

    /// Whether two handles are one pipe.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Bytes that certainly fit now: what free buffers hold.
    pub(crate) fn room(&self) -> usize {
        let ring = self.0.ring.lock();
        if ring.readers == 0 {
            0
        } else {
            (ring.limit - ring.buffers.len().min(ring.limit)) * PIPE_BUF
        }
    }

    /// Whether writing would be EPIPE.
    pub(crate) fn has_no_reader(&self) -> bool {
        self.0.ring.lock().readers == 0
    }

    /// A copy of the first bytes, at most `max`, which stay.
    ///
    /// # Errors
    /// EAGAIN when empty and somebody can still write.
    pub(crate) fn peek(&self, max: usize) -> Result<Vec<u8>, Errno> {
        let ring = self.0.ring.lock();
        let mut bytes = Vec::new();
        for buffer in &ring.buffers {
            let left = &buffer.bytes[buffer.start..];
            bytes.extend_from_slice(&left[..left.len().min(max - bytes.len())]);
            if bytes.len() == max {
                break;
            }
        }
        if bytes.is_empty() && ring.writers > 0 { Err(Errno::EAGAIN) } else { Ok(bytes) }
    }

    /// `F_GETPIPE_SZ`, bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.0.ring.lock().limit * PIPE_BUF
    }

    /// `F_SETPIPE_SZ`: at least `bytes`, a power of two of pages. Answers the new capacity.
    ///
    /// # Errors
    /// EINVAL for sizes out of range; EBUSY when more buffers than that are full; EPERM when the
    /// user has too many.
    pub(crate) fn set_capacity(&self, creds: &Creds, bytes: usize) -> Result<usize, Errno> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let buffers = bytes.div_ceil(PIPE_BUF).max(1).next_power_of_two();
        let mut ring = self.0.ring.lock();
        if buffers < ring.buffers.len() {
            return Err(Errno::EBUSY);
        }
        if let Some(charge) = &mut ring.charge {
            charge.set(creds, buffers as u64)?;
        }
        ring.limit = buffers;
        drop(ring);
        self.0.queue.wake_all();
        Ok(buffers * PIPE_BUF)
    }

    /// Takes bytes out.
    ///
    /// # Errors
    /// EAGAIN when empty and somebody can still write.
    fn take(&self, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut ring = self.0.ring.lock();
        let mut done = 0;
        while let Some(buffer) = ring.buffers.front_mut() {
            let n = (buffer.bytes.len() - buffer.start).min(into.len() - done);
            into[done..done + n].copy_from_slice(&buffer.bytes[buffer.start..buffer.start + n]);
            buffer.start += n;
            done += n;
            let packet = buffer.packet;
            if packet || buffer.start == buffer.bytes.len() {
                // The rest of a packet that did not fit is lost.
                ring.buffers.pop_front();
            }
            if packet || done == into.len() {
                break;
            }
        }
        if done == 0 {
            return if ring.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        drop(ring);
        self.0.queue.wake_all();
        Ok(done)
    }

    /// Puts bytes in; all of them when they are at most [`PIPE_BUF`].
    ///
    /// # Errors
    /// EPIPE without a reader; EAGAIN when full.
    fn put(&self, from: &[u8], packet: bool) -> Result<usize, Errno> {
        let mut ring = self.0.ring.lock();
        if ring.readers == 0 {
            return Err(Errno::EPIPE);
        }
        if from.is_empty() {
            return Ok(0);
        }
        let mut done = 0;
        // What exceeds whole pages goes first, to where the last writer left off, if it fits.
        let odd = from.len() % PIPE_BUF;
        if odd != 0
            && !packet
            && let Some(last) = ring.buffers.back_mut()
            && !last.packet
            && last.bytes.len() + odd <= PIPE_BUF
        {
            last.bytes.extend_from_slice(&from[..odd]);
            done = odd;
        }
        while done < from.len() && ring.buffers.len() < ring.limit {
            let n = (from.len() - done).min(PIPE_BUF);
            let bytes = from[done..done + n].to_vec();
            ring.buffers.push_back(Buffer { bytes, start: 0, packet });
            done += n;
        }
        drop(ring);
        if done == 0 {
            return Err(Errno::EAGAIN);
        }
        self.0.queue.wake_all();
        Ok(done)
    }
}

impl Ring {
    fn join(&mut self, reads: bool, writes: bool) {
        if reads {
            self.readers += 1;
            self.readers_ever += 1;
        }
        if writes {
            self.writers += 1;
            self.writers_ever += 1;
        }
    }
}

/// Whom an incomplete `open` waits for; with the count seen at the start.
#[derive(Clone, Copy)]
enum Partner {
    Reader(u64),
    Writer(u64),
}

/// An open end (or, read-write, both).
pub(crate) struct PipeEnd {
    fifo: Fifo,
    inode: InodeRef,
    reads: bool,
    writes: bool,
    await_partner: Option<Partner>,
    writers_at_open: Option<u64>,
}

impl PipeEnd {
    /// The pipe.
    pub(crate) fn fifo(&self) -> &Fifo {
        &self.fifo
    }
}

/// The reading and the writing end of the anonymous pipe behind `inode`.
///
/// # Errors
/// Never for a pipe just made.
pub(crate) fn pipe(fifo: &Fifo, inode: &InodeRef) -> Result<(PipeEnd, PipeEnd), Errno> {
    let read = fifo.open(Arc::clone(inode), OpenFlags::empty())?;
    let write = fifo.open(Arc::clone(inode), OpenFlags::WRONLY)?;
    Ok((read, write))
}

impl FileOps for PipeEnd {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let done = self.fifo.take(into)?;
        if done > 0 {
            self.inode.touch(Touch::ATIME);
        }
        Ok(done)
    }

    fn write(&self, file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        let done = self.fifo.put(from, file.flags().contains(OpenFlags::DIRECT))?;
        if done > 0 {
            self.inode.touch(Touch::MTIME | Touch::CTIME);
        }
        Ok(done)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let ring = self.fifo.0.ring.lock();
        let mut ready = PollEvents::empty();
        if self.reads {
            if !ring.buffers.is_empty() {
                ready |= PollEvents::READABLE;
            }
            if ring.writers == 0 && self.writers_at_open != Some(ring.writers_ever) {
                ready |= PollEvents::HUP;
            }
        }
        if self.writes {
            if ring.buffers.len() < ring.limit {
                ready |= PollEvents::WRITABLE;
            }
            if ring.readers == 0 {
                ready |= PollEvents::ERR;
            }
        }
        ready
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.fifo.0.queue.clone())
    }

    fn is_open_complete(&self) -> bool {
        let ring = self.fifo.0.ring.lock();
        match self.await_partner {
            None => true,
            Some(Partner::Reader(seen)) => ring.readers_ever != seen,
            Some(Partner::Writer(seen)) => ring.writers_ever != seen,
        }
    }

    fn ioctl(&self, _file: &OpenFile, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        match request.command {
            FIONREAD => Ok(IoctlAnswer::Bytes((self.fifo.len() as u32).to_le_bytes().to_vec())),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn release(&self, _file: &OpenFile) {
        let mut ring = self.fifo.0.ring.lock();
        ring.readers -= u32::from(self.reads);
        ring.writers -= u32::from(self.writes);
        if ring.readers == 0 && ring.writers == 0 {
            ring.buffers.clear();
        }
        drop(ring);
        self.fifo.0.queue.wake_all();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe with one reader and one writer, as far as the ring knows.
    fn open_pipe() -> Fifo {
        let fifo = Fifo::new(Naming::Anonymous);
        fifo.0.ring.lock().join(true, true);
        fifo
    }

    #[test]
    fn a_full_pipe_holds_16_pages_and_short_writes_go_in_whole_or_not_at_all() {
        let fifo = open_pipe();
        assert_eq!(fifo.put(&[1; 100_000], false), Ok(65536));
        assert_eq!(fifo.put(&[2; 1], false), Err(Errno::EAGAIN));
        let mut page = [0; 4096];
        assert_eq!(fifo.take(&mut page[..4095]), Ok(4095));
        // One byte is left in the first page: no buffer is free.
        assert_eq!(fifo.put(&[2; 4096], false), Err(Errno::EAGAIN));
        assert_eq!(fifo.take(&mut page[..1]), Ok(1));
        assert_eq!(fifo.put(&[2; 4096], false), Ok(4096));
        assert_eq!(fifo.len(), 65536);
    }

    #[test]
    fn small_writes_share_a_page_and_packets_do_not() {
        let fifo = open_pipe();
        for _ in 0..5000 {
            assert_eq!(fifo.put(b"0123456789", false), Ok(10));
        }
        let packets = open_pipe();
        for _ in 0..16 {
            assert_eq!(packets.put(b"xy", true), Ok(2));
        }
        assert_eq!(packets.put(b"xy", true), Err(Errno::EAGAIN));
        let mut all = [0; 100];
        assert_eq!(packets.take(&mut all), Ok(2));
        // The rest of a packet that was asked for in part is lost.
        assert_eq!(packets.take(&mut all[..1]), Ok(1));
        assert_eq!(packets.take(&mut all), Ok(2));
    }

    #[test]
    fn an_empty_pipe_ends_with_its_last_writer_and_breaks_with_its_last_reader() {
        let fifo = open_pipe();
        let mut byte = [0];
        assert_eq!(fifo.take(&mut byte), Err(Errno::EAGAIN));
        fifo.0.ring.lock().writers = 0;
        assert_eq!(fifo.take(&mut byte), Ok(0));
        fifo.0.ring.lock().readers = 0;
        assert_eq!(fifo.put(b"x", false), Err(Errno::EPIPE));
    }

    #[test]
    fn a_pipe_shrinks_only_to_what_it_holds() {
        let fifo = open_pipe();
        fifo.put(&[0; 3 * 4096], false).unwrap();
        assert_eq!(fifo.set_capacity(&Creds::root(), 1), Err(Errno::EBUSY));
        assert_eq!(fifo.set_capacity(&Creds::root(), 4097), Err(Errno::EBUSY));
        assert_eq!(fifo.set_capacity(&Creds::root(), 3 * 4096), Ok(4 * 4096));
        assert_eq!(fifo.peek(5), Ok(vec![0; 5]));
    }
}
