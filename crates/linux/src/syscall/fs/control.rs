//! fcntl, ioctl, flock.

use super::{file_arg, nofile};
use crate::fs::{
    FdFlags, IoctlAnswer, IoctlCaller, IoctlRequest, Lock, LockKind, OpenFile, OpenFlags,
    PIPE_MAX_SIZE, PipeEnd, Space,
};
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::{Capability, Task};
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    waits!(25, "fcntl", Support::Partial("no leases, no directory notification"), sys_fcntl),
    waits!(29, "ioctl", Support::Partial("terminals, pipes and generic commands"), sys_ioctl),
    waits!(32, "flock", Support::Full, sys_flock),
];

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_DUPFD_QUERY: u32 = 1027;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

async fn sys_fcntl(task: &Rc<Task>, args: Args) -> SysResult {
    let (fd, command, argument) = (args.int(0), args.uint(1), args.raw(2));
    let files = task.files();
    let file = files.get_any(fd)?;
    let works_on_paths =
        matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL | F_DUPFD_QUERY);
    if file.is_path_only() && !works_on_paths {
        return Err(Errno::EBADF.into());
    }
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            if argument >= nofile(task) {
                return Err(Errno::EINVAL.into());
            }
            let cloexec = command == F_DUPFD_CLOEXEC;
            let flags = if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() };
            Ok(files.install_from(argument, file, flags, nofile(task))? as u64)
        }
        F_DUPFD_QUERY => {
            let other = files.get_any(argument as i32)?;
            Ok(u64::from(Rc::ptr_eq(&other, &file)))
        }
        F_GETFD => Ok(u64::from(files.flags(fd)?.bits())),
        F_SETFD => {
            files.set_flags(fd, FdFlags::from_bits_truncate(argument as u32))?;
            Ok(0)
        }
        F_GETFL => Ok(u64::from((file.flags() | OpenFlags::LARGEFILE).bits())),
        F_SETFL => {
            file.set_flags(OpenFlags::from_bits_truncate(argument as u32));
            Ok(0)
        }
        F_GETLK | F_OFD_GETLK => get_lock(task, &file, command, args.addr(2)).await,
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => {
            set_lock(task, &file, command, args.addr(2)).await
        }
        F_SETOWN => {
            file.set_owner(argument as i32);
            Ok(0)
        }
        F_GETOWN => Ok(i64::from(file.owner()) as u64),
        F_GETSIG => Ok(0),
        F_SETSIG if argument == 0 => Ok(0),
        F_GETPIPE_SZ => Ok(pipe_of(&file)?.fifo().capacity() as u64),
        F_SETPIPE_SZ => set_pipe_size(task, &file, argument),
        F_GET_SEALS => Ok(u64::from(file.seals().ok_or(Errno::EINVAL)?.get())),
        F_ADD_SEALS => {
            file.add_seals(argument as u32)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn pipe_of(file: &OpenFile) -> Result<&PipeEnd, Errno> {
    file.ops_as::<PipeEnd>().ok_or(Errno::EBADF)
}

fn set_pipe_size(task: &Task, file: &OpenFile, bytes: u64) -> SysResult {
    let pipe = pipe_of(file)?;
    let bytes = u64::from(bytes as u32) as usize;
    let privileged = task.creds().has_cap(Capability::SysResource);
    if bytes > PIPE_MAX_SIZE && bytes > pipe.fifo().capacity() && !privileged {
        return Err(Errno::EPERM.into());
    }
    Ok(pipe.fifo().set_capacity(&task.creds(), bytes)? as u64)
}

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

/// `struct flock` of a 64-bit machine.
struct Flock {
    kind: i16,
    start: u64,
    end: u64,
    pid: i32,
}

impl Flock {
    async fn read(task: &Rc<Task>, file: &OpenFile, addr: VirtAddr) -> Result<Self, Errno> {
        let mut raw = [0; 32];
        task.copy_in(addr, &mut raw).await?;
        let half = |at: usize| i16::from_le_bytes([raw[at], raw[at + 1]]);
        let word = |at: usize| {
            raw[at..at + 8].iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b)) as i64
        };
        let pid = word(24) as i32;
        let base = match half(2) {
            0 => 0,
            1 => file.position() as i64,
            2 => file.inode().stat()?.size as i64,
            _ => return Err(Errno::EINVAL),
        };
        let (offset, len) = (word(8), word(16));
        let mut start = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
        let end = if len > 0 {
            start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?
        } else if len < 0 {
            let end = start - 1;
            start = start.checked_add(len).ok_or(Errno::EINVAL)?;
            end
        } else {
            i64::MAX
        };
        if start < 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Self { kind: half(0), start: start as u64, end: end as u64, pid })
    }

    fn lock_kind(&self) -> Result<Option<LockKind>, Errno> {
        match self.kind {
            F_RDLCK => Ok(Some(LockKind::Read)),
            F_WRLCK => Ok(Some(LockKind::Write)),
            F_UNLCK => Ok(None),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The lock that `command` speaks of, for this caller.
fn wanted(
    task: &Task,
    file: &OpenFile,
    command: u32,
    flock: &Flock,
    kind: LockKind,
) -> Result<Lock, Errno> {
    let by_file = matches!(command, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
    if by_file && flock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let locks = Rc::clone(task.kernel().vfs().locks());
    let (owner, pid) = if by_file {
        (file.lock_owner(&locks), -1)
    } else {
        (task.files().owner(), task.tgid() as i32)
    };
    Ok(Lock { owner, pid, kind, start: flock.start, end: flock.end })
}

async fn get_lock(task: &Rc<Task>, file: &OpenFile, command: u32, addr: VirtAddr) -> SysResult {
    let flock = Flock::read(task, file, addr).await?;
    let kind = flock.lock_kind()?.ok_or(Errno::EINVAL)?;
    let lock = wanted(task, file, command, &flock, kind)?;
    let locks = Rc::clone(task.kernel().vfs().locks());
    match locks.conflict(file, Space::Record, &lock)? {
        None => task.copy_out(addr, &F_UNLCK.to_le_bytes()).await?,
        Some(other) => {
            let mut raw = [0; 32];
            let kind = if other.kind == LockKind::Read { F_RDLCK } else { F_WRLCK };
            raw[..2].copy_from_slice(&kind.to_le_bytes());
            raw[8..16].copy_from_slice(&other.start.to_le_bytes());
            let len = if other.end >= i64::MAX as u64 { 0 } else { other.end - other.start + 1 };
            raw[16..24].copy_from_slice(&len.to_le_bytes());
            raw[24..28].copy_from_slice(&other.pid.to_le_bytes());
            task.copy_out(addr, &raw).await?;
        }
    }
    Ok(0)
}

async fn set_lock(task: &Rc<Task>, file: &OpenFile, command: u32, addr: VirtAddr) -> SysResult {
    let flock = Flock::read(task, file, addr).await?;
    let kind = flock.lock_kind()?;
    match kind {
        Some(LockKind::Read) if !file.flags().readable() => return Err(Errno::EBADF.into()),
        Some(LockKind::Write) if !file.flags().writable() => return Err(Errno::EBADF.into()),
        _ => {}
    }
    let lock = wanted(task, file, command, &flock, kind.unwrap_or(LockKind::Read))?;
    let locks = Rc::clone(task.kernel().vfs().locks());
    if kind.is_none() {
        locks.clear(file, Space::Record, lock.owner, lock.start, lock.end)?;
        return Ok(0);
    }
    let waits = matches!(command, F_SETLKW | F_OFD_SETLKW);
    loop {
        match locks.set(file, Space::Record, lock) {
            Err(Errno::EAGAIN) if waits => {
                if locks.would_deadlock(file, &lock)? {
                    return Err(Errno::EDEADLK.into());
                }
                let waiting = locks.note_waiting(file, lock);
                let woken = locks.wait_queue().wait_interruptible(task).await;
                drop(waiting);
                woken?;
            }
            result => {
                result?;
                return Ok(0);
            }
        }
    }
}

async fn sys_flock(task: &Rc<Task>, args: Args) -> SysResult {
    const LOCK_NB: u32 = 4;
    let file = file_arg(task, args, 0)?;
    let operation = args.uint(1);
    let locks = Rc::clone(task.kernel().vfs().locks());
    let owner = file.lock_owner(&locks);
    let kind = match operation & !LOCK_NB {
        1 => LockKind::Read,
        2 => LockKind::Write,
        8 => {
            locks.clear(&file, Space::Whole, owner, 0, u64::MAX)?;
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let lock = Lock { owner, pid: task.tgid() as i32, kind, start: 0, end: u64::MAX };
    loop {
        match locks.set(&file, Space::Whole, lock) {
            Err(Errno::EAGAIN) if operation & LOCK_NB == 0 => {
                // As Linux: what was held before is given up while waiting.
                locks.clear(&file, Space::Whole, owner, 0, u64::MAX)?;
                locks.wait_queue().wait_interruptible(task).await?;
            }
            result => {
                result?;
                return Ok(0);
            }
        }
    }
}

const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIONBIO: u32 = 0x5421;
const FIOASYNC: u32 = 0x5452;
const FIONREAD: u32 = 0x541b;
const TCSETS: u32 = 0x5402;
const TCSETSF: u32 = 0x5404;
const TIOCSPGRP: u32 = 0x5410;
const TIOCSWINSZ: u32 = 0x5414;

/// How many bytes `command` reads where its argument points.
fn input_size(command: u32) -> usize {
    match command {
        FIONBIO | FIOASYNC | TIOCSPGRP => 4,
        TIOCSWINSZ => 8,
        TCSETS..=TCSETSF => 36,
        _ => 0,
    }
}

async fn sys_ioctl(task: &Rc<Task>, args: Args) -> SysResult {
    let fd = args.int(0);
    let file = file_arg(task, args, 0)?;
    let command = args.uint(1);
    match command {
        FIOCLEX | FIONCLEX => {
            let set = command == FIOCLEX;
            let flags = if set { FdFlags::CLOEXEC } else { FdFlags::empty() };
            task.files().set_flags(fd, flags)?;
            return Ok(0);
        }
        _ => {}
    }
    if let Some(answer) = super::userfaultfd::ioctl(task, &file, args) {
        return answer;
    }
    let mut input = vec![0; input_size(command)];
    task.copy_in(args.addr(2), &mut input).await?;
    match command {
        FIONBIO => {
            let on = input.iter().any(|byte| *byte != 0);
            let flags = file.flags() - OpenFlags::NONBLOCK;
            file.set_flags(if on { flags | OpenFlags::NONBLOCK } else { flags });
            return Ok(0);
        }
        FIONREAD if file.inode().page_cache().is_some() => {
            let left = file.inode().stat()?.size as i64 - file.position() as i64;
            task.copy_out(args.addr(2), &(left as i32).to_le_bytes()).await?;
            return Ok(0);
        }
        _ => {}
    }
    let ids = IoctlCaller {
        pid: task.tgid(),
        pgid: task.group().pgid.get(),
        sid: task.group().sid.get(),
    };
    let request = IoctlRequest { command, argument: args.raw(2), input: &input, caller: ids };
    match file.ops().ioctl(&file, request)? {
        IoctlAnswer::Value(value) => Ok(value),
        IoctlAnswer::Bytes(bytes) => {
            task.copy_out(args.addr(2), &bytes).await?;
            Ok(0)
        }
    }
}
