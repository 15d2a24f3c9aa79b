//! Sockets: the calls, their addresses and control messages.
//!
//! `AF_UNIX` is here; [`super::inet`] has `AF_INET` and `AF_INET6`; other families answer as a kernel
//! built without them. Source: Linux 6.18 net/socket.c, net/core/scm.c. Neighbours:
//! [`crate::fs::UnixSocket`] does the work.

use super::io::wait_for;
use super::iov::UserIov;
use super::{Caller, PathArg, file_arg, inet, install};
use crate::fs::inet::Family;
use crate::fs::{
    Address, At, BUFFER_BYTES, FileType, LastLink, May, NewKind, OpenFile, OpenFlags, Peek,
    PeerCred, Received, SocketFile, SocketKind, UnixSocket,
};
use crate::signal::Signal;
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

const FAMILY: &str = "AF_UNIX; AF_INET and AF_INET6 over the machine's own loopback, and outwards if asked to (`--net`)";

pub(super) const TABLE: &[Entry] = &[
    now(198, "socket", Support::Partial(FAMILY), sys_socket),
    waits!(199, "socketpair", Support::Partial(FAMILY), sys_socketpair),
    waits!(200, "bind", Support::Partial(FAMILY), sys_bind),
    now(201, "listen", Support::Partial(FAMILY), sys_listen),
    waits!(202, "accept", Support::Partial(FAMILY), sys_accept),
    waits!(203, "connect", Support::Partial(FAMILY), sys_connect),
    waits!(204, "getsockname", Support::Partial(FAMILY), sys_getsockname),
    waits!(205, "getpeername", Support::Partial(FAMILY), sys_getpeername),
    waits!(206, "sendto", Support::Partial(FAMILY), sys_sendto),
    waits!(207, "recvfrom", Support::Partial(FAMILY), sys_recvfrom),
    waits!(
        208,
        "setsockopt",
        Support::Partial("options of those families, not all of AF_UNIX"),
        sys_setsockopt
    ),
    waits!(209, "getsockopt", Support::Partial("what programs ask"), sys_getsockopt),
    now(210, "shutdown", Support::Partial(FAMILY), sys_shutdown),
    waits!(211, "sendmsg", Support::Partial(FAMILY), sys_sendmsg),
    waits!(212, "recvmsg", Support::Partial(FAMILY), sys_recvmsg),
    waits!(242, "accept4", Support::Partial(FAMILY), sys_accept4),
];

const AF_UNIX: u16 = 1;
pub(super) const MSG_PEEK: u32 = 0x02;
const MSG_CTRUNC: u32 = 0x08;
pub(super) const MSG_TRUNC: u32 = 0x20;
pub(super) const MSG_DONTWAIT: u32 = 0x40;
pub(super) const MSG_WAITALL: u32 = 0x100;
pub(super) const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
pub(super) const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// Most descriptors in one message.
const SCM_MAX_FD: usize = 253;

fn cred_of(task: &Task) -> PeerCred {
    let creds = task.creds();
    PeerCred { pid: task.tgid(), uid: creds.euid, gid: creds.egid }
}

