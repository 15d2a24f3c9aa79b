//! Guest programs compared, byte for byte, with what a real riscv64 kernel printed for them.
//!
//! `guest/NAME.c` is compiled here; `guest/NAME.out` is what the same program, with the same
//! compiler, printed on Debian's riscv64 kernel 6.12. Without a cross compiler the tests say so
//! and prove nothing.

use kilburn_linux::report::SpaceStats;
use kilburn_linux::{
    Aslr, ExitReport, ExitStatus, InitialFile, Machine, MachineConfig, Net, RealTime,
    ReclaimConfig, RootConfig, StdioConfig, TimeConfig,
};
use kilburn_mm::policy::Builtin;
use kilburn_paging::Sv;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const COMPILER: &str = "riscv64-linux-gnu-gcc";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest")
}

/// The program's ELF; `None` without a compiler.
fn compile(name: &str, flags: &[&str]) -> Option<Vec<u8>> {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let status = Command::new(COMPILER)
        .args(["-static", "-O1", "-w", "-pthread"])
        .args(flags)
        .arg("-o")
        .arg(&output)
        .arg(folder().join(format!("{name}.c")))
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{name}.c does not compile"),
        Err(error) => {
            eprintln!("SKIP: {COMPILER} (Debian package gcc-riscv64-linux-gnu): {error}");
            return None;
        }
    }
    Some(std::fs::read(&output).expect("just written"))
}

fn config(elf: Vec<u8>) -> MachineConfig {
    let file = InitialFile { path: b"/root/guest".to_vec(), mode: 0o755, data: elf };
    MachineConfig {
        strace: None,
        control: None,
        time: TimeConfig::Virtual,
        reclaim: ReclaimConfig::default(),
        file_faults: None,
        memory_bytes: 128 << 20,
        paging: Sv::SV57,
        harts: 2,
        seed: 1,
        aslr: Aslr::Seeded,
        root: RootConfig::Memory(vec![file]),
        program: b"/root/guest".to_vec(),
        args: vec![b"/root/guest".to_vec()],
        env: vec![b"PATH=/bin:/usr/bin".to_vec()],
        cwd: b"/".to_vec(),
        net: Net::default(),
        stdio: StdioConfig::Captured { stdin: Vec::new() },
    }
}

fn run(config: MachineConfig) -> ExitReport {
    let report = Machine::new(config).expect("the machine can be made").run();
    assert_eq!(report.deadlock, None);
    assert_eq!(report.stats.frames.in_use, 0, "frames leaked");
    assert_eq!(report.stats.page_tables.now, 0, "page tables leaked");
    report
}

fn check(name: &str) {
    let Some(elf) = compile(name, &[]) else { return };
    let expected = std::fs::read_to_string(folder().join(format!("{name}.out"))).expect("there");
    for (harts, paging) in [(1, Sv::SV39), (2, Sv::SV57), (4, Sv::SV48)] {
        let report = run(MachineConfig { harts, paging, ..config(elf.clone()) });
        let stderr = String::from_utf8_lossy(&report.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&report.stdout), expected, "{harts} harts; {stderr}");
        assert_eq!(report.status, ExitStatus::Exited(0), "{harts} harts; {stderr}");
    }
}

#[test]
fn an_idle_hart_stays_on_the_tables_of_who_slept_or_ended() {
    let Some(elf) = compile("lazy", &[]) else { return };
    let report = run(MachineConfig { harts: 1, ..config(elf) });
    assert_eq!(report.status, ExitStatus::Exited(0));
    // To the first program, to its child, back. The child ended while the hart idled.
    let expected = SpaceStats { switches: 3, lazy: 5, lazy_kept: 4, outlived: 1 };
    assert_eq!(report.stats.spaces, expected);
}

#[test]
fn signals_behave_as_on_linux() {
    check("signals");
}

#[test]
fn processes_behave_as_on_linux() {
    check("processes");
}

#[test]
fn shared_memory_segments_behave_as_on_linux() {
    check("shm");
}

#[test]
fn remote_memory_and_sealed_files_behave_as_on_linux() {
    check("remote");
}

#[test]
fn sockets_behave_as_on_linux() {
    check("sockets");
}

#[test]
fn mounts_behave_as_on_linux() {
    check("mounts");
}

#[test]
fn threads_behave_as_on_linux() {
    check("threads");
}

