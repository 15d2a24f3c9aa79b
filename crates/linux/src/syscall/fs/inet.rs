//! The socket calls for `AF_INET` and `AF_INET6`; `socket.rs` passes them on.

use super::iov::UserIov;
use super::socket::{
    Header, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, Outgoing, SOL_SOCKET,
};
use super::{file_arg, install};
use crate::fs::inet::options::Options;
use crate::fs::inet::{Family, InetFile, InetSocket, Protocol};
use crate::fs::{OpenFile, OpenFlags, Peek};
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::signal::Signal;
use crate::syscall::time::Timeval;
use crate::syscall::{Args, SysError, SysResult};
use crate::task::{Capability, Task};
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

const MSG_OOB: u32 = 1;
const SO_TYPE: i32 = 3;
const SO_ERROR: i32 = 4;
const SO_LINGER: i32 = 13;
const SO_RCVTIMEO: i32 = 20;
const SO_SNDTIMEO: i32 = 21;
const SO_ACCEPTCONN: i32 = 30;
const SO_PROTOCOL: i32 = 38;
const SO_DOMAIN: i32 = 39;
/// `CAP_NET_BIND_SERVICE` protects ports below this one (`ip_unprivileged_port_start`).
const UNPRIVILEGED_PORT: u16 = 1024;

/// A socket and the open file it is behind.
pub(super) type OpenSocket = (Rc<OpenFile>, Rc<InetSocket>);

/// The internet socket behind descriptor argument 0, if that is one.
pub(super) fn socket_arg(task: &Task, args: Args) -> Result<Option<OpenSocket>, Errno> {
    let file = file_arg(task, args, 0)?;
    let socket = file.ops_as::<InetFile>().map(|file| Rc::clone(&file.0));
    Ok(socket.map(|socket| (file, socket)))
}

/// `socket` for an internet family.
pub(super) fn socket(task: &Rc<Task>, family: Family, args: Args) -> SysResult {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    let raw = args.uint(1);
    if raw & !0xf & !allowed.bits() != 0 {
        return Err(Errno::EINVAL.into());
    }
    let flags = OpenFlags::from_bits_truncate(raw) & allowed;
    let protocol = match (raw & 0xf, args.int(2)) {
        (1, 0 | 6) => Protocol::Tcp,
        (2, 0 | 17) => Protocol::Udp,
        (1 | 2, _) => return Err(Errno::EPROTONOSUPPORT.into()),
        // DIVERGENCE(raw-sockets-absent): no SOCK_RAW; the answer is that of a kernel without it.
        _ => return Err(Errno::ESOCKTNOSUPPORT.into()),
    };
    let network = task.kernel().vfs().network();
    Ok(open(task, InetSocket::new(network, family, protocol), flags)?)
}

fn open(task: &Task, socket: Rc<InetSocket>, flags: OpenFlags) -> Result<u64, Errno> {
    let place = task.kernel().vfs().socket_place()?;
    let file = OpenFile::new(Box::new(InetFile(socket)), place, flags | OpenFlags::RDWR);
    install(task, file, flags)
}

/// A `sockaddr_in` or `sockaddr_in6`; `None` for `AF_UNSPEC`.
async fn read_address(
    task: &Rc<Task>,
    family: Family,
    addr: VirtAddr,
    len: u32,
) -> Result<Option<SocketAddr>, Errno> {
    if !(2..=128).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut raw = vec![0; len as usize];
    task.copy_in(addr, &mut raw).await?;
    let kind = u16::from_le_bytes([raw[0], raw[1]]);
    let port = |raw: &[u8]| u16::from_be_bytes([raw[2], raw[3]]);
    match kind {
        0 => Ok(None),
        2 if raw.len() >= 16 => {
            let ip = Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
            Ok(Some(SocketAddr::from((ip, port(&raw)))))
        }
        10 if family == Family::V6 && raw.len() >= 24 => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&raw[8..24]);
            Ok(Some(SocketAddr::from((Ipv6Addr::from(ip), port(&raw)))))
        }
        2 | 10 if kind == family.number() => Err(Errno::EINVAL),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn encode(family: Family, addr: SocketAddr) -> Vec<u8> {
    let mut raw = family.number().to_le_bytes().to_vec();
    raw.extend(addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) if family == Family::V4 => {
            raw.extend(ip.octets());
            raw.extend([0; 8]);
        }
        ip => {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            raw.extend([0; 4]);
            raw.extend(ip.octets());
            raw.extend([0; 4]);
        }
    }
    raw
}

