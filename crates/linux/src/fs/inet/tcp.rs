//! TCP without a wire: what one side sends is at the other at once (Linux net/ipv4/tcp.c,
//! tcp_input.c: `tcp_reset`, `tcp_fin`).

use super::{Arrived, Family, InetSocket, Protocol, State};
use crate::fs::file::PollEvents;
use crate::fs::unix::Peek;
use kilburn_addr::Errno;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

/// Bytes on their way to one socket: what a default send and receive buffer hold together once
/// they have grown.
const BUFFER_BYTES: usize = 2_500_000;
/// `net.core.somaxconn`
const BACKLOG_MAX: usize = 4096;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Closed,
    /// Waits for room in the listener's queue.
    Connecting,
    /// Connected, and `connect` has not said so yet.
    JustConnected,
    Connected,
}

struct Backlog {
    ready: VecDeque<Rc<InetSocket>>,
    /// Found the queue full.
    waiting: VecDeque<Weak<InetSocket>>,
    limit: usize,
}

/// The TCP half of a socket.
#[derive(Default)]
pub(super) struct Tcp {
    stage: Cell<Stage>,
    peer: RefCell<Weak<InetSocket>>,
    inbox: RefCell<VecDeque<u8>>,
    /// A refusal was left in `SO_ERROR`; `connect` itself answers it the next time.
    pub(super) is_refusal_told: Cell<bool>,
    /// The peer sends no more.
    fin: Cell<bool>,
    read_shut: Cell<bool>,
    write_shut: Cell<bool>,
    /// The descriptor is closed: what arrives is refused.
    closed: Cell<bool>,
    backlog: RefCell<Option<Backlog>>,
}

fn tcp_of(socket: &InetSocket) -> &Tcp {
    match &socket.state {
        State::Tcp(tcp) => tcp,
        State::Udp(_) => unreachable!("peers of TCP sockets are TCP sockets"),
    }
}

impl Tcp {
    pub(super) fn is_listening(&self) -> bool {
        self.backlog.borrow().is_some()
    }

    /// Whether it neither listens nor has, or had, a peer.
    pub(super) fn is_idle(&self) -> bool {
        self.stage.get() == Stage::Closed && !self.is_listening()
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.inbox.borrow().len()
    }

    pub(super) fn connect(&self, own: &Rc<InetSocket>, to: SocketAddr) -> Result<(), Errno> {
        match self.stage.get() {
            Stage::Connected => return Err(Errno::EISCONN),
            Stage::JustConnected => {
                self.stage.set(Stage::Connected);
                return Ok(());
            }
            Stage::Connecting => return Err(Errno::EALREADY),
            Stage::Closed => (),
        }
        if self.is_listening() {
            return Err(Errno::EISCONN);
        }
        if let Some(errno) = own.take_error() {
            return Err(errno);
        }
        let to = own.destination(to)?;
        own.bind_somewhere()?;
        let mut found = own.network.receivers(Protocol::Tcp, to).into_iter();
        let listener = found.find(|socket| socket.is_listening());
        let listener = listener.ok_or(Errno::ECONNREFUSED)?;
        if own.local().ip().is_unspecified() {
            let local = SocketAddr::new(to.ip(), own.local().port());
            own.local.set(own.shown(local));
        }
        own.remote.set(Some(own.shown(to)));
        let full = match &mut *tcp_of(&listener).backlog.borrow_mut() {
            Some(backlog) if backlog.ready.len() > backlog.limit => {
                backlog.waiting.push_back(Rc::downgrade(own));
                true
            }
            _ => false,
        };
        if full {
            self.stage.set(Stage::Connecting);
        } else {
            establish(own, &listener);
        }
        Err(Errno::EINPROGRESS)
    }

