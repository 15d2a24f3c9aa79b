//! UDP: messages from port to port (Linux net/ipv4/udp.c).

use super::{Arrived, Family, InetSocket, Protocol, State, options};
use crate::fs::file::PollEvents;
use crate::fs::unix::Peek;
use kilburn_addr::Errno;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

/// What a message takes of the receive buffer beside its bytes (`SKB_TRUESIZE`).
const OVERHEAD: usize = 768;

/// The UDP half of a socket.
#[derive(Default)]
pub(super) struct Udp {
    inbox: RefCell<VecDeque<(SocketAddr, Vec<u8>)>>,
    used: Cell<usize>,
    read_shut: Cell<bool>,
    write_shut: Cell<bool>,
}

fn udp_of(socket: &InetSocket) -> &Udp {
    match &socket.state {
        State::Udp(udp) => udp,
        State::Tcp(_) => unreachable!("receivers of UDP are UDP sockets"),
    }
}

/// Names the only one to send to and to receive from.
pub(super) fn connect(own: &Rc<InetSocket>, to: SocketAddr) -> Result<(), Errno> {
    let to = own.destination(to)?;
    own.bind_somewhere()?;
    if own.local().ip().is_unspecified() {
        let local = SocketAddr::new(to.ip(), own.local().port());
        own.local.set(own.shown(local));
    }
    own.remote.set(Some(own.shown(to)));
    Ok(())
}

/// Delivers a message; one that nobody has room for is lost.
pub(super) fn send(
    own: &Rc<InetSocket>,
    to: Option<SocketAddr>,
    bytes: &[u8],
) -> Result<usize, Errno> {
    let limit = if own.family == Family::V4 { 65_507 } else { 65_527 };
    if bytes.len() > limit {
        return Err(Errno::EMSGSIZE);
    }
    if let Some(errno) = own.take_error() {
        return Err(errno);
    }
    if udp_of(own).write_shut.get() {
        return Err(Errno::EPIPE);
    }
    let to = to.or(own.remote.get()).ok_or(Errno::EDESTADDRREQ)?;
    if to.port() == 0 {
        return Err(Errno::EINVAL);
    }
    let to = own.destination(to)?;
    own.bind_somewhere()?;
    let mut from = own.local();
    if from.ip().is_unspecified() {
        from.set_ip(to.ip());
    }
    let from = SocketAddr::new(super::plain(from.ip()), from.port());
    let receivers = own.network.receivers(Protocol::Udp, to);
    // A connected socket hears its own peer only, and comes before those that hear everyone.
    let of_peer = |socket: &&Rc<InetSocket>| {
        socket.remote.get().is_some_and(|peer| peer == socket.shown(from))
    };
    let open = |socket: &&Rc<InetSocket>| socket.remote.get().is_none();
    let receiver = receivers.iter().find(of_peer).or_else(|| receivers.iter().find(open));
    match receiver {
        Some(receiver) => udp_of(receiver).deliver(receiver, from, bytes),
        // The port's refusal comes back to who named a single peer.
        None if own.remote.get().is_some() => own.fail(Errno::ECONNREFUSED),
        None => (),
    }
    Ok(bytes.len())
}

impl Udp {
    fn deliver(&self, own: &InetSocket, from: SocketAddr, bytes: &[u8]) {
        let size = bytes.len() + OVERHEAD;
        let limit = own.options.borrow().get(options::RCVBUF) as usize;
        if self.used.get() + size > limit && self.used.get() > 0 {
            return;
        }
        self.used.set(self.used.get() + size);
        self.inbox.borrow_mut().push_back((own.shown(from), bytes.to_vec()));
        own.queue.wake_all();
    }

    pub(super) fn next_bytes(&self) -> usize {
        self.inbox.borrow().front().map_or(0, |(_, bytes)| bytes.len())
    }

    pub(super) fn receive(
        &self,
        own: &InetSocket,
        into: &mut [u8],
        peek: Peek,
    ) -> Result<Arrived, Errno> {
        if let Some(errno) = own.take_error() {
            return Err(errno);
        }
        let mut inbox = self.inbox.borrow_mut();
        let Some((from, message)) = inbox.front() else {
            let end = Arrived { bytes: 0, full: 0, from: None };
            return if self.read_shut.get() { Ok(end) } else { Err(Errno::EAGAIN) };
        };
        let (from, full) = (*from, message.len());
        let bytes = full.min(into.len());
        into[..bytes].copy_from_slice(&message[..bytes]);
        if peek == Peek::No {
            inbox.pop_front();
            self.used.set(self.used.get() - full - OVERHEAD);
        }
        Ok(Arrived { bytes, full, from: Some(from) })
    }

    pub(super) fn shutdown(&self, how: i32) {
        self.read_shut.set(self.read_shut.get() || how != 1);
        self.write_shut.set(self.write_shut.get() || how != 0);
    }

    pub(super) fn poll(&self) -> PollEvents {
        let mut ready = PollEvents::WRITABLE;
        if !self.inbox.borrow().is_empty() || self.read_shut.get() {
            ready |= PollEvents::READABLE;
        }
        if self.read_shut.get() {
            ready |= PollEvents::RDHUP;
            if self.write_shut.get() {
                ready |= PollEvents::HUP;
            }
        }
        ready
    }
}
