//! Several messages with one call: sendmmsg and recvmmsg (Linux 6.18 net/socket.c:
//! `__sys_sendmmsg`, `do_recvmmsg`). Resolvers send their questions so.

use super::inet;
use super::socket::{MSG_DONTWAIT, socket_arg, sys_recvmsg, sys_sendmsg};
use crate::syscall::time::Timespec;
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(243, "recvmmsg", Support::Partial("as recvmsg"), sys_recvmmsg),
    waits!(269, "sendmmsg", Support::Partial("as sendmsg"), sys_sendmmsg),
];

/// Most messages in one call (`UIO_MAXIOV`); more are left for the next.
const MAX: u32 = 1024;
/// Bytes of a `struct mmsghdr`: a `struct msghdr`, and how many bytes went.
const ENTRY: u64 = 64;
const LENGTH_AT: u64 = 56;
/// Waits for the first message only.
const MSG_WAITFORONE: u32 = 0x1_0000;

/// The call for message `i` alone, and where its length goes.
fn one(args: Args, i: u32, flags: u32) -> Result<(Args, VirtAddr), Errno> {
    let at = args.addr(1).checked_add(u64::from(i) * ENTRY).ok_or(Errno::EFAULT)?;
    let length = at.checked_add(LENGTH_AT).ok_or(Errno::EFAULT)?;
    Ok((Args([args.raw(0), at.get(), flags.into(), 0, 0, 0]), length))
}

/// Descriptor argument 0 must be a socket.
fn check_socket(task: &Task, args: Args) -> Result<(), Errno> {
    match inet::socket_arg(task, args)? {
        Some(_) => Ok(()),
        None => socket_arg(task, args).map(drop),
    }
}

/// What the call answers after `done` messages.
fn answer(done: u32, end: SysResult) -> SysResult {
    if done > 0 { Ok(done.into()) } else { end }
}

async fn sys_sendmmsg(task: &Rc<Task>, args: Args) -> SysResult {
    check_socket(task, args)?;
    for i in 0..args.uint(2).min(MAX) {
        let (call, length) = one(args, i, args.uint(3))?;
        let sent = match sys_sendmsg(task, call).await {
            Ok(bytes) => task.write_struct(length, &(bytes as u32)).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            return answer(i, Err(error));
        }
    }
    Ok(args.uint(2).min(MAX).into())
}

async fn sys_recvmmsg(task: &Rc<Task>, args: Args) -> SysResult {
    let kernel = Rc::clone(task.kernel());
    let mut end = None;
    if args.raw(4) != 0 {
        let timeout: Timespec = task.read_struct(args.addr(4)).await?;
        end = Some(kernel.now().saturating_add(timeout.to_nanos().ok_or(Errno::EINVAL)?));
    }
    check_socket(task, args)?;
    let mut flags = args.uint(3) & !MSG_WAITFORONE;
    let mut done = 0;
    let mut last = Ok(0);
    while done < args.uint(2).min(MAX) {
        let (call, length) = one(args, done, flags)?;
        last = match sys_recvmsg(task, call).await {
            Ok(bytes) => {
                task.write_struct(length, &(bytes as u32)).await.map(|()| 0).map_err(Into::into)
            }
            Err(error) => Err(error),
        };
        if last.is_err() {
            break;
        }
        done += 1;
        if args.uint(3) & MSG_WAITFORONE != 0 {
            flags |= MSG_DONTWAIT;
        }
        // Only looked at between messages, as Linux does.
        if end.is_some_and(|end| kernel.now() >= end) {
            break;
        }
    }
    if let Some(end) = end {
        let left = Timespec::from_nanos(end.saturating_sub(kernel.now()));
        task.write_struct(args.addr(4), &left).await?;
    }
    answer(done, last)
}