    pub(super) fn listen(&self, own: &Rc<InetSocket>, backlog: i32) -> Result<(), Errno> {
        if self.stage.get() != Stage::Closed {
            return Err(Errno::EINVAL);
        }
        let port = own.local().port();
        let here = own.network.receivers(Protocol::Tcp, SocketAddr::new(own.local().ip(), port));
        let other = here.iter().find(|other| !Rc::ptr_eq(other, own) && other.is_listening());
        if other.is_some_and(|other| other.options.borrow().get(super::options::REUSEPORT) == 0) {
            return Err(Errno::EADDRINUSE);
        }
        let limit = usize::try_from(backlog).unwrap_or(BACKLOG_MAX).min(BACKLOG_MAX);
        let mut slot = self.backlog.borrow_mut();
        match &mut *slot {
            Some(known) => known.limit = limit,
            None => {
                let (ready, waiting) = (VecDeque::new(), VecDeque::new());
                *slot = Some(Backlog { ready, waiting, limit });
            }
        }
        Ok(())
    }

    pub(super) fn accept(&self, own: &InetSocket) -> Result<Rc<InetSocket>, Errno> {
        let mut slot = self.backlog.borrow_mut();
        let backlog = slot.as_mut().ok_or(Errno::EINVAL)?;
        let socket = backlog.ready.pop_front().ok_or(Errno::EAGAIN)?;
        let next = std::iter::from_fn(|| backlog.waiting.pop_front()).find_map(|c| c.upgrade());
        if let Some(client) = next {
            backlog.ready.push_back(join(&client, own));
        }
        Ok(socket)
    }

    pub(super) fn send(&self, own: &Rc<InetSocket>, bytes: &[u8]) -> Result<usize, Errno> {
        if let Some(errno) = own.take_error() {
            return Err(errno);
        }
        if self.write_shut.get() {
            return Err(Errno::EPIPE);
        }
        match self.stage.get() {
            // Linux tcp_sendmsg: sk_stream_wait_connect.
            Stage::Connecting => return Err(Errno::EAGAIN),
            Stage::Closed => return Err(Errno::EPIPE),
            Stage::JustConnected | Stage::Connected => (),
        }
        let peer = self.peer.borrow().upgrade();
        let Some(peer) = peer.filter(|peer| !tcp_of(peer).closed.get()) else {
            // Nobody takes it: it is answered by a reset, which the next call tells of.
            self.reset(own);
            return Ok(bytes.len());
        };
        let other = tcp_of(&peer);
        let room = BUFFER_BYTES.saturating_sub(other.waiting_bytes());
        if room == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        let taken = bytes.len().min(room);
        other.inbox.borrow_mut().extend(&bytes[..taken]);
        peer.queue.wake_all();
        Ok(taken)
    }

    pub(super) fn receive(
        &self,
        own: &InetSocket,
        into: &mut [u8],
        peek: Peek,
    ) -> Result<Arrived, Errno> {
        let mut inbox = self.inbox.borrow_mut();
        let bytes = inbox.len().min(into.len());
        if bytes == 0 && !into.is_empty() {
            drop(inbox);
            return self.nothing_to_receive(own);
        }
        for (to, from) in into.iter_mut().zip(inbox.iter()) {
            *to = *from;
        }
        if peek == Peek::No {
            inbox.drain(..bytes);
            drop(inbox);
            if let Some(peer) = self.peer.borrow().upgrade() {
                peer.queue.wake_all();
            }
        }
        Ok(Arrived { bytes, full: bytes, from: None })
    }

    fn nothing_to_receive(&self, own: &InetSocket) -> Result<Arrived, Errno> {
        let end = Arrived { bytes: 0, full: 0, from: None };
        if self.fin.get() {
            return Ok(end);
        }
        if let Some(errno) = own.take_error() {
            return Err(errno);
        }
        if self.read_shut.get() {
            return Ok(end);
        }
        match self.stage.get() {
            Stage::Closed => Err(Errno::ENOTCONN),
            _ => Err(Errno::EAGAIN),
        }
    }

    pub(super) fn shutdown(&self, own: &Rc<InetSocket>, how: i32) -> Result<(), Errno> {
        if self.is_listening() {
            if how != 1 {
                self.stop_listening();
                own.queue.wake_all();
            }
            return Ok(());
        }
        if self.stage.get() == Stage::Closed {
            return Err(Errno::ENOTCONN);
        }
        if how != 1 {
            self.read_shut.set(true);
        }
        if how != 0 && !self.write_shut.replace(true) {
            self.send_fin();
        }
        own.queue.wake_all();
        Ok(())
    }

