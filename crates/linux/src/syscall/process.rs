//! Calls that make, end, replace and wait for processes.

use crate::exec::ExecPath;
use crate::exec::stack::{STRING_MAX, STRINGS_MAX};
use crate::report::ExitStatus;
use crate::signal::info::{Payload, SIGINFO_BYTES, SigInfo};
use crate::signal::{SigSet, Signal};
use crate::syscall::time::Timeval;
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::clone::{CloneArgs, CloneFlags};
use crate::task::group::Totals;
use crate::task::pidfd::PidFd;
use crate::task::wait::{WaitOptions, Which};
use crate::task::{Task, Tid};
use crate::time::to_clock_ticks;
use kilburn_addr::{Errno, VirtAddr};
use std::rc::Rc;
use zerocopy::{Immutable, IntoBytes};

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    now(93, "exit", Support::Full, sys_exit),
    now(94, "exit_group", Support::Full, sys_exit_group),
    waits!(95, "waitid", Support::Full, sys_waitid),
    now(96, "set_tid_address", Support::Full, sys_set_tid_address),
    now(99, "set_robust_list", Support::Full, sys_set_robust_list),
    waits!(100, "get_robust_list", Support::Full, sys_get_robust_list),
    waits!(153, "times", Support::Full, sys_times),
    waits!(165, "getrusage", Support::Full, sys_getrusage),
    waits!(220, "clone", Support::Partial("no namespaces: EINVAL"), sys_clone),
    waits!(221, "execve", Support::Full, sys_execve),
    waits!(260, "wait4", Support::Full, sys_wait4),
    waits!(281, "execveat", Support::Full, sys_execveat),
    waits!(293, "rseq", Support::Full, sys_rseq),
    waits!(435, "clone3", Support::Partial("no namespaces, no set_tid: EINVAL"), sys_clone3),
];

fn sys_exit(task: &Rc<Task>, args: Args) -> SysResult {
    task.exiting.set(Some(ExitStatus::Exited(args.int(0) as u8)));
    Ok(0)
}

fn sys_exit_group(task: &Rc<Task>, args: Args) -> SysResult {
    let status = ExitStatus::Exited(args.int(0) as u8);
    task.group().kill_all(status);
    task.exiting.set(task.group().group_exit.get());
    Ok(0)
}

fn sys_set_tid_address(task: &Rc<Task>, args: Args) -> SysResult {
    task.clear_child_tid.set(args.addr(0));
    Ok(task.tid().into())
}

/// `sizeof(struct robust_list_head)`
const ROBUST_HEAD_BYTES: u64 = 24;

fn sys_set_robust_list(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(1) != ROBUST_HEAD_BYTES {
        return Err(Errno::EINVAL.into());
    }
    task.robust_list.set(args.addr(0));
    Ok(0)
}

async fn sys_get_robust_list(task: &Rc<Task>, args: Args) -> SysResult {
    let target = match args.int(0) {
        0 => Rc::clone(task),
        pid => task.kernel().task(pid as Tid).ok_or(Errno::ESRCH)?,
    };
    task.write_struct(args.addr(2), &ROBUST_HEAD_BYTES).await?;
    task.write_struct(args.addr(1), &target.robust_list.get().get()).await?;
    Ok(0)
}

async fn sys_rseq(task: &Rc<Task>, args: Args) -> SysResult {
    task.register_rseq(args.addr(0), args.uint(1), args.int(2), args.uint(3)).await?;
    Ok(0)
}

async fn sys_clone(task: &Rc<Task>, args: Args) -> SysResult {
    // clone(flags, stack, parent_tid, tls, child_tid): CLONE_BACKWARDS.
    let flags = args.raw(0) & 0xffff_ffff;
    let clone_args = CloneArgs {
        flags: CloneFlags::from_bits_retain(flags & !0xff),
        exit_signal: Signal::new((flags & 0xff) as i32),
        stack: args.raw(1),
        parent_tid: args.addr(2),
        // clone has one place for both; clone_task refuses to be asked for both.
        pidfd: args.addr(2),
        tls: args.raw(3),
        child_tid: args.addr(4),
        cgroup: None,
    };
    let both = CloneFlags::PIDFD | CloneFlags::PARENT_SETTID;
    if clone_args.flags.contains(both)
        || clone_args.flags.contains(CloneFlags::PIDFD | CloneFlags::DETACHED)
    {
        return Err(Errno::EINVAL.into());
    }
    Ok(task.clone_task(clone_args).await?.into())
}

/// First and last published size of `struct clone_args`.
const CLONE_ARGS_SIZE_VER0: usize = 64;
const CLONE_ARGS_SIZE: usize = 88;

