//! What a run did, as `--stats` prints it: [`Figures`] is the one shape behind both forms.
//!
//! The JSON keys are the field names here; docs/figures.md lists them, and they do not change
//! meaning. Everything but the `host` part depends only on the arguments, the files and the input
//! of the run. [`text`] is the form for people.

mod text;

use kilburn_linux::report::{FaultStats, ProcessStats, ReclaimStats, SyscallStats};
use kilburn_linux::{Aslr, ExitReport, ExitStatus, MachineConfig};
use kilburn_mmu::ModelStats;
use serde::Serialize;
use std::time::Duration;

/// How long the run took on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostTime {
    /// From the first instruction to the last.
    pub(crate) wall: Duration,
}

/// All figures of a run.
#[derive(Serialize, Debug)]
pub(crate) struct Figures {
    machine: MachineFigures,
    exit: Exit,
    instructions: u64,
    context_switches: u64,
    address_spaces: AddressSpaces,
    virtual_seconds: f64,
    faults: Faults,
    frames: Frames,
    page_tables: PageTables,
    tlb: Tlb,
    reclaim: Reclaim,
    syscalls: Vec<Syscall>,
    processes: Vec<Process>,
    host: Host,
}

#[derive(Serialize, Debug)]
struct AddressSpaces {
    switches: u64,
    lazy: u64,
    lazy_kept: u64,
    outlived: u64,
}

#[derive(Serialize, Debug)]
struct MachineFigures {
    memory_bytes: u64,
    paging: &'static str,
    harts: u32,
    seed: u64,
    aslr: bool,
}

/// `{"exited": 0}` or `{"killed": 11}`.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Exit {
    Exited(u8),
    Killed(u8),
}

#[derive(Serialize, Debug)]
struct Faults {
    total: u64,
    demand_zero: u64,
    zero_page: u64,
    file_read: u64,
    file_cow: u64,
    file_write: u64,
    cow_copy: u64,
    cow_reuse: u64,
    swap: u64,
    spurious: u64,
    segv_maperr: u64,
    segv_accerr: u64,
    bus: u64,
    major: u64,
    stack_growth: u64,
}

#[derive(Serialize, Debug)]
struct Frames {
    total: u64,
    peak: u64,
    in_use_at_end: u64,
    page_cache_at_end: u64,
}

#[derive(Serialize, Debug)]
struct PageTables {
    peak: u64,
    in_use_at_end: u64,
}

#[derive(Serialize, Debug)]
struct Tlb {
    hits: u64,
    misses: u64,
    walks: u64,
    walk_steps: u64,
    flushes: u64,
}

#[derive(Serialize, Debug)]
struct Reclaim {
    policy: &'static str,
    scanned: u64,
    evicted: u64,
    refaults: u64,
    swapped_out: u64,
    swapped_in: u64,
    read_ahead: u64,
    read_ahead_used: u64,
    direct: u64,
    kswapd: u64,
    read_errors: u64,
    write_errors: u64,
    oom_kills: u64,
}

#[derive(Serialize, Debug)]
struct Syscall {
    number: u64,
    /// `null`: no system call of riscv64 has this number.
    name: Option<&'static str>,
    calls: u64,
    errors: u64,
    implemented: bool,
}

#[derive(Serialize, Debug)]
struct Process {
    pid: u32,
    ppid: u32,
    name: String,
    exit: Exit,
    rss_kib: u64,
    pss_kib: u64,
    uss_kib: u64,
    peak_rss_kib: u64,
    peak_vm_kib: u64,
    page_tables: u64,
    minor_faults: u64,
    major_faults: u64,
    instructions: u64,
    syscalls: u64,
}

/// What differs from run to run.
#[derive(Serialize, Debug)]
struct Host {
    wall_seconds: f64,
    mips: f64,
}

