//! Calls on pidfds (Linux kernel/pid.c: `pidfd_open`, `pidfd_getfd`; kernel/signal.c:
//! `pidfd_send_signal`).

use crate::fs::OpenFlags;
use crate::signal::info::{SIGINFO_BYTES, SigInfo, code};
use crate::signal::send::send_to_all;
use crate::syscall::signal::{may_signal, sender, signal_argument};
use crate::syscall::{Args, Entry, Support, SysResult, now, waits};
use crate::task::pidfd::{PidFd, Target};
use crate::task::{Task, Tid};
use kilburn_addr::Errno;
use std::rc::Rc;

/// The calls implemented here.
pub(crate) const TABLE: &[Entry] = &[
    waits!(
        424,
        "pidfd_send_signal",
        Support::Partial("a folder of /proc is no pidfd: EBADF"),
        sys_pidfd_send_signal
    ),
    now(434, "pidfd_open", Support::Full, sys_pidfd_open),
    now(438, "pidfd_getfd", Support::Full, sys_pidfd_getfd),
];

fn sys_pidfd_open(task: &Rc<Task>, args: Args) -> SysResult {
    let allowed = OpenFlags::NONBLOCK | PidFd::THREAD;
    let flags = OpenFlags::from_bits(args.uint(1))
        .filter(|flags| allowed.contains(*flags))
        .ok_or(Errno::EINVAL)?;
    if args.int(0) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let (kernel, pid) = (task.kernel(), args.uint(0));
    let pidfd = if flags.contains(PidFd::THREAD) {
        PidFd::new(&kernel.task(pid).ok_or(Errno::ESRCH)?, flags)
    } else if let Some(group) = kernel.group(pid) {
        PidFd::of_group(&group)
    } else if kernel.task(pid).is_some() {
        // A thread that is no process.
        return Err(Errno::ENOENT.into());
    } else {
        return Err(Errno::ESRCH.into());
    };
    let file = pidfd.open(task, flags);
    Ok(task.install_cloexec(file)?)
}

/// Whom `pidfd_send_signal` means.
enum Scope {
    Thread,
    Process,
    ProcessGroup,
}

/// `PIDFD_SELF_THREAD`, `PIDFD_SELF_THREAD_GROUP`: instead of a descriptor.
const SELF_THREAD: i32 = -10_000;
const SELF_PROCESS: i32 = -10_001;

fn pidfd_and_scope(task: &Rc<Task>, fd: i32, flags: u32) -> Result<(PidFd, Scope), Errno> {
    let (pidfd, by_kind) = match fd {
        SELF_THREAD => (PidFd::new(task, PidFd::THREAD), Scope::Thread),
        SELF_PROCESS => (PidFd::of_group(task.group()), Scope::Process),
        fd => {
            let file = task.files().get(fd)?;
            let pidfd = PidFd::of(&file)?.clone();
            let scope = match pidfd.target() {
                Target::Process => Scope::Process,
                Target::Thread(_) => Scope::Thread,
            };
            (pidfd, scope)
        }
    };
    let scope = match flags {
        0 => by_kind,
        1 => Scope::Thread,
        2 => Scope::Process,
        4 => Scope::ProcessGroup,
        _ => return Err(Errno::EINVAL),
    };
    Ok((pidfd, scope))
}

async fn sys_pidfd_send_signal(task: &Rc<Task>, args: Args) -> SysResult {
    let number = args.int(1);
    if !matches!(args.uint(3), 0 | 1 | 2 | 4) {
        return Err(Errno::EINVAL.into());
    }
    let (pidfd, scope) = pidfd_and_scope(task, args.int(0), args.uint(3))?;
    let mut given = None;
    if args.raw(2) != 0 {
        let mut bytes = [0; SIGINFO_BYTES];
        task.copy_in(args.addr(2), &mut bytes).await?;
        let int = |at: usize| {
            i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if int(0) != number {
            return Err(Errno::EINVAL.into());
        }
        // What comes from the kernel or from tkill can be claimed to oneself only.
        let to_self = Rc::ptr_eq(pidfd.group(), task.group());
        if !to_self && (int(8) >= 0 || int(8) == code::SI_TKILL) {
            return Err(Errno::EPERM.into());
        }
        given = Some(bytes);
    }
    let signal = signal_argument(number)?;
    if pidfd.is_gone() {
        return Err(Errno::ESRCH.into());
    }
    let group = pidfd.group();
    if !may_signal(task, group, signal) {
        return Err(Errno::EPERM.into());
    }
    let Some(signal) = signal else { return Ok(0) };
    let info = match (&given, &scope) {
        (Some(bytes), _) => SigInfo::from_user(signal, bytes),
        (None, Scope::Thread) => sender(task, signal, code::SI_TKILL),
        (None, _) => sender(task, signal, code::SI_USER),
    };
    match scope {
        Scope::Thread => match pidfd.task() {
            Ok(thread) => thread.send(info)?,
            // A process all of whose threads have ended takes signals and does nothing.
            Err(_) => group.send(info)?,
        },
        Scope::Process => group.send(info)?,
        Scope::ProcessGroup => {
            send_to_all(&task.kernel().process_group(group.pgid.get() as Tid), info)?;
        }
    }
    Ok(0)
}

fn sys_pidfd_getfd(task: &Rc<Task>, args: Args) -> SysResult {
    if args.uint(2) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.files().get(args.int(0))?;
    let target = PidFd::of(&file)?.task()?;
    if !task.may_attach(&target) {
        return Err(Errno::EPERM.into());
    }
    let files = target.try_files().ok_or(Errno::ESRCH)?;
    let found = files.get_any(args.int(1))?;
    Ok(task.install_cloexec(found)?)
}
