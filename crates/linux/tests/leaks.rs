//! Guests that leave in the middle of things (killed, by a fault, by exec, with thousands of files,
//! processes and threads): what they asked for ends as on Linux, and nothing of theirs stays.
//!
//! The only test here, as it counts the descriptors and threads of its own process.

use kilburn_linux::{
    Aslr, ExitStatus, Machine, MachineConfig, Net, ReclaimConfig, RootConfig, StdioConfig,
    TimeConfig,
};
use kilburn_paging::Sv;
use std::fs;
use std::path::Path;
use std::process::Command;

const COMPILER: &str = "riscv64-linux-gnu-gcc";

const SIGILL: u8 = 4;
const SIGKILL: u8 = 9;
const SIGSEGV: u8 = 11;

/// Compiles the guest to `output`; false without a compiler.
fn compile(output: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/leaver.c");
    let mut command = Command::new(COMPILER);
    command.args(["-static", "-O1", "-w", "-pthread", "-o"]).arg(output).arg(source);
    match command.status() {
        Ok(status) => assert!(status.success(), "leaver.c does not compile"),
        Err(error) => {
            let why = format!("{COMPILER} (Debian package gcc-riscv64-linux-gnu): {error}");
            assert!(std::env::var_os("KILBURN_NO_SKIP").is_none(), "may not be skipped: {why}");
            eprintln!("SKIP: {why}");
            return false;
        }
    }
    true
}

/// What this process has of the host's: open descriptors, threads.
fn of_the_host() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|folder| fs::read_dir(folder).expect("Linux").count())
}

/// Runs the guest; answers how it ended and what it printed, after it was seen to have left nothing.
fn run(root: &Path, what: &str, harts: u32) -> (ExitStatus, String) {
    let _ = fs::remove_dir_all(root.join("files"));
    fs::create_dir(root.join("files")).expect("made");
    let config = MachineConfig {
        memory_bytes: 256 << 20,
        paging: Sv::SV39,
        harts,
        seed: 3,
        aslr: Aslr::Seeded,
        root: RootConfig::HostDir(root.to_owned()),
        program: b"/guest".to_vec(),
        args: vec![b"/guest".to_vec(), what.as_bytes().to_vec()],
        env: Vec::new(),
        cwd: b"/".to_vec(),
        net: Net::default(),
        stdio: StdioConfig::Captured { stdin: Vec::new() },
        reclaim: ReclaimConfig::default(),
        file_faults: None,
        strace: None,
        control: None,
        time: TimeConfig::Virtual,
    };
    let report = Machine::new(config).expect("the machine can be made").run();
    assert_eq!(report.stats.frames.in_use, 0, "{what}: frames leaked");
    assert_eq!(report.stats.page_tables.now, 0, "{what}: page tables leaked");
    assert_eq!(String::from_utf8_lossy(&report.stderr), "", "{what}");
    (report.status, String::from_utf8_lossy(&report.stdout).into_owned())
}

#[test]
fn nothing_is_left_of_guests_that_leave_in_the_middle_of_things() {
    let root = tempfile::tempdir().expect("a folder");
    if !compile(&root.path().join("guest")) {
        return;
    }
    // A library keeps /proc open from its first use on, whatever machine that was for.
    assert_eq!(run(root.path(), "nothing", 1), (ExitStatus::Exited(0), String::new()));
    let before = of_the_host();
    let cases = [
        ("files", 1, ExitStatus::Killed(SIGKILL), ""),
        ("kinds", 1, ExitStatus::Killed(SIGSEGV), ""),
        ("exec", 2, ExitStatus::Exited(0), ""),
        ("threads", 2, ExitStatus::Exited(7), ""),
        ("processes", 1, ExitStatus::Exited(8), ""),
        ("storm", 1, ExitStatus::Killed(SIGKILL), ""),
        ("deep", 1, ExitStatus::Killed(SIGSEGV), ""),
        ("jit", 1, ExitStatus::Killed(SIGILL), "jit 1001000\n"),
    ];
    for (what, harts, status, printed) in cases {
        assert_eq!(run(root.path(), what, harts), (status, printed.to_owned()), "{what}");
        assert_eq!(of_the_host(), before, "{what}: descriptors or threads of the host leaked");
    }
}