impl Figures {
    /// Gathers them.
    pub(crate) fn new(config: &MachineConfig, report: &ExitReport, host: HostTime) -> Self {
        let stats = &report.stats;
        let seconds = host.wall.as_secs_f64();
        Self {
            machine: MachineFigures {
                memory_bytes: config.memory_bytes,
                paging: config.paging.name(),
                harts: config.harts,
                seed: config.seed,
                aslr: config.aslr == Aslr::Seeded,
            },
            exit: report.status.into(),
            instructions: stats.instructions,
            context_switches: stats.context_switches,
            address_spaces: AddressSpaces {
                switches: stats.spaces.switches,
                lazy: stats.spaces.lazy,
                lazy_kept: stats.spaces.lazy_kept,
                outlived: stats.spaces.outlived,
            },
            virtual_seconds: stats.virtual_ns as f64 / 1e9,
            faults: stats.faults.into(),
            frames: Frames {
                total: stats.frames.total,
                peak: stats.frames.peak,
                in_use_at_end: stats.frames.in_use,
                page_cache_at_end: stats.frames.page_cache,
            },
            page_tables: PageTables {
                peak: stats.page_tables.peak,
                in_use_at_end: stats.page_tables.now,
            },
            tlb: Tlb {
                hits: stats.tlb.hits,
                misses: stats.tlb.misses,
                walks: stats.tlb.walks,
                walk_steps: stats.tlb.walk_steps,
                flushes: stats.tlb.flushes,
            },
            reclaim: stats.reclaim.into(),
            syscalls: stats.syscalls.iter().map(Syscall::from).collect(),
            processes: stats.processes.iter().map(Process::from).collect(),
            host: Host {
                wall_seconds: seconds,
                mips: if seconds > 0.0 { stats.instructions as f64 / seconds / 1e6 } else { 0.0 },
            },
        }
    }

    /// Translations were the models', so the counts of TLBs are theirs.
    pub(crate) fn translated_by(&mut self, models: &[ModelStats]) {
        let sum = |count: fn(&ModelStats) -> u64| models.iter().map(count).sum();
        self.tlb.hits = sum(|stats| stats.all().l1_hits + stats.all().l2_hits);
        self.tlb.misses = sum(|stats| stats.all().walks);
        self.tlb.walks = self.tlb.misses;
        self.tlb.walk_steps = sum(ModelStats::walk_reads);
    }

    /// One JSON object, one key a line.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data always serialises");
        text.push('\n');
        text
    }

    /// The same with one more key.
    pub(crate) fn to_json_with(&self, key: &str, value: serde_json::Value) -> String {
        let mut all = serde_json::to_value(self).expect("plain data always serialises");
        if let Some(all) = all.as_object_mut() {
            all.insert(key.to_owned(), value);
        }
        let mut text = serde_json::to_string_pretty(&all).expect("plain data always serialises");
        text.push('\n');
        text
    }

    /// Aligned columns for people.
    pub(crate) fn to_text(&self) -> String {
        text::render(self)
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Exited(status) => Self::Exited(status),
            ExitStatus::Killed(signal) | ExitStatus::Dumped(signal) => Self::Killed(signal),
        }
    }
}

impl From<FaultStats> for Faults {
    fn from(f: FaultStats) -> Self {
        Self {
            total: f.total,
            demand_zero: f.demand_zero,
            zero_page: f.zero_page,
            file_read: f.file_read,
            file_cow: f.file_cow,
            file_write: f.file_write,
            cow_copy: f.cow_copy,
            cow_reuse: f.cow_reuse,
            swap: f.swap,
            spurious: f.spurious,
            segv_maperr: f.segv_maperr,
            segv_accerr: f.segv_accerr,
            bus: f.bus,
            major: f.major,
            stack_growth: f.stack_growth,
        }
    }
}

impl From<ReclaimStats> for Reclaim {
    fn from(r: ReclaimStats) -> Self {
        Self {
            policy: r.policy,
            scanned: r.scanned,
            evicted: r.evicted,
            refaults: r.refaults,
            swapped_out: r.swapped_out,
            swapped_in: r.swapped_in,
            read_ahead: r.read_ahead,
            read_ahead_used: r.read_ahead_used,
            direct: r.direct,
            kswapd: r.kswapd,
            read_errors: r.read_errors,
            write_errors: r.write_errors,
            oom_kills: r.oom_kills,
        }
    }
}

impl From<&SyscallStats> for Syscall {
    fn from(s: &SyscallStats) -> Self {
        Self {
            number: s.number,
            name: s.name,
            calls: s.calls,
            errors: s.errors,
            implemented: s.implemented,
        }
    }
}

