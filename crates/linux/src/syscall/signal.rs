//! Calls about signals.

use crate::fs::{FdFlags, OpenFlags, SignalFd};
use crate::sched::SysError;
use crate::sched::wait::{Sleep, WaitSet, Wake};
use crate::signal::action::{SIG_IGN, SaFlags, SigAction};
use crate::signal::info::{Payload, SIGINFO_BYTES, SigInfo, code};
use crate::signal::send::send_to_all;
use crate::signal::{SigSet, Signal};
use crate::syscall::process::read_sigset;
use crate::syscall::time::Timespec;
use crate::syscall::{Args, Entry, Support, SysResult, waits};
use crate::task::{AltStack, Capability, Resource, Task, ThreadGroup, Tid};
use kilburn_addr::Errno;
use kilburn_riscv::Regs;
use std::rc::Rc;

/// The calls implemented here. `rt_sigreturn` is made by the loop itself: it sets all registers.
pub(crate) const TABLE: &[Entry] = &[
    waits!(74, "signalfd4", Support::Full, sys_signalfd4),
    waits!(128, "restart_syscall", Support::Full, sys_restart_syscall),
    waits!(129, "kill", Support::Full, sys_kill),
    waits!(130, "tkill", Support::Full, sys_tkill),
    waits!(131, "tgkill", Support::Full, sys_tgkill),
    waits!(132, "sigaltstack", Support::Full, sys_sigaltstack),
    waits!(133, "rt_sigsuspend", Support::Full, sys_rt_sigsuspend),
    waits!(134, "rt_sigaction", Support::Full, sys_rt_sigaction),
    waits!(135, "rt_sigprocmask", Support::Full, sys_rt_sigprocmask),
    waits!(136, "rt_sigpending", Support::Full, sys_rt_sigpending),
    waits!(137, "rt_sigtimedwait", Support::Full, sys_rt_sigtimedwait),
    waits!(138, "rt_sigqueueinfo", Support::Full, sys_rt_sigqueueinfo),
    waits!(139, "rt_sigreturn", Support::Full, sys_rt_sigreturn),
    waits!(240, "rt_tgsigqueueinfo", Support::Full, sys_rt_tgsigqueueinfo),
];

async fn sys_rt_sigreturn(task: &Rc<Task>, _: Args) -> SysResult {
    task.pop_frame().await;
    Ok(0)
}

async fn sys_restart_syscall(task: &Rc<Task>, _: Args) -> SysResult {
    let restart = task.restart.take();
    match restart {
        Some(restart) => restart(task).await,
        None => Err(Errno::EINTR.into()),
    }
}

/// A signal number argument; 0 only checks.
pub(super) fn signal_argument(number: i32) -> Result<Option<Signal>, Errno> {
    if number == 0 { Ok(None) } else { Signal::new(number).map(Some).ok_or(Errno::EINVAL) }
}

/// Whether `task` may signal `target` (Linux `kill_ok_by_cred`, `check_kill_permission`).
pub(super) fn may_signal(task: &Task, target: &ThreadGroup, signal: Option<Signal>) -> bool {
    let Some(thread) = target.first_thread() else { return true };
    let (own, other) = (task.creds(), thread.creds());
    own.has_cap(Capability::Kill)
        || [own.euid, own.uid].iter().any(|id| *id == other.suid || *id == other.uid)
        || signal == Some(Signal::SIGCONT) && task.group().sid == target.sid
}

pub(super) fn sender(task: &Task, signal: Signal, code: i32) -> SigInfo {
    let payload = Payload::Sender { pid: task.tgid(), uid: task.creds().uid };
    SigInfo { signal, code, payload }
}

async fn sys_kill(task: &Rc<Task>, args: Args) -> SysResult {
    let (pid, number) = (args.int(0), args.int(1));
    let kernel = task.kernel();
    let targets = match pid {
        i32::MIN => return Err(Errno::ESRCH.into()),
        0 => kernel.process_group(task.group().pgid.get()),
        -1 => {
            let mut all = kernel.all_groups();
            all.retain(|group| group.tgid() > 1 && !Rc::ptr_eq(group, task.group()));
            all
        }
        pid if pid < 0 => kernel.process_group(pid.unsigned_abs()),
        pid => kernel.group(pid.unsigned_abs()).into_iter().collect(),
    };
    let signal = signal_argument(number)?;
    if targets.is_empty() {
        // A thread's id names its process, too.
        let by_thread = (pid > 0).then(|| kernel.task(pid.unsigned_abs())).flatten();
        let Some(thread) = by_thread else { return Err(Errno::ESRCH.into()) };
        return kill_groups(task, &[Rc::clone(thread.group())], signal);
    }
    kill_groups(task, &targets, signal)
}