async fn sys_clone3(task: &Rc<Task>, args: Args) -> SysResult {
    let size = usize::try_from(args.raw(1)).map_err(|_| Errno::E2BIG)?;
    if size > 4096 {
        return Err(Errno::E2BIG.into());
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = vec![0; size.max(CLONE_ARGS_SIZE)];
    task.copy_in(args.addr(0), &mut bytes[..size]).await?;
    // Fields of a later kernel must be zero.
    if bytes[CLONE_ARGS_SIZE..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG.into());
    }
    let word = |i: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
        u64::from_le_bytes(word)
    };
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        cgroup,
    ] = std::array::from_fn(word);
    // kernel/fork.c: clone3_args_valid.
    let known = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let threadlike = known.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    if known.contains(CloneFlags::DETACHED)
        || exit_signal > u64::from(Signal::MAX)
        || threadlike && exit_signal != 0
        || (stack == 0) != (stack_size == 0)
    {
        return Err(Errno::EINVAL.into());
    }
    let cgroup = if known.contains(CloneFlags::INTO_CGROUP) {
        // What is given is that long from version 2 of the structure on.
        let cgroup = i32::try_from(cgroup).ok().filter(|_| size >= CLONE_ARGS_SIZE);
        Some(cgroup.ok_or(Errno::EINVAL)?)
    } else {
        None
    };
    // DIVERGENCE(clone3-set-tid-absent): choosing the id of the child is for checkpointing.
    if set_tid != 0 || set_tid_size != 0 {
        return Err(Errno::EINVAL.into());
    }
    let clone_args = CloneArgs {
        flags: known,
        exit_signal: Signal::new(exit_signal as i32),
        stack: stack.wrapping_add(stack_size),
        parent_tid: VirtAddr::new(parent_tid),
        pidfd: VirtAddr::new(pidfd),
        child_tid: VirtAddr::new(child_tid),
        tls,
        cgroup,
    };
    Ok(task.clone_task(clone_args).await?.into())
}

async fn read_strings(task: &Rc<Task>, vector: VirtAddr) -> Result<Vec<Vec<u8>>, Errno> {
    let mut strings = Vec::new();
    let mut total = 0;
    let mut at = vector;
    if vector == VirtAddr::ZERO {
        // A null vector is an empty one.
        return Ok(strings);
    }
    loop {
        let pointer: u64 = task.read_struct(at).await?;
        if pointer == 0 {
            break;
        }
        let string = task
            .read_cstr(VirtAddr::new(pointer), STRING_MAX)
            .await
            .map_err(|e| if e == Errno::ENAMETOOLONG { Errno::E2BIG } else { e })?;
        total += string.len() + 1;
        // Far above what Strings::check lets pass: keeps a hostile vector from taking the host's
        // memory.
        if strings.len() >= STRINGS_MAX || total + strings.len() * 8 > 8 << 20 {
            return Err(Errno::E2BIG);
        }
        strings.push(string);
        at = at.checked_add(8).ok_or(Errno::EFAULT)?;
    }
    Ok(strings)
}

async fn exec(task: &Rc<Task>, path: ExecPath, argv: VirtAddr, envp: VirtAddr) -> SysResult {
    let argv = read_strings(task, argv).await?;
    let envp = read_strings(task, envp).await?;
    match task.exec(path, argv, envp).await {
        Ok(()) => Ok(0),
        Err(error) => Err(error.errno.into()),
    }
}

async fn sys_execve(task: &Rc<Task>, args: Args) -> SysResult {
    let path = task.read_path(args.addr(0)).await?;
    exec(task, ExecPath::at_cwd(path), args.addr(1), args.addr(2)).await
}

async fn sys_execveat(task: &Rc<Task>, args: Args) -> SysResult {
    let path = task.read_path(args.addr(1)).await?;
    let path = ExecPath::at(args.int(0), path, args.int(4))?;
    exec(task, path, args.addr(2), args.addr(3)).await
}

/// `struct rusage`
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Rusage {
    utime: Timeval,
    stime: Timeval,
    maxrss: i64,
    ixrss: i64,
    idrss: i64,
    isrss: i64,
    minflt: i64,
    majflt: i64,
    nswap: i64,
    inblock: i64,
    oublock: i64,
    msgsnd: i64,
    msgrcv: i64,
    nsignals: i64,
    nvcsw: i64,
    nivcsw: i64,
}

impl From<Totals> for Rusage {
    fn from(totals: Totals) -> Self {
        Self {
            utime: Timeval::from_nanos(totals.user),
            stime: Timeval::from_nanos(totals.system),
            maxrss: totals.max_rss_kib as i64,
            ixrss: 0,
            idrss: 0,
            isrss: 0,
            minflt: totals.minor_faults as i64,
            majflt: totals.major_faults as i64,
            nswap: 0,
            inblock: 0,
            oublock: 0,
            msgsnd: 0,
            msgrcv: 0,
            nsignals: 0,
            nvcsw: totals.voluntary_switches as i64,
            nivcsw: totals.involuntary_switches as i64,
        }
    }
}

