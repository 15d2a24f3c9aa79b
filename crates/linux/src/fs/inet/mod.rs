//! Sockets of the internet families (`AF_INET`, `AF_INET6`) over a loopback inside the machine.
//!
//! What is sent to 127.0.0.0/8 and ::1 arrives at once, whole and in order. An [`InetSocket`] is a
//! TCP or a UDP socket; [`Network`] knows who is bound to which port. [`tcp`] connects, [`udp`]
//! delivers messages, [`options`] keeps what setsockopt sets. Other addresses are unreachable, unless
//! the machine was made to reach the host's network: then [`outside`] takes over.
//!
//! Source: Linux 6.18 net/ipv4/af_inet.c, tcp.c, udp.c. Neighbours: `syscall/fs/inet.rs` waits and
//! decodes; [`crate::fs::unix`] is the other family.

pub(crate) mod options;
pub(crate) mod outside;
mod ports;
mod tcp;
mod udp;

use crate::fs::file::{FileOps, IoctlAnswer, IoctlRequest, OpenFile, PollEvents};
use crate::fs::pipe::FIONREAD;
use crate::fs::unix::Peek;
use crate::sched::wait::WaitQueue;
use kilburn_addr::Errno;
use options::Options;
use outside::Outside;
pub(crate) use ports::Network;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use tcp::Tcp;
use udp::Udp;

/// Which addresses a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// `AF_INET`
    V4,
    /// `AF_INET6`
    V6,
}

