//! The way out: for a socket of the guest's that talks to an address outside, one of the host's.
//!
//! Only a machine made with [`Net::Host`](crate::Net) has it, and only outwards: what listens, and
//! the loopback's addresses, stay inside. 10.0.2.2 is the host's own loopback. The host's socket
//! never blocks: who has to wait sleeps on the guest socket's queue, and the scheduler asks the host
//! through [`wait`] when nothing else can run, or now and then.
//!
//! A sleeper has looked before it sleeps, so what it waits for is what was not ready then:
//! [`Outside::known`] remembers that.

use super::{Arrived, Family, InetSocket, Protocol, State, plain};
use crate::config::Net;
use crate::fs::file::PollEvents;
use crate::fs::stdio::{HostInput, host_errno};
use crate::fs::unix::Peek;
use kilburn_addr::Errno;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use std::cell::{Cell, Ref};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// The host's loopback, seen from inside.
const HOST_LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
/// The scheduler's turns from one look at the host to the next.
const TURNS: u32 = 64;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Asked for.
    Connecting,
    /// There; of UDP always.
    Connected,
}

/// A socket of the host's.
pub(super) struct Outside {
    fd: OwnedFd,
    family: Family,
    stage: Cell<Stage>,
    /// What the guest last saw to be ready.
    known: Cell<PollEvents>,
}

impl Outside {
    fn open(to: SocketAddr, protocol: Protocol) -> Result<Self, Errno> {
        let (family, domain) = match to {
            SocketAddr::V4(_) => (Family::V4, AddressFamily::INET),
            SocketAddr::V6(_) => (Family::V6, AddressFamily::INET6),
        };
        let (kind, stage) = match protocol {
            Protocol::Tcp => (SocketType::STREAM, Stage::Connecting),
            Protocol::Udp => (SocketType::DGRAM, Stage::Connected),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(domain, kind, flags, None).map_err(host_errno)?;
        let known = Cell::new(PollEvents::empty());
        Ok(Self { fd, family, stage: Cell::new(stage), known })
    }

    /// What is ready now; the guest sees it.
    fn look(&self) -> PollEvents {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP)];
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ready = PollEvents::empty();
        if rustix::event::poll(&mut fds, Some(&now)).is_ok() {
            ready = PollEvents::from_bits_truncate(u32::from(fds[0].revents().bits()));
        }
        if ready.contains(PollEvents::IN) {
            ready |= PollEvents::RDNORM;
        }
        if ready.contains(PollEvents::OUT) {
            ready |= PollEvents::WRNORM;
        }
        self.known.set(ready);
        ready
    }

    /// What somebody who sleeps may be waiting for.
    fn missing(&self) -> PollFlags {
        let known = self.known.get();
        let mut missing = PollFlags::empty();
        if known.intersects(PollEvents::HUP | PollEvents::ERR) {
            return missing;
        }
        missing.set(PollFlags::IN, !known.contains(PollEvents::IN));
        missing.set(PollFlags::OUT, !known.contains(PollEvents::OUT));
        missing
    }

    /// Notes what is ready.
    fn learn(&self, events: PollFlags) {
        let events = PollEvents::from_bits_truncate(u32::from(events.bits()));
        self.known.set(self.known.get() | events);
    }

    /// Notes that `events` were not ready: neither was there an error, nor an end.
    fn not_ready(&self, events: PollEvents) {
        let ends = PollEvents::ERR | PollEvents::HUP | PollEvents::RDHUP;
        self.known.set(self.known.get() - events - ends);
    }

    /// Whether the connection came about (Linux `inet_stream_connect`).
    fn settle(&self) -> Result<(), Errno> {
        if !self.look().intersects(PollEvents::OUT | PollEvents::ERR | PollEvents::HUP) {
            return Err(Errno::EALREADY);
        }
        match rustix::net::sockopt::socket_error(&self.fd) {
            Ok(Ok(())) => (),
            Ok(Err(error)) | Err(error) => return Err(host_errno(error)),
        }
        // The error was asked for before (SO_ERROR).
        if !matches!(rustix::net::getpeername(&self.fd), Ok(Some(_))) {
            return Err(Errno::ECONNABORTED);
        }
        self.stage.set(Stage::Connected);
        Ok(())
    }
}