/// Family, type and protocol arguments, as `socket` and `socketpair` take them.
fn kind_arg(args: Args) -> Result<(SocketKind, OpenFlags), Errno> {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    let raw = args.uint(1);
    let flags = OpenFlags::from_bits_truncate(raw) & allowed;
    if raw & !0xf & !allowed.bits() != 0 {
        return Err(Errno::EINVAL);
    }
    if args.int(0) != i32::from(AF_UNIX) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if !matches!(args.int(2), 0 | 1) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match raw & 0xf {
        1 => SocketKind::Stream,
        2 | 3 => SocketKind::Datagram,
        5 => SocketKind::SeqPacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok((kind, flags))
}

fn open_socket(task: &Task, socket: Rc<UnixSocket>, flags: OpenFlags) -> Result<u64, Errno> {
    let place = task.kernel().vfs().socket_place()?;
    let file = OpenFile::new(Box::new(SocketFile(socket)), place, flags | OpenFlags::RDWR);
    install(task, file, flags)
}

pub(super) fn socket_arg(task: &Task, args: Args) -> Result<(Rc<OpenFile>, Rc<UnixSocket>), Errno> {
    let file = file_arg(task, args, 0)?;
    let socket = file.ops_as::<SocketFile>().ok_or(Errno::ENOTSOCK)?.0.clone();
    Ok((file, socket))
}

fn sys_socket(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some(family) = Family::from_number(args.int(0)) {
        return inet::socket(task, family, args);
    }
    let (kind, flags) = kind_arg(args)?;
    Ok(open_socket(task, UnixSocket::new(kind, cred_of(task)), flags)?)
}

async fn sys_socketpair(task: &Rc<Task>, args: Args) -> SysResult {
    if Family::from_number(args.int(0)).is_some() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let (kind, flags) = kind_arg(args)?;
    let (a, b) = UnixSocket::pair(kind, cred_of(task));
    let a = open_socket(task, a, flags)?;
    let files = task.files();
    let b = match open_socket(task, b, flags) {
        Ok(b) => b,
        Err(errno) => {
            let _ = files.close(a as i32);
            return Err(errno.into());
        }
    };
    let raw = [(a as u32).to_le_bytes(), (b as u32).to_le_bytes()].concat();
    if let Err(errno) = task.copy_out(args.addr(3), &raw).await {
        let _ = files.close(a as i32);
        let _ = files.close(b as i32);
        return Err(errno.into());
    }
    Ok(0)
}

/// A `sockaddr_un`: what follows the family.
async fn read_address(task: &Rc<Task>, addr: VirtAddr, len: u32) -> Result<Vec<u8>, Errno> {
    if !(2..=110).contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut raw = vec![0; len as usize];
    task.copy_in(addr, &mut raw).await?;
    if u16::from_le_bytes([raw[0], raw[1]]) != AF_UNIX {
        return Err(Errno::EINVAL);
    }
    raw.drain(..2);
    if raw.first().is_some_and(|byte| *byte != 0) {
        let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
        raw.truncate(end);
    }
    Ok(raw)
}

/// The socket that an address names.
fn find_socket(task: &Rc<Task>, kind: SocketKind, name: &[u8]) -> Result<Rc<UnixSocket>, Errno> {
    let caller = Caller::new(task);
    match name {
        [] => Err(Errno::EINVAL),
        [0, rest @ ..] => caller.vfs.unix().find(&Address::Abstract(kind, rest.to_vec())),
        path => {
            let from = caller.fs.cwd();
            let at = At { from: &from, text: path };
            let place = caller.vfs.lookup(caller.who(), at, LastLink::Follow)?;
            caller.vfs.access(&caller.creds, &place, May::WRITE)?;
            let stat = place.inode().stat()?;
            if stat.kind != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            caller.vfs.unix().find(&Address::Inode(stat.dev.encode(), stat.ino))
        }
    }
}

async fn sys_bind(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        return inet::bind(task, &socket, args).await;
    }
    let (_, socket) = socket_arg(task, args)?;
    let name = read_address(task, args.addr(1), args.uint(2)).await?;
    let bound = !socket.name().is_empty();
    let caller = Caller::new(task);
    match &name[..] {
        [] if bound => return Ok(0),
        [0, ..] if bound => return Err(Errno::EINVAL.into()),
        [] => {
            let name = caller.vfs.autobind(&socket)?;
            socket.set_name(name);
            return Ok(0);
        }
        [0, rest @ ..] => {
            caller.vfs.unix().bind(Address::Abstract(socket.kind(), rest.to_vec()), &socket)?;
        }
        path => {
            let from = PathArg { from: caller.fs.cwd(), text: path.to_vec() };
            // A name that is taken is found out first (unix_bind_bsd).
            if bound && caller.vfs.lookup(caller.who(), from.at(), LastLink::Keep).is_err() {
                return Err(Errno::EINVAL.into());
            }
            match caller.vfs.create(caller.who(), from.at(), NewKind::Socket, 0o777) {
                Err(Errno::EEXIST) => return Err(Errno::EADDRINUSE.into()),
                made => made?,
            }
            let place = caller.vfs.lookup(caller.who(), from.at(), LastLink::Keep)?;
            let stat = place.inode().stat()?;
            let address = Address::Inode(stat.dev.encode(), stat.ino);
            caller.vfs.unix().bind(address, &socket)?;
        }
    }
    let terminated = if name[0] == 0 { name } else { [&name[..], &[0]].concat() };
    socket.set_name(terminated);
    Ok(0)
}

fn sys_listen(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        socket.listen(args.int(1))?;
        return Ok(0);
    }
    let (_, socket) = socket_arg(task, args)?;
    socket.listen(args.int(1))?;
    Ok(0)
}

