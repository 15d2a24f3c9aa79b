//! Calls on POSIX timers (Linux kernel/time/posix-timers.c).

use crate::signal::Signal;
use crate::syscall::time::{ClockId, Itimerspec};
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::{Resource, Task};
use crate::time::posix::{Notify, PosixTimer};
use kilburn_addr::Errno;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(107, "timer_create", Support::Full, sys_timer_create),
    waits!(108, "timer_gettime", Support::Full, sys_timer_gettime),
    now(109, "timer_getoverrun", Support::Full, sys_timer_getoverrun),
    waits!(110, "timer_settime", Support::Full, sys_timer_settime),
    now(111, "timer_delete", Support::Full, sys_timer_delete),
];

/// `TIMER_ABSTIME`
const TIMER_ABSTIME: i32 = 1;
/// `SIGEV_*`
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;

/// `struct sigevent` as far as the kernel looks: value; signal and kind; thread.
async fn read_notify(task: &Rc<Task>, args: Args) -> Result<Option<Notify>, Errno> {
    if args.raw(1) == 0 {
        return Ok(None);
    }
    let words: [u64; 8] = task.read_struct(args.addr(1)).await?;
    let (value, signal, kind) = (words[0], words[1] as i32, (words[1] >> 32) as i32);
    // good_sigevent
    let valid = || Signal::new(signal).ok_or(Errno::EINVAL);
    match kind {
        SIGEV_NONE => Ok(Some(Notify::Nothing)),
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(Some(Notify::Process(valid()?, value))),
        SIGEV_THREAD_ID => {
            let thread = task.kernel().task(words[2] as u32).ok_or(Errno::EINVAL)?;
            if !Rc::ptr_eq(thread.group(), task.group()) {
                return Err(Errno::EINVAL);
            }
            Ok(Some(Notify::Thread(Rc::downgrade(&thread), valid()?, value)))
        }
        _ => Err(Errno::EINVAL),
    }
}

async fn sys_timer_create(task: &Rc<Task>, args: Args) -> SysResult {
    let clock = ClockId(args.int(0));
    let cpu = clock.cpu_clock(task)?;
    if cpu.is_none() && !clock.can_wake() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let notify = read_notify(task, args).await?;
    let group = task.group();
    // Each timer holds a place in the queue of signals.
    if group.posix_timers.len() as u64 >= task.rlimit(Resource::Sigpending) {
        return Err(Errno::EAGAIN.into());
    }
    let timer = group
        .posix_timers
        .create(clock, cpu, |id| notify.unwrap_or(Notify::Process(Signal::SIGALRM, id as u64)));
    let told = task.copy_out(args.addr(2), &timer.id().to_le_bytes()).await;
    if let Err(errno) = told {
        group.delete_timer(task.kernel(), timer.id());
        return Err(errno.into());
    }
    Ok(0)
}

fn timer_arg(task: &Task, args: Args) -> Result<Rc<PosixTimer>, Errno> {
    task.group().posix_timers.get(args.int(0)).ok_or(Errno::EINVAL)
}

async fn sys_timer_gettime(task: &Rc<Task>, args: Args) -> SysResult {
    let left = timer_arg(task, args)?.left(task.kernel());
    task.write_struct(args.addr(1), &Itimerspec::from(left)).await?;
    Ok(0)
}

fn sys_timer_getoverrun(task: &Rc<Task>, args: Args) -> SysResult {
    Ok(timer_arg(task, args)?.overrun() as u64)
}

async fn sys_timer_settime(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(2) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let new: Itimerspec = task.read_struct(args.addr(2)).await?;
    let (interval, value) = new.to_nanos().ok_or(Errno::EINVAL)?;
    let timer = timer_arg(task, args)?;
    let kernel = task.kernel();
    let old = timer.left(kernel);
    let next = if args.int(1) & TIMER_ABSTIME != 0 {
        timer.clock().to_monotonic(kernel, value)
    } else {
        timer.now(kernel).saturating_add(value)
    };
    timer.set(kernel, task.group(), (value > 0).then_some(next), interval);
    if args.raw(3) != 0 {
        task.write_struct(args.addr(3), &Itimerspec::from(old)).await?;
    }
    Ok(0)
}

fn sys_timer_delete(task: &Rc<Task>, args: Args) -> SysResult {
    if task.group().delete_timer(task.kernel(), args.int(0)) {
        Ok(0)
    } else {
        Err(Errno::EINVAL.into())
    }
}
