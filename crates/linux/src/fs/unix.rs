//! Sockets of the machine itself (`AF_UNIX`).
//!
//! A [`UnixSocket`] holds what was sent to it: a byte stream, or messages. Two connected ones hold
//! each other weakly; a listening one holds connections not yet accepted. [`UnixNames`] finds bound
//! ones, by inode or by abstract name. Descriptors travel with bytes (`SCM_RIGHTS`).
//!
//! Source: Linux 6.18 net/unix/af_unix.c. Neighbours: `syscall/fs/socket.rs` waits and decodes.

use crate::fs::file::{FileOps, IoctlAnswer, IoctlRequest, OpenFile, PollEvents};
use crate::fs::pipe::FIONREAD;
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

/// Bytes on their way to one socket (`net.core.wmem_default`).
pub(crate) const BUFFER_BYTES: usize = 212_992;
/// Messages on their way to one socket (`net.unix.max_dgram_qlen`, doubled by nobody).
const MESSAGES_MAX: usize = 512;

/// What a socket keeps together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum SocketKind {
    /// Bytes (`SOCK_STREAM`).
    Stream,
    /// Messages, without connection (`SOCK_DGRAM`).
    Datagram,
    /// Messages, with connection (`SOCK_SEQPACKET`).
    SeqPacket,
}

impl SocketKind {
    /// `SOCK_*`.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::SeqPacket => 5,
        }
    }

    fn is_connected_kind(self) -> bool {
        self != Self::Datagram
    }
}

/// Who a peer is (`struct ucred`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PeerCred {
    /// Process.
    pub(crate) pid: u32,
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// What arrived together.
#[derive(Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    start: usize,
    /// Open files sent along.
    pub(crate) files: Vec<Rc<OpenFile>>,
    /// Address of the sender, as `sockaddr_un` bytes.
    pub(crate) from: Vec<u8>,
    /// Who sent it.
    pub(crate) cred: PeerCred,
}

/// Bytes received, and what came with them.
pub(crate) struct Received {
    /// How many bytes were copied.
    pub(crate) bytes: usize,
    /// How long the message was.
    pub(crate) full: usize,
    /// Open files that came along.
    pub(crate) files: Vec<Rc<OpenFile>>,
    /// Address of the sender.
    pub(crate) from: Vec<u8>,
    /// Who sent it.
    pub(crate) cred: PeerCred,
}

/// Whether what is received stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peek {
    /// `MSG_PEEK`.
    Yes,
    /// It goes.
    No,
}

/// A socket.
pub(crate) struct UnixSocket {
    kind: SocketKind,
    inbox: RefCell<VecDeque<Message>>,
    peer: RefCell<Weak<UnixSocket>>,
    /// Had a peer, which is gone or will be.
    was_connected: Cell<bool>,
    /// The peer sends no more, or we read no more.
    read_shut: Cell<bool>,
    write_shut: Cell<bool>,
    /// Connections not yet accepted, and how many may be; `None`: not listening.
    backlog: RefCell<Option<(VecDeque<Rc<UnixSocket>>, usize)>>,
    /// Own address, as `sockaddr_un` bytes without the family.
    name: RefCell<Vec<u8>>,
    owner: Cell<PeerCred>,
    peer_cred: Cell<PeerCred>,
    /// `SO_PASSCRED`.
    pub(crate) pass_cred: Cell<bool>,
    /// For the next call that asks (`sk_err`).
    error: Cell<Option<Errno>>,
    queue: WaitQueue,
}

impl UnixSocket {
    /// A socket nobody knows.
    pub(crate) fn new(kind: SocketKind, owner: PeerCred) -> Rc<Self> {
        Rc::new(Self {
            kind,
            inbox: RefCell::default(),
            peer: RefCell::default(),
            was_connected: Cell::new(false),
            read_shut: Cell::new(false),
            write_shut: Cell::new(false),
            backlog: RefCell::new(None),
            name: RefCell::default(),
            owner: Cell::new(owner),
            peer_cred: Cell::default(),
            pass_cred: Cell::new(false),
            error: Cell::new(None),
            queue: WaitQueue::new(),
        })
    }

    /// Two connected sockets.
    pub(crate) fn pair(kind: SocketKind, owner: PeerCred) -> (Rc<Self>, Rc<Self>) {
        let (a, b) = (Self::new(kind, owner), Self::new(kind, owner));
        Self::join(&a, &b);
        (a, b)
    }