async fn sys_connect(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        return inet::connect(task, (&file, &socket), args).await;
    }
    let (file, socket) = socket_arg(task, args)?;
    let name = read_address(task, args.addr(1), args.uint(2)).await?;
    let to = find_socket(task, socket.kind(), &name)?;
    loop {
        match socket.connect(&to) {
            Err(Errno::EAGAIN) if !file.is_nonblocking() => {
                to.queue().wait_interruptible(task).await?;
            }
            done => {
                done?;
                return Ok(0);
            }
        }
    }
}

async fn sys_accept(task: &Rc<Task>, args: Args) -> SysResult {
    accept(task, args, OpenFlags::empty()).await
}

async fn sys_accept4(task: &Rc<Task>, args: Args) -> SysResult {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    let flags = OpenFlags::from_bits(args.uint(3)).filter(|flags| allowed.contains(*flags));
    accept(task, args, flags.ok_or(Errno::EINVAL)?).await
}

async fn accept(task: &Rc<Task>, args: Args, flags: OpenFlags) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        return inet::accept(task, (&file, &socket), args, flags).await;
    }
    let (file, socket) = socket_arg(task, args)?;
    if socket.kind() == SocketKind::Datagram {
        return Err(Errno::EOPNOTSUPP.into());
    }
    loop {
        match socket.accept() {
            Err(Errno::EAGAIN) if !file.is_nonblocking() => wait_for(task, &file).await?,
            accepted => {
                let accepted = accepted?;
                let peer = accepted.peer_name().unwrap_or_default();
                if args.addr(1) != VirtAddr::ZERO {
                    write_address(task, &peer, args.addr(1), args.addr(2)).await?;
                }
                return Ok(open_socket(task, accepted, flags)?);
            }
        }
    }
}

/// Writes an address where `addr` points, and its true length where `len` points.
async fn write_address(
    task: &Rc<Task>,
    name: &[u8],
    addr: VirtAddr,
    len: VirtAddr,
) -> Result<(), Errno> {
    let mut room = [0; 4];
    task.copy_in(len, &mut room).await?;
    let room = usize::try_from(i32::from_le_bytes(room)).map_err(|_| Errno::EINVAL)?;
    let full = [&AF_UNIX.to_le_bytes()[..], name].concat();
    task.copy_out(addr, &full[..full.len().min(room)]).await?;
    task.copy_out(len, &(full.len() as u32).to_le_bytes()).await
}

async fn sys_getsockname(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        return inet::name(task, &socket, args).await;
    }
    let (_, socket) = socket_arg(task, args)?;
    write_address(task, &socket.name(), args.addr(1), args.addr(2)).await?;
    Ok(0)
}

async fn sys_getpeername(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        return inet::peer_name(task, &socket, args).await;
    }
    let (_, socket) = socket_arg(task, args)?;
    write_address(task, &socket.peer_name()?, args.addr(1), args.addr(2)).await?;
    Ok(0)
}

fn sys_shutdown(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        socket.shutdown(args.int(1))?;
        return Ok(0);
    }
    let (_, socket) = socket_arg(task, args)?;
    socket.shutdown(args.int(1))?;
    Ok(0)
}

/// What a send has besides its bytes.
pub(super) struct Outgoing<To> {
    pub(super) to: Option<To>,
    pub(super) files: Vec<Rc<OpenFile>>,
    pub(super) flags: u32,
}

