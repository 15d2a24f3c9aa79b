//! The text of `/proc` files that belong to no task.
//!
//! [`FILES`] lists them with their folder; [`DIRS`] lists the folders. Figures are the machine's
//! true ones; what the machine does not have is not listed. Source: Linux 6.18 fs/proc/, mm/.

use super::{Node, sysvipc};
use crate::kernel::Kernel;
use crate::syscall::system::{RELEASE, VERSION};
use crate::time::{BOOT_REALTIME, SECOND, USER_HZ};
use kilburn_addr::Errno;
use std::fmt::Write as _;

/// The folder `/proc` itself, as the parent of others.
pub(super) const TOP: usize = 0;
const SYS: usize = 1;
const SYS_FS: usize = 2;
pub(super) const SYS_KERNEL: usize = 3;
const SYS_VM: usize = 4;
const SYS_RANDOM: usize = 5;
const SYSVIPC: usize = 6;

/// Folders: name, and the folder they are in.
pub(super) const DIRS: &[(&str, usize)] = &[
    ("", usize::MAX),
    ("sys", TOP),
    ("fs", SYS),
    ("kernel", SYS),
    ("vm", SYS),
    ("random", SYS_KERNEL),
    ("sysvipc", TOP),
];

/// A file outside the task folders.
pub(super) struct SystemFile {
    pub(super) dir: usize,
    pub(super) name: &'static str,
    pub(super) perm: u32,
    pub(super) text: Text,
    pub(super) write: Option<Write>,
}

/// Makes a file's text.
type Text = fn(&Kernel) -> Result<Vec<u8>, Errno>;
/// Takes what a program writes.
type Write = fn(&Kernel, &[u8]) -> Result<(), Errno>;

const fn file(
    dir: usize,
    name: &'static str,
    text: fn(&Kernel) -> Result<Vec<u8>, Errno>,
) -> SystemFile {
    SystemFile { dir, name, perm: 0o444, text, write: None }
}

macro_rules! constant {
    ($dir:expr, $name:literal, $text:expr) => {
        file($dir, $name, |_| Ok(format!("{}\n", $text).into_bytes()))
    };
}

/// What a core file is called.
const CORE_PATTERN: SystemFile = SystemFile {
    dir: SYS_KERNEL,
    name: "core_pattern",
    perm: 0o644,
    text: |k| Ok(line(&k.core_dumps.pattern.borrow())),
    write: Some(|k, text| {
        // proc_dostring: up to the first zero or new line, at most CORENAME_MAX_SIZE - 1.
        let end = text.iter().position(|byte| matches!(byte, 0 | b'\n')).unwrap_or(text.len());
        k.core_dumps.pattern.replace(text[..end.min(127)].to_vec());
        Ok(())
    }),
};

/// Whether its name ends in the process id when the pattern has none.
const CORE_USES_PID: SystemFile = SystemFile {
    dir: SYS_KERNEL,
    name: "core_uses_pid",
    perm: 0o644,
    text: |k| Ok(line(if k.core_dumps.uses_pid.get() { b"1" } else { b"0" })),
    write: Some(|k, text| {
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        k.core_dumps.uses_pid.set(value != 0);
        Ok(())
    }),
};