    fn join(a: &Rc<Self>, b: &Rc<Self>) {
        for (one, other) in [(a, b), (b, a)] {
            one.peer.replace(Rc::downgrade(other));
            one.was_connected.set(true);
            one.peer_cred.set(other.owner.get());
        }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> SocketKind {
        self.kind
    }

    /// Its address without the family; empty when it has none.
    pub(crate) fn name(&self) -> Vec<u8> {
        self.name.borrow().clone()
    }

    /// Gives it an address.
    pub(crate) fn set_name(&self, name: Vec<u8>) {
        self.name.replace(name);
    }

    /// The other side's address.
    ///
    /// # Errors
    /// ENOTCONN.
    pub(crate) fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.peer.borrow().upgrade().ok_or(Errno::ENOTCONN)?.name())
    }

    /// Who is at the other side.
    pub(crate) fn peer_cred(&self) -> PeerCred {
        self.peer_cred.get()
    }

    /// Whether it listens.
    pub(crate) fn is_listening(&self) -> bool {
        self.backlog.borrow().is_some()
    }

    /// Woken when anything about it changes.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// `listen`.
    ///
    /// # Errors
    /// EOPNOTSUPP for datagrams; EINVAL without a name or when connected.
    pub(crate) fn listen(&self, backlog: i32) -> Result<(), Errno> {
        if !self.kind.is_connected_kind() {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.name.borrow().is_empty() || self.was_connected.get() {
            return Err(Errno::EINVAL);
        }
        let limit = usize::try_from(backlog).unwrap_or(4096).min(4096);
        let mut slot = self.backlog.borrow_mut();
        let waiting = slot.take().map(|(waiting, _)| waiting).unwrap_or_default();
        *slot = Some((waiting, limit));
        Ok(())
    }

    /// `connect`.
    ///
    /// # Errors
    /// EISCONN, EPROTOTYPE, ECONNREFUSED; EAGAIN when too many wait to be accepted.
    pub(crate) fn connect(self: &Rc<Self>, to: &Rc<Self>) -> Result<(), Errno> {
        if self.kind != to.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if self.kind == SocketKind::Datagram {
            self.peer.replace(Rc::downgrade(to));
            self.peer_cred.set(to.owner.get());
            return Ok(());
        }
        if self.was_connected.get() {
            return Err(Errno::EISCONN);
        }
        if self.is_listening() {
            return Err(Errno::EINVAL);
        }
        let mut backlog = to.backlog.borrow_mut();
        let (waiting, limit) = backlog.as_mut().ok_or(Errno::ECONNREFUSED)?;
        if waiting.len() > *limit {
            return Err(Errno::EAGAIN);
        }
        let server = Self::new(to.kind, to.owner.get());
        server.set_name(to.name());
        Self::join(self, &server);
        waiting.push_back(server);
        drop(backlog);
        to.queue.wake_all();
        self.queue.wake_all();
        Ok(())
    }

    /// `accept`.
    ///
    /// # Errors
    /// EINVAL when not listening; EAGAIN when nobody waits.
    pub(crate) fn accept(&self) -> Result<Rc<Self>, Errno> {
        let mut backlog = self.backlog.borrow_mut();
        let (waiting, _) = backlog.as_mut().ok_or(Errno::EINVAL)?;
        let socket = waiting.pop_front().ok_or(Errno::EAGAIN)?;
        drop(backlog);
        self.queue.wake_all();
        Ok(socket)
    }

    fn used(&self) -> usize {
        self.inbox.borrow().iter().map(|message| message.bytes.len() - message.start).sum()
    }

    /// Keeps `errno` for the next call that asks.
    pub(crate) fn fail(&self, errno: Errno) {
        self.error.set(Some(errno));
        self.queue.wake_all();
    }

    /// Takes the pending error (`SO_ERROR`).
    pub(crate) fn take_error(&self) -> Option<Errno> {
        self.error.take()
    }

    /// Sends to `to`, or to the peer. A stream may take only part.
    ///
    /// # Errors
    /// The pending error; EPIPE, ENOTCONN, ECONNREFUSED, EMSGSIZE; EAGAIN when there is no room.
    pub(crate) fn send(
        &self,
        to: Option<&Rc<Self>>,
        bytes: &[u8],
        files: Vec<Rc<OpenFile>>,
        cred: PeerCred,
    ) -> Result<usize, Errno> {
        // Streams look for an end first (unix_stream_sendmsg), the others for an error.
        if self.kind != SocketKind::Stream
            && let Some(errno) = self.take_error()
        {
            return Err(errno);
        }
        if self.write_shut.get() {
            return Err(Errno::EPIPE);
        }
        let peer = match to {
            Some(to) if self.kind == SocketKind::Datagram => Rc::clone(to),
            Some(_) if self.was_connected.get() => return Err(Errno::EISCONN),
            Some(_) => return Err(Errno::EOPNOTSUPP),
            None => match self.peer.borrow().upgrade() {
                Some(peer) => peer,
                // The connection ends with this answer (unix_dgram_sendmsg).
                None if self.kind == SocketKind::Datagram && self.was_connected.take() => {
                    return Err(Errno::ECONNREFUSED);
                }
                None if self.was_connected.get() => return Err(Errno::EPIPE),
                None => return Err(Errno::ENOTCONN),
            },
        };
        if peer.read_shut.get() {
            return Err(Errno::EPIPE);
        }
        let room = BUFFER_BYTES.saturating_sub(peer.used());
        let taken = if self.kind == SocketKind::Stream {
            if room == 0 && !bytes.is_empty() {
                return Err(Errno::EAGAIN);
            }
            bytes.len().min(room)
        } else {
            if bytes.len() > BUFFER_BYTES {
                return Err(Errno::EMSGSIZE);
            }
            if bytes.len() > room || peer.inbox.borrow().len() >= MESSAGES_MAX {
                return Err(Errno::EAGAIN);
            }
            bytes.len()
        };
        if self.kind == SocketKind::Stream && taken == 0 {
            return Ok(0);
        }
        let message =
            Message { bytes: bytes[..taken].to_vec(), start: 0, files, from: self.name(), cred };
        peer.inbox.borrow_mut().push_back(message);
        peer.queue.wake_all();
        Ok(taken)
    }

    /// Receives.
    ///
    /// # Errors
    /// EAGAIN when nothing is there; EINVAL or ENOTCONN for a stream without connection.
    pub(crate) fn receive(&self, into: &mut [u8], peek: Peek) -> Result<Received, Errno> {
        if self.is_listening() {
            return Err(Errno::EINVAL);
        }
        // Of a stream all bytes that came before the error are read first.
        let is_empty = self.inbox.borrow().is_empty();
        if (is_empty || self.kind != SocketKind::Stream)
            && let Some(errno) = self.take_error()
        {
            return Err(errno);
        }
        let mut inbox = self.inbox.borrow_mut();
        let Some(first) = inbox.front_mut() else {
            drop(inbox);
            return self.nothing_to_receive();
        };
        let mut received = Received {
            bytes: 0,
            full: first.bytes.len() - first.start,
            files: Vec::new(),
            from: first.from.clone(),
            cred: first.cred,
        };
        if self.kind != SocketKind::Stream {
            let n = received.full.min(into.len());
            into[..n].copy_from_slice(&first.bytes[first.start..first.start + n]);
            received.bytes = n;
            received.files = match peek {
                Peek::Yes => first.files.clone(),
                Peek::No => std::mem::take(&mut first.files),
            };
            if peek == Peek::No {
                inbox.pop_front();
            }
        } else {
            receive_bytes(&mut inbox, into, peek, &mut received);
        }
        drop(inbox);
        if peek == Peek::No {
            self.wake_writer();
        }
        Ok(received)
    }

    fn nothing_to_receive(&self) -> Result<Received, Errno> {
        let end = Received {
            bytes: 0,
            full: 0,
            files: Vec::new(),
            from: Vec::new(),
            cred: PeerCred::default(),
        };
        let peer = self.peer.borrow().upgrade();
        if self.read_shut.get() {
            return Ok(end);
        }
        if self.kind == SocketKind::Datagram {
            return Err(Errno::EAGAIN);
        }
        if !self.was_connected.get() {
            return Err(if self.kind == SocketKind::Stream {
                Errno::EINVAL
            } else {
                Errno::ENOTCONN
            });
        }
        match peer {
            Some(peer) if !peer.write_shut.get() => Err(Errno::EAGAIN),
            _ => Ok(end),
        }
    }

    fn wake_writer(&self) {
        self.queue.wake_all();
        if let Some(peer) = self.peer.borrow().upgrade() {
            peer.queue.wake_all();
        }
    }

    /// `shutdown`: 0 reads, 1 writes, 2 both.
    ///
    /// # Errors
    /// ENOTCONN, EINVAL.
    pub(crate) fn shutdown(&self, how: i32) -> Result<(), Errno> {
        if !(0..=2).contains(&how) {
            return Err(Errno::EINVAL);
        }
        let peer = self.peer.borrow().upgrade();
        if peer.is_none() && !self.was_connected.get() && !self.is_listening() {
            return Err(Errno::ENOTCONN);
        }
        if how != 1 {
            self.read_shut.set(true);
        }
        if how != 0 {
            self.write_shut.set(true);
        }
        self.queue.wake_all();
        if let Some(peer) = peer.filter(|_| self.kind.is_connected_kind()) {
            if how != 1 {
                peer.write_shut.set(true);
            }
            if how != 0 {
                peer.read_shut.set(true);
            }
            peer.queue.wake_all();
        }
        Ok(())
    }

    fn poll_events(&self) -> PollEvents {
        let mut ready = PollEvents::empty();
        if let Some((waiting, _)) = &*self.backlog.borrow() {
            return if waiting.is_empty() { ready } else { PollEvents::READABLE };
        }
        let peer = self.peer.borrow().upgrade();
        let connected = self.kind.is_connected_kind();
        let gone = connected && (peer.is_none() || !self.was_connected.get());
        if !self.inbox.borrow().is_empty()
            || self.read_shut.get()
            || gone && self.was_connected.get()
        {
            ready |= PollEvents::READABLE;
        }
        if gone || self.read_shut.get() && self.write_shut.get() {
            ready |= PollEvents::HUP;
        }
        if self.read_shut.get() || gone && self.was_connected.get() {
            ready |= PollEvents::RDHUP;
        }
        if peer.is_none_or(|peer| peer.used() * 4 <= BUFFER_BYTES * 3) {
            ready |= PollEvents::WRITABLE;
        }
        if self.error.get().is_some() {
            ready |= PollEvents::ERR;
        }
        ready
    }

    /// The last descriptor went (`unix_release_sock`).
    fn close(&self) {
        // Dropped at the end: it may hold files, whose closing comes back here.
        let inbox = self.inbox.take();
        self.leave(if inbox.is_empty() { Leaving::AllRead } else { Leaving::Unread });
        if let Some((waiting, _)) = self.backlog.take() {
            for socket in waiting {
                socket.leave(Leaving::Unread);
                drop(socket.inbox.take());
            }
        }
    }

    /// Tells the peer that nobody is here any more.
    fn leave(&self, how: Leaving) {
        let peer = self.peer.take().upgrade();
        if let Some(peer) = peer.filter(|_| self.kind.is_connected_kind()) {
            peer.read_shut.set(true);
            peer.write_shut.set(true);
            if how == Leaving::Unread {
                peer.error.set(Some(Errno::ECONNRESET));
            }
            peer.queue.wake_all();
        }
    }
}

