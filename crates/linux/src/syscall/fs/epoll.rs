//! epoll, eventfd, timerfd, and other files that calls of their own make.

use super::poll::deadline_arg;
use super::{block_until_return, file_arg, install, poll_mask, unblock_now};
use crate::fs::{
    Epoll, EventFd, Interest, Mode, OpenFile, OpenFlags, PollEvents, Ready, Take, TimerFd,
};
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::syscall::{Args, Entry, Support, SysError, SysResult, now, waits};
use crate::task::Task;
use crate::time::Nanos;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;

pub(super) const TABLE: &[Entry] = &[
    now(19, "eventfd2", Support::Full, sys_eventfd2),
    now(20, "epoll_create1", Support::Full, sys_epoll_create1),
    waits!(21, "epoll_ctl", Support::Full, sys_epoll_ctl),
    waits!(22, "epoll_pwait", Support::Full, sys_epoll_pwait),
    now(26, "inotify_init1", Support::Absent("as a kernel without inotify"), absent),
    now(27, "inotify_add_watch", Support::Absent("as a kernel without inotify"), absent),
    now(28, "inotify_rm_watch", Support::Absent("as a kernel without inotify"), absent),
    now(85, "timerfd_create", Support::Full, sys_timerfd_create),
    waits!(86, "timerfd_settime", Support::Full, sys_timerfd_settime),
    waits!(87, "timerfd_gettime", Support::Full, sys_timerfd_gettime),
    now(264, "name_to_handle_at", Support::Absent("file systems without handles"), no_handles),
    now(265, "open_by_handle_at", Support::Absent("file systems without handles"), no_handles),
    waits!(441, "epoll_pwait2", Support::Full, sys_epoll_pwait2),
];

fn absent(_task: &Rc<Task>, _args: Args) -> SysResult {
    Err(Errno::ENOSYS.into())
}

fn no_handles(_task: &Rc<Task>, _args: Args) -> SysResult {
    Err(Errno::EOPNOTSUPP.into())
}

fn sys_eventfd2(task: &Rc<Task>, args: Args) -> SysResult {
    const EFD_SEMAPHORE: u32 = 1;
    let flags = args.uint(1);
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    if flags & !(EFD_SEMAPHORE | allowed.bits()) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let take = if flags & EFD_SEMAPHORE != 0 { Take::One } else { Take::All };
    let flags = OpenFlags::from_bits_truncate(flags) & allowed;
    let vfs = task.kernel().vfs();
    let ops = EventFd::new(u64::from(args.uint(0)), take, vfs.next_event_id());
    let file = vfs.anonymous("[eventfd]", Box::new(ops), flags | OpenFlags::RDWR);
    Ok(install(task, file, flags)?)
}

fn sys_epoll_create1(task: &Rc<Task>, args: Args) -> SysResult {
    let flags = match args.uint(0) {
        0 => OpenFlags::empty(),
        bits if bits == OpenFlags::CLOEXEC.bits() => OpenFlags::CLOEXEC,
        _ => return Err(Errno::EINVAL.into()),
    };
    let ops = Box::new(Epoll::default());
    let file = task.kernel().vfs().anonymous("[eventpoll]", ops, flags | OpenFlags::RDWR);
    Ok(install(task, file, flags)?)
}

fn epoll_of(file: &OpenFile) -> Result<&Epoll, Errno> {
    file.ops_as::<Epoll>().ok_or(Errno::EINVAL)
}