async fn send(
    task: &Rc<Task>,
    file: &OpenFile,
    socket: &Rc<UnixSocket>,
    from: &mut UserIov,
    mut out: Outgoing<Rc<UnixSocket>>,
) -> SysResult {
    let stream = socket.kind() == SocketKind::Stream;
    if !stream && from.left() > BUFFER_BYTES as u64 {
        return Err(Errno::EMSGSIZE.into());
    }
    let mut bytes = vec![0; from.left().min(16 << 20) as usize];
    let got = from.copy_in(task, &mut bytes).await;
    if got < bytes.len() && (got == 0 || !stream) {
        return Err(Errno::EFAULT.into());
    }
    bytes.truncate(got);
    let wait = out.flags & MSG_DONTWAIT == 0 && !file.is_nonblocking();
    let mut done = 0;
    loop {
        let files = out.files.clone();
        match socket.send(out.to.as_ref(), &bytes[done..], files, cred_of(task)) {
            Ok(sent) => {
                done += sent;
                out.files.clear();
                if !stream || done == bytes.len() {
                    return Ok(done as u64);
                }
            }
            Err(Errno::EAGAIN) if wait => {
                let queue = out.to.as_ref().map_or(socket.queue(), |to| to.queue());
                if let Err(interrupted) = queue.wait_interruptible(task).await {
                    return if done > 0 { Ok(done as u64) } else { Err(interrupted.into()) };
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

async fn sys_sendto(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        return inet::send_to(task, (&file, &socket), args).await;
    }
    let (file, socket) = socket_arg(task, args)?;
    let mut to = None;
    if args.addr(4) != VirtAddr::ZERO {
        let name = read_address(task, args.addr(4), args.uint(5)).await?;
        to = Some(find_socket(task, socket.kind(), &name)?);
    }
    let mut from = UserIov::buffer(args.addr(1), args.raw(2));
    let out = Outgoing { to, files: Vec::new(), flags: args.uint(3) };
    send(task, &file, &socket, &mut from, out).await
}

async fn receive(
    task: &Rc<Task>,
    file: &OpenFile,
    socket: &UnixSocket,
    to: &mut UserIov,
    flags: u32,
) -> Result<Received, crate::syscall::SysError> {
    let peek = if flags & MSG_PEEK != 0 { Peek::Yes } else { Peek::No };
    let want = to.left().min(BUFFER_BYTES as u64) as usize;
    // A message that cannot be handed over is gone; a stream keeps its bytes.
    let stream = socket.kind() == SocketKind::Stream;
    let usable = if stream { to.writable(task, want).await } else { want };
    if usable == 0 && want > 0 {
        return Err(Errno::EFAULT.into());
    }
    let mut bytes = vec![0; usable];
    let wait = flags & MSG_DONTWAIT == 0 && !file.is_nonblocking();
    let whole = flags & MSG_WAITALL != 0 && stream && peek == Peek::No;
    let mut done: Option<Received> = None;
    loop {
        let so_far = done.as_ref().map_or(0, |received| received.bytes);
        match socket.receive(&mut bytes[so_far..], peek) {
            Ok(mut received) => {
                let ended = received.bytes == 0;
                received.bytes += so_far;
                if let Some(before) = done.take() {
                    received.files.splice(0..0, before.files);
                }
                if !whole || ended || received.bytes == usable {
                    let copied = to.copy_out(task, &bytes[..received.bytes]).await;
                    if copied < received.bytes {
                        return Err(Errno::EFAULT.into());
                    }
                    return Ok(received);
                }
                done = Some(received);
            }
            Err(Errno::EAGAIN) if wait => {
                if let Err(interrupted) = wait_for(task, file).await {
                    let Some(received) = done.take() else { return Err(interrupted) };
                    to.copy_out(task, &bytes[..received.bytes]).await;
                    return Ok(received);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

async fn sys_recvfrom(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        return inet::receive_from(task, (&file, &socket), args).await;
    }
    let (file, socket) = socket_arg(task, args)?;
    let flags = args.uint(3);
    let mut to = UserIov::buffer(args.addr(1), args.raw(2));
    let received = receive(task, &file, &socket, &mut to, flags).await?;
    if args.addr(4) != VirtAddr::ZERO {
        write_address(task, &received.from, args.addr(4), args.addr(5)).await?;
    }
    let whole = flags & MSG_TRUNC != 0 && socket.kind() != SocketKind::Stream;
    Ok(if whole { received.full } else { received.bytes } as u64)
}

/// `struct msghdr`, and where it is.
pub(super) struct Header {
    at: VirtAddr,
    words: [u64; 7],
}

impl Header {
    pub(super) async fn read(task: &Rc<Task>, at: VirtAddr) -> Result<Self, Errno> {
        let words = task.read_struct::<[u64; 7]>(at).await?;
        Ok(Self { at, words })
    }

    pub(super) fn name(&self) -> (VirtAddr, u32) {
        (VirtAddr::new(self.words[0]), self.words[1] as u32)
    }

    pub(super) async fn iov(&self, task: &Rc<Task>) -> Result<UserIov, Errno> {
        match UserIov::read(task, VirtAddr::new(self.words[2]), self.words[3]).await {
            Err(Errno::EINVAL) if self.words[3] > 1024 => Err(Errno::EMSGSIZE),
            iov => iov,
        }
    }

    fn control(&self) -> (VirtAddr, u64) {
        (VirtAddr::new(self.words[4]), self.words[5])
    }

    pub(super) fn field(&self, offset: u64) -> Result<VirtAddr, Errno> {
        self.at.checked_add(offset).ok_or(Errno::EFAULT)
    }
}

/// The open files that control messages pass on.
async fn files_sent(task: &Rc<Task>, header: &Header) -> Result<Vec<Rc<OpenFile>>, Errno> {
    let (addr, len) = header.control();
    if len > 20480 {
        return Err(Errno::ENOBUFS);
    }
    let mut raw = vec![0; len as usize];
    task.copy_in(addr, &mut raw).await?;
    let mut files = Vec::new();
    let mut at = 0;
    while at + 16 <= raw.len() {
        let size = raw[at..at + 8].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        let word = |i: usize| i32::from_le_bytes([raw[i], raw[i + 1], raw[i + 2], raw[i + 3]]);
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size));
        let end = end.filter(|end| size >= 16 && *end <= raw.len()).ok_or(Errno::EINVAL)?;
        if word(at + 8) == SOL_SOCKET {
            match word(at + 12) {
                SCM_RIGHTS => {
                    for i in (at + 16..end - 3).step_by(4) {
                        files.push(task.files().get_any(word(i))?);
                    }
                }
                SCM_CREDENTIALS => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        at = end.next_multiple_of(8);
    }
    if files.len() > SCM_MAX_FD { Err(Errno::EINVAL) } else { Ok(files) }
}

pub(super) async fn sys_sendmsg(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        return inet::send_message(task, (&file, &socket), args).await;
    }
    let (file, socket) = socket_arg(task, args)?;
    let header = Header::read(task, args.addr(1)).await?;
    let mut to = None;
    let (name, name_len) = header.name();
    if name != VirtAddr::ZERO && name_len > 0 {
        to = Some(find_socket(task, socket.kind(), &read_address(task, name, name_len).await?)?);
    }
    let files = files_sent(task, &header).await?;
    let mut from = header.iov(task).await?;
    let out = Outgoing { to, files, flags: args.uint(2) };
    send(task, &file, &socket, &mut from, out).await
}

fn control_message(kind: i32, data: &[u8]) -> Vec<u8> {
    let mut raw = ((16 + data.len()) as u64).to_le_bytes().to_vec();
    raw.extend_from_slice(&SOL_SOCKET.to_le_bytes());
    raw.extend_from_slice(&kind.to_le_bytes());
    raw.extend_from_slice(data);
    raw.resize(raw.len().next_multiple_of(8), 0);
    raw
}

/// Control messages for what was received: at most `room` bytes. Answers them, and `MSG_CTRUNC`
/// when something did not fit.
fn control_received(
    task: &Task,
    socket: &UnixSocket,
    received: &Received,
    room: usize,
    flags: u32,
) -> (Vec<u8>, u32) {
    let mut control = Vec::new();
    let mut truncated = 0;
    if socket.pass_cred.get() {
        let PeerCred { pid, uid, gid } = received.cred;
        let data: Vec<u8> = [pid, uid, gid].iter().flat_map(|id| id.to_le_bytes()).collect();
        let message = control_message(SCM_CREDENTIALS, &data);
        if message.len() <= room {
            control = message;
        } else {
            truncated = MSG_CTRUNC;
        }
    }
    if received.files.is_empty() {
        return (control, truncated);
    }
    let fits = (room - control.len()).saturating_sub(16) / 4;
    let cloexec = flags & MSG_CMSG_CLOEXEC != 0;
    let fd_flags = if cloexec { OpenFlags::CLOEXEC } else { OpenFlags::empty() };
    let mut fds = Vec::new();
    for file in received.files.iter().take(fits) {
        match install(task, Rc::clone(file), fd_flags) {
            Ok(fd) => fds.extend_from_slice(&(fd as u32).to_le_bytes()),
            Err(_) => break,
        }
    }
    if fds.len() / 4 < received.files.len() {
        truncated = MSG_CTRUNC;
    }
    if !fds.is_empty() {
        let mut message = control_message(SCM_RIGHTS, &fds);
        message.truncate(room - control.len());
        control.append(&mut message);
    }
    (control, truncated)
}

pub(super) async fn sys_recvmsg(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        return inet::receive_message(task, (&file, &socket), args).await;
    }
    let (file, socket) = socket_arg(task, args)?;
    let header = Header::read(task, args.addr(1)).await?;
    let mut to = header.iov(task).await?;
    let flags = args.uint(2);
    let received = receive(task, &file, &socket, &mut to, flags).await?;
    let (control_at, room) = header.control();
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(1 << 20);
    let (control, mut out) = control_received(task, &socket, &received, room, flags);
    let messages = socket.kind() != SocketKind::Stream;
    if messages && received.full > received.bytes {
        out |= MSG_TRUNC;
    }
    let (name, name_len) = header.name();
    if name != VirtAddr::ZERO {
        let connected = socket.kind() != SocketKind::Datagram;
        let full = [&AF_UNIX.to_le_bytes()[..], &received.from].concat();
        let full = if connected || received.from.is_empty() { Vec::new() } else { full };
        task.copy_out(name, &full[..full.len().min(name_len as usize)]).await?;
        task.copy_out(header.field(8)?, &(full.len() as u32).to_le_bytes()).await?;
    }
    task.copy_out(control_at, &control).await?;
    task.copy_out(header.field(40)?, &(control.len() as u64).to_le_bytes()).await?;
    task.copy_out(header.field(48)?, &(out | flags & MSG_CMSG_CLOEXEC).to_le_bytes()).await?;
    let whole = messages && flags & MSG_TRUNC != 0;
    Ok(if whole { received.full } else { received.bytes } as u64)
}

const SO_REUSEADDR: i32 = 2;
const SO_TYPE: i32 = 3;
const SO_ERROR: i32 = 4;
const SO_SNDBUF: i32 = 7;
const SO_RCVBUF: i32 = 8;
const SO_PASSCRED: i32 = 16;
const SO_PEERCRED: i32 = 17;
const SO_ACCEPTCONN: i32 = 30;
const SO_PROTOCOL: i32 = 38;
const SO_DOMAIN: i32 = 39;

async fn sys_setsockopt(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        return inet::set_option(task, &socket, args).await;
    }
    let (_, socket) = socket_arg(task, args)?;
    if args.int(1) != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut raw = [0; 4];
    if args.int(4) < 4 {
        return Err(Errno::EINVAL.into());
    }
    task.copy_in(args.addr(3), &mut raw).await?;
    match args.int(2) {
        SO_PASSCRED => socket.pass_cred.set(raw != [0; 4]),
        // Linux too takes these for AF_UNIX; they only change how much may be on its way.
        SO_REUSEADDR | SO_SNDBUF | SO_RCVBUF => {}
        _ => return Err(Errno::ENOPROTOOPT.into()),
    }
    Ok(0)
}

async fn sys_getsockopt(task: &Rc<Task>, args: Args) -> SysResult {
    if let Some((file, socket)) = inet::socket_arg(task, args)? {
        drop(file);
        return inet::get_option(task, &socket, args).await;
    }
    let (_, socket) = socket_arg(task, args)?;
    if args.int(1) != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut room = [0; 4];
    task.copy_in(args.addr(4), &mut room).await?;
    let room = usize::try_from(i32::from_le_bytes(room)).map_err(|_| Errno::EINVAL)?;
    let number = |n: u32| n.to_le_bytes().to_vec();
    let value = match args.int(2) {
        SO_TYPE => number(socket.kind().number()),
        SO_ERROR => number(socket.take_error().map_or(0, |errno| errno.number().into())),
        SO_REUSEADDR | SO_PROTOCOL => number(0),
        SO_SNDBUF | SO_RCVBUF => number(BUFFER_BYTES as u32),
        SO_PASSCRED => number(u32::from(socket.pass_cred.get())),
        SO_ACCEPTCONN => number(u32::from(socket.is_listening())),
        SO_DOMAIN => number(u32::from(AF_UNIX)),
        SO_PEERCRED => {
            let PeerCred { pid, uid, gid } = socket.peer_cred();
            [pid, uid, gid].iter().flat_map(|id| id.to_le_bytes()).collect()
        }
        _ => return Err(Errno::ENOPROTOOPT.into()),
    };
    let value = &value[..value.len().min(room)];
    task.copy_out(args.addr(3), value).await?;
    task.copy_out(args.addr(4), &(value.len() as u32).to_le_bytes()).await?;
    Ok(0)
}