impl From<&ProcessStats> for Process {
    fn from(p: &ProcessStats) -> Self {
        Self {
            pid: p.pid,
            ppid: p.ppid,
            name: p.name.clone(),
            exit: p.status.into(),
            rss_kib: p.rss_kib,
            pss_kib: p.pss_kib,
            uss_kib: p.uss_kib,
            peak_rss_kib: p.peak_rss_kib,
            peak_vm_kib: p.peak_vm_kib,
            page_tables: p.page_tables,
            minor_faults: p.minor_faults,
            major_faults: p.major_faults,
            instructions: p.instructions,
            syscalls: p.syscalls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilburn_linux::report::{FrameStats, TlbStats};
    use kilburn_linux::{RootConfig, Stats, StdioConfig};
    use kilburn_paging::Sv;

    /// A run with a distinct figure everywhere it matters.
    pub(super) fn example() -> Figures {
        let config = MachineConfig {
            strace: None,
            control: None,
            time: kilburn_linux::TimeConfig::Virtual,
            reclaim: kilburn_linux::ReclaimConfig::default(),
            file_faults: None,
            memory_bytes: 64 << 20,
            paging: Sv::SV39,
            harts: 1,
            seed: 7,
            aslr: Aslr::Off,
            root: RootConfig::Memory(Vec::new()),
            program: b"/root/tour".to_vec(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: b"/root".to_vec(),
            net: kilburn_linux::Net::default(),
            stdio: StdioConfig::Host,
        };
        let syscall = |number, name, calls, errors, implemented| SyscallStats {
            number,
            name,
            calls,
            errors,
            implemented,
        };
        let stats = Stats {
            instructions: 12_345_678,
            context_switches: 31,
            virtual_ns: 1_500_000_000,
            faults: FaultStats {
                total: 2100,
                demand_zero: 2060,
                cow_copy: 40,
                ..FaultStats::default()
            },
            frames: FrameStats { total: 16384, in_use: 0, peak: 2222, page_cache: 9 },
            tlb: TlbStats { hits: 998, misses: 2, walks: 2, walk_steps: 6, flushes: 1 },
            syscalls: vec![
                syscall(64, Some("write"), 90, 0, true),
                syscall(222, Some("mmap"), 12, 1, true),
                syscall(279, Some("memfd_create"), 2, 2, false),
                syscall(9999, None, 1, 1, false),
            ],
            processes: vec![ProcessStats {
                pid: 1,
                ppid: 0,
                name: "tour".into(),
                status: ExitStatus::Exited(0),
                rss_kib: 1072,
                pss_kib: 1060,
                uss_kib: 1050,
                peak_rss_kib: 9216,
                peak_vm_kib: 9320,
                page_tables: 5,
                minor_faults: 2100,
                major_faults: 0,
                instructions: 12_345_678,
                syscalls: 105,
            }],
            ..Stats::default()
        };
        let report = ExitReport {
            status: ExitStatus::Killed(11),
            deadlock: None,
            stats,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        Figures::new(&config, &report, HostTime { wall: Duration::from_millis(100) })
    }

    #[test]
    fn json_keys_are_the_documented_ones() {
        let value: serde_json::Value =
            serde_json::from_str(&example().to_json()).expect("valid JSON");
        assert_eq!(value["exit"]["killed"], 11);
        assert_eq!(value["machine"]["paging"], "sv39");
        assert_eq!(value["faults"]["demand_zero"], 2060);
        assert_eq!(value["frames"]["in_use_at_end"], 0);
        assert_eq!(value["syscalls"][3]["name"], serde_json::Value::Null);
        assert_eq!(value["processes"][0]["exit"]["exited"], 0);
        assert!((value["host"]["mips"].as_f64().expect("a number") - 123.456_78).abs() < 1e-9);

        let documented = include_str!("../../../docs/figures.md");
        let mut paths = Vec::new();
        collect_keys("", &value, &mut paths);
        for path in paths {
            assert!(documented.contains(&format!("`{path}`")), "docs/figures.md lacks `{path}`");
        }
    }

    /// `faults.demand_zero`, `syscalls[].name`, ...
    fn collect_keys(prefix: &str, value: &serde_json::Value, paths: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    let path =
                        if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    collect_keys(&path, value, paths);
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    collect_keys(&format!("{prefix}[]"), item, paths);
                }
            }
            _ => paths.push(prefix.to_owned()),
        }
    }
}