impl InetSocket {
    /// The host's address that `to` means, when it leads outside and the machine may go there.
    pub(super) fn outside_address(&self, to: SocketAddr) -> Option<SocketAddr> {
        let ip = plain(to.ip());
        let inside = ip.is_loopback() || ip.is_unspecified();
        let other_family =
            self.family == Family::V4 && ip.is_ipv6() || ip.is_ipv4() && self.is_v6_only();
        if self.network.reach() == Net::Loopback || inside || other_family {
            return None;
        }
        let ip = if ip == HOST_LOOPBACK { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
        Some(SocketAddr::new(ip, to.port()))
    }

    /// The host's socket, if it has one.
    pub(super) fn link(&self) -> Option<Ref<'_, Outside>> {
        Ref::filter_map(self.outside.borrow(), Option::as_ref).ok()
    }

    /// An address of the host's as the guest sees it.
    fn seen_from_inside(&self, addr: SocketAddr) -> SocketAddr {
        let ip = plain(addr.ip());
        let ip = if ip.is_loopback() { HOST_LOOPBACK } else { ip };
        self.shown(SocketAddr::new(ip, addr.port()))
    }

    fn make_link(self: &Rc<Self>, to: SocketAddr) -> Result<(), Errno> {
        let link = Outside::open(to, self.protocol)?;
        self.outside.replace(Some(link));
        self.network.note_outside(self);
        Ok(())
    }

    /// `connect` to an address outside.
    pub(super) fn connect_outside(self: &Rc<Self>, to: SocketAddr) -> Result<(), Errno> {
        let there = self.outside_address(to);
        if let (State::Tcp(tcp), Some(link)) = (&self.state, self.link()) {
            debug_assert!(tcp.is_idle(), "a connection is inside or outside");
            return match link.stage.get() {
                Stage::Connected => Err(Errno::EISCONN),
                Stage::Connecting => {
                    let settled = link.settle();
                    drop(link);
                    if settled.is_err_and(|errno| errno != Errno::EALREADY) {
                        self.outside.take();
                    }
                    settled
                }
            };
        }
        let there = there.ok_or(Errno::ENETUNREACH)?;
        if matches!(&self.state, State::Tcp(tcp) if !tcp.is_idle()) {
            return Err(Errno::EISCONN);
        }
        self.make_link(there)?;
        let answer = match self.link() {
            Some(link) => rustix::net::connect(&link.fd, &there),
            None => Ok(()),
        };
        match answer {
            Ok(()) => self.link().iter().for_each(|link| link.stage.set(Stage::Connected)),
            Err(rustix::io::Errno::INPROGRESS) => (),
            Err(error) => {
                self.outside.take();
                return Err(host_errno(error));
            }
        }
        self.remote.set(Some(self.shown(SocketAddr::new(plain(to.ip()), to.port()))));
        if answer.is_ok() { Ok(()) } else { Err(Errno::EINPROGRESS) }
    }

    /// Sends through the host's socket; `to` for a message that names its receiver.
    pub(super) fn send_outside(
        self: &Rc<Self>,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let there = to.and_then(|to| self.outside_address(to));
        let family = |to: SocketAddr| if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let fits = self.link().is_some_and(|link| there.is_none_or(|to| family(to) == link.family));
        if !fits {
            self.make_link(there.ok_or(Errno::EDESTADDRREQ)?)?;
        }
        let link = self.link().ok_or(Errno::ENOTCONN)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = match there {
            Some(to) => rustix::net::sendto(&link.fd, bytes, flags, &to),
            None => rustix::net::send(&link.fd, bytes, flags),
        };
        sent.map_err(host_errno).inspect_err(|errno| {
            if *errno == Errno::EAGAIN {
                link.not_ready(PollEvents::WRITABLE);
            }
        })
    }

