//! The text of `/proc/PID/*`.
//!
//! [`TaskFile`] lists the files; [`text`] makes each from the task's own state. What comes from
//! the address space is the memory manager's text. Source: Linux 6.18 fs/proc/array.c, base.c.

use super::file::Reading;
use super::{Ids, Owner, may_inspect};
use crate::fs::fd_table::FdFlags;
use crate::fs::file::OpenFlags;
use crate::kernel::Kernel;
use crate::kernel_threads::KernelThread;
use crate::sched::wait::Sleep;
use crate::signal::SigSet;
use crate::task::group::{StopState, Totals};
use crate::task::{Capability, Resource, Task, ThreadGroup};
use crate::time::to_clock_ticks;
use kilburn_addr::{Errno, VirtAddr};
use kilburn_mm::{ClearRefs, DumpFilter, RemoteRights};
use std::fmt::Write as _;
use std::rc::Rc;

macro_rules! task_files {
    ($($variant:ident = $name:literal, $perm:literal;)*) => {
        /// A file in a task's folder.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(in crate::fs) enum TaskFile { $($variant,)* }

        impl TaskFile {
            const ALL: &'static [(&'static str, Self, u32)] = &[$(($name, Self::$variant, $perm),)*];
        }
    };
}

task_files! {
    Auxv = "auxv", 0o400;
    Cgroup = "cgroup", 0o444;
    ClearRefs = "clear_refs", 0o200;
    Cmdline = "cmdline", 0o444;
    Comm = "comm", 0o644;
    CoredumpFilter = "coredump_filter", 0o644;
    Cwd = "cwd", 0o777;
    Environ = "environ", 0o400;
    Exe = "exe", 0o777;
    Limits = "limits", 0o444;
    Loginuid = "loginuid", 0o644;
    Maps = "maps", 0o444;
    Mem = "mem", 0o600;
    Mountinfo = "mountinfo", 0o444;
    Mounts = "mounts", 0o444;
    Mountstats = "mountstats", 0o400;
    OomAdj = "oom_adj", 0o644;
    OomScore = "oom_score", 0o444;
    OomScoreAdj = "oom_score_adj", 0o644;
    Pagemap = "pagemap", 0o400;
    Personality = "personality", 0o400;
    Root = "root", 0o777;
    Schedstat = "schedstat", 0o444;
    Sessionid = "sessionid", 0o444;
    Smaps = "smaps", 0o444;
    SmapsRollup = "smaps_rollup", 0o444;
    Stat = "stat", 0o444;
    Statm = "statm", 0o444;
    Status = "status", 0o444;
    TimerslackNs = "timerslack_ns", 0o666;
    Wchan = "wchan", 0o444;
}

impl TaskFile {
    /// The file with this name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(known, ..)| known.as_bytes() == name).map(|(_, file, _)| *file)
    }

    /// All, by name.
    pub(super) fn all() -> impl Iterator<Item = (&'static str, Self)> {
        Self::ALL.iter().map(|(name, file, _)| (*name, *file))
    }

    /// Permission bits.
    pub(super) fn perm(self) -> u32 {
        Self::ALL.iter().find(|(_, file, _)| *file == self).map_or(0, |(.., perm)| *perm)
    }

    /// Whether it is a link to a place.
    pub(super) fn is_link(self) -> bool {
        matches!(self, Self::Cwd | Self::Exe | Self::Root)
    }

    /// Whether it is about the mount table.
    pub(super) fn shows_mounts(self) -> bool {
        matches!(self, Self::Mountinfo | Self::Mounts | Self::Mountstats)
    }

    /// Whether only who may debug the task opens it (`PTRACE_MODE_READ`).
    pub(super) fn is_guarded(self) -> bool {
        matches!(
            self,
            Self::Auxv
                | Self::Environ
                | Self::Maps
                | Self::Mem
                | Self::Pagemap
                | Self::Personality
                | Self::Smaps
                | Self::SmapsRollup
        )
    }

    /// How it is read in pieces.
    pub(super) fn reading(self) -> Reading {
        match self {
            Self::Auxv
            | Self::Cmdline
            | Self::Environ
            | Self::Loginuid
            | Self::OomAdj
            | Self::OomScoreAdj
            | Self::Sessionid => Reading::Bytes,
            _ => Reading::Sequence,
        }
    }
}

