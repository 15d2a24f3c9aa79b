//! read and write, in all their forms, and lseek.
//!
//! [`read_file`] and [`write_file`] move bytes between user memory and an open file, wait where
//! Linux waits, and stop where Linux stops: at a short transfer, a fault, a signal. Source: Linux
//! 6.18 fs/read_write.c. Neighbours: [`super::iov`], [`crate::fs::file`].

use super::iov::{MAX_RW_COUNT, UserIov};
use super::{Caller, file_arg};
use crate::fs::{FileType, OpenFile, PollEvents, Whence};

use crate::signal::Signal;
use crate::syscall::{Args, Entry, Support, SysError, SysResult, now, waits};
use crate::task::Task;
use crate::task::limits::Resource;
use kilburn_addr::Errno;
use std::rc::Rc;

/// Bytes moved at a time. At least [`crate::fs::PIPE_BUF`], or short pipe writes were not atomic.
const CHUNK: usize = 128 << 10;

pub(super) const TABLE: &[Entry] = &[
    now(62, "lseek", Support::Full, sys_lseek),
    waits!(63, "read", Support::Full, sys_read),
    waits!(64, "write", Support::Full, sys_write),
    waits!(65, "readv", Support::Full, sys_readv),
    waits!(66, "writev", Support::Full, sys_writev),
    waits!(67, "pread64", Support::Full, sys_pread64),
    waits!(68, "pwrite64", Support::Full, sys_pwrite64),
    waits!(69, "preadv", Support::Full, sys_preadv),
    waits!(70, "pwritev", Support::Full, sys_pwritev),
    waits!(
        286,
        "preadv2",
        Support::Partial("RWF_NOWAIT, RWF_HIPRI, RWF_DSYNC, RWF_APPEND only"),
        sys_preadv2
    ),
    waits!(
        287,
        "pwritev2",
        Support::Partial("RWF_NOWAIT, RWF_HIPRI, RWF_DSYNC, RWF_APPEND only"),
        sys_pwritev2
    ),
];

/// Where a transfer starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Position {
    /// At the file's own position, which moves.
    Current,
    /// There; the file's own position stays.
    At(u64),
}

/// How a transfer waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    /// As the file's `O_NONBLOCK` says.
    AsOpened,
    /// Never.
    Never,
}

/// Sleeps until `file` may be ready for more.
pub(super) async fn wait_for(task: &Rc<Task>, file: &OpenFile) -> Result<(), SysError> {
    match file.ops().wait_queue() {
        Some(queue) => Ok(queue.wait_interruptible(task).await?),
        // EAGAIN from something that never becomes ready: the caller must see it.
        None => Err(Errno::EAGAIN.into()),
    }
}

fn may_wait(file: &OpenFile, waiting: Waiting) -> bool {
    waiting == Waiting::AsOpened && !file.is_nonblocking()
}

/// What a transfer answers after `done` bytes and then `error`.
fn after(done: u64, error: SysError) -> SysResult {
    if done > 0 { Ok(done) } else { Err(error) }
}

/// Reads from `file` to user memory.
///
/// # Errors
/// EBADF, EFAULT, what the file answers; interrupted while waiting.
pub(super) async fn read_file(
    task: &Rc<Task>,
    file: &OpenFile,
    to: &mut UserIov,
    position: Position,
    waiting: Waiting,
) -> SysResult {
    if !file.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    if to.left() == 0 {
        return Ok(read_once(file, &mut [], position)? as u64);
    }
    let stream = file.ops().is_stream();
    let mut position = position;
    let mut total = 0;
    let mut buffer = vec![0; to.left().min(CHUNK as u64) as usize];
    loop {
        let want = to.left().min(CHUNK as u64) as usize;
        let ready = PollEvents::READABLE | PollEvents::HUP | PollEvents::ERR;
        let usable = if stream && file.ops().poll(file).intersects(ready) {
            to.writable(task, want).await
        } else {
            want
        };
        if usable == 0 {
            return after(total, Errno::EFAULT.into());
        }
        let got = match read_once(file, &mut buffer[..usable], position) {
            Ok(0) => return Ok(total),
            Ok(got) => got,
            Err(Errno::EAGAIN) if total == 0 && may_wait(file, waiting) => {
                wait_for(task, file).await?;
                continue;
            }
            Err(errno) => return after(total, errno.into()),
        };
        let put = to.copy_out(task, &buffer[..got]).await;
        total += put as u64;
        match &mut position {
            Position::At(at) => *at += got as u64,
            Position::Current if put < got && !stream => {
                // Only what the program got counts as read.
                file.set_position(file.position() - (got - put) as u64);
            }
            Position::Current => {}
        }
        if put < got {
            return after(total, Errno::EFAULT.into());
        }
        if got < want || to.left() == 0 {
            return Ok(total);
        }
    }
}