fn kill_groups(task: &Rc<Task>, targets: &[Rc<ThreadGroup>], signal: Option<Signal>) -> SysResult {
    let permitted: Vec<_> =
        targets.iter().filter(|target| may_signal(task, target, signal)).cloned().collect();
    if permitted.is_empty() {
        return Err(Errno::EPERM.into());
    }
    if let Some(signal) = signal {
        send_to_all(&permitted, sender(task, signal, code::SI_USER))?;
    }
    Ok(0)
}

fn send_to_thread(
    task: &Rc<Task>,
    tgid: Option<Tid>,
    tid: Tid,
    number: i32,
    info: impl FnOnce(Signal) -> SigInfo,
) -> SysResult {
    let target = task.kernel().task(tid).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|tgid| tgid != target.tgid()) {
        return Err(Errno::ESRCH.into());
    }
    let signal = signal_argument(number)?;
    if !may_signal(task, target.group(), signal) {
        return Err(Errno::EPERM.into());
    }
    if let Some(signal) = signal {
        target.send(info(signal))?;
    }
    Ok(0)
}

async fn sys_tkill(task: &Rc<Task>, args: Args) -> SysResult {
    if args.int(0) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    send_to_thread(task, None, args.uint(0), args.int(1), |signal| {
        sender(task, signal, code::SI_TKILL)
    })
}

async fn sys_tgkill(task: &Rc<Task>, args: Args) -> SysResult {
    if args.int(0) <= 0 || args.int(1) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    send_to_thread(task, Some(args.uint(0)), args.uint(1), args.int(2), |signal| {
        sender(task, signal, code::SI_TKILL)
    })
}

/// A `siginfo_t` from the guest; only what a task may claim (Linux `do_rt_sigqueueinfo`).
async fn read_siginfo(
    task: &Rc<Task>,
    addr: kilburn_addr::VirtAddr,
    to_self: bool,
) -> Result<[u8; SIGINFO_BYTES], Errno> {
    let mut bytes = [0; SIGINFO_BYTES];
    task.copy_in(addr, &mut bytes).await?;
    let code = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if (code >= 0 || code == code::SI_TKILL) && !to_self {
        return Err(Errno::EPERM);
    }
    Ok(bytes)
}

async fn sys_rt_sigqueueinfo(task: &Rc<Task>, args: Args) -> SysResult {
    let pid = args.int(0);
    let bytes = read_siginfo(task, args.addr(2), pid > 0 && pid as Tid == task.tgid()).await?;
    let group =
        (pid > 0).then(|| task.kernel().group(pid.unsigned_abs())).flatten().ok_or(Errno::ESRCH)?;
    let signal = signal_argument(args.int(1))?;
    if !may_signal(task, &group, signal) {
        return Err(Errno::EPERM.into());
    }
    if let Some(signal) = signal {
        group.send(SigInfo::from_user(signal, &bytes))?;
    }
    Ok(0)
}

async fn sys_rt_tgsigqueueinfo(task: &Rc<Task>, args: Args) -> SysResult {
    if args.int(0) <= 0 || args.int(1) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let bytes = read_siginfo(task, args.addr(3), args.uint(1) == task.tid()).await?;
    send_to_thread(task, Some(args.uint(0)), args.uint(1), args.int(2), |signal| {
        SigInfo::from_user(signal, &bytes)
    })
}

async fn sys_sigaltstack(task: &Rc<Task>, args: Args) -> SysResult {
    let sp = task.regs.borrow().x[Regs::SP];
    let old = task.signals.altstack.get();
    if args.raw(0) != 0 {
        let [base, flags, size]: [u64; 3] = task.read_struct(args.addr(0)).await?;
        task.set_altstack(AltStack { base, flags: flags as u32, size }, sp)?;
    }
    if args.raw(1) != 0 {
        let mode = if old.size == 0 {
            AltStack::DISABLE
        } else if old.flags & AltStack::AUTODISARM == 0 && old.contains(sp) {
            AltStack::ONSTACK
        } else {
            0
        };
        let flags = mode | old.flags & AltStack::AUTODISARM;
        task.write_struct(args.addr(1), &[old.base, flags.into(), old.size]).await?;
    }
    Ok(0)
}

async fn sys_rt_sigaction(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(3) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let new: Option<[u64; 3]> = match args.raw(1) {
        0 => None,
        _ => Some(task.read_struct(args.addr(1)).await?),
    };
    let signal = Signal::new(args.int(0)).ok_or(Errno::EINVAL)?;
    if new.is_some() && Signal::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL.into());
    }
    let sighand = task.sighand();
    let old = sighand.get(signal);
    if let Some([handler, flags, mask]) = new {
        let action = SigAction {
            handler,
            flags: SaFlags::from_bits_truncate(flags),
            mask: SigSet::from_bits(mask).minus(Signal::UNBLOCKABLE),
        };
        sighand.set(signal, action);
        // POSIX: a pending signal that is ignored from now on is discarded.
        if handler == SIG_IGN || sighand.ignores(signal) {
            let set = SigSet::of(&[signal]);
            task.group().pending.remove(set);
            for thread in task.group().living() {
                thread.signals.pending.remove(set);
            }
        }
    }
    if args.raw(2) != 0 {
        let words = [old.handler, old.flags.bits(), old.mask.bits()];
        task.write_struct(args.addr(2), &words).await?;
    }
    Ok(0)
}

