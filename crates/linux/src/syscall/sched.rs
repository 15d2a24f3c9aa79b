//! Scheduling calls. The scheduler is round-robin for all: policies and priorities are kept and
//! given back.

use crate::syscall::time::Timespec;
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::{Capability, Resource, Task};
use kilburn_addr::Errno;
use std::rc::Rc;

/// Why priorities change nothing.
const ROUND_ROBIN: Support = Support::Partial("kept and given back; all tasks take turns");

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(118, "sched_setparam", ROUND_ROBIN, sys_sched_setparam),
    waits!(119, "sched_setscheduler", ROUND_ROBIN, sys_sched_setscheduler),
    now(120, "sched_getscheduler", Support::Full, sys_sched_getscheduler),
    waits!(121, "sched_getparam", Support::Full, sys_sched_getparam),
    waits!(122, "sched_setaffinity", Support::Full, sys_sched_setaffinity),
    waits!(123, "sched_getaffinity", Support::Full, sys_sched_getaffinity),
    waits!(124, "sched_yield", Support::Full, sys_sched_yield),
    now(125, "sched_get_priority_max", Support::Full, sys_priority_max),
    now(126, "sched_get_priority_min", Support::Full, sys_priority_min),
    waits!(127, "sched_rr_get_interval", Support::Full, sys_sched_rr_get_interval),
    now(140, "setpriority", ROUND_ROBIN, sys_setpriority),
    now(141, "getpriority", Support::Full, sys_getpriority),
    waits!(168, "getcpu", Support::Full, sys_getcpu),
];

fn target(task: &Rc<Task>, pid: i32) -> Result<Rc<Task>, Errno> {
    match pid {
        0 => Ok(Rc::clone(task)),
        pid if pid < 0 => Err(Errno::EINVAL),
        pid => task.kernel().task(pid.unsigned_abs()).ok_or(Errno::ESRCH),
    }
}

async fn sys_sched_yield(task: &Rc<Task>, _: Args) -> SysResult {
    task.give_way().await;
    Ok(0)
}

async fn sys_getcpu(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(0) != 0 {
        task.write_struct(args.addr(0), &(task.hart.get() as u32)).await?;
    }
    if args.raw(1) != 0 {
        task.write_struct(args.addr(1), &0_u32).await?;
    }
    Ok(0)
}

async fn sys_sched_getaffinity(task: &Rc<Task>, args: Args) -> SysResult {
    let len = args.uint(1) as usize;
    let harts = task.kernel().cpus.count();
    if len * 8 < harts || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    let target = target(task, args.int(0))?;
    let all = if harts >= 64 { u64::MAX } else { (1 << harts) - 1 };
    task.write_struct(args.addr(2), &(target.affinity.get() & all)).await?;
    Ok(8)
}

async fn sys_sched_setaffinity(task: &Rc<Task>, args: Args) -> SysResult {
    let mut mask = [0; 8];
    let len = (args.uint(1) as usize).min(8);
    task.copy_in(args.addr(2), &mut mask[..len]).await?;
    let target = target(task, args.int(0))?;
    let harts = task.kernel().cpus.count();
    let all = if harts >= 64 { u64::MAX } else { (1 << harts) - 1 };
    let mask = u64::from_le_bytes(mask) & all;
    if mask == 0 {
        return Err(Errno::EINVAL.into());
    }
    target.affinity.set(mask);
    Ok(0)
}

const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const RESET_ON_FORK: u32 = 0x4000_0000;

/// Checks policy and priority as `__sched_setscheduler` does.
fn check_policy(task: &Task, policy: u32, priority: i32) -> Result<(), Errno> {
    match policy {
        0 | 3 | 5 if priority == 0 => Ok(()),
        SCHED_FIFO | SCHED_RR if (1..=99).contains(&priority) => {
            let allowed = task.creds().has_cap(Capability::SysNice)
                || task.rlimit(Resource::Rtprio) >= priority as u64;
            if allowed { Ok(()) } else { Err(Errno::EPERM) }
        }
        _ => Err(Errno::EINVAL),
    }
}

async fn sys_sched_setscheduler(task: &Rc<Task>, args: Args) -> SysResult {
    if args.int(1) < 0 || args.raw(2) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority: i32 = task.read_struct(args.addr(2)).await?;
    let target = target(task, args.int(0))?;
    check_policy(task, args.uint(1) & !RESET_ON_FORK, priority)?;
    target.policy.set(args.uint(1));
    target.rt_priority.set(priority);
    Ok(0)
}

async fn sys_sched_setparam(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(1) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority: i32 = task.read_struct(args.addr(1)).await?;
    let target = target(task, args.int(0))?;
    check_policy(task, target.policy.get() & !RESET_ON_FORK, priority)?;
    target.rt_priority.set(priority);
    Ok(0)
}

fn sys_sched_getscheduler(task: &Rc<Task>, args: Args) -> SysResult {
    Ok(target(task, args.int(0))?.policy.get().into())
}

async fn sys_sched_getparam(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(1) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = target(task, args.int(0))?;
    task.write_struct(args.addr(1), &target.rt_priority.get()).await?;
    Ok(0)
}

fn sys_priority_max(_: &Rc<Task>, args: Args) -> SysResult {
    match args.int(0) {
        1 | 2 => Ok(99),
        0 | 3 | 5 | 6 | 7 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn sys_priority_min(_: &Rc<Task>, args: Args) -> SysResult {
    match args.int(0) {
        1 | 2 => Ok(1),
        0 | 3 | 5 | 6 | 7 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

async fn sys_sched_rr_get_interval(task: &Rc<Task>, args: Args) -> SysResult {
    let target = target(task, args.int(0))?;
    let interval = match target.policy.get() {
        // RR_TIMESLICE
        SCHED_RR => 100_000_000,
        SCHED_FIFO => 0,
        // What a lone fair task gets.
        _ => 2_800_000,
    };
    task.write_struct(args.addr(1), &Timespec::from_nanos(interval)).await?;
    Ok(0)
}

/// The tasks `which` and `who` name (`PRIO_PROCESS`, `PRIO_PGRP`, `PRIO_USER`).
fn priority_targets(task: &Rc<Task>, args: Args) -> Result<Vec<Rc<Task>>, Errno> {
    let kernel = task.kernel();
    let who = args.uint(1);
    let found: Vec<Rc<Task>> = match args.int(0) {
        0 if who == 0 => vec![Rc::clone(task)],
        0 => kernel.task(who).into_iter().collect(),
        1 => {
            let pgid = if who == 0 { task.group().pgid.get() } else { who };
            kernel.process_group(pgid).iter().flat_map(|group| group.living()).collect()
        }
        2 => {
            let uid = if who == 0 { task.creds().uid } else { who };
            kernel.all_tasks().into_iter().filter(|other| other.creds().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

fn sys_setpriority(task: &Rc<Task>, args: Args) -> SysResult {
    let nice = args.int(2).clamp(-20, 19);
    for target in priority_targets(task, args)? {
        if nice < target.nice.get() {
            let floor = 20 - task.rlimit(Resource::Nice).min(40) as i32;
            if nice < floor && !task.creds().has_cap(Capability::SysNice) {
                return Err(Errno::EACCES.into());
            }
        }
        target.nice.set(nice);
    }
    Ok(0)
}

fn sys_getpriority(task: &Rc<Task>, args: Args) -> SysResult {
    // 20 - nice, so that the answer is never negative; the highest of all.
    let best = priority_targets(task, args)?.iter().map(|t| 20 - t.nice.get()).max();
    Ok(best.unwrap_or(20) as u64)
}
