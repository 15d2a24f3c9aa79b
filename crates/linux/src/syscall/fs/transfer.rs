//! Moving bytes between files without a program's help: sendfile, splice, tee, copy_file_range.
//!
//! All go through a kernel buffer: what is saved is the program's, not ours. Source: Linux 6.18
//! fs/splice.c, fs/read_write.c.

use super::file_arg;
use super::io::wait_for;
use super::iov::MAX_RW_COUNT as MAX_RW;
use crate::fs::{FileType, OpenFile, OpenFlags, PipeEnd};
use crate::signal::Signal;
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::Task;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

/// Bytes moved at a time; a pipe's default capacity.
const CHUNK: usize = 64 << 10;

pub(super) const TABLE: &[Entry] = &[
    waits!(71, "sendfile", Support::Full, sys_sendfile),
    waits!(76, "splice", Support::Full, sys_splice),
    waits!(77, "tee", Support::Full, sys_tee),
    waits!(285, "copy_file_range", Support::Full, sys_copy_file_range),
];

/// A file and the explicit position used with it, if any.
struct End<'a> {
    file: &'a OpenFile,
    at: Option<u64>,
}

impl End<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        match &mut self.at {
            None => self.file.read(into),
            Some(at) => {
                let got = self.file.read_at(*at, into)?;
                *at += got as u64;
                Ok(got)
            }
        }
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, Errno> {
        match &mut self.at {
            None => self.file.write(from),
            Some(at) => {
                let put = self.file.write_at(*at, from)?;
                *at += put as u64;
                Ok(put)
            }
        }
    }

    /// Takes back what was read but not passed on.
    fn unread(&mut self, bytes: usize) {
        match &mut self.at {
            None if !self.file.ops().is_stream() => {
                self.file.set_position(self.file.position() - bytes as u64);
            }
            None => {}
            Some(at) => *at -= bytes as u64,
        }
    }
}

/// The offset at `addr`, when one is given.
async fn offset_arg(task: &Rc<Task>, addr: VirtAddr) -> Result<Option<u64>, Errno> {
    if addr == VirtAddr::ZERO {
        return Ok(None);
    }
    let mut raw = [0; 8];
    task.copy_in(addr, &mut raw).await?;
    u64::try_from(i64::from_le_bytes(raw)).map(Some).map_err(|_| Errno::EINVAL)
}

async fn write_offset(task: &Rc<Task>, addr: VirtAddr, at: Option<u64>) -> Result<(), Errno> {
    match at {
        Some(at) => task.copy_out(addr, &at.to_le_bytes()).await,
        None => Ok(()),
    }
}

/// How much room a writer has: a pipe must not take part of what it cannot hold.
fn room(file: &OpenFile) -> usize {
    file.ops_as::<PipeEnd>().map_or(CHUNK, |pipe| pipe.fifo().room())
}

/// Moves up to `len` bytes; stops where the source ends or, without waiting, is empty.
async fn pump(
    task: &Rc<Task>,
    from: &mut End<'_>,
    to: &mut End<'_>,
    len: u64,
    nonblocking: bool,
) -> SysResult {
    let mut total = 0u64;
    let mut buffer = vec![0; CHUNK.min(len as usize)];
    while total < len {
        let wait = !nonblocking && !to.file.is_nonblocking();
        let free = room(to.file);
        if free == 0 {
            if to.file.ops_as::<PipeEnd>().is_some_and(|pipe| pipe.fifo().has_no_reader()) {
                task.raise(Signal::SIGPIPE);
                return finish(total, Errno::EPIPE);
            }
            if total > 0 || !wait {
                return finish(total, Errno::EAGAIN);
            }
            wait_for(task, to.file).await?;
            continue;
        }
        let want = (len - total).min(CHUNK as u64).min(free as u64) as usize;
        let got = match from.read(&mut buffer[..want]) {
            Ok(0) => break,
            Ok(got) => got,
            Err(Errno::EAGAIN) if total == 0 && !nonblocking && !from.file.is_nonblocking() => {
                wait_for(task, from.file).await?;
                continue;
            }
            Err(errno) => return finish(total, errno),
        };
        let mut done = 0;
        while done < got {
            match to.write(&buffer[done..got]) {
                Ok(0) => break,
                Ok(put) => done += put,
                Err(Errno::EAGAIN) if wait || from.file.ops().is_stream() => {
                    // What left a stream must arrive: wait even if asked not to.
                    if let Err(interrupted) = wait_for(task, to.file).await {
                        from.unread(got - done);
                        return match total + done as u64 {
                            0 => Err(interrupted),
                            moved => Ok(moved),
                        };
                    }
                }
                Err(errno) => {
                    if errno == Errno::EPIPE {
                        task.raise(Signal::SIGPIPE);
                    }
                    from.unread(got - done);
                    return finish(total + done as u64, errno);
                }
            }
        }
        total += done as u64;
        if done < got {
            from.unread(got - done);
            break;
        }
        if got < want {
            break;
        }
    }
    Ok(total)
}

fn finish(total: u64, errno: Errno) -> SysResult {
    if total > 0 { Ok(total) } else { Err(errno.into()) }
}

async fn sys_sendfile(task: &Rc<Task>, args: Args) -> SysResult {
    let (to, from) = (file_arg(task, args, 0), file_arg(task, args, 1)?);
    if !from.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    let at = offset_arg(task, args.addr(2)).await?;
    if at.is_some() && from.ops().is_stream() {
        return Err(Errno::ESPIPE.into());
    }
    let to = to?;
    if !to.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    // Needs a source that can be paged: a file or device, no pipe end or socket.
    let mappable = matches!(from.inode().kind(), FileType::Regular | FileType::CharDevice);
    if !mappable || !from.ops().can_splice_from() || to.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    let mut source = End { file: &from, at };
    let mut sink = End { file: &to, at: None };
    let moved = pump(task, &mut source, &mut sink, args.raw(3).min(MAX_RW), false).await;
    write_offset(task, args.addr(2), source.at).await?;
    moved
}

