//! The text of `/proc` files that belong to no task.
//!
//! [`TABLES`] lists them with their folder; [`DIRS`] lists the folders. Figures are the machine's
//! true ones; what the machine does not have is not listed. Source: Linux 6.18 fs/proc/, mm/.

use super::file::Reading;
use super::{Node, kconfig, sysctl, sysvipc};
use crate::kernel::Kernel;
use crate::sched::psi::Resource;
use crate::syscall::system::{RELEASE, VERSION};
use crate::time::{BOOT_REALTIME, SECOND, USER_HZ};
use kilburn_addr::Errno;
use kilburn_mm::LruCounts;
use std::fmt::Write as _;

/// The folder `/proc` itself, as the parent of others.
pub(super) const TOP: usize = 0;

/// Folders, by path.
pub(super) const DIRS: &[&str] =
    &["", "sys", "sys/fs", "sys/kernel", "sys/kernel/random", "sys/vm", "sysvipc", "pressure"];

/// A file outside the task folders.
pub(super) struct SystemFile {
    /// Path of its folder, one of [`DIRS`].
    pub(super) dir: &'static str,
    pub(super) name: &'static str,
    pub(super) perm: u32,
    pub(super) reading: Reading,
    pub(super) text: Text,
    pub(super) write: Option<Write>,
}

/// Makes a file's text.
type Text = fn(&Kernel) -> Result<Vec<u8>, Errno>;
/// Takes what a program writes.
type Write = fn(&Kernel, &[u8]) -> Result<(), Errno>;

impl SystemFile {
    /// Whether it is a setting, below `/proc/sys`.
    pub(super) fn is_setting(&self) -> bool {
        self.dir.starts_with("sys/")
    }
}

const fn file(name: &'static str, text: Text) -> SystemFile {
    SystemFile { dir: "", name, perm: 0o444, reading: Reading::Sequence, text, write: None }
}

/// The files of `/proc` itself.
const TOP_FILES: &[SystemFile] = &[
    file("cgroups", cgroups),
    file("cmdline", |_| Ok(b"\n".to_vec())),
    SystemFile { reading: Reading::Bytes, ..file("config.gz", kconfig::gzipped) },
    file("cpuinfo", cpuinfo),
    file("filesystems", filesystems),
    file("loadavg", loadavg),
    file("meminfo", meminfo),
    file("partitions", partitions),
    file("stat", stat),
    file("swaps", swaps),
    file("uptime", uptime),
    file("version", version),
    file("vmstat", vmstat),
];

/// `/proc/pressure`.
const PRESSURE: &[SystemFile] = &[
    pressure("cpu", |k| Ok(k.psi.text(k.now(), Resource::Cpu).into_bytes())),
    pressure("io", |k| Ok(k.psi.text(k.now(), Resource::Io).into_bytes())),
    pressure("memory", |k| Ok(k.psi.text(k.now(), Resource::Memory).into_bytes())),
];

/// A file of pressure; what is written to it is [`super::pressure`]'s.
const fn pressure(name: &'static str, text: Text) -> SystemFile {
    SystemFile { dir: "pressure", perm: 0o666, ..file(name, text) }
}

/// What the file with this number shows the pressure on, if it does.
pub(super) fn pressure_on(number: usize) -> Option<Resource> {
    match by_number(number) {
        Ok(SystemFile { dir: "pressure", name: "cpu", .. }) => Some(Resource::Cpu),
        Ok(SystemFile { dir: "pressure", name: "io", .. }) => Some(Resource::Io),
        Ok(SystemFile { dir: "pressure", name: "memory", .. }) => Some(Resource::Memory),
        _ => None,
    }
}

/// All files.
const TABLES: &[&[SystemFile]] = &[TOP_FILES, PRESSURE, sysctl::FILES, sysvipc::FILES];

fn all() -> impl Iterator<Item = &'static SystemFile> {
    TABLES.iter().copied().flatten()
}

/// The file with this number.
///
/// # Errors
/// ENOENT when there is none.
pub(super) fn by_number(number: usize) -> Result<&'static SystemFile, Errno> {
    all().nth(number).ok_or(Errno::ENOENT)
}

/// The child `name` of folder `dir`.
pub(super) fn lookup(dir: usize, name: &[u8]) -> Option<Node> {
    names(dir).into_iter().find(|(known, _)| known == name).map(|(_, node)| node)
}