async fn sys_epoll_ctl(task: &Rc<Task>, args: Args) -> SysResult {
    const ADD: i32 = 1;
    const DEL: i32 = 2;
    const MOD: i32 = 3;
    let operation = args.int(1);
    let mut raw = [0; 16];
    if operation != DEL {
        task.copy_in(args.addr(3), &mut raw).await?;
    }
    let events = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
    let data = raw[8..].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    let interest = Interest::new(events, data);
    let set = file_arg(task, args, 0)?;
    let file = file_arg(task, args, 2)?;
    if !file.ops().can_epoll() {
        return Err(Errno::EPERM.into());
    }
    if Rc::ptr_eq(&set, &file) {
        return Err(Errno::EINVAL.into());
    }
    let epoll = epoll_of(&set)?;
    if interest.mode.contains(Mode::EXCLUSIVE) {
        let allowed = PollEvents::ALWAYS | PollEvents::ERR | PollEvents::HUP;
        let nested = file.ops_as::<Epoll>().is_some();
        if operation == MOD || operation == ADD && (nested || !allowed.contains(interest.events)) {
            return Err(Errno::EINVAL.into());
        }
    }
    match operation {
        ADD => epoll.add(args.int(2), &file, interest)?,
        DEL => epoll.remove(args.int(2), &file)?,
        MOD => epoll.modify(args.int(2), &file, interest)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

async fn sys_epoll_pwait(task: &Rc<Task>, args: Args) -> SysResult {
    let deadline = match args.int(3) {
        wait if wait < 0 => None,
        0 => Some(0),
        millis => Some(task.kernel().now() + millis as u64 * 1_000_000),
    };
    epoll_wait(task, args, deadline).await
}

async fn sys_epoll_pwait2(task: &Rc<Task>, args: Args) -> SysResult {
    let deadline = deadline_arg(task, args.addr(3)).await?;
    epoll_wait(task, args, deadline).await
}

async fn epoll_wait(task: &Rc<Task>, args: Args, deadline: Option<Nanos>) -> SysResult {
    const EVENT_BYTES: usize = 16;
    let max = args.int(2);
    if max <= 0 || max as usize > i32::MAX as usize / EVENT_BYTES {
        return Err(Errno::EINVAL.into());
    }
    let mask = poll_mask(task, args.addr(4), args.raw(5)).await?;
    let file = file_arg(task, args, 0)?;
    let epoll = epoll_of(&file)?;
    block_until_return(task, mask);
    let answer = wait_events(task, epoll, max as usize, deadline).await;
    unblock_now(task, &answer);
    let events = answer?;
    let mut raw = Vec::with_capacity(events.len() * EVENT_BYTES);
    for event in &events {
        raw.extend_from_slice(&event.events.to_le_bytes());
        raw.extend_from_slice(&[0; 4]);
        raw.extend_from_slice(&event.data.to_le_bytes());
    }
    task.copy_out(args.addr(1), &raw).await?;
    Ok(events.len() as u64)
}

async fn wait_events(
    task: &Rc<Task>,
    epoll: &Epoll,
    max: usize,
    deadline: Option<Nanos>,
) -> Result<Vec<Ready>, SysError> {
    loop {
        let ready = epoll.take_ready(max);
        if !ready.is_empty() || deadline == Some(0) {
            return Ok(ready);
        }
        let mut set = WaitSet::new(task);
        for queue in epoll.queues() {
            set.add(&queue);
        }
        match set.wait(Sleep::Interruptible, deadline).await {
            Wake::Woken => {}
            Wake::TimedOut => return Ok(epoll.take_ready(max)),
            Wake::Interrupted => return Err(Errno::EINTR.into()),
        }
    }
}

const CLOCK_REALTIME: i32 = 0;

fn sys_timerfd_create(task: &Rc<Task>, args: Args) -> SysResult {
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    let flags = OpenFlags::from_bits(args.uint(1)).filter(|flags| allowed.contains(*flags));
    let flags = flags.ok_or(Errno::EINVAL)?;
    // REALTIME, MONOTONIC, BOOTTIME and their ALARM variants.
    if !matches!(args.int(0), 0 | 1 | 7..=9) {
        return Err(Errno::EINVAL.into());
    }
    let ops = TimerFd::new(task.kernel(), args.int(0));
    let file = task.kernel().vfs().anonymous("[timerfd]", Box::new(ops), flags | OpenFlags::RDWR);
    Ok(install(task, file, flags)?)
}

fn timer_of(file: &OpenFile) -> Result<&TimerFd, Errno> {
    file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)
}

fn word(raw: &[u8], at: usize) -> i64 {
    raw[at * 8..at * 8 + 8].iter().rev().fold(0, |v, b| v << 8 | i64::from(*b))
}

/// A `struct timespec` in `raw` at word `at`, in nanoseconds.
fn duration(raw: &[u8], at: usize) -> Result<Nanos, Errno> {
    let (seconds, nanos) = (word(raw, at), word(raw, at + 1));
    if seconds < 0 || !(0..1_000_000_000).contains(&nanos) {
        return Err(Errno::EINVAL);
    }
    Ok((seconds as u64).saturating_mul(1_000_000_000).saturating_add(nanos as u64))
}

fn itimerspec((interval, left): (Nanos, Nanos)) -> Vec<u8> {
    [interval, left]
        .into_iter()
        .flat_map(|time| [time / 1_000_000_000, time % 1_000_000_000])
        .flat_map(u64::to_le_bytes)
        .collect()
}

async fn sys_timerfd_settime(task: &Rc<Task>, args: Args) -> SysResult {
    const ABSTIME: u32 = 1;
    const CANCEL_ON_SET: u32 = 2;
    let mut raw = [0; 32];
    task.copy_in(args.addr(2), &mut raw).await?;
    if args.uint(1) & !(ABSTIME | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (interval, value) = (duration(&raw, 0)?, duration(&raw, 2)?);
    let file = file_arg(task, args, 0)?;
    let timer = timer_of(&file)?;
    let kernel = task.kernel();
    let old = timer.left(kernel);
    let deadline = match (value, args.uint(1) & ABSTIME) {
        (0, _) => None,
        (value, 0) => Some(kernel.now().saturating_add(value)),
        (value, _) if matches!(timer.clock(), CLOCK_REALTIME | 8) => {
            let ahead = value.saturating_sub(kernel.realtime());
            Some(kernel.now().saturating_add(ahead))
        }
        (value, _) => Some(value),
    };
    timer.set(kernel, deadline, interval);
    if args.addr(3) != VirtAddr::ZERO {
        task.copy_out(args.addr(3), &itimerspec(old)).await?;
    }
    Ok(0)
}

async fn sys_timerfd_gettime(task: &Rc<Task>, args: Args) -> SysResult {
    let file = file_arg(task, args, 0)?;
    let left = timer_of(&file)?.left(task.kernel());
    task.copy_out(args.addr(1), &itimerspec(left)).await?;
    Ok(0)
}