async fn sys_getrusage(task: &Rc<Task>, args: Args) -> SysResult {
    let totals = match args.int(0) {
        0 => task.group().totals(),
        -1 => task.group().waited.get(),
        1 => Totals { max_rss_kib: task.group().totals().max_rss_kib, ..Totals::of(task) },
        _ => return Err(Errno::EINVAL.into()),
    };
    task.write_struct(args.addr(1), &Rusage::from(totals)).await?;
    Ok(0)
}

async fn sys_times(task: &Rc<Task>, args: Args) -> SysResult {
    let own = task.group().totals();
    let waited = task.group().waited.get();
    if args.raw(0) != 0 {
        let ticks = [own.user, own.system, waited.user, waited.system].map(to_clock_ticks);
        task.write_struct(args.addr(0), &ticks).await?;
    }
    Ok(to_clock_ticks(task.kernel().now()) as u64)
}

async fn sys_wait4(task: &Rc<Task>, args: Args) -> SysResult {
    let allowed = WaitOptions::NOHANG
        | WaitOptions::STOPPED
        | WaitOptions::CONTINUED
        | WaitOptions::NOTHREAD
        | WaitOptions::CLONE
        | WaitOptions::ALL;
    let options = WaitOptions::from_bits(args.uint(2))
        .filter(|options| allowed.contains(*options))
        .ok_or(Errno::EINVAL)?;
    let which = match args.int(0) {
        i32::MIN => return Err(Errno::ESRCH.into()),
        -1 => Which::Any,
        0 => Which::Group(task.group().pgid.get()),
        pid if pid < 0 => Which::Group(pid.unsigned_abs()),
        pid => Which::Process(pid.unsigned_abs()),
    };
    let Some(found) = task.wait_for_child(which, options | WaitOptions::EXITED).await? else {
        return Ok(0);
    };
    if args.raw(1) != 0 {
        task.write_struct(args.addr(1), &found.wait_status).await?;
    }
    if args.raw(3) != 0 {
        task.write_struct(args.addr(3), &Rusage::from(found.usage)).await?;
    }
    Ok(found.pid.into())
}

async fn sys_waitid(task: &Rc<Task>, args: Args) -> SysResult {
    let allowed = WaitOptions::all();
    let options = WaitOptions::from_bits(args.uint(3))
        .filter(|options| allowed.contains(*options))
        .ok_or(Errno::EINVAL)?;
    let wanted = WaitOptions::EXITED | WaitOptions::STOPPED | WaitOptions::CONTINUED;
    if !options.intersects(wanted) {
        return Err(Errno::EINVAL.into());
    }
    let id = args.int(1);
    let pidfd;
    let mut only_try = options;
    let which = match args.int(0) {
        0 => Which::Any,
        1 if id > 0 => Which::Process(id.unsigned_abs()),
        2 if id >= 0 => {
            Which::Group(if id == 0 { task.group().pgid.get() } else { id.unsigned_abs() })
        }
        3 if id >= 0 => {
            pidfd = task.files().get(id)?;
            if pidfd.is_nonblocking() {
                only_try |= WaitOptions::NOHANG;
            }
            Which::Exactly(PidFd::of(&pidfd)?.group())
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let found = task.wait_for_child(which, only_try).await?;
    if found.is_none() && only_try != options {
        // A pidfd opened with PIDFD_NONBLOCK.
        return Err(Errno::EAGAIN.into());
    }
    if let Some(found) = &found
        && args.raw(4) != 0
    {
        task.write_struct(args.addr(4), &Rusage::from(found.usage)).await?;
    }
    if args.raw(2) != 0 {
        let mut info = [0; SIGINFO_BYTES];
        if let Some(found) = found {
            let payload = Payload::Child {
                pid: found.pid,
                uid: found.uid,
                status: found.status,
                utime: 0,
                stime: 0,
            };
            info = SigInfo { signal: Signal::SIGCHLD, code: found.code, payload }.to_bytes();
        }
        // Linux writes the fields of the union it knows, not the whole structure.
        task.copy_out(args.addr(2), &info[..28]).await?;
    }
    Ok(0)
}

/// Reads a `sigset_t` of the size the caller states.
///
/// # Errors
/// EINVAL for another size than 8, EFAULT.
pub(crate) async fn read_sigset(
    task: &Rc<Task>,
    addr: VirtAddr,
    size: u64,
) -> Result<SigSet, Errno> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    Ok(SigSet::from_bits(task.read_struct(addr).await?))
}