async fn write_address(
    task: &Rc<Task>,
    socket: &InetSocket,
    from: Option<SocketAddr>,
    addr: VirtAddr,
    len: VirtAddr,
) -> Result<(), Errno> {
    let mut room = [0; 4];
    task.copy_in(len, &mut room).await?;
    let room = usize::try_from(i32::from_le_bytes(room)).map_err(|_| Errno::EINVAL)?;
    let full = from.map_or_else(Vec::new, |from| encode(socket.family(), from));
    task.copy_out(addr, &full[..full.len().min(room)]).await?;
    task.copy_out(len, &(full.len() as u32).to_le_bytes()).await
}

/// Waits until `socket` changes; `timeout` (0: none) counts from `since`.
async fn wait(
    task: &Rc<Task>,
    socket: &InetSocket,
    timeout: Nanos,
    since: Nanos,
) -> Result<(), SysError> {
    let mut set = WaitSet::new(task);
    set.add(socket.queue());
    let deadline = (timeout > 0).then(|| since.saturating_add(timeout));
    match set.wait(Sleep::Interruptible, deadline).await {
        Wake::Woken => Ok(()),
        Wake::TimedOut => Err(Errno::EAGAIN.into()),
        // sock_intr_errno
        Wake::Interrupted if timeout > 0 => Err(Errno::EINTR.into()),
        Wake::Interrupted => Err(SysError::RESTART_SYS),
    }
}

/// `bind`.
pub(super) async fn bind(task: &Rc<Task>, socket: &Rc<InetSocket>, args: Args) -> SysResult {
    let addr = read_address(task, socket.family(), args.addr(1), args.uint(2)).await?;
    let addr = addr.ok_or(Errno::EAFNOSUPPORT)?;
    if socket.family() == Family::V6 && addr.is_ipv4() {
        return Err(Errno::EINVAL.into());
    }
    let privileged = (1..UNPRIVILEGED_PORT).contains(&addr.port());
    if privileged && !task.creds().has_cap(Capability::NetBindService) {
        return Err(Errno::EACCES.into());
    }
    socket.bind(addr)?;
    Ok(0)
}

/// `connect`.
pub(super) async fn connect(
    task: &Rc<Task>,
    (file, socket): (&OpenFile, &Rc<InetSocket>),
    args: Args,
) -> SysResult {
    let to = read_address(task, socket.family(), args.addr(1), args.uint(2)).await?;
    let Some(to) = to else {
        socket.disconnect();
        return Ok(0);
    };
    let (timeout, since) = (socket.options.borrow().send_timeout, task.kernel().now());
    loop {
        match socket.connect(to) {
            Err(Errno::EINPROGRESS) if !file.is_nonblocking() => (),
            Err(Errno::ECONNREFUSED) if file.is_nonblocking() && socket.refuse_later() => {
                return Err(Errno::EINPROGRESS.into());
            }
            Err(Errno::EALREADY) if !file.is_nonblocking() => {
                match wait(task, socket, timeout, since).await {
                    Err(SysError::Errno(Errno::EAGAIN)) => return Err(Errno::EINPROGRESS.into()),
                    done => done?,
                }
            }
            done => {
                done?;
                return Ok(0);
            }
        }
    }
}

