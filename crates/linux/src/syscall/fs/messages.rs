//! Several messages with one call: sendmmsg and recvmmsg (Linux 6.18 net/socket.c:
//! `__sys_sendmmsg`, `do_recvmmsg`). Resolvers send their questions so.
//!
//! Each message is a call of [`sys_sendmsg`] or [`sys_recvmsg`] of `socket.rs`. What stops the
//! call after the first message is not told, as the caller learns how many went; recvmmsg keeps it
//! for the next call.

use super::inet;
use super::socket::{Header, MSG_DONTWAIT, socket_arg, sys_recvmsg, sys_sendmsg};
use crate::fs::UnixSocket;
use crate::fs::inet::InetSocket;
use crate::syscall::time::Timespec;
use crate::syscall::{Args, Entry, Support, SysError, SysResult, waits};
use crate::task::Task;
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(243, "recvmmsg", Support::Partial("as recvmsg"), sys_recvmmsg),
    waits!(269, "sendmmsg", Support::Partial("as sendmsg"), sys_sendmmsg),
];

/// Most messages that one sendmmsg sends (`UIO_MAXIOV`); recvmmsg knows no limit.
const MAX_SENT: u32 = 1024;
/// Bytes of a `struct mmsghdr`: a `struct msghdr`, and how many bytes went.
const ENTRY: u64 = 64;
const LENGTH_AT: u64 = 56;
/// Waits for the first message only.
const MSG_WAITFORONE: u32 = 0x1_0000;

/// The arguments of sendmsg or recvmsg for message `i`, and where its length goes.
fn message(args: Args, i: u32, flags: u32) -> Result<(Args, VirtAddr), Errno> {
    let at = args.addr(1).checked_add(u64::from(i) * ENTRY).ok_or(Errno::EFAULT)?;
    let length = at.checked_add(LENGTH_AT).ok_or(Errno::EFAULT)?;
    Ok((Args([args.raw(0), at.get(), flags.into(), 0, 0, 0]), length))
}

/// The socket behind descriptor argument 0.
enum Socket {
    Internet(Rc<InetSocket>),
    Unix(Rc<UnixSocket>),
}

impl Socket {
    fn of(task: &Task, args: Args) -> Result<Self, Errno> {
        match inet::socket_arg(task, args)? {
            Some((_, socket)) => Ok(Self::Internet(socket)),
            None => Ok(Self::Unix(socket_arg(task, args)?.1)),
        }
    }

    fn take_error(&self) -> Option<Errno> {
        match self {
            Self::Internet(socket) => socket.take_error(),
            Self::Unix(socket) => socket.take_error(),
        }
    }

    /// Keeps what ended a call after its first message for the next call.
    fn fail(&self, errno: Errno) {
        match self {
            Self::Internet(socket) => socket.fail(errno),
            Self::Unix(socket) => socket.fail(errno),
        }
    }
}

/// Whether a message went as a whole; of a stream's, a part may have.
enum Sent {
    Whole,
    Part,
}

async fn send_one(task: &Rc<Task>, args: Args, i: u32) -> Result<Sent, SysError> {
    let (call, length) = message(args, i, args.uint(3))?;
    let bytes = sys_sendmsg(task, call).await?;
    task.write_struct(length, &(bytes as u32)).await?;
    let all = Header::read(task, call.addr(1)).await?.iov(task).await?.left();
    Ok(if bytes < all { Sent::Part } else { Sent::Whole })
}

async fn sys_sendmmsg(task: &Rc<Task>, args: Args) -> SysResult {
    Socket::of(task, args)?;
    let mut done = 0;
    while done < args.uint(2).min(MAX_SENT) {
        match send_one(task, args, done).await {
            Ok(Sent::Whole) => done += 1,
            Ok(Sent::Part) => return Ok(u64::from(done + 1)),
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done.into())
}

async fn receive_one(task: &Rc<Task>, args: Args, i: u32, flags: u32) -> Result<(), SysError> {
    let (call, length) = message(args, i, flags)?;
    let bytes = sys_recvmsg(task, call).await?;
    Ok(task.write_struct(length, &(bytes as u32)).await?)
}

/// When a call with this timeout (argument 4) has to end.
async fn end(task: &Rc<Task>, args: Args) -> Result<Option<Nanos>, Errno> {
    if args.raw(4) == 0 {
        return Ok(None);
    }
    let timeout: Timespec = task.read_struct(args.addr(4)).await?;
    let timeout = timeout.to_nanos().ok_or(Errno::EINVAL)?;
    Ok(Some(task.kernel().now().saturating_add(timeout)))
}

async fn sys_recvmmsg(task: &Rc<Task>, args: Args) -> SysResult {
    let asked = args.uint(3);
    let end = end(task, args).await?;
    let socket = Socket::of(task, args)?;
    if end.is_none()
        && let Some(error) = socket.take_error()
    {
        return Err(error.into());
    }
    let mut flags = asked & !MSG_WAITFORONE;
    let mut done = 0;
    while done < args.uint(2) {
        match receive_one(task, args, done, flags).await {
            Ok(()) => done += 1,
            Err(error) if done == 0 => return Err(error),
            Err(error) => {
                if let SysError::Errno(error) = error
                    && error != Errno::EAGAIN
                {
                    socket.fail(error);
                }
                break;
            }
        }
        if asked & MSG_WAITFORONE != 0 {
            flags |= MSG_DONTWAIT;
        }
        // Looked at between messages only: for the first one the call may wait for ever.
        if end.is_some_and(|end| task.kernel().now() >= end) {
            break;
        }
    }
    if let Some(end) = end
        && done > 0
    {
        let left = Timespec::from_nanos(end.saturating_sub(task.kernel().now()));
        task.write_struct(args.addr(4), &left).await?;
    }
    Ok(done.into())
}