/// What `file` of a task's folder says; `task` is `None` for a zombie.
///
/// # Errors
/// ESRCH or EINVAL where Linux answers so for a task without what the file shows.
pub(super) fn text(
    kernel: &Kernel,
    owner: Owner,
    (group, task): (&ThreadGroup, Option<&Rc<Task>>),
    file: TaskFile,
) -> Result<Vec<u8>, Errno> {
    let mut out = String::new();
    match file {
        TaskFile::Stat => stat(kernel, owner, (group, task), &mut out),
        TaskFile::Status => super::status::status(kernel, group, task, &mut out),
        TaskFile::Statm => statm(task, &mut out),
        TaskFile::Maps => with_mm(task, |mm| mm.write_maps(&mut out)),
        TaskFile::Smaps => with_mm(task, |mm| mm.write_smaps(&mut out)),
        TaskFile::SmapsRollup => {
            let mm = task.and_then(|task| task.mm()).ok_or(Errno::ESRCH)?;
            let _ = mm.write_smaps_rollup(&mut out);
        }
        TaskFile::Limits => limits(group, &mut out),
        TaskFile::Comm => {
            let _ = writeln!(out, "{}", comm(group, task));
        }
        TaskFile::CoredumpFilter => {
            if task.is_some_and(|task| task.mm().is_some()) {
                let _ = writeln!(out, "{:08x}", group.core_filter.get().bits());
            }
        }
        TaskFile::OomAdj => {
            let adj = group.oom_score_adj.get();
            let _ = writeln!(out, "{}", if adj == 1000 { 15 } else { adj * 17 / 1000 });
        }
        TaskFile::OomScoreAdj => {
            let _ = writeln!(out, "{}", group.oom_score_adj.get());
        }
        TaskFile::OomScore => {
            let mm = task.and_then(|task| task.mm());
            let adj = group.oom_score_adj.get() as i16;
            let _ = writeln!(out, "{}", mm.map_or(0, |mm| mm.oom_score(adj)));
        }
        TaskFile::Personality => {
            let _ = writeln!(out, "{:08x}", task.map_or(0, |task| task.personality.get()));
        }
        TaskFile::Loginuid | TaskFile::Sessionid => {
            let _ = write!(out, "{}", u32::MAX);
        }
        // DIVERGENCE(wchan-unnamed): a waiting task is in no function of a kernel that could be named.
        TaskFile::Wchan => out.push('0'),
        TaskFile::TimerslackNs => {
            let _ = writeln!(out, "{}", task.map_or(0, |task| task.timer_slack.get()));
        }
        TaskFile::Schedstat => {
            let run = task.map_or(0, |task| task.usage.user.get() + task.usage.system.get());
            let slices = task.map_or(0, |task| {
                task.usage.voluntary_switches.get() + task.usage.involuntary_switches.get()
            });
            let _ = writeln!(out, "{run} 0 {slices}");
        }
        TaskFile::Cgroup => {
            let path = kernel.cgroup_of(group).path();
            return Ok([b"0::", path.as_slice(), b"\n"].concat());
        }
        TaskFile::Mounts => return Ok(super::system::mounts(kernel)),
        TaskFile::Mountinfo => return Ok(super::system::mountinfo(kernel)),
        TaskFile::Mountstats => return Ok(super::system::mountstats(kernel)),
        TaskFile::Cmdline => return Ok(strings(task, Strings::Arguments)),
        TaskFile::Environ => return Ok(strings(task, Strings::Environment)),
        TaskFile::Auxv => return Ok(auxv(task)),
        TaskFile::ClearRefs
        | TaskFile::Cwd
        | TaskFile::Exe
        | TaskFile::Root
        | TaskFile::Mem
        | TaskFile::Pagemap => return Err(Errno::EINVAL),
    }
    Ok(out.into_bytes())
}

