//! A guest that wants out of its root folder, and leaves open whatever it can: nothing outside is
//! reached, and no descriptor of the host's is left.
//!
//! The only test here, as it counts the descriptors of its own process.

use kilburn_linux::{
    Aslr, ExitStatus, Machine, MachineConfig, Net, ReclaimConfig, RootConfig, StdioConfig,
    TimeConfig,
};
use kilburn_paging::Sv;
use std::fs;
use std::path::Path;
use std::process::Command;

const COMPILER: &str = "riscv64-linux-gnu-gcc";

/// Compiles the guest to `output`; false without a compiler.
fn compile(output: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/hostile.c");
    let mut command = Command::new(COMPILER);
    command.args(["-static", "-O1", "-w", "-pthread", "-o"]).arg(output).arg(source);
    match command.status() {
        Ok(status) => assert!(status.success(), "hostile.c does not compile"),
        Err(error) => {
            let why = format!("{COMPILER} (Debian package gcc-riscv64-linux-gnu): {error}");
            assert!(std::env::var_os("KILBURN_NO_SKIP").is_none(), "may not be skipped: {why}");
            eprintln!("SKIP: {why}");
            return false;
        }
    }
    true
}

fn host_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

#[test]
fn a_hostile_guest_stays_in_its_root_and_leaves_nothing_open() {
    let host = tempfile::tempdir().expect("a folder");
    let (root, secret) = (host.path().join("root"), host.path().join("secret"));
    fs::create_dir(&root).expect("made");
    if !compile(&root.join("guest")) {
        return;
    }
    fs::write(&secret, "SECRET\n").expect("written");
    let mut after_first = None;
    for harts in [1, 3] {
        let config = MachineConfig {
            memory_bytes: 128 << 20,
            paging: Sv::SV48,
            harts,
            seed: 3,
            aslr: Aslr::Seeded,
            root: RootConfig::HostDir(root.clone()),
            program: b"/guest".to_vec(),
            args: vec![b"/guest".to_vec(), secret.as_os_str().as_encoded_bytes().to_vec()],
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
        let stderr = String::from_utf8_lossy(&report.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&report.stdout), "tried enough: 1\n", "{stderr}");
        assert_eq!(report.status, ExitStatus::Exited(0), "{stderr}");
        assert_eq!(report.stats.frames.in_use, 0, "frames leaked");
        assert_eq!(report.stats.page_tables.now, 0, "page tables leaked");
        // A library keeps /proc open from its first use on, whatever machine that was for.
        let open = host_descriptors();
        assert_eq!(open, *after_first.get_or_insert(open), "host descriptors leaked");
        assert_eq!(fs::read_to_string(&secret).expect("still there"), "SECRET\n");
        let beside = fs::read_dir(host.path()).expect("listed").count();
        assert_eq!(beside, 2, "something was made beside the root");
    }
}