/// All files.
pub(super) const FILES: &[SystemFile] = &[
    file(TOP, "cpuinfo", cpuinfo),
    file(TOP, "filesystems", filesystems),
    file(TOP, "loadavg", loadavg),
    file(TOP, "meminfo", meminfo),
    file(TOP, "stat", stat),
    file(TOP, "swaps", swaps),
    file(TOP, "uptime", uptime),
    file(TOP, "version", version),
    file(TOP, "vmstat", vmstat),
    constant!(TOP, "cmdline", ""),
    constant!(SYS_FS, "file-max", u64::MAX >> 1),
    constant!(SYS_FS, "nr_open", crate::fs::fd_table::NR_OPEN),
    constant!(SYS_FS, "pipe-max-size", crate::fs::pipe::PIPE_MAX_SIZE),
    constant!(SYS_FS, "protected_fifos", 1),
    constant!(SYS_FS, "protected_hardlinks", 1),
    constant!(SYS_FS, "protected_regular", 2),
    constant!(SYS_FS, "protected_symlinks", 1),
    constant!(SYS_FS, "suid_dumpable", 0),
    constant!(SYS_KERNEL, "cap_last_cap", 40),
    CORE_PATTERN,
    CORE_USES_PID,
    constant!(SYS_KERNEL, "ngroups_max", 65536),
    constant!(SYS_KERNEL, "osrelease", RELEASE),
    constant!(SYS_KERNEL, "ostype", "Linux"),
    constant!(SYS_KERNEL, "overflowgid", 65534),
    constant!(SYS_KERNEL, "overflowuid", 65534),
    constant!(SYS_KERNEL, "pid_max", crate::kernel::PID_MAX),
    constant!(SYS_KERNEL, "version", VERSION),
    file(SYS_KERNEL, "domainname", |k| Ok(line(&k.domainname.borrow()))),
    file(SYS_KERNEL, "hostname", |k| Ok(line(&k.hostname.borrow()))),
    file(SYS_KERNEL, "randomize_va_space", |k| {
        let on = k.aslr == crate::config::Aslr::Seeded;
        Ok(line(if on { b"2" } else { b"0" }))
    }),
    file(SYSVIPC, "shm", sysvipc::shm),
    sysvipc::SHMALL,
    sysvipc::SHMMAX,
    sysvipc::SHMMNI,
    sysvipc::SHM_NEXT_ID,
    file(SYS_RANDOM, "boot_id", |k| Ok(k.vfs().boot_id())),
    file(SYS_RANDOM, "uuid", |k| Ok(uuid(k))),
    constant!(SYS_RANDOM, "entropy_avail", 256),
    constant!(SYS_RANDOM, "poolsize", 256),
    file(SYS_VM, "max_map_count", |k| {
        Ok(line(k.memory.config().max_map_count.to_string().as_bytes()))
    }),
    file(SYS_VM, "mmap_min_addr", |k| {
        Ok(line(k.memory.config().mmap_min_addr.to_string().as_bytes()))
    }),
    file(SYS_VM, "overcommit_memory", |k| {
        use kilburn_mm::Overcommit;
        let mode: &[u8] = match k.memory.config().overcommit {
            Overcommit::Heuristic => b"0",
            Overcommit::Always => b"1",
            Overcommit::Never { .. } => b"2",
        };
        Ok(line(mode))
    }),
    constant!(SYS_VM, "overcommit_ratio", 50),
    constant!(SYS_VM, "overcommit_kbytes", 0),
];

/// The child `name` of folder `dir`.
pub(super) fn lookup(dir: usize, name: &[u8]) -> Option<Node> {
    names(dir).into_iter().find(|(known, _)| known == name).map(|(_, node)| node)
}

/// All children of folder `dir`.
pub(super) fn names(dir: usize) -> Vec<(Vec<u8>, Node)> {
    let dirs = DIRS.iter().enumerate().filter(|(_, (_, parent))| *parent == dir);
    let dirs = dirs.map(|(i, (name, _))| (name.as_bytes().to_vec(), Node::Dir(i)));
    let files = FILES.iter().enumerate().filter(|(_, file)| file.dir == dir);
    let files = files.map(|(i, file)| (file.name.as_bytes().to_vec(), Node::System(i)));
    let mut names: Vec<_> = dirs.chain(files).collect();
    names.sort();
    names
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = text.to_vec();
    line.push(b'\n');
    line
}

/// A random UUID (version 4).
pub(crate) fn uuid(kernel: &Kernel) -> Vec<u8> {
    let mut raw = [0u8; 16];
    kernel.random_bytes(&mut raw);
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (i, byte) in raw.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text.into_bytes()
}

