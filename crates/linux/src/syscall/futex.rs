//! The futex call (Linux kernel/futex/syscalls.c).

use crate::futex::pi::{self, Patience, Word};
use crate::futex::{Expectation, MATCH_ANY, WakeOp, wait, wait_any};
use crate::sched::{Restart, SysError};
use crate::syscall::time::{ClockId, Timespec};
use crate::syscall::{Args, Entry, Support, SysFuture, SysResult, waits};
use crate::task::Task;
use crate::time::Nanos;
use kilburn_addr::Errno;
use kilburn_mm::FutexScope;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(98, "futex", Support::Partial("priorities are not inherited"), sys_futex),
    waits!(449, "futex_waitv", Support::Full, sys_futex_waitv),
];

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;
const WAIT_REQUEUE_PI: u32 = 11;
const CMP_REQUEUE_PI: u32 = 12;
const LOCK_PI2: u32 = 13;
const PRIVATE_FLAG: u32 = 128;
const CLOCK_REALTIME: u32 = 256;

async fn sys_futex(task: &Rc<Task>, args: Args) -> SysResult {
    let op = args.uint(1);
    let command = op & !(PRIVATE_FLAG | CLOCK_REALTIME);
    let scope = if op & PRIVATE_FLAG != 0 { FutexScope::Private } else { FutexScope::Shared };
    let deadline = deadline(task, args, command, op).await?;
    let may_be_realtime = matches!(command, WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2);
    if op & CLOCK_REALTIME != 0 && !may_be_realtime {
        return Err(Errno::ENOSYS.into());
    }
    let word = |argument| Word { addr: args.addr(argument), scope };
    let locked = |result: Result<(), SysError>| result.map(|()| 0);
    match command {
        WAIT | WAIT_BITSET => {
            let bitset = if command == WAIT { MATCH_ANY } else { args.uint(5) };
            let what = Expectation { addr: args.addr(0), scope, value: args.uint(2), bitset };
            wait_for(task, what, deadline, command).await
        }
        WAKE | WAKE_BITSET => {
            let bitset = if command == WAKE { MATCH_ANY } else { args.uint(5) };
            if bitset == 0 {
                return Err(Errno::EINVAL.into());
            }
            let key = key(task, args.raw(0), scope)?;
            // Linux wakes one when asked for none.
            let count = args.int(2).max(1) as u32;
            Ok(task.kernel().futexes().wake(key, count, bitset)?.into())
        }
        REQUEUE | CMP_REQUEUE => requeue(task, args, scope, command),
        WAKE_OP => wake_op(task, args, scope),
        LOCK_PI | LOCK_PI2 => locked(pi::lock(task, word(0), Patience::Wait(deadline)).await),
        TRYLOCK_PI => locked(pi::lock(task, word(0), Patience::None).await),
        UNLOCK_PI => locked(pi::unlock(task, word(0)).await.map_err(SysError::from)),
        WAIT_REQUEUE_PI => {
            let value = args.uint(2);
            locked(pi::wait_requeue(task, word(0), value, word(4), deadline).await)
        }
        CMP_REQUEUE_PI => requeue_pi(task, args, scope),
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn key(task: &Task, addr: u64, scope: FutexScope) -> Result<kilburn_mm::FutexKey, Errno> {
    let mm = task.mm().ok_or(Errno::EFAULT)?;
    mm.futex_key(&task.caller(), kilburn_addr::VirtAddr::new(addr), scope)
}

/// The moment a wait ends: relative for WAIT, absolute for the others, LOCK_PI always by the
/// real-time clock.
async fn deadline(
    task: &Rc<Task>,
    args: Args,
    command: u32,
    op: u32,
) -> Result<Option<Nanos>, Errno> {
    let waits = matches!(command, WAIT | WAIT_BITSET | LOCK_PI | LOCK_PI2 | WAIT_REQUEUE_PI);
    if args.raw(3) == 0 || !waits {
        return Ok(None);
    }
    let time: Timespec = task.read_struct(args.addr(3)).await?;
    let time = time.to_nanos().ok_or(Errno::EINVAL)?;
    let kernel = task.kernel();
    Ok(Some(if command == WAIT {
        kernel.now().saturating_add(time)
    } else if op & CLOCK_REALTIME != 0 || command == LOCK_PI {
        ClockId::REALTIME.to_monotonic(kernel, time)
    } else {
        time
    }))
}

async fn wait_for(
    task: &Rc<Task>,
    what: Expectation,
    deadline: Option<Nanos>,
    command: u32,
) -> SysResult {
    match wait(task, what, deadline).await {
        Ok(()) => Ok(0),
        Err(SysError::Restart(Restart::Sys)) if deadline.is_some() => {
            // The remaining time must not start anew: goes on with the same deadline.
            task.set_restart(Box::new(move |task| -> SysFuture<'_> {
                Box::pin(wait_for(task, what, deadline, command))
            }));
            Err(SysError::Restart(Restart::Block))
        }
        Err(error) => Err(error),
    }
}

fn requeue(task: &Rc<Task>, args: Args, scope: FutexScope, command: u32) -> SysResult {
    let (wake, move_on) = (args.int(2), args.raw(3) as i32);
    if wake < 0 || move_on < 0 {
        return Err(Errno::EINVAL.into());
    }
    let from = key(task, args.raw(0), scope)?;
    let to = key(task, args.raw(4), scope)?;
    if command == CMP_REQUEUE {
        let mm = task.mm().ok_or(Errno::EFAULT)?;
        let found = mm.load_u32(&task.caller(), args.addr(0)).map_err(|_| Errno::EFAULT)?;
        if found != args.uint(5) {
            return Err(Errno::EAGAIN.into());
        }
    }
    // Linux answers woken plus moved in both cases since 2.6.
    Ok(task.kernel().futexes().requeue(from, to, wake as u32, move_on as u32)?.into())
}

fn requeue_pi(task: &Rc<Task>, args: Args, scope: FutexScope) -> SysResult {
    let (wake, move_on) = (args.int(2), args.raw(3) as i32);
    if move_on < 0 || args.raw(0) == args.raw(4) || wake != 1 {
        return Err(Errno::EINVAL.into());
    }
    let [from, to] = [0, 4].map(|argument| Word { addr: args.addr(argument), scope });
    Ok(pi::requeue(task, from, args.uint(5), to, move_on as u32)?.into())
}

fn wake_op(task: &Rc<Task>, args: Args, scope: FutexScope) -> SysResult {
    let first = key(task, args.raw(0), scope)?;
    let second = key(task, args.raw(4), scope)?;
    let mm = task.mm().ok_or(Errno::EFAULT)?;
    let wake_second = WakeOp(args.uint(5)).perform(&mm, task, args.addr(4))?;
    let futexes = task.kernel().futexes();
    let mut woken = futexes.wake(first, args.int(2).max(1) as u32, MATCH_ANY)?;
    if wake_second {
        woken += futexes.wake(second, (args.raw(3) as i32).max(1) as u32, MATCH_ANY)?;
    }
    Ok(woken.into())
}

/// Most words one futex_waitv waits for (`FUTEX_WAITV_MAX`).
const WAITV_MAX: u32 = 128;
/// `FUTEX2_SIZE_U32`, the only size there is.
const SIZE_U32: u32 = 2;

async fn sys_futex_waitv(task: &Rc<Task>, args: Args) -> SysResult {
    let count = args.uint(1);
    if args.uint(2) != 0 || args.raw(0) == 0 || !(1..=WAITV_MAX).contains(&count) {
        return Err(Errno::EINVAL.into());
    }
    let deadline = match args.raw(3) {
        0 => None,
        _ => {
            let clock = ClockId(args.int(4));
            if clock != ClockId::REALTIME && clock != ClockId::MONOTONIC {
                return Err(Errno::EINVAL.into());
            }
            let time: Timespec = task.read_struct(args.addr(3)).await?;
            let time = time.to_nanos().ok_or(Errno::EINVAL)?;
            Some(clock.to_monotonic(task.kernel(), time))
        }
    };
    let mut words = Vec::new();
    for i in 0..u64::from(count) {
        // struct futex_waitv { val, uaddr, flags + reserved }
        let at = args.addr(0).checked_add(i * 24).ok_or(Errno::EFAULT)?;
        let [value, addr, flags]: [u64; 3] = task.read_struct(at).await?;
        // The reserved upper half must be zero, too.
        if flags & !u64::from(SIZE_U32 | PRIVATE_FLAG) != 0 || flags & 3 != u64::from(SIZE_U32) {
            return Err(Errno::EINVAL.into());
        }
        if value > u64::from(u32::MAX) {
            return Err(Errno::EINVAL.into());
        }
        let private = flags & u64::from(PRIVATE_FLAG) != 0;
        words.push(Expectation {
            addr: kilburn_addr::VirtAddr::new(addr),
            scope: if private { FutexScope::Private } else { FutexScope::Shared },
            value: value as u32,
            bitset: MATCH_ANY,
        });
    }
    Ok(wait_any(task, &words, deadline).await? as u64)
}