/// All children of folder `dir`.
pub(super) fn names(dir: usize) -> Vec<(Vec<u8>, Node)> {
    let Some(here) = DIRS.get(dir) else { return Vec::new() };
    let dirs = DIRS.iter().enumerate().filter_map(|(i, path)| {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        (parent == *here && !name.is_empty()).then(|| (name.as_bytes().to_vec(), Node::Dir(i)))
    });
    let files = all().enumerate().filter(|(_, file)| file.dir == *here);
    let files = files.map(|(i, file)| (file.name.as_bytes().to_vec(), Node::System(i)));
    let mut names: Vec<_> = dirs.chain(files).collect();
    names.sort();
    names
}

/// `text` and the end of the line.
pub(super) fn line(text: &[u8]) -> Vec<u8> {
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
pub(in crate::fs) fn cpu_list(mask: u64) -> String {
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

/// A set of `harts` processors as `%*pb` prints it.
pub(in crate::fs) fn cpu_mask(mask: u64, harts: usize) -> String {
    if harts > 32 {
        format!("{:0width$x},{:08x}", mask >> 32, mask as u32, width = (harts - 32).div_ceil(4))
    } else {
        format!("{mask:0width$x}", width = harts.div_ceil(4))
    }
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

/// Controllers; in hierarchy 0, which is version 2's.
fn cgroups(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let header = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
    Ok(format!("{header}memory\t0\t{}\t1\n", kernel.count_cgroups()).into_bytes())
}

fn filesystems(_: &Kernel) -> Result<Vec<u8>, Errno> {
    let types =
        ["sysfs", "tmpfs", "proc", "cgroup2", "devtmpfs", "sockfs", "pipefs", "devpts", "hostfs"];
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
    // DIVERGENCE(loadavg): no averages are kept over virtual time.
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

fn swaps(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let mut out = String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    let root = reader_root(kernel);
    for area in kernel.memory.swap_areas() {
        let name = match kernel.swap.path_of(&area.name) {
            Some(path) => escaped(&path.text(&root)),
            None => escaped(area.name.as_bytes()),
        };
        // As swap_show pads: names to 40 columns, numbers by a tab when they are short.
        let (size, used) = (area.pages * 4, area.used * 4);
        let tab = |kib: u64| if kib < 10_000_000 { "\t" } else { "" };
        let kind = if area.kind == "file" { "file\t" } else { area.kind };
        let _ = writeln!(
            out,
            "{name:<39} {kind}\t{size}\t{}{used}\t{}{}",
            tab(size),
            tab(used),
            area.priority
        );
    }
    Ok(out.into_bytes())
}

/// There is no block device.
fn partitions(_: &Kernel) -> Result<Vec<u8>, Errno> {
    // The heading comes with the first device.
    Ok(Vec::new())
}

fn version(_: &Kernel) -> Result<Vec<u8>, Errno> {
    Ok(format!("Linux version {RELEASE} {VERSION}\n").into_bytes())
}

/// Pages by list, as the replacement policy has them.
fn lru_counts(kernel: &Kernel) -> LruCounts {
    let mms = kernel.all_mms();
    kernel.memory.lru_counts(mms.iter().map(|mm| &**mm))
}

/// Pages by use.
fn meminfo(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let (counts, lists) = (kernel.memory.counts(), lru_counts(kernel));
    let file = counts.cached.saturating_sub(counts.shmem);
    let available = counts.free + file.saturating_sub(counts.mapped);
    let mut out = String::new();
    for (name, pages) in [
        ("MemTotal", counts.total),
        ("MemFree", counts.free),
        ("MemAvailable", available),
        ("Buffers", 0),
        ("Cached", counts.cached),
        ("SwapCached", counts.swap_cached),
        ("Active", lists.active_anon + lists.active_file),
        ("Inactive", lists.inactive_anon + lists.inactive_file),
        ("Active(anon)", lists.active_anon),
        ("Inactive(anon)", lists.inactive_anon),
        ("Active(file)", lists.active_file),
        ("Inactive(file)", lists.inactive_file),
        ("Unevictable", lists.unevictable),
        ("Mlocked", lists.unevictable),
        ("SwapTotal", counts.swap_total),
        ("SwapFree", counts.swap_free),
        ("Dirty", counts.dirty),
        ("Writeback", 0),
        ("AnonPages", kernel.memory.mapped_anon_pages()),
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
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
    ] {
        let _ = writeln!(out, "{:<15} {:>8} kB", format!("{name}:"), pages * 4);
    }
    // The pool of huge pages is empty, and nothing can be put into it.
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        let _ = writeln!(out, "{:<16}{:>8}", format!("{name}:"), 0);
    }
    out.push_str("Hugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    Ok(out.into_bytes())
}

fn vmstat(kernel: &Kernel) -> Result<Vec<u8>, Errno> {
    let (counts, lists) = (kernel.memory.counts(), lru_counts(kernel));
    let dirty = kernel.memory.dirty_limits();
    let faults = kernel.counters.faults.borrow();
    let mut out = String::new();
    for (name, value) in [
        ("nr_free_pages", counts.free),
        ("nr_mlock", lists.unevictable),
        ("nr_inactive_anon", lists.inactive_anon),
        ("nr_active_anon", lists.active_anon),
        ("nr_inactive_file", lists.inactive_file),
        ("nr_active_file", lists.active_file),
        ("nr_unevictable", lists.unevictable),
        ("nr_anon_pages", kernel.memory.mapped_anon_pages()),
        ("nr_mapped", counts.mapped),
        // The swap cache counts as one of a file.
        ("nr_file_pages", counts.cached + counts.swap_cached),
        ("nr_dirty", counts.dirty),
        // A page is written at once.
        ("nr_writeback", 0),
        ("nr_shmem", counts.shmem),
        ("nr_page_table_pages", counts.page_tables),
        ("nr_swapcached", counts.swap_cached),
        ("nr_dirty_threshold", dirty.limit),
        ("nr_dirty_background_threshold", dirty.background),
        ("pgfault", faults.total),
        ("pgmajfault", faults.major),
    ] {
        let _ = writeln!(out, "{name} {value}");
    }
    for (name, value) in kernel.memory.vm_stat().entries() {
        let _ = writeln!(out, "{name} {value}");
    }
    let _ = writeln!(out, "oom_kill {}", kernel.counters.oom_kills.get());
    Ok(out.into_bytes())
}

fn mount_lines(
    kernel: &Kernel,
    line: impl Fn(&crate::fs::mount::Mount, &str, &str) -> String,
) -> Vec<u8> {
    let root = reader_root(kernel);
    let mut text = String::new();
    for mount in kernel.vfs().mounts() {
        let place = crate::fs::Path { dentry: mount.root.clone(), mount: mount.clone() };
        text.push_str(&line(&mount, &escaped(&place.text(&root)), &escaped(&mount.source)));
    }
    text.into_bytes()
}

/// What paths are shown from: the root of who reads.
fn reader_root(kernel: &Kernel) -> crate::fs::Path {
    let root = kernel.current().map(|task| task.fs().root());
    root.unwrap_or_else(|| kernel.vfs().root().clone())
}

/// As `seq_path` writes names: what separates fields is in octal.
fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' | '#' => {
                let _ = write!(text, "\\{:03o}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

/// `/proc/PID/mounts`.
pub(super) fn mounts(kernel: &Kernel) -> Vec<u8> {
    mount_lines(kernel, |mount, path, source| {
        let kind = mount.file_system.type_name();
        format!("{source} {path} {kind} {} 0 0\n", mount.flags().words())
    })
}

/// `/proc/PID/mountinfo`.
pub(super) fn mountinfo(kernel: &Kernel) -> Vec<u8> {
    mount_lines(kernel, |mount, path, source| {
        let device = mount.file_system.device();
        let parent = mount.parent().map_or(1, |under| under.mount.id);
        let (kind, flags) = (mount.file_system.type_name(), mount.flags().words());
        let (id, major, minor) = (mount.id, device.major, device.minor);
        let root = escaped(&mount.root.path_in_file_system());
        format!("{id} {parent} {major}:{minor} {root} {path} {flags} - {kind} {source} rw\n")
    })
}

/// `/proc/PID/mountstats`.
pub(super) fn mountstats(kernel: &Kernel) -> Vec<u8> {
    mount_lines(kernel, |mount, path, source| {
        format!("device {source} mounted on {path} with fstype {}\n", mount.file_system.type_name())
    })
}
