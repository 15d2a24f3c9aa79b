//! The text of `/proc/PID/status` (Linux 6.18 fs/proc/array.c: `proc_pid_status`).
//!
//! Neighbour: [`super::task`].

use super::task::{comm, dispositions, state};
use super::{cpu_list, cpu_mask};
use crate::kernel::Kernel;
use crate::signal::SigSet;
use crate::task::{Resource, Task, ThreadGroup};
use std::fmt::Write as _;
use std::rc::Rc;

/// `/proc/PID/status`.
pub(super) fn status(
    kernel: &Kernel,
    group: &ThreadGroup,
    task: Option<&Rc<Task>>,
    out: &mut String,
) {
    let tid = task.map_or(group.tgid(), |task| task.tid());
    let (letter, word) = state(group, task);
    let creds =
        task.map(|task| task.creds()).unwrap_or_else(|| Rc::new(crate::task::Creds::root()));
    let _ = writeln!(out, "Name:\t{}", comm(group, task));
    if let Some(task) = task {
        let _ = writeln!(out, "Umask:\t{:04o}", task.fs().umask());
    }
    let _ =
        writeln!(out, "State:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{tid}", group.tgid());
    let _ = writeln!(out, "PPid:\t{}\nTracerPid:\t0", group.ppid());
    let c = &creds;
    let _ = writeln!(out, "Uid:\t{}\t{}\t{}\t{}", c.uid, c.euid, c.suid, c.fsuid);
    let _ = writeln!(out, "Gid:\t{}\t{}\t{}\t{}", c.gid, c.egid, c.sgid, c.fsgid);
    let size = task.and_then(|task| task.try_files()).map_or(0, |files| files.size());
    let _ = write!(out, "FDSize:\t{size}\nGroups:\t");
    for gid in creds.groups.iter() {
        let _ = write!(out, "{gid} ");
    }
    if creds.groups.is_empty() {
        out.push(' ');
    }
    let (pgid, sid) = (group.pgid.get(), group.sid.get());
    let _ =
        writeln!(out, "\nNStgid:\t{}\nNSpid:\t{tid}\nNSpgid:\t{pgid}\nNSsid:\t{sid}", group.tgid());
    let _ = writeln!(out, "Kthread:\t{}", u32::from(group.kernel_thread.get().is_some()));
    if let Some(mm) = task.and_then(|task| task.mm()) {
        memory_lines(&mm.status(), out);
    }
    let _ = writeln!(out, "Threads:\t{}", group.living().len());
    signal_lines(group, task, out);
    for (name, set) in [
        ("CapInh", c.cap_inheritable),
        ("CapPrm", c.cap_permitted),
        ("CapEff", c.cap_effective),
        ("CapBnd", c.cap_bounding),
        ("CapAmb", c.cap_ambient),
    ] {
        let _ = writeln!(out, "{name}:\t{set:016x}");
    }
    let _ = writeln!(out, "NoNewPrivs:\t{}", u32::from(creds.no_new_privs));
    out.push_str("Seccomp:\t0\nSeccomp_filters:\t0\nSpeculation_Store_Bypass:\tunknown\n");
    out.push_str("SpeculationIndirectBranch:\tunsupported\n");
    let harts = kernel.cpus.count();
    let all = if harts >= 64 { u64::MAX } else { (1 << harts) - 1 };
    let allowed = task.map_or(all, |task| task.affinity.get() & all);
    let _ = writeln!(out, "Cpus_allowed:\t{}", cpu_mask(allowed, harts));
    let _ = writeln!(out, "Cpus_allowed_list:\t{}", cpu_list(allowed));
    out.push_str("Mems_allowed:\t1\nMems_allowed_list:\t0\n");
    let (voluntary, involuntary) = task.map_or((0, 0), |task| {
        (task.usage.voluntary_switches.get(), task.usage.involuntary_switches.get())
    });
    let _ = writeln!(out, "voluntary_ctxt_switches:\t{voluntary}");
    let _ = writeln!(out, "nonvoluntary_ctxt_switches:\t{involuntary}");
}

fn memory_lines(status: &kilburn_mm::MmStatus, out: &mut String) {
    let s = status;
    for (name, bytes) in [
        ("VmPeak", s.vm_peak),
        ("VmSize", s.vm_size),
        ("VmLck", s.vm_lck),
        ("VmPin", s.vm_pin),
        ("VmHWM", s.vm_hwm),
        ("VmRSS", s.vm_rss),
        ("RssAnon", s.rss_anon),
        ("RssFile", s.rss_file),
        ("RssShmem", s.rss_shmem),
        ("VmData", s.vm_data),
        ("VmStk", s.vm_stk),
        ("VmExe", s.vm_exe),
        ("VmLib", s.vm_lib),
        ("VmPTE", s.vm_pte),
        ("VmSwap", s.vm_swap),
        ("HugetlbPages", 0),
    ] {
        let _ = writeln!(out, "{name}:\t{:8} kB", bytes >> 10);
    }
    out.push_str("CoreDumping:\t0\nTHP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\n");
}

fn signal_lines(group: &ThreadGroup, task: Option<&Rc<Task>>, out: &mut String) {
    let queued = group.pending.len() + task.map_or(0, |task| task.signals.pending.len());
    let _ = writeln!(out, "SigQ:\t{queued}/{}", group.limits.get(Resource::Sigpending).soft);
    let (ignored, caught) = dispositions(task);
    for (name, set) in [
        ("SigPnd", task.map_or(SigSet::EMPTY, |task| task.signals.pending.set())),
        ("ShdPnd", group.pending.set()),
        ("SigBlk", task.map_or(SigSet::EMPTY, |task| task.signals.blocked.get())),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ] {
        let _ = writeln!(out, "{name}:\t{:016x}", set.bits());
    }
}