    /// Receives from the host's socket.
    pub(super) fn receive_outside(&self, into: &mut [u8], peek: Peek) -> Result<Arrived, Errno> {
        let link = self.link().ok_or(Errno::EAGAIN)?;
        let mut flags = RecvFlags::DONTWAIT;
        flags.set(RecvFlags::PEEK, peek == Peek::Yes);
        // Of a stream that would throw the bytes away.
        flags.set(RecvFlags::TRUNC, self.protocol == Protocol::Udp);
        match rustix::net::recvfrom(&link.fd, into, flags) {
            Ok((bytes, full, from)) => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                let from = from.filter(|_| self.protocol == Protocol::Udp);
                Ok(Arrived { bytes, full, from: from.map(|from| self.seen_from_inside(from)) })
            }
            Err(error) => {
                if error == rustix::io::Errno::AGAIN {
                    link.not_ready(PollEvents::READABLE);
                }
                Err(host_errno(error))
            }
        }
    }

    /// What is ready outside.
    pub(super) fn poll_outside(&self) -> PollEvents {
        self.link().map_or(PollEvents::empty(), |link| link.look())
    }

    /// Its address as the other side sees it, but for what the host's network does.
    pub(super) fn address_outside(&self) -> Option<SocketAddr> {
        let here = rustix::net::getsockname(&self.link()?.fd).ok()?;
        Some(self.seen_from_inside(SocketAddr::try_from(here).ok()?))
    }

    /// The host's `SO_ERROR`.
    pub(super) fn error_outside(&self) -> Option<Errno> {
        match rustix::net::sockopt::socket_error(&self.link()?.fd) {
            Ok(Err(error)) => Some(host_errno(error)),
            _ => None,
        }
    }

    /// `shutdown`: 0 reads, 1 writes, 2 both.
    pub(super) fn shutdown_outside(&self, how: i32) -> Result<(), Errno> {
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            _ => Shutdown::Both,
        };
        let link = self.link().ok_or(Errno::ENOTCONN)?;
        rustix::net::shutdown(&link.fd, how).map_err(host_errno)?;
        self.queue.wake_all();
        Ok(())
    }

    /// Bytes to be read outside.
    pub(super) fn waiting_outside(&self) -> usize {
        let waiting = self.link().and_then(|link| rustix::io::ioctl_fionread(&link.fd).ok());
        waiting.map_or(0, |bytes| bytes as usize)
    }

    /// Whether somebody sleeps until something happens outside.
    pub(super) fn is_awaited_outside(&self) -> bool {
        !self.queue.is_empty() && self.link().is_some_and(|link| !link.missing().is_empty())
    }
}

impl super::Network {
    /// Whether somebody sleeps until something happens outside.
    pub(crate) fn is_awaited(&self) -> bool {
        self.reach() == Net::Host && !self.awaited().is_empty()
    }

    /// Looks outside once in a while, as tasks that always run must not keep others from it.
    pub(crate) fn look_outside(&self) {
        if self.reach() == Net::Host && self.is_turn(TURNS) {
            wait(&self.awaited(), &[], Some(Duration::ZERO));
        }
    }
}

/// Waits until one of the host's sockets is ready for who sleeps on it, or one of its inputs has
/// something, at most `patience`; wakes who waits. Answers whether something was ready.
pub(crate) fn wait(
    sockets: &[Rc<InetSocket>],
    inputs: &[&HostInput],
    patience: Option<Duration>,
) -> bool {
    if sockets.is_empty() && inputs.is_empty() {
        return false;
    }
    // Whoever is awaited outside has a link.
    let links: Vec<_> = sockets.iter().filter_map(|socket| socket.link()).collect();
    debug_assert_eq!(links.len(), sockets.len(), "a socket is awaited that has no link");
    let streams: Vec<_> = inputs.iter().map(|input| input.host()).collect();
    let mut fds: Vec<PollFd<'_>> = links
        .iter()
        .map(|link| PollFd::from_borrowed_fd(link.fd.as_fd(), link.missing()))
        .chain(streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)))
        .collect();
    let timeout = patience.map(|patience| rustix::fs::Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    });
    loop {
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(ready) if ready > 0 => break,
            Err(rustix::io::Errno::INTR) if patience.is_none() => (),
            _ => return false,
        }
    }
    let (outside, inside) = fds.split_at(links.len());
    for (fd, (link, socket)) in outside.iter().zip(links.iter().zip(sockets)) {
        if !fd.revents().is_empty() {
            // Known from now on: who sleeps again waits for something else.
            link.learn(fd.revents());
            socket.queue().wake_all();
        }
    }
    for (fd, input) in inside.iter().zip(inputs) {
        if !fd.revents().is_empty() {
            input.queue().wake_all();
        }
    }
    true
}