/// `accept`, `accept4`.
pub(super) async fn accept(
    task: &Rc<Task>,
    (file, socket): (&OpenFile, &Rc<InetSocket>),
    args: Args,
    flags: OpenFlags,
) -> SysResult {
    let (timeout, since) = (socket.options.borrow().receive_timeout, task.kernel().now());
    loop {
        match socket.accept() {
            Err(Errno::EAGAIN) if !file.is_nonblocking() => {
                wait(task, socket, timeout, since).await?;
            }
            accepted => {
                let accepted = accepted?;
                if args.addr(1) != VirtAddr::ZERO {
                    let from = accepted.remote().ok();
                    write_address(task, &accepted, from, args.addr(1), args.addr(2)).await?;
                }
                return Ok(open(task, accepted, flags)?);
            }
        }
    }
}

/// `getsockname`.
pub(super) async fn name(task: &Rc<Task>, socket: &InetSocket, args: Args) -> SysResult {
    write_address(task, socket, Some(socket.shown_local()), args.addr(1), args.addr(2)).await?;
    Ok(0)
}

/// `getpeername`.
pub(super) async fn peer_name(task: &Rc<Task>, socket: &InetSocket, args: Args) -> SysResult {
    write_address(task, socket, Some(socket.remote()?), args.addr(1), args.addr(2)).await?;
    Ok(0)
}

async fn send(
    task: &Rc<Task>,
    (file, socket): (&OpenFile, &Rc<InetSocket>),
    from: &mut UserIov,
    out: Outgoing<SocketAddr>,
) -> SysResult {
    // DIVERGENCE(tcp-urgent-absent): no urgent data.
    if out.flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let stream = socket.protocol() == Protocol::Tcp;
    if !stream && from.left() > 65_527 {
        return Err(Errno::EMSGSIZE.into());
    }
    let mut bytes = vec![0; from.left().min(16 << 20) as usize];
    let got = from.copy_in(task, &mut bytes).await;
    if got < bytes.len() && (got == 0 || !stream) {
        return Err(Errno::EFAULT.into());
    }
    bytes.truncate(got);
    let waits = out.flags & MSG_DONTWAIT == 0 && !file.is_nonblocking();
    let (timeout, since) = (socket.options.borrow().send_timeout, task.kernel().now());
    let mut done = 0;
    loop {
        match socket.send(out.to, &bytes[done..]) {
            Ok(sent) => {
                done += sent;
                if !stream || done == bytes.len() {
                    return Ok(done as u64);
                }
            }
            Err(Errno::EAGAIN) if waits => {
                if let Err(error) = wait(task, socket, timeout, since).await {
                    return if done > 0 { Ok(done as u64) } else { Err(error) };
                }
            }
            Err(_) if done > 0 => return Ok(done as u64),
            Err(errno) => {
                if errno == Errno::EPIPE && out.flags & MSG_NOSIGNAL == 0 && stream {
                    task.raise(Signal::SIGPIPE);
                }
                return Err(errno.into());
            }
        }
    }
}

/// `sendto`.
pub(super) async fn send_to(
    task: &Rc<Task>,
    own: (&OpenFile, &Rc<InetSocket>),
    args: Args,
) -> SysResult {
    let mut to = None;
    if args.addr(4) != VirtAddr::ZERO {
        to = read_address(task, own.1.family(), args.addr(4), args.uint(5)).await?;
    }
    let mut from = UserIov::buffer(args.addr(1), args.raw(2));
    send(task, own, &mut from, Outgoing { to, files: Vec::new(), flags: args.uint(3) }).await
}

/// `sendmsg`; control messages of the internet families ask for what a loopback does not have.
pub(super) async fn send_message(
    task: &Rc<Task>,
    own: (&OpenFile, &Rc<InetSocket>),
    args: Args,
) -> SysResult {
    let header = Header::read(task, args.addr(1)).await?;
    let mut to = None;
    let (name, name_len) = header.name();
    if name != VirtAddr::ZERO && name_len > 0 {
        to = read_address(task, own.1.family(), name, name_len).await?;
    }
    let mut from = header.iov(task).await?;
    send(task, own, &mut from, Outgoing { to, files: Vec::new(), flags: args.uint(2) }).await
}