impl Family {
    /// The family with this number.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        match number {
            2 => Some(Self::V4),
            10 => Some(Self::V6),
            _ => None,
        }
    }

    /// `AF_*`
    pub(crate) fn number(self) -> u16 {
        if self == Self::V4 { 2 } else { 10 }
    }

    /// "Any address", port 0.
    pub(crate) fn unspecified(self) -> SocketAddr {
        match self {
            Self::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            Self::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        }
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Protocol {
    /// `SOCK_STREAM`
    Tcp,
    /// `SOCK_DGRAM`
    Udp,
}

impl Protocol {
    /// `IPPROTO_*`
    pub(crate) fn number(self) -> i32 {
        if self == Self::Tcp { 6 } else { 17 }
    }

    /// `SOCK_*`
    pub(crate) fn socket_type(self) -> u32 {
        if self == Self::Tcp { 1 } else { 2 }
    }
}

enum State {
    Tcp(Tcp),
    Udp(Udp),
}

/// What was received.
pub(crate) struct Arrived {
    /// Bytes copied.
    pub(crate) bytes: usize,
    /// Bytes there were; of a stream, those copied.
    pub(crate) full: usize,
    /// Who sent them; `None` for a stream.
    pub(crate) from: Option<SocketAddr>,
}

/// A TCP or UDP socket.
pub(crate) struct InetSocket {
    family: Family,
    protocol: Protocol,
    network: Rc<Network>,
    local: Cell<SocketAddr>,
    remote: Cell<Option<SocketAddr>>,
    /// To be told once (`SO_ERROR`).
    error: Cell<Option<Errno>>,
    pub(crate) options: RefCell<Options>,
    state: State,
    queue: WaitQueue,
    /// The host's socket, of one that talks to an address outside.
    outside: RefCell<Option<Outside>>,
}

impl InetSocket {
    /// A socket nobody knows.
    pub(crate) fn new(network: &Rc<Network>, family: Family, protocol: Protocol) -> Rc<Self> {
        let state = match protocol {
            Protocol::Tcp => State::Tcp(Tcp::default()),
            Protocol::Udp => State::Udp(Udp::default()),
        };
        Rc::new(Self {
            family,
            protocol,
            network: Rc::clone(network),
            local: Cell::new(family.unspecified()),
            remote: Cell::new(None),
            error: Cell::new(None),
            options: RefCell::default(),
            state,
            queue: WaitQueue::new(),
            outside: RefCell::default(),
        })
    }

    /// Its family.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Its protocol.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Woken when anything about it changes.
    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Its own address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local.get()
    }

    /// The other side's address.
    ///
    /// # Errors
    /// ENOTCONN.
    pub(crate) fn remote(&self) -> Result<SocketAddr, Errno> {
        self.remote.get().ok_or(Errno::ENOTCONN)
    }

    /// Its own address as getsockname shows it.
    pub(crate) fn shown_local(&self) -> SocketAddr {
        self.address_outside().unwrap_or_else(|| self.local())
    }

    /// Takes the pending error (`SO_ERROR`).
    pub(crate) fn take_error(&self) -> Option<Errno> {
        self.error.take().or_else(|| self.error_outside())
    }

    /// A connection was refused and the call does not wait for that: it is told later. Answers
    /// false when it is later already.
    pub(crate) fn refuse_later(&self) -> bool {
        match &self.state {
            State::Tcp(tcp) if !tcp.is_refusal_told.take() => {
                tcp.is_refusal_told.set(true);
                self.fail(Errno::ECONNREFUSED);
                true
            }
            _ => false,
        }
    }

    /// Keeps `errno` for the next call that asks (`sk_err`).
    pub(crate) fn fail(&self, errno: Errno) {
        self.error.set(Some(errno));
        self.queue.wake_all();
    }

    /// The address that `to` means for this socket, if the machine has it.
    ///
    /// # Errors
    /// ENETUNREACH for every address but the loopback's; EAFNOSUPPORT for another family.
    fn destination(&self, to: SocketAddr) -> Result<SocketAddr, Errno> {
        let ip = match (self.family, to.ip()) {
            (Family::V4, IpAddr::V6(_)) => return Err(Errno::EAFNOSUPPORT),
            (_, ip) if ip.is_unspecified() => match plain(ip) {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            },
            (_, ip) => plain(ip),
        };
        if !ip.is_loopback() || ip.is_ipv4() && self.is_v6_only() {
            return Err(Errno::ENETUNREACH);
        }
        Ok(SocketAddr::new(ip, to.port()))
    }

    /// An address as this socket shows it: an IPv6 socket shows IPv4 ones mapped.
    fn shown(&self, addr: SocketAddr) -> SocketAddr {
        match (self.family, addr.ip()) {
            (Family::V6, IpAddr::V4(ip)) => SocketAddr::from((ip.to_ipv6_mapped(), addr.port())),
            _ => addr,
        }
    }

    fn is_v6_only(&self) -> bool {
        self.family == Family::V6 && self.options.borrow().get(options::V6ONLY) != 0
    }

    /// `bind`.
    ///
    /// # Errors
    /// EINVAL when it has an address; EADDRNOTAVAIL for one the machine does not have;
    /// EADDRINUSE.
    pub(crate) fn bind(self: &Rc<Self>, addr: SocketAddr) -> Result<(), Errno> {
        if self.local().port() != 0 {
            return Err(Errno::EINVAL);
        }
        let ip = plain(addr.ip());
        let mine = ip.is_unspecified() || ip.is_loopback();
        if !mine || self.family == Family::V4 && ip.is_ipv6() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let port = self.network.bind(self, SocketAddr::new(ip, addr.port()))?;
        self.local.set(SocketAddr::new(addr.ip(), port));
        Ok(())
    }

    /// Gives it a port of its own unless it has one.
    fn bind_somewhere(self: &Rc<Self>) -> Result<(), Errno> {
        if self.local().port() != 0 {
            return Ok(());
        }
        self.bind(self.family.unspecified())
    }

    /// `connect`.
    ///
    /// # Errors
    /// ENETUNREACH, ECONNREFUSED, EISCONN, EALREADY; EINPROGRESS: it goes on, and the queue is
    /// woken when it is done.
    pub(crate) fn connect(self: &Rc<Self>, to: SocketAddr) -> Result<(), Errno> {
        if self.outside_address(to).is_some() || self.is_stream_outside() {
            return self.connect_outside(to);
        }
        self.outside.take();
        match &self.state {
            State::Tcp(tcp) => tcp.connect(self, to),
            State::Udp(_) => udp::connect(self, to),
        }
    }

    fn is_stream_outside(&self) -> bool {
        self.protocol == Protocol::Tcp && self.link().is_some()
    }

    /// Forgets the other side: `connect` to `AF_UNSPEC`.
    pub(crate) fn disconnect(self: &Rc<Self>) {
        self.outside.take();
        if let State::Tcp(tcp) = &self.state {
            tcp.close(self);
        }
        self.remote.set(None);
    }

    /// `listen`.
    ///
    /// # Errors
    /// EOPNOTSUPP for UDP; EINVAL when connected; EADDRINUSE.
    pub(crate) fn listen(self: &Rc<Self>, backlog: i32) -> Result<(), Errno> {
        match &self.state {
            State::Tcp(_) if self.is_stream_outside() => Err(Errno::EINVAL),
            State::Tcp(tcp) => {
                self.bind_somewhere()?;
                tcp.listen(self, backlog)
            }
            State::Udp(_) => Err(Errno::EOPNOTSUPP),
        }
    }

    /// `accept`.
    ///
    /// # Errors
    /// EINVAL when not listening; EAGAIN when nobody waits; EOPNOTSUPP for UDP.
    pub(crate) fn accept(&self) -> Result<Rc<Self>, Errno> {
        match &self.state {
            State::Tcp(tcp) => tcp.accept(self),
            State::Udp(_) => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Sends; a stream may take only part.
    ///
    /// # Errors
    /// EPIPE, ENOTCONN, ECONNRESET, EMSGSIZE, EDESTADDRREQ, ENETUNREACH; EAGAIN without room.
    pub(crate) fn send(
        self: &Rc<Self>,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let receiver = to.or(self.remote.get());
        let leaves = receiver.is_some_and(|to| self.outside_address(to).is_some());
        match &self.state {
            // TCP does not look at an address.
            State::Tcp(_) if self.is_stream_outside() => self.send_outside(None, bytes),
            State::Udp(_) if leaves => self.send_outside(to, bytes),
            State::Tcp(tcp) => tcp.send(self, bytes),
            State::Udp(_) => udp::send(self, to, bytes),
        }
    }

    /// Receives.
    ///
    /// # Errors
    /// ENOTCONN, ECONNRESET, ECONNREFUSED; EAGAIN when nothing is there.
    pub(crate) fn receive(&self, into: &mut [u8], peek: Peek) -> Result<Arrived, Errno> {
        match &self.state {
            State::Tcp(_) if self.is_stream_outside() => self.receive_outside(into, peek),
            State::Tcp(tcp) => tcp.receive(self, into, peek),
            State::Udp(udp) => match udp.receive(self, into, peek) {
                Err(Errno::EAGAIN) => self.receive_outside(into, peek),
                received => received,
            },
        }
    }

    /// `shutdown`: 0 reads, 1 writes, 2 both.
    ///
    /// # Errors
    /// ENOTCONN, EINVAL.
    pub(crate) fn shutdown(self: &Rc<Self>, how: i32) -> Result<(), Errno> {
        if !(0..=2).contains(&how) {
            return Err(Errno::EINVAL);
        }
        match &self.state {
            State::Tcp(_) if self.is_stream_outside() => self.shutdown_outside(how),
            State::Tcp(tcp) => tcp.shutdown(self, how),
            State::Udp(udp) => {
                self.remote()?;
                udp.shutdown(how);
                self.queue.wake_all();
                Ok(())
            }
        }
    }

    /// Whether it listens.
    pub(crate) fn is_listening(&self) -> bool {
        matches!(&self.state, State::Tcp(tcp) if tcp.is_listening())
    }

    fn waiting_bytes(&self) -> usize {
        let inside = match &self.state {
            State::Tcp(tcp) => tcp.waiting_bytes(),
            State::Udp(udp) => udp.next_bytes(),
        };
        if inside > 0 { inside } else { self.waiting_outside() }
    }
}

/// An IPv4 address that came mapped into IPv6, as itself.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// An open internet socket.
pub(crate) struct InetFile(pub(crate) Rc<InetSocket>);

impl FileOps for InetFile {
    fn is_stream(&self) -> bool {
        true
    }

    fn read(&self, _file: &OpenFile, _pos: u64, into: &mut [u8]) -> Result<usize, Errno> {
        if into.is_empty() && self.0.protocol == Protocol::Tcp {
            return Ok(0);
        }
        Ok(self.0.receive(into, Peek::No)?.bytes)
    }

    fn write(&self, _file: &OpenFile, _pos: u64, from: &[u8]) -> Result<usize, Errno> {
        self.0.send(None, from)
    }

    fn poll(&self, _file: &OpenFile) -> PollEvents {
        let error = self.0.error.get().is_some();
        let ready = match &self.0.state {
            State::Tcp(_) if self.0.is_stream_outside() => self.0.poll_outside(),
            State::Tcp(tcp) => tcp.poll(),
            State::Udp(udp) => udp.poll() | self.0.poll_outside(),
        };
        if error { ready | PollEvents::ERR | PollEvents::ALWAYS } else { ready }
    }

    fn wait_queue(&self) -> Option<WaitQueue> {
        Some(self.0.queue.clone())
    }

    fn ioctl(&self, _file: &OpenFile, request: IoctlRequest<'_>) -> Result<IoctlAnswer, Errno> {
        match request.command {
            FIONREAD => {
                if self.0.is_listening() {
                    return Err(Errno::EINVAL);
                }
                let bytes = self.0.waiting_bytes() as u32;
                Ok(IoctlAnswer::Bytes(bytes.to_le_bytes().to_vec()))
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn release(&self, _file: &OpenFile) {
        if let State::Tcp(tcp) = &self.0.state {
            tcp.close(&self.0);
        }
        self.0.outside.take();
        self.0.network.release(&self.0);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