/// Takes what a program writes to `file`.
///
/// # Errors
/// EINVAL, also where writing means nothing.
pub(super) fn write(task: &Task, file: TaskFile, text: &[u8]) -> Result<(), Errno> {
    let number = || -> Result<i32, Errno> {
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        text.trim().parse().map_err(|_| Errno::EINVAL)
    };
    match file {
        TaskFile::Comm => {
            task.set_comm(text.strip_suffix(b"\n").unwrap_or(text));
            Ok(())
        }
        TaskFile::OomScoreAdj => {
            let adj = number()?;
            if !(-1000..=1000).contains(&adj) {
                return Err(Errno::EINVAL);
            }
            task.group().oom_score_adj.set(adj);
            Ok(())
        }
        TaskFile::ClearRefs => {
            let what = ClearRefs::from_number(number()?)?;
            if let Some(mm) = task.mm() {
                mm.clear_refs(what);
            }
            Ok(())
        }
        TaskFile::CoredumpFilter => {
            let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?.trim();
            let bits = match text.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => text.parse(),
            };
            let bits = bits.map_err(|_| Errno::EINVAL)?;
            task.group().core_filter.set(DumpFilter::from_bits_truncate(bits));
            Ok(())
        }
        TaskFile::OomAdj => {
            let adj = number()?;
            if !(-17..=15).contains(&adj) {
                return Err(Errno::EINVAL);
            }
            task.group().oom_score_adj.set(if adj == 15 { 1000 } else { adj * 1000 / 17 });
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

fn with_mm(task: Option<&Rc<Task>>, write: impl FnOnce(&crate::host::Mm) -> std::fmt::Result) {
    if let Some(mm) = task.and_then(|task| task.mm()) {
        // Writing to a string cannot fail.
        let _ = write(&mm);
    }
}

pub(super) fn comm(group: &ThreadGroup, task: Option<&Rc<Task>>) -> String {
    let name = task.map_or_else(|| group.name.borrow().clone(), |task| task.comm_text());
    // What a worker is for follows its name (Linux `wq_worker_comm`).
    if group.kernel_thread.get() == Some(KernelThread::Flusher) { name + "-flush" } else { name }
}

/// State letter and word.
pub(super) fn state(group: &ThreadGroup, task: Option<&Rc<Task>>) -> (char, &'static str) {
    let Some(task) = task else { return ('Z', "zombie") };
    if matches!(group.stop.get(), StopState::Stopped(_)) {
        return ('T', "stopped");
    }
    match task.sleep.get() {
        None => ('R', "running"),
        Some(Sleep::Interruptible) => ('S', "sleeping"),
        Some(Sleep::Killable) => ('D', "disk sleep"),
        Some(Sleep::Idle) => ('I', "idle"),
    }
}

/// Signals that the process ignores and catches.
pub(super) fn dispositions(task: Option<&Rc<Task>>) -> (SigSet, SigSet) {
    task.map_or((SigSet::EMPTY, SigSet::EMPTY), |task| task.sighand().ignored_and_caught())
}

fn totals(group: &ThreadGroup) -> Totals {
    let mut totals = group.dead_threads.get();
    for task in group.living() {
        totals.add(&Totals::of(&task));
    }
    totals
}

/// Whether who reads may know more of a task than that it is there (`PTRACE_MODE_READ_FSCREDS`).
fn is_permitted(kernel: &Kernel, group: &ThreadGroup, task: Option<&Rc<Task>>) -> bool {
    let Some(reader) = kernel.current() else { return true };
    match task {
        Some(task) => may_inspect(&reader, task, Ids::FileSystem),
        // A zombie has no memory that could be kept from being dumped.
        None => {
            let creds = reader.creds();
            creds.fsuid == group.uid.get() || creds.has_cap(Capability::SysPtrace)
        }
    }
}

/// How the process ended, is ending or was stopped, as wait tells it but for what marks a stop.
fn exit_code(group: &ThreadGroup) -> i32 {
    match (group.zombie.get().or(group.group_exit.get()), group.stop.get()) {
        (Some(status), _) => status.wait_status(),
        (None, StopState::Stopping(signal) | StopState::Stopped(signal)) => {
            i32::from(signal.number())
        }
        (None, StopState::Running) => 0,
    }
}

/// `/proc/PID/stat` and `/proc/PID/task/TID/stat` (Linux 6.18 fs/proc/array.c: `do_task_stat`).
fn stat(
    kernel: &Kernel,
    owner: Owner,
    (group, task): (&ThreadGroup, Option<&Rc<Task>>),
    out: &mut String,
) {
    let permitted = is_permitted(kernel, group, task);
    let tid = task.map_or(group.tgid(), |task| task.tid());
    let (letter, _) = state(group, task);
    let tty = group.tty.borrow().is_some();
    let (tty_nr, tpgid) = match kernel.vfs().stdio().tty() {
        Some(terminal)
            if tty || terminal.session() == group.sid.get() && terminal.session() != 0 =>
        {
            (136 << 8, i64::from(terminal.foreground()))
        }
        _ => (0, -1),
    };
    let own = totals(group);
    let waited = group.waited.get();
    let ticks = to_clock_ticks;
    let nice = task.map_or(0, |task| task.nice.get());
    let threads = group.living().len();
    let mm = task.and_then(|task| task.mm());
    let status = mm.as_ref().map(|mm| mm.status()).unwrap_or_default();
    let layout = mm.as_ref().map(|mm| mm.layout_fields());
    let field =
        |f: fn(&kilburn_mm::ExecLayout) -> VirtAddr| layout.as_ref().map_or(0, |l| f(l).get());
    let shown = |f| if permitted { field(f) } else { 0 };
    // Of several threads together nothing is said.
    let one_of_several = matches!(owner, Owner::Thread(_));
    let waits = permitted && (one_of_several || threads < 2) && letter != 'R';
    let flags = match group.kernel_thread.get() {
        Some(thread) => thread.flags(),
        None if group.has_execed.get() => 0x40_0000,
        None => 0x40_0040,
    };
    let _ = write!(
        out,
        "{tid} ({}) {letter} {} {} {} {tty_nr} {tpgid} {flags}",
        comm(group, task),
        group.ppid(),
        group.pgid.get(),
        group.sid.get(),
    );
    let _ = write!(
        out,
        " {} {} {} {} {} {} {} {} {} {nice} {threads} 0 {}",
        own.minor_faults,
        waited.minor_faults,
        own.major_faults,
        waited.major_faults,
        ticks(own.user),
        ticks(own.system),
        ticks(waited.user),
        ticks(waited.system),
        20 + nice,
        ticks(group.started),
    );
    let _ = write!(
        out,
        " {} {} {} {} {} {} 0 0",
        status.vm_size,
        status.vm_rss >> 12,
        group.limits.get(Resource::Rss).soft,
        if permitted { field(|l| l.start_code) } else { u64::from(layout.is_some()) },
        if permitted { field(|l| l.end_code) } else { u64::from(layout.is_some()) },
        shown(|l| l.start_stack),
    );
    let (ignored, caught) = dispositions(task);
    let pending = task.map_or(SigSet::EMPTY, |task| task.signals.pending.set());
    let blocked = task.map_or(SigSet::EMPTY, |task| task.signals.blocked.get());
    let low = |set: SigSet| set.bits() & 0x7fff_ffff;
    let exit_signal = group.exit_signal.get().map_or(0, |signal| i32::from(signal.number()));
    let hart = task.map_or(0, |task| task.hart.get());
    let (rt, policy) = task.map_or((0, 0), |task| (task.rt_priority.get(), task.policy.get()));
    let _ = write!(
        out,
        " {} {} {} {} {} 0 0 {exit_signal} {hart} {rt} {policy} 0 0 0",
        low(pending),
        low(blocked),
        low(ignored),
        low(caught),
        u8::from(waits),
    );
    let _ = writeln!(
        out,
        " {} {} {} {} {} {} {} {}",
        shown(|l| l.start_data),
        shown(|l| l.end_data),
        shown(|l| l.start_brk),
        shown(|l| l.arg_start),
        shown(|l| l.arg_end),
        shown(|l| l.env_start),
        shown(|l| l.env_end),
        if permitted && !one_of_several { exit_code(group) } else { 0 },
    );
}

/// `/proc/PID/statm`.
fn statm(task: Option<&Rc<Task>>, out: &mut String) {
    let statm = task.and_then(|task| task.mm()).map(|mm| mm.statm()).unwrap_or_default();
    let _ = writeln!(
        out,
        "{} {} {} {} 0 {} 0",
        statm.size, statm.resident, statm.shared, statm.text, statm.data
    );
}

/// `/proc/PID/limits`.
fn limits(group: &ThreadGroup, out: &mut String) {
    let rows = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let _ =
        writeln!(out, "{:<25} {:<20} {:<20} {:<10}", "Limit", "Soft Limit", "Hard Limit", "Units");
    let shown = |value: u64| if value == u64::MAX { "unlimited".into() } else { value.to_string() };
    for ((name, unit), resource) in rows.into_iter().zip(Resource::ALL) {
        let limit = group.limits.get(resource);
        let (soft, hard) = (shown(limit.soft), shown(limit.hard));
        let _ = write!(out, "{name:<25} {soft:<20} {hard:<20} ");
        let _ = if unit.is_empty() { writeln!(out) } else { writeln!(out, "{unit:<10}") };
    }
}

enum Strings {
    Arguments,
    Environment,
}

/// The strings that exec put on the stack, as the program left them.
fn strings(task: Option<&Rc<Task>>, which: Strings) -> Vec<u8> {
    let Some(mm) = task.and_then(|task| task.mm()) else { return Vec::new() };
    let layout = mm.layout_fields();
    let (start, end) = match which {
        Strings::Arguments => (layout.arg_start, layout.arg_end),
        Strings::Environment => (layout.env_start, layout.env_end),
    };
    let len = end.bytes_since(start).unwrap_or(0).min(1 << 21);
    let mut bytes = vec![0; len as usize];
    let got = mm.read_remote(start, &mut bytes, RemoteRights::Forced);
    bytes.truncate(got);
    bytes
}

fn auxv(task: Option<&Rc<Task>>) -> Vec<u8> {
    let Some(mm) = task.and_then(|task| task.mm()) else { return Vec::new() };
    mm.layout_fields().saved_auxv.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `/proc/PID/fdinfo/N`.
///
/// # Errors
/// ENOENT when the descriptor is closed.
pub(super) fn fdinfo(task: &Task, fd: i32) -> Result<Vec<u8>, Errno> {
    let files = task.try_files().ok_or(Errno::ENOENT)?;
    let file = files.get_any(fd).map_err(|_| Errno::ENOENT)?;
    let cloexec = files.flags(fd)?.contains(FdFlags::CLOEXEC);
    let mut flags = file.flags() | OpenFlags::LARGEFILE;
    if cloexec {
        flags |= OpenFlags::CLOEXEC;
    }
    let mut text = format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{}\n",
        file.position(),
        flags.bits(),
        file.path().mount.id,
        file.inode().stat()?.ino,
    );
    text.push_str(&file.ops().fdinfo());
    Ok(text.into_bytes())
}
