//! Who is bound to which port (Linux net/ipv4/inet_connection_sock.c: `inet_csk_get_port`).

use super::{Family, InetSocket, Protocol, options, plain};
use crate::config::Net;
use kilburn_addr::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

/// `net.ipv4.ip_local_port_range`: what a socket gets that does not ask for a port.
const EPHEMERAL: std::ops::Range<u16> = 32_768..61_000;

type Bound = Vec<Weak<InetSocket>>;

/// The loopback of a machine, and who talks to the world outside.
pub(crate) struct Network {
    bound: RefCell<BTreeMap<(Protocol, u16), Bound>>,
    next_port: Cell<u16>,
    reach: Cell<Net>,
    outside: RefCell<Bound>,
    turns: Cell<u32>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            bound: RefCell::default(),
            next_port: Cell::new(EPHEMERAL.start),
            reach: Cell::new(Net::Loopback),
            outside: RefCell::default(),
            turns: Cell::new(0),
        }
    }
}

impl Network {
    /// How far sockets reach.
    pub(crate) fn reach(&self) -> Net {
        self.reach.get()
    }

    /// Says how far sockets reach.
    pub(crate) fn set_reach(&self, reach: Net) {
        self.reach.set(reach);
    }

    /// `socket` has one of the host's from now on.
    pub(super) fn note_outside(&self, socket: &Rc<InetSocket>) {
        let mut outside = self.outside.borrow_mut();
        outside.retain(|known| {
            known
                .upgrade()
                .is_some_and(|known| !Rc::ptr_eq(&known, socket) && known.link().is_some())
        });
        outside.push(Rc::downgrade(socket));
    }

    /// The sockets that somebody sleeps on until something happens outside.
    pub(crate) fn awaited(&self) -> Vec<Rc<InetSocket>> {
        let outside = self.outside.borrow();
        let awaited = outside.iter().filter_map(Weak::upgrade);
        awaited.filter(|socket| socket.is_awaited_outside()).collect()
    }

    /// Whether this is one of every so many turns.
    pub(super) fn is_turn(&self, of: u32) -> bool {
        let turn = (self.turns.get() + 1) % of;
        self.turns.set(turn);
        turn == 0
    }

    /// Binds `socket` to `addr`, whose port may be 0: any. Answers the port.
    ///
    /// # Errors
    /// EADDRINUSE.
    pub(super) fn bind(&self, socket: &Rc<InetSocket>, addr: SocketAddr) -> Result<u16, Errno> {
        let port = match addr.port() {
            0 => self.free_port(socket.protocol).ok_or(Errno::EADDRINUSE)?,
            port => port,
        };
        let mut bound = self.bound.borrow_mut();
        let here = bound.entry((socket.protocol, port)).or_default();
        here.retain(|other| other.strong_count() > 0);
        let conflict = here
            .iter()
            .filter_map(Weak::upgrade)
            .any(|other| overlap(socket, addr.ip(), &other) && !may_share(socket, &other));
        if conflict {
            return Err(Errno::EADDRINUSE);
        }
        here.push(Rc::downgrade(socket));
        Ok(port)
    }

    fn free_port(&self, protocol: Protocol) -> Option<u16> {
        let bound = self.bound.borrow();
        for _ in EPHEMERAL {
            let port = self.next_port.get();
            let next = port + 1;
            self.next_port.set(if next == EPHEMERAL.end { EPHEMERAL.start } else { next });
            let taken = bound.get(&(protocol, port));
            if taken.is_none_or(|here| here.iter().all(|other| other.strong_count() == 0)) {
                return Some(port);
            }
        }
        None
    }

    /// Forgets a socket that is closed.
    pub(super) fn release(&self, socket: &Rc<InetSocket>) {
        let key = (socket.protocol, socket.local().port());
        let mut bound = self.bound.borrow_mut();
        if let Some(here) = bound.get_mut(&key) {
            here.retain(|other| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(socket)));
            if here.is_empty() {
                bound.remove(&key);
            }
        }
    }

    /// Sockets that what is sent to `to` may be for, the most specific address first.
    pub(super) fn receivers(&self, protocol: Protocol, to: SocketAddr) -> Vec<Rc<InetSocket>> {
        let bound = self.bound.borrow();
        let Some(here) = bound.get(&(protocol, to.port())) else { return Vec::new() };
        let mut found: Vec<_> =
            here.iter().filter_map(Weak::upgrade).filter(|socket| hears(socket, to.ip())).collect();
        found.sort_by_key(|socket| socket.local().ip().is_unspecified());
        found
    }
}

/// Whether `socket` gets what is sent to `ip`.
fn hears(socket: &InetSocket, ip: IpAddr) -> bool {
    let own = plain(socket.local().ip());
    if !own.is_unspecified() {
        return own == ip;
    }
    // [::] hears IPv4 as well, unless it was told not to.
    match socket.family {
        Family::V4 => ip.is_ipv4(),
        Family::V6 if own.is_ipv4() => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6() || !socket.is_v6_only(),
    }
}

/// Whether two sockets on one port would both be meant by some address.
fn overlap(new: &InetSocket, ip: IpAddr, old: &InetSocket) -> bool {
    let other = plain(old.local().ip());
    let spans = |socket: &InetSocket, ip: IpAddr| {
        ip.is_unspecified() && ip.is_ipv6() && !socket.is_v6_only()
    };
    if ip.is_ipv4() != other.is_ipv4() {
        // Of two families: only an IPv6 "any" that hears IPv4 meets the other.
        return spans(new, ip) || spans(old, other);
    }
    ip.is_unspecified() || other.is_unspecified() || ip == other
}

fn may_share(new: &InetSocket, old: &InetSocket) -> bool {
    let both =
        |option| new.options.borrow().get(option) != 0 && old.options.borrow().get(option) != 0;
    if both(options::REUSEPORT) {
        return true;
    }
    let busy = old.protocol == Protocol::Tcp && old.is_listening();
    both(options::REUSEADDR) && !busy
}