/// What a socket leaves behind when it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaving {
    /// Nothing: its peer finds an end.
    AllRead,
    /// Messages that nobody read, or a connection that nobody accepted: its peer finds ECONNRESET.
    Unread,
}

/// Bytes of a stream: across messages, but not past one that brought files or another sender.
fn receive_bytes(
    inbox: &mut VecDeque<Message>,
    into: &mut [u8],
    peek: Peek,
    received: &mut Received,
) {
    let mut index = 0;
    while received.bytes < into.len() {
        let Some(message) = inbox.get_mut(index) else { break };
        if received.bytes > 0 && (!message.files.is_empty() || message.cred != received.cred) {
            break;
        }
        let left = message.bytes.len() - message.start;
        let n = left.min(into.len() - received.bytes);
        let from = &message.bytes[message.start..message.start + n];
        into[received.bytes..received.bytes + n].copy_from_slice(from);
        received.bytes += n;
        let brought_files = !message.files.is_empty();
        if peek == Peek::Yes {
            received.files.extend(message.files.iter().cloned());
            index += 1;
        } else {
            received.files.append(&mut message.files);
            message.start += n;
            if message.start == message.bytes.len() {
                inbox.pop_front();
            }
        }
        if brought_files {
            break;
        }
    }
}

/// An open socket.
pub(crate) struct SocketFile(pub(crate) Rc<UnixSocket>);