/// A set of processors as `%*pbl` prints it.
pub(super) fn cpu_list(mask: u64) -> String {
    let mut text = String::new();
    let mut cpu = 0;
    while cpu < 64 {
        if mask >> cpu & 1 == 0 {
            cpu += 1;
            continue;
        }
        let first = cpu;
        while cpu < 64 && mask >> cpu & 1 != 0 {
            cpu += 1;
        }
        if !text.is_empty() {
            text.push(',');
        }
        let last = cpu - 1;
        let _ =
            if first == last { write!(text, "{first}") } else { write!(text, "{first}-{last}") };
    }
    text
}

fn cpuinfo(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    const ISA: &str = "rv64imafdc_zicntr_zicsr_zifencei_zca_zcd";
    let mmu = match kernel.paging {
        sv if sv == kilburn_paging::Sv::SV39 => "sv39",
        sv if sv == kilburn_paging::Sv::SV48 => "sv48",
        _ => "sv57",
    };
    let mut out = String::new();
    for hart in 0..kernel.cpus.count() {
        let _ =
            write!(out, "processor\t: {hart}\nhart\t\t: {hart}\nisa\t\t: {ISA}\nmmu\t\t: {mmu}\n");
        let _ = write!(
            out,
            "mvendorid\t: 0x0\nmarchid\t\t: 0x0\nmimpid\t\t: 0x0\nhart isa\t: {ISA}\n\n"
        );
    }
    Ok(out.into_bytes())
}

fn filesystems(_: &Kernel) -> Result<Vec<u8>, Errno> {
    let types = ["tmpfs", "proc", "devtmpfs", "sockfs", "pipefs", "devpts", "hostfs"];
    Ok(types.iter().map(|name| format!("nodev\t{name}\n")).collect::<String>().into_bytes())
}

/// Tasks that can run, and all.
fn task_counts(kernel: &Kernel) -> (usize, usize) {
    let tasks = kernel.all_tasks();
    let running = tasks.iter().filter(|task| task.sleep.get().is_none()).count();
    (running, tasks.len())
}

fn loadavg(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let (running, all) = task_counts(kernel);
    // No averages are kept over virtual time.
    Ok(format!("0.00 0.00 0.00 {running}/{all} {}\n", kernel.last_tid()).into_bytes())
}

fn hundredths(nanos: u64) -> String {
    format!("{}.{:02}", nanos / SECOND, nanos % SECOND / (SECOND / 100))
}

fn idle(kernel: &Kernel, hart: usize) -> u64 {
    kernel.now().saturating_sub(kernel.cpus.busy(hart))
}

fn uptime(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let idle = (0..kernel.cpus.count()).map(|hart| idle(kernel, hart)).sum();
    Ok(format!("{} {}\n", hundredths(kernel.now()), hundredths(idle)).into_bytes())
}

