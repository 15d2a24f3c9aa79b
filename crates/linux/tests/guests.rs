//! Guest programs compared, byte for byte, with what a real riscv64 kernel printed for them.
//!
//! `guest/NAME.c` is compiled here; `guest/NAME.out` is what the same program, with the same
//! compiler, printed on Debian's riscv64 kernel 6.12. Without a cross compiler the tests say so
//! and prove nothing.

use kilburn_linux::{
    Aslr, ExitReport, ExitStatus, InitialFile, Machine, MachineConfig, ReclaimConfig, RootConfig,
    StdioConfig,
};
use kilburn_paging::Sv;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        reclaim: ReclaimConfig::default(),
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

#[test]
fn one_seed_gives_one_run() {
    let Some(elf) = compile("threads", &[]) else { return };
    let again = || run(MachineConfig { harts: 3, ..config(elf.clone()) });
    let (a, b) = (again(), again());
    assert_eq!(a.stdout, b.stdout);
    assert_eq!(format!("{:?}", a.stats), format!("{:?}", b.stats));
}