impl FileOps for SocketFile {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() && self.0.kind == SocketKind::Stream {
            return Ok(0);
        }
        Ok(self.0.receive(into, Peek::No)?.bytes)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        self.0.send(None, from, Vec::new(), self.0.owner.get())
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        self.0.poll_events()
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.0.queue.clone())
    }

    fn ioctl(&self, _file: &OpenFile, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        match request.command {
            FIONREAD => {
                let bytes = match self.0.kind {
                    SocketKind::Stream => self.0.used(),
                    _ => self.0.inbox.borrow().front().map_or(0, |m| m.bytes.len()),
                };
                Ok(IoctlAnswer::Bytes((bytes as u32).to_le_bytes().to_vec()))
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn release(&self, _file: &OpenFile) {
        self.0.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a bound socket is found by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Address {
    /// Device and inode of its file.
    Inode(u64, u64),
    /// A name outside the file system, without its leading zero; each kind has its own.
    Abstract(SocketKind, Vec<u8>),
}

/// All bound sockets of a machine.
#[derive(Default)]
pub(crate) struct UnixNames(RefCell<BTreeMap<Address, Weak<UnixSocket>>>);

impl UnixNames {
    /// Binds `socket`.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(crate) fn bind(&self, address: Address, socket: &Rc<UnixSocket>) -> Result<(), Errno> {
        let mut names = self.0.borrow_mut();
        names.retain(|_, known| known.strong_count() > 0);
        if names.contains_key(&address) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(address, Rc::downgrade(socket));
        Ok(())
    }

    /// The socket bound to `address`.
    ///
    /// # Errors
    /// ECONNREFUSED.
    pub(crate) fn find(&self, address: &Address) -> Result<Rc<UnixSocket>, Errno> {
        self.0.borrow().get(address).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
    }
}