struct Got {
    bytes: usize,
    full: usize,
    from: Option<SocketAddr>,
}

/// No datagram is larger.
const DATAGRAM_MAX: usize = 1 << 16;

async fn receive(
    task: &Rc<Task>,
    (file, socket): (&OpenFile, &Rc<InetSocket>),
    to: &mut UserIov,
    flags: u32,
) -> Result<Got, SysError> {
    if flags & MSG_OOB != 0 {
        return Err(Errno::EINVAL.into());
    }
    let peek = if flags & MSG_PEEK != 0 { Peek::Yes } else { Peek::No };
    let stream = socket.protocol() == Protocol::Tcp;
    let want = to.left().min(4 << 20) as usize;
    // A datagram that cannot be handed over is gone; a stream keeps its bytes.
    let usable = if stream { to.writable(task, want).await } else { want.min(DATAGRAM_MAX) };
    if usable == 0 && want > 0 {
        return Err(Errno::EFAULT.into());
    }
    if stream && want == 0 {
        return Ok(Got { bytes: 0, full: 0, from: None });
    }
    let mut bytes = vec![0; usable];
    let waits = flags & MSG_DONTWAIT == 0 && !file.is_nonblocking();
    let whole = stream && flags & MSG_WAITALL != 0 && peek == Peek::No;
    let (timeout, since) = (socket.options.borrow().receive_timeout, task.kernel().now());
    let mut done = Got { bytes: 0, full: 0, from: None };
    loop {
        match socket.receive(&mut bytes[done.bytes..], peek) {
            Ok(arrived) => {
                done.bytes += arrived.bytes;
                done.full += arrived.full;
                done.from = arrived.from;
                if !whole || arrived.bytes == 0 || done.bytes == usable {
                    break;
                }
            }
            Err(Errno::EAGAIN) if waits => {
                if let Err(error) = wait(task, socket, timeout, since).await {
                    if done.bytes > 0 {
                        break;
                    }
                    return Err(error);
                }
            }
            Err(_) if done.bytes > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    // Asked to, TCP throws the bytes away instead of copying them.
    if !(stream && flags & MSG_TRUNC != 0) {
        let copied = to.copy_out(task, &bytes[..done.bytes]).await;
        if copied < done.bytes {
            return Err(Errno::EFAULT.into());
        }
    }
    Ok(done)
}

/// `recvfrom`.
pub(super) async fn receive_from(
    task: &Rc<Task>,
    own: (&OpenFile, &Rc<InetSocket>),
    args: Args,
) -> SysResult {
    let mut to = UserIov::buffer(args.addr(1), args.raw(2));
    let got = receive(task, own, &mut to, args.uint(3)).await?;
    if args.addr(4) != VirtAddr::ZERO {
        write_address(task, own.1, got.from, args.addr(4), args.addr(5)).await?;
    }
    Ok(if args.uint(3) & MSG_TRUNC != 0 { got.full } else { got.bytes } as u64)
}

/// `recvmsg`.
pub(super) async fn receive_message(
    task: &Rc<Task>,
    own: (&OpenFile, &Rc<InetSocket>),
    args: Args,
) -> SysResult {
    let header = Header::read(task, args.addr(1)).await?;
    let mut to = header.iov(task).await?;
    let flags = args.uint(2);
    let got = receive(task, own, &mut to, flags).await?;
    let (name, name_len) = header.name();
    if name != VirtAddr::ZERO {
        let full = got.from.map_or_else(Vec::new, |from| encode(own.1.family(), from));
        task.copy_out(name, &full[..full.len().min(name_len as usize)]).await?;
        task.copy_out(header.field(8)?, &(full.len() as u32).to_le_bytes()).await?;
    }
    let out = if got.full > got.bytes { MSG_TRUNC } else { 0 };
    task.copy_out(header.field(40)?, &0_u64.to_le_bytes()).await?;
    task.copy_out(header.field(48)?, &out.to_le_bytes()).await?;
    Ok(if flags & MSG_TRUNC != 0 { got.full } else { got.bytes } as u64)
}

/// `setsockopt`.
pub(super) async fn set_option(task: &Rc<Task>, socket: &InetSocket, args: Args) -> SysResult {
    let (level, name, len) = (args.int(1), args.int(2), args.int(4));
    if len < 4 {
        return Err(Errno::EINVAL.into());
    }
    if level == SOL_SOCKET && matches!(name, SO_RCVTIMEO | SO_SNDTIMEO) {
        let time: Timeval = task.read_struct(args.addr(3)).await?;
        // sock_set_timeout: no time at all means for ever.
        let nanos = time.to_nanos().ok_or(Errno::EDOM)?;
        let mut options = socket.options.borrow_mut();
        if name == SO_RCVTIMEO {
            options.receive_timeout = nanos;
        } else {
            options.send_timeout = nanos;
        }
        return Ok(0);
    }
    if level == SOL_SOCKET && name == SO_LINGER {
        let [on, seconds]: [i32; 2] = task.read_struct(args.addr(3)).await?;
        socket.options.borrow_mut().linger = (i32::from(on != 0), seconds);
        return Ok(0);
    }
    let value: i32 = task.read_struct(args.addr(3)).await?;
    if !speaks(socket, level) || !socket.options.borrow_mut().set((level, name), value) {
        return Err(Errno::ENOPROTOOPT.into());
    }
    Ok(0)
}

/// Whether a level is one of the socket's.
fn speaks(socket: &InetSocket, level: i32) -> bool {
    match level {
        6 => socket.protocol() == Protocol::Tcp,
        41 => socket.family() == Family::V6,
        _ => true,
    }
}

/// `getsockopt`.
pub(super) async fn get_option(task: &Rc<Task>, socket: &InetSocket, args: Args) -> SysResult {
    let room: i32 = task.read_struct(args.addr(4)).await?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let (level, name) = (args.int(1), args.int(2));
    let value = option_value(socket, level, name)?;
    let value = &value[..value.len().min(room)];
    task.copy_out(args.addr(3), value).await?;
    task.copy_out(args.addr(4), &(value.len() as u32).to_le_bytes()).await?;
    Ok(0)
}

fn option_value(socket: &InetSocket, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    let number = |n: i32| n.to_le_bytes().to_vec();
    let time = |nanos: Nanos| {
        let time = Timeval::from_nanos(nanos);
        [time.sec, time.usec].iter().flat_map(|word| word.to_le_bytes()).collect()
    };
    let options = socket.options.borrow();
    let Options { linger, receive_timeout, send_timeout, .. } = *options;
    if level == SOL_SOCKET {
        match name {
            SO_TYPE => return Ok(number(socket.protocol().socket_type() as i32)),
            SO_ERROR => {
                return Ok(number(socket.take_error().map_or(0, |errno| errno.number().into())));
            }
            SO_ACCEPTCONN => return Ok(number(i32::from(socket.is_listening()))),
            SO_PROTOCOL => return Ok(number(socket.protocol().number())),
            SO_DOMAIN => return Ok(number(socket.family().number().into())),
            SO_LINGER => return Ok([number(linger.0), number(linger.1)].concat()),
            SO_RCVTIMEO => return Ok(time(receive_timeout)),
            SO_SNDTIMEO => return Ok(time(send_timeout)),
            _ => (),
        }
    }
    if !speaks(socket, level) {
        return Err(Errno::EOPNOTSUPP);
    }
    options.known((level, name)).map(number).ok_or(Errno::ENOPROTOOPT)
}