fn read_once(file: &OpenFile, into: &mut [u8], position: Position) -> Result<usize, Errno> {
    match position {
        Position::Current => file.read(into),
        Position::At(at) => file.read_at(at, into),
    }
}

/// Writes from user memory to `file`.
///
/// # Errors
/// EBADF, ETXTBSY, EFAULT, EPIPE (and SIGPIPE), EFBIG (and SIGXFSZ), what the file answers; interrupted
/// while waiting.
pub(super) async fn write_file(
    task: &Rc<Task>,
    file: &OpenFile,
    from: &mut UserIov,
    position: Position,
    waiting: Waiting,
) -> SysResult {
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    // Before a byte is looked at (`generic_write_checks`).
    if file.inode().is_swap_file() {
        return Err(Errno::ETXTBSY.into());
    }
    let caller = Caller::new(task);
    let mut position = position;
    let mut total = 0;
    let mut buffer = vec![0; from.left().min(CHUNK as u64) as usize];
    if from.left() > 0 {
        caller.vfs.drop_privileges(&caller.creds, file.inode())?;
    }
    loop {
        let want = from.left().min(CHUNK as u64) as usize;
        let got = from.copy_in(task, &mut buffer[..want]).await;
        if got == 0 && want > 0 {
            return after(total, Errno::EFAULT.into());
        }
        let mut done = 0;
        loop {
            match write_once(task, file, &buffer[done..got], position) {
                Ok(put) => {
                    done += put;
                    total += put as u64;
                    if let Position::At(at) = &mut position {
                        *at += put as u64;
                    }
                    if done == got || put == 0 {
                        break;
                    }
                    if !file.ops().is_stream() || file.is_nonblocking() {
                        return Ok(total);
                    }
                }
                Err(Errno::EAGAIN) if may_wait(file, waiting) => {
                    if let Err(interrupted) = wait_for(task, file).await {
                        return after(total, interrupted);
                    }
                }
                Err(errno) => {
                    if errno == Errno::EPIPE {
                        task.raise(Signal::SIGPIPE);
                    }
                    return after(total, errno.into());
                }
            }
        }
        if got < want {
            return after(total, Errno::EFAULT.into());
        }
        if from.left() == 0 || done < got {
            return Ok(total);
        }
    }
}

fn write_once(
    task: &Task,
    file: &OpenFile,
    bytes: &[u8],
    position: Position,
) -> Result<usize, Errno> {
    let mut bytes = bytes;
    if file.inode().kind() == FileType::Regular && !bytes.is_empty() {
        let at = match position {
            Position::Current => file.position(),
            Position::At(at) => at,
        };
        let limit = task.rlimit(Resource::Fsize);
        if limit != u64::MAX {
            let room = limit.saturating_sub(file.write_position(at)?);
            if room == 0 {
                task.raise(Signal::SIGXFSZ);
                return Err(Errno::EFBIG);
            }
            bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        }
    }
    match position {
        Position::Current => file.write(bytes),
        Position::At(at) => {
            let at = file.write_position(at)?;
            file.write_at(at, bytes)
        }
    }
}

async fn sys_read(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let mut to = UserIov::buffer(args.addr(1), checked_len(args.raw(2))?);
    read_file(task, &file, &mut to, Position::Current, Waiting::AsOpened).await
}

async fn sys_write(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let mut from = UserIov::buffer(args.addr(1), checked_len(args.raw(2))?);
    write_file(task, &file, &mut from, Position::Current, Waiting::AsOpened).await
}

/// A length that would be negative as `ssize_t` is EINVAL (Linux `rw_verify_area`).
fn checked_len(len: u64) -> Result<u64, Errno> {
    if i64::try_from(len).is_err() { Err(Errno::EINVAL) } else { Ok(len.min(MAX_RW_COUNT)) }
}

async fn sys_readv(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let mut to = UserIov::read(task, args.addr(1), args.raw(2)).await?;
    read_file(task, &file, &mut to, Position::Current, Waiting::AsOpened).await
}