async fn sys_splice(task: &Rc<Task>, args: Args) -> SysResult {
    const NONBLOCK: u32 = 2;
    let flags = args.uint(5);
    if flags & !15 != 0 {
        return Err(Errno::EINVAL.into());
    }
    if args.raw(4) == 0 {
        return Ok(0);
    }
    let (from, to) = (file_arg(task, args, 0)?, file_arg(task, args, 2)?);
    if !from.flags().readable() || !to.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    let (from_pipe, to_pipe) = (from.ops_as::<PipeEnd>(), to.ops_as::<PipeEnd>());
    if from_pipe.is_none() && to_pipe.is_none() {
        return Err(Errno::EINVAL.into());
    }
    if from_pipe.is_some() && args.raw(1) != 0 || to_pipe.is_some() && args.raw(3) != 0 {
        return Err(Errno::ESPIPE.into());
    }
    if let (Some(a), Some(b)) = (from_pipe, to_pipe)
        && a.fifo().is_same(b.fifo())
    {
        return Err(Errno::EINVAL.into());
    }
    let appends = to_pipe.is_none() && to.flags().contains(OpenFlags::APPEND);
    if appends || !from.ops().can_splice_from() {
        return Err(Errno::EINVAL.into());
    }
    let from_at = offset_arg(task, args.addr(1)).await?;
    let to_at = offset_arg(task, args.addr(3)).await?;
    for (file, at) in [(&from, from_at), (&to, to_at)] {
        if at.is_some() && file.ops().is_stream() {
            return Err(Errno::EINVAL.into());
        }
    }
    let mut source = End { file: &from, at: from_at };
    let mut sink = End { file: &to, at: to_at };
    let nonblocking = flags & NONBLOCK != 0;
    let moved = pump(task, &mut source, &mut sink, args.raw(4).min(MAX_RW), nonblocking).await;
    write_offset(task, args.addr(1), source.at).await?;
    write_offset(task, args.addr(3), sink.at).await?;
    moved
}

async fn sys_tee(task: &Rc<Task>, args: Args) -> SysResult {
    const NONBLOCK: u32 = 2;
    if args.uint(3) & !15 != 0 {
        return Err(Errno::EINVAL.into());
    }
    if args.raw(2) == 0 {
        return Ok(0);
    }
    let (from, to) = (file_arg(task, args, 0)?, file_arg(task, args, 1)?);
    if !from.flags().readable() || !to.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    let (source, sink) = match (from.ops_as::<PipeEnd>(), to.ops_as::<PipeEnd>()) {
        (Some(a), Some(b)) if !a.fifo().is_same(b.fifo()) => (a.fifo(), b.fifo()),
        _ => return Err(Errno::EINVAL.into()),
    };
    let wait = args.uint(3) & NONBLOCK == 0;
    loop {
        let want = args.raw(2).min(sink.room() as u64) as usize;
        if want == 0 {
            if sink.has_no_reader() {
                task.raise(Signal::SIGPIPE);
                return Err(Errno::EPIPE.into());
            }
            if !wait {
                return Err(Errno::EAGAIN.into());
            }
            wait_for(task, &to).await?;
            continue;
        }
        match source.peek(want) {
            Ok(bytes) if bytes.is_empty() => return Ok(0),
            Ok(bytes) => match to.write(&bytes) {
                Err(Errno::EPIPE) => {
                    task.raise(Signal::SIGPIPE);
                    return Err(Errno::EPIPE.into());
                }
                put => return Ok(put? as u64),
            },
            Err(Errno::EAGAIN) if wait => wait_for(task, &from).await?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

async fn sys_copy_file_range(task: &Rc<Task>, args: Args) -> SysResult {
    let (from, to) = (file_arg(task, args, 0)?, file_arg(task, args, 2)?);
    let from_at = offset_arg(task, args.addr(1)).await?;
    let to_at = offset_arg(task, args.addr(3)).await?;
    if args.uint(5) != 0 {
        return Err(Errno::EINVAL.into());
    }
    for file in [&from, &to] {
        match file.inode().kind() {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
    }
    let append = to.flags().contains(OpenFlags::APPEND);
    if !from.flags().readable() || !to.flags().writable() || append {
        return Err(Errno::EBADF.into());
    }
    let different = from.inode().file_system().device() != to.inode().file_system().device();
    if different || from.inode().page_cache().is_none() {
        return Err(Errno::EXDEV.into());
    }
    if [&from, &to].iter().any(|file| file.inode().is_swap_file()) {
        return Err(Errno::ETXTBSY.into());
    }
    let len = args.raw(4).min(MAX_RW);
    let start = from_at.unwrap_or(from.position());
    let target = to_at.unwrap_or(to.position());
    if start.checked_add(len).is_none() || target.checked_add(len).is_none() {
        return Err(Errno::EOVERFLOW.into());
    }
    let same = std::sync::Arc::ptr_eq(from.inode(), to.inode());
    let len = len.min(from.inode().stat()?.size.saturating_sub(start));
    if same && start < target + len && target < start + len {
        return Err(Errno::EINVAL.into());
    }
    let mut source = End { file: &from, at: from_at };
    let mut sink = End { file: &to, at: to_at };
    let moved = pump(task, &mut source, &mut sink, len, false).await;
    write_offset(task, args.addr(1), source.at).await?;
    write_offset(task, args.addr(3), sink.at).await?;
    moved
}