fn stat(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let ticks = |nanos: u64| nanos / (SECOND / USER_HZ);
    let harts = kernel.cpus.count();
    let mut out = String::new();
    let total = |of: &dyn Fn(usize) -> u64| (0..harts).map(of).sum::<u64>();
    let busy = total(&|hart| ticks(kernel.cpus.busy(hart)));
    let rest = total(&|hart| ticks(idle(kernel, hart)));
    let _ = writeln!(out, "cpu  {busy} 0 0 {rest} 0 0 0 0 0 0");
    for hart in 0..harts {
        let (busy, rest) = (ticks(kernel.cpus.busy(hart)), ticks(idle(kernel, hart)));
        let _ = writeln!(out, "cpu{hart} {busy} 0 0 {rest} 0 0 0 0 0 0");
    }
    let (running, _) = task_counts(kernel);
    let _ = writeln!(out, "intr 0\nctxt {}", kernel.counters.context_switches.get());
    let _ = writeln!(out, "btime {}", BOOT_REALTIME / SECOND);
    let _ = writeln!(out, "processes {}", kernel.counters.forks.get());
    let _ = writeln!(out, "procs_running {running}\nprocs_blocked 0");
    out.push_str("softirq 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(out.into_bytes())
}

fn swaps(_: &Kernel) -> Result<Vec<u8>, Errno> {
    Ok(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec())
}

fn version(_: &Kernel) -> Result<Vec<u8>, Errno> {
    Ok(format!("Linux version {RELEASE} {VERSION}\n").into_bytes())
}

fn meminfo(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let counts = kernel.memory.counts();
    let kib = |pages: u64| pages * 4;
    let file = counts.cached.saturating_sub(counts.shmem);
    let available = counts.free + file.saturating_sub(counts.mapped);
    let mut out = String::new();
    for (name, value) in [
        ("MemTotal", counts.total),
        ("MemFree", counts.free),
        ("MemAvailable", available),
        ("Buffers", 0),
        ("Cached", counts.cached),
        ("SwapCached", 0),
        ("Active", counts.anon + file),
        ("Inactive", counts.shmem),
        ("Active(anon)", counts.anon),
        ("Inactive(anon)", counts.shmem),
        ("Active(file)", file),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", counts.dirty),
        ("Writeback", 0),
        ("AnonPages", counts.anon),
        ("Mapped", counts.mapped),
        ("Shmem", counts.shmem),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", counts.page_tables),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", counts.commit_limit),
        ("Committed_AS", counts.committed),
    ] {
        let _ = writeln!(out, "{:<16}{:>8} kB", format!("{name}:"), kib(value));
    }
    Ok(out.into_bytes())
}

fn vmstat(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let counts = kernel.memory.counts();
    let faults = kernel.counters.faults.borrow();
    let mut out = String::new();
    for (name, value) in [
        ("nr_free_pages", counts.free),
        ("nr_anon_pages", counts.anon),
        ("nr_mapped", counts.mapped),
        ("nr_file_pages", counts.cached),
        ("nr_dirty", counts.dirty),
        ("nr_shmem", counts.shmem),
        ("nr_page_table_pages", counts.page_tables),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", faults.total),
        ("pgmajfault", faults.major),
    ] {
        let _ = writeln!(out, "{name} {value}");
    }
    Ok(out.into_bytes())
}

fn mount_lines(
    kernel: &Kernel,
    line: impl Fn(&crate::fs::dentry::Mount, &str) -> String,
) -> Vec<u8> {
    let root = kernel.current().map(|task| task.fs().root());
    let root = root.unwrap_or_else(|| kernel.vfs().root().clone());
    let mut text = String::new();
    for mount in kernel.vfs().mounts() {
        let place = crate::fs::Path { dentry: mount.root.clone(), mount: mount.clone() };
        let path = String::from_utf8_lossy(&place.text(&root)).into_owned();
        // As seq_path: characters that separate fields are written in octal.
        let path = path.replace('\\', "\\134").replace(' ', "\\040").replace('\n', "\\012");
        text.push_str(&line(&mount, &path.replace('\t', "\\011")));
    }
    text.into_bytes()
}

/// `/proc/PID/mounts`.
pub(super) fn mounts(kernel: &Kernel) -> Vec<u8> {
    mount_lines(kernel, |mount, path| {
        let kind = mount.file_system.type_name();
        format!("{} {path} {kind} rw{},relatime 0 0\n", mount.source, mount.flags.words())
    })
}

/// `/proc/PID/mountinfo`.
pub(super) fn mountinfo(kernel: &Kernel) -> Vec<u8> {
    mount_lines(kernel, |mount, path| {
        let device = mount.file_system.device();
        let under = mount.on.as_ref().and_then(|(under, _)| under.upgrade());
        let parent = under.map_or(1, |under| under.id);
        let (kind, flags) = (mount.file_system.type_name(), mount.flags.words());
        let (id, major, minor) = (mount.id, device.major, device.minor);
        let source = mount.source;
        format!("{id} {parent} {major}:{minor} / {path} rw{flags},relatime - {kind} {source} rw\n")
    })
}