async fn sys_writev(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let mut from = UserIov::read(task, args.addr(1), args.raw(2)).await?;
    write_file(task, &file, &mut from, Position::Current, Waiting::AsOpened).await
}

/// The explicit position in argument `i`, for a file that has positions.
fn position_arg(args: Args, i: usize) -> Result<u64, Errno> {
    u64::try_from(args.long(i)).map_err(|_| Errno::EINVAL)
}

fn positioned(file: &OpenFile) -> Result<(), Errno> {
    if file.ops().is_stream() { Err(Errno::ESPIPE) } else { Ok(()) }
}

async fn sys_pread64(task: &Rc<Task>, args: Args) -> SysResult {
    let at = position_arg(args, 3)?;
    let file = file_arg(task, args, 0)?;
    positioned(&file)?;
    let mut to = UserIov::buffer(args.addr(1), checked_len(args.raw(2))?);
    read_file(task, &file, &mut to, Position::At(at), Waiting::AsOpened).await
}

async fn sys_pwrite64(task: &Rc<Task>, args: Args) -> SysResult {
    let at = position_arg(args, 3)?;
    let file = file_arg(task, args, 0)?;
    positioned(&file)?;
    let mut from = UserIov::buffer(args.addr(1), checked_len(args.raw(2))?);
    write_file(task, &file, &mut from, Position::At(at), Waiting::AsOpened).await
}

async fn sys_preadv(task: &Rc<Task>, args: Args) -> SysResult {
    let at = position_arg(args, 3)?;
    let file = file_arg(task, args, 0)?;
    positioned(&file)?;
    let mut to = UserIov::read(task, args.addr(1), args.raw(2)).await?;
    read_file(task, &file, &mut to, Position::At(at), Waiting::AsOpened).await
}

async fn sys_pwritev(task: &Rc<Task>, args: Args) -> SysResult {
    let at = position_arg(args, 3)?;
    let file = file_arg(task, args, 0)?;
    positioned(&file)?;
    let mut from = UserIov::read(task, args.addr(1), args.raw(2)).await?;
    write_file(task, &file, &mut from, Position::At(at), Waiting::AsOpened).await
}

/// Per-call flags of `preadv2` and `pwritev2`.
const RWF_HIPRI: u32 = 0x01;
const RWF_DSYNC: u32 = 0x02;
const RWF_SYNC: u32 = 0x04;
const RWF_NOWAIT: u32 = 0x08;
const RWF_APPEND: u32 = 0x10;

/// Position and waiting of a v2 call; position -1 means the file's own.
fn v2_args(file: &OpenFile, args: Args) -> Result<(Position, Waiting), Errno> {
    let flags = args.uint(5);
    let known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;
    if flags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let position = if args.long(3) == -1 {
        Position::Current
    } else {
        let at = position_arg(args, 3)?;
        positioned(file)?;
        Position::At(at)
    };
    let waiting = if flags & RWF_NOWAIT != 0 { Waiting::Never } else { Waiting::AsOpened };
    Ok((position, waiting))
}

async fn sys_preadv2(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let (position, waiting) = v2_args(&file, args)?;
    let mut to = UserIov::read(task, args.addr(1), args.raw(2)).await?;
    read_file(task, &file, &mut to, position, waiting).await
}

async fn sys_pwritev2(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let (mut position, waiting) = v2_args(&file, args)?;
    let mut from = UserIov::read(task, args.addr(1), args.raw(2)).await?;
    let flags = args.uint(5);
    if flags & RWF_APPEND != 0 && file.inode().kind() == FileType::Regular {
        position = match position {
            Position::At(_) => Position::At(file.inode().stat()?.size),
            Position::Current => {
                file.set_position(file.inode().stat()?.size);
                Position::Current
            }
        };
    }
    let done = write_file(task, &file, &mut from, position, waiting).await?;
    if flags & (RWF_DSYNC | RWF_SYNC) != 0 {
        file.sync()?;
    }
    Ok(done)
}

fn sys_lseek(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let whence = match args.uint(2) {
        0 => Whence::Set,
        1 => Whence::Current,
        2 => Whence::End,
        3 => Whence::Data,
        4 => Whence::Hole,
        _ => return Err(Errno::EINVAL.into()),
    };
    let at = file.ops().seek(&file, args.long(1), whence)?;
    file.set_position(at);
    Ok(at)
}