async fn sys_rt_sigprocmask(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(3) != 8 {
        return Err(Errno::EINVAL.into());
    }
    let old = task.signals.blocked.get();
    if args.raw(1) != 0 {
        let set = read_sigset(task, args.addr(1), 8).await?.minus(Signal::UNBLOCKABLE);
        let new = match args.int(0) {
            0 => old.union(set),
            1 => old.minus(set),
            2 => set,
            _ => return Err(Errno::EINVAL.into()),
        };
        task.signals.blocked.set(new);
    }
    if args.raw(2) != 0 {
        task.write_struct(args.addr(2), &old.bits()).await?;
    }
    Ok(0)
}

async fn sys_rt_sigpending(task: &Rc<Task>, args: Args) -> SysResult {
    if args.raw(1) > 8 {
        return Err(Errno::EINVAL.into());
    }
    let pending = task.signals.pending.set().union(task.group().pending.set());
    let bits = pending.intersection(task.signals.blocked.get()).bits().to_le_bytes();
    task.copy_out(args.addr(0), &bits[..args.raw(1) as usize]).await?;
    Ok(0)
}

async fn sys_rt_sigsuspend(task: &Rc<Task>, args: Args) -> SysResult {
    let mask = read_sigset(task, args.addr(0), args.raw(1)).await?;
    task.replace_mask_until_return(mask);
    let mut set = WaitSet::new(task);
    while set.wait(Sleep::Interruptible, None).await != Wake::Interrupted {}
    Err(SysError::RESTART_NOHAND)
}

async fn sys_signalfd4(task: &Rc<Task>, args: Args) -> SysResult {
    let set = read_sigset(task, args.addr(1), args.raw(2)).await?;
    let allowed = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    let flags = OpenFlags::from_bits(args.uint(3))
        .filter(|flags| allowed.contains(*flags))
        .ok_or(Errno::EINVAL)?;
    if args.int(0) != -1 {
        let file = task.files().get(args.int(0))?;
        file.ops_as::<SignalFd>().ok_or(Errno::EINVAL)?.set(set);
        return Ok(args.uint(0).into());
    }
    let ops = Box::new(SignalFd::new(task.kernel(), set));
    let file = task.kernel().vfs().anonymous("[signalfd]", ops, flags | OpenFlags::RDWR);
    let cloexec = flags.contains(OpenFlags::CLOEXEC);
    let fd_flags = if cloexec { FdFlags::CLOEXEC } else { FdFlags::empty() };
    let limit = task.rlimit(Resource::Nofile);
    Ok(task.files().install(file, fd_flags, limit)? as u64)
}

impl Task {
    /// Blocks `mask` until the call is over; a signal it lets through finds the old mask in its
    /// frame (Linux `set_user_sigmask`).
    pub(crate) fn replace_mask_until_return(&self, mask: SigSet) {
        self.signals.saved_blocked.set(Some(self.signals.blocked.get()));
        self.signals.blocked.set(mask.minus(Signal::UNBLOCKABLE));
    }
}

async fn sys_rt_sigtimedwait(task: &Rc<Task>, args: Args) -> SysResult {
    let which = read_sigset(task, args.addr(0), args.raw(3)).await?;
    let which = which.minus(Signal::UNBLOCKABLE);
    let timeout = match args.raw(2) {
        0 => None,
        _ => {
            let time: Timespec = task.read_struct(args.addr(2)).await?;
            Some(time.to_nanos().ok_or(Errno::EINVAL)?)
        }
    };
    let take = || {
        let others = SigSet::ALL.minus(which);
        task.dequeue_signal(others)
    };
    let mut found = take();
    if found.is_none() && timeout != Some(0) {
        let deadline = timeout.map(|t| task.kernel().now().saturating_add(t));
        task.signals.waiting_for.set(which);
        let end = WaitSet::new(task).wait(Sleep::Interruptible, deadline).await;
        task.signals.waiting_for.set(SigSet::EMPTY);
        found = take();
        if found.is_none() {
            return Err(if end == Wake::TimedOut { Errno::EAGAIN } else { Errno::EINTR }.into());
        }
    }
    let info = found.ok_or(Errno::EAGAIN)?;
    if args.raw(1) != 0 {
        task.copy_out(args.addr(1), &info.to_bytes()).await?;
    }
    Ok(info.signal.number().into())
}
