//! Descriptors 0, 1 and 2: the host's, or captured.
//!
//! [`HostStream`] passes bytes to and from a host descriptor; reading never blocks the machine: it
//! answers EAGAIN, and when no task can run the scheduler waits for the host through
//! [`HostInput`]. A host terminal is [`crate::fs::tty`] on top of this. [`CapturedInput`] and
//! [`CapturedOutput`] take the host's place in tests: they look like pipes.

use crate::fs::file::{
    FileOps, IoctlAnswer, IoctlRequest, OpenFile, OpenFlags, PollEvents, Whence,
};
use crate::fs::pipe::FIONREAD;
use crate::fs::stat::FileType;
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::SeekFrom;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

/// One of the host's standard streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standard {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

impl Standard {
    /// All three, by descriptor.
    pub(crate) const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Error];

    /// The host's descriptor.
    pub(crate) fn host(self) -> BorrowedFd<'static> {
        match self {
            Self::Input => rustix::stdio::stdin(),
            Self::Output => rustix::stdio::stdout(),
            Self::Error => rustix::stdio::stderr(),
        }
    }
}

/// An error of the host's as the guest sees it.
pub(crate) fn host_errno(error: rustix::io::Errno) -> Errno {
    u16::try_from(error.raw_os_error()).map_or(Errno::EIO, Errno::from_number)
}

/// What the host's input has to say.
pub(crate) struct HostInput {
    stream: Standard,
    queue: WaitQueue,
}

impl HostInput {
    /// The input behind `stream`.
    pub(crate) fn new(stream: Standard) -> Rc<Self> {
        Rc::new(Self { stream, queue: WaitQueue::new() })
    }

    /// Woken when there may be bytes.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Whether a task waits for the host.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a read would not wait.
    pub(crate) fn is_ready(&self) -> bool {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let fd = self.stream.host();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// The host's descriptor.
    pub(crate) fn host(&self) -> BorrowedFd<'static> {
        self.stream.host()
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// EAGAIN when nothing is; the host's.
    pub(crate) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() {
            return Ok(0);
        }
        if !self.is_ready() {
            return Err(Errno::EAGAIN);
        }
        loop {
            match rustix::io::read(self.stream.host(), &mut *into) {
                Err(rustix::io::Errno::INTR) => {}
                answer => return answer.map_err(host_errno),
            }
        }
    }
}

/// Writes all bytes to the host, waiting for it.
///
/// # Errors
/// The host's, when nothing was written.
pub(crate) fn write_to_host(stream: Standard, from: &[u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < from.len() {
        match rustix::io::write(stream.host(), &from[done..]) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                // Somebody made the host's descriptor non-blocking; its reader is not us.
                let fd = stream.host();
                let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
            }
            Err(error) if done == 0 => return Err(host_errno(error)),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// A host descriptor that is a pipe, socket, file or device, but no terminal.
#[derive(Clone)]
pub(crate) struct HostStream {
    stream: Standard,
    kind: FileType,
    input: Rc<HostInput>,
}

impl HostStream {
    /// Operations on the host's `stream`, which is of type `kind`.
    pub(crate) fn new(stream: Standard, kind: FileType, input: Rc<HostInput>) -> Self {
        Self { stream, kind, input }
    }
}

impl FileOps for HostStream {
    fn is_stream(&self) -> bool {
        self.kind != FileType::Regular
    }

    fn read(&self, file: &OpenFile, pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if self.kind == FileType::Regular && pos != file.position() {
            return rustix::io::pread(self.stream.host(), into, pos).map_err(host_errno);
        }
        self.input.read(into)
    }

    fn write(&self, file: &OpenFile, pos: u64, from: &[u8]) -> Result<usize, Errno> {
        if self.kind == FileType::Regular && file.flags().contains(OpenFlags::APPEND) {
            // The guest asked for it; the host's own flag, which others share, stays as it is.
            let end = SeekFrom::End(0);
            rustix::fs::seek(self.stream.host(), end).map_err(host_errno)?;
            return write_to_host(self.stream, from);
        }
        if self.kind == FileType::Regular && pos != file.position() {
            return rustix::io::pwrite(self.stream.host(), from, pos).map_err(host_errno);
        }
        write_to_host(self.stream, from)
    }

    /// The host's position is the one that counts: programs before and after us share it.
    fn seek(&self, _file: &OpenFile, offset: i64, whence: Whence) -> Result<u64, Errno> {
        let from_start = || u64::try_from(offset).map_err(|_| Errno::EINVAL);
        let to = match whence {
            Whence::Set => SeekFrom::Start(from_start()?),
            Whence::Current => SeekFrom::Current(offset),
            Whence::End => SeekFrom::End(offset),
            Whence::Data => SeekFrom::Data(from_start()?),
            Whence::Hole => SeekFrom::Hole(from_start()?),
        };
        rustix::fs::seek(self.stream.host(), to).map_err(host_errno)
    }

    fn poll(&self, file: &OpenFile) -> PollEvents {
        let mut ready = PollEvents::empty();
        let fd = self.stream.host();
        let mut fds = [PollFd::new(&fd, PollFlags::IN | PollFlags::OUT)];
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut fds, Some(&now)).is_ok() {
            let host = PollEvents::from_bits_truncate(u32::from(fds[0].revents().bits()));
            ready = host;
            if host.contains(PollEvents::IN) {
                ready |= PollEvents::RDNORM;
            }
        }
        if file.flags().writable() && !ready.contains(PollEvents::ERR) {
            // The host's reader is not in the machine: writing to it may take time, never forever
            // because of us.
            ready |= PollEvents::WRITABLE;
        }
        ready
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        (self.stream == Standard::Input).then(|| self.input.queue().clone())
    }

    fn can_epoll(&self) -> bool {
        self.kind != FileType::Regular
    }

    fn ioctl(&self, _file: &OpenFile, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        match request.command {
            FIONREAD => {
                let bytes = rustix::io::ioctl_fionread(self.stream.host()).map_err(host_errno)?;
                Ok(IoctlAnswer::Bytes((bytes as u32).to_le_bytes().to_vec()))
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Bytes given to the guest as its input.
#[derive(Clone)]
pub(crate) struct CapturedInput {
    bytes: Rc<[u8]>,
    at: Rc<Cell<usize>>,
}

impl CapturedInput {
    /// An input that ends after `bytes`.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), at: Rc::default() }
    }
}

impl FileOps for CapturedInput {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let left = &self.bytes[self.at.get()..];
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        self.at.set(self.at.get() + n);
        Ok(n)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let ended = self.at.get() == self.bytes.len();
        if ended { PollEvents::HUP } else { PollEvents::READABLE }
    }

    fn can_epoll(&self) -> bool {
        true
    }

    fn ioctl(&self, _file: &OpenFile, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        match request.command {
            FIONREAD => {
                let left = (self.bytes.len() - self.at.get()) as u32;
                Ok(IoctlAnswer::Bytes(left.to_le_bytes().to_vec()))
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Where the guest's output is collected.
pub(crate) type Collected = Rc<RefCell<Vec<u8>>>;

/// An output that is collected.
#[derive(Clone)]
pub(crate) struct CapturedOutput(pub(crate) Collected);

impl FileOps for CapturedOutput {
    fn is_stream(&self) -> bool {
        true
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        self.0.borrow_mut().extend_from_slice(from);
        Ok(from.len())
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        PollEvents::WRITABLE
    }

    fn can_epoll(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