/// As `check`, on one machine with what it has when memory is short. The real one had as much swap, in
/// its zram device.
fn check_with(name: &str, reclaim: &ReclaimConfig) {
    let Some(elf) = compile(name, &[]) else { return };
    let expected = std::fs::read_to_string(folder().join(format!("{name}.out"))).expect("there");
    for policy in Builtin::ALL {
        let reclaim = ReclaimConfig { policy, ..reclaim.clone() };
        let report = run(MachineConfig { reclaim, ..config(elf.clone()) });
        let stderr = String::from_utf8_lossy(&report.stderr).into_owned();
        let stdout = String::from_utf8_lossy(&report.stdout).into_owned();
        assert_eq!(stdout, expected, "{}; {stderr}", policy.name());
        assert_eq!(report.status, ExitStatus::Exited(0), "{}; {stderr}", policy.name());
    }
}

#[test]
fn pages_in_swap_show_as_on_linux() {
    let areas = vec!["lz4:64M".parse().expect("an area")];
    check_with("swapped", &ReclaimConfig { swap: areas, ..ReclaimConfig::default() });
}

#[test]
fn a_process_squeezed_by_its_group_finishes_on_swap_and_goes_without() {
    let areas = vec!["lz4:64M".parse().expect("an area")];
    check_with("squeezed", &ReclaimConfig { swap: areas, ..ReclaimConfig::default() });
}

#[test]
fn the_process_that_goes_when_memory_does_is_linux_s_choice() {
    check_with("oom", &ReclaimConfig::default());
}

#[test]
fn a_leak_and_a_fork_bomb_go_and_the_work_beside_them_comes_out_right() {
    let Some(elf) = compile("bombs", &[]) else { return };
    let expected = std::fs::read_to_string(folder().join("bombs.out")).expect("there");
    let swap = vec!["lz4:8M".parse().expect("an area")];
    for (harts, swap) in [(1, Vec::new()), (2, swap)] {
        let reclaim = ReclaimConfig { swap, ..ReclaimConfig::default() };
        let memory_bytes = 16 << 20;
        let report = run(MachineConfig { reclaim, harts, memory_bytes, ..config(elf.clone()) });
        let stderr = String::from_utf8_lossy(&report.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&report.stdout), expected, "{harts} harts; {stderr}");
        assert_eq!(report.status, ExitStatus::Exited(0), "{harts} harts; {stderr}");
        assert!(report.stats.reclaim.oom_kills >= 9, "{}", report.stats.reclaim.oom_kills);
    }
}

#[test]
fn one_seed_gives_one_run() {
    let Some(elf) = compile("threads", &[]) else { return };
    let again = || run(MachineConfig { harts: 3, ..config(elf.clone()) });
    let (a, b) = (again(), again());
    assert_eq!(a.stdout, b.stdout);
    assert_eq!(format!("{:?}", a.stats), format!("{:?}", b.stats));
}

/// A world in which time passes by waiting only.
struct World {
    now: Mutex<Duration>,
    slept: Mutex<Vec<Duration>>,
}

impl RealTime for World {
    fn now(&self) -> Duration {
        *self.now.lock().expect("nobody panics with it")
    }

    fn sleep(&self, time: Duration) {
        *self.now.lock().expect("nobody panics with it") += time;
        self.slept.lock().expect("nobody panics with it").push(time);
    }
}

#[test]
fn with_the_worlds_clock_waiting_takes_as_long_as_it_says() {
    let Some(elf) = compile("real_time", &[]) else { return };
    const YEAR_2001: Duration = Duration::from_secs(978_307_200 + 1_000_000);
    let world = Arc::new(World { now: Mutex::new(YEAR_2001), slept: Mutex::default() });
    let time = TimeConfig::Real(Arc::clone(&world) as Arc<dyn RealTime>);
    let report = run(MachineConfig { time, ..config(elf.clone()) });
    let stdout = String::from_utf8_lossy(&report.stdout).into_owned();
    assert_eq!(stdout, "year 2001\nslept 2500 ms\nalarm 1 after 3000 ms\n");
    let slept: Duration = world.slept.lock().expect("nobody panics with it").iter().sum();
    // The world stands still while this guest works, so the machine waits for that time as well.
    let worked = slept.checked_sub(Duration::from_millis(5500)).expect("no wait is cut short");
    assert!(worked < Duration::from_millis(10), "{slept:?}");
    // By default nobody waits for the world.
    let report = run(config(elf));
    let stdout = String::from_utf8_lossy(&report.stdout).into_owned();
    assert_eq!(stdout, "year 2026\nslept 2500 ms\nalarm 1 after 3000 ms\n");
}