    fn send_fin(&self) {
        if let Some(peer) = self.peer.borrow().upgrade() {
            tcp_of(&peer).fin.set(true);
            peer.queue.wake_all();
        }
    }

    /// A reset arrived (Linux `tcp_reset`).
    fn reset(&self, own: &InetSocket) {
        self.write_shut.set(true);
        self.read_shut.set(true);
        own.fail(if self.fin.get() { Errno::EPIPE } else { Errno::ECONNRESET });
    }

    fn stop_listening(&self) {
        let Some(backlog) = self.backlog.take() else { return };
        for socket in backlog.ready {
            let tcp = tcp_of(&socket);
            // Never accepted: the client's connection is reset, not ended.
            tcp.inbox.borrow_mut().push_back(0);
            tcp.close(&socket);
        }
        for client in backlog.waiting.iter().filter_map(Weak::upgrade) {
            tcp_of(&client).stage.set(Stage::Closed);
            client.fail(Errno::ECONNREFUSED);
        }
    }

    /// The last descriptor went, or `connect` to nowhere. Bytes nobody read reset the connection.
    pub(super) fn close(&self, own: &Rc<InetSocket>) {
        self.stop_listening();
        self.closed.set(true);
        let unread = !self.inbox.take().is_empty();
        if let Some(peer) = self.peer.take().upgrade() {
            let other = tcp_of(&peer);
            if unread {
                other.reset(&peer);
            } else {
                other.fin.set(true);
            }
            peer.queue.wake_all();
        }
        self.stage.set(Stage::Closed);
        own.queue.wake_all();
    }

    pub(super) fn poll(&self) -> PollEvents {
        if let Some(backlog) = &*self.backlog.borrow() {
            let empty = backlog.ready.is_empty();
            return if empty { PollEvents::empty() } else { PollEvents::READABLE };
        }
        let mut ready = PollEvents::empty();
        let stage = self.stage.get();
        if stage == Stage::Connecting {
            return ready;
        }
        let no_more = self.fin.get() || self.read_shut.get();
        if stage == Stage::Closed || no_more && self.write_shut.get() {
            ready |= PollEvents::HUP;
        }
        if no_more {
            ready |= PollEvents::READABLE | PollEvents::RDHUP;
        }
        if !self.inbox.borrow().is_empty() {
            ready |= PollEvents::READABLE;
        }
        let room = match self.peer.borrow().upgrade() {
            Some(peer) => tcp_of(&peer).waiting_bytes() <= BUFFER_BYTES * 2 / 3,
            None => true,
        };
        if room || self.write_shut.get() {
            ready |= PollEvents::WRITABLE;
        }
        ready
    }
}

/// Connects `client` to a new socket in the listener's queue.
fn establish(client: &Rc<InetSocket>, listener: &Rc<InetSocket>) {
    let server = join(client, listener);
    if let Some(backlog) = &mut *tcp_of(listener).backlog.borrow_mut() {
        backlog.ready.push_back(server);
    }
    listener.queue.wake_all();
}

fn join(client: &Rc<InetSocket>, listener: &InetSocket) -> Rc<InetSocket> {
    let server = InetSocket::new(&listener.network, listener.family, Protocol::Tcp);
    let plain = |addr: SocketAddr| SocketAddr::new(super::plain(addr.ip()), addr.port());
    if let Some(to) = client.remote.get() {
        server.local.set(server.shown(plain(to)));
    }
    server.remote.set(Some(server.shown(plain(client.local()))));
    server.options.replace(listener.options.borrow().clone());
    for (one, other) in [(client, &server), (&server, client)] {
        tcp_of(one).peer.replace(Rc::downgrade(other));
    }
    tcp_of(client).stage.set(Stage::JustConnected);
    tcp_of(&server).stage.set(Stage::Connected);
    debug_assert!(server.family == Family::V6 || server.local().is_ipv4());
    client.queue.wake_all();
    server
}
