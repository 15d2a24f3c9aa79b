//! A running machine asked through its control socket: `ps`, `maps`, `translate --pid`.

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Works on and on.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/guest/qsort_malloc");

/// A machine that runs until this is dropped.
struct Machine<'d>(Child, &'d Path);

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // It may have ended by itself: then the test has failed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kilburn(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilburn"));
    command.env("XDG_RUNTIME_DIR", folder);
    command
}

fn start<'d>(folder: &'d Path, options: &[&str]) -> Machine<'d> {
    let mut command = kilburn(folder);
    command.arg("run").args(options).args([PROGRAM, "1000000"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Machine(child.expect("it starts"), folder)
}

impl Machine<'_> {
    fn ask(&self, arguments: &[&str]) -> Output {
        kilburn(self.1).args(arguments).output().expect("it starts")
    }

    /// The process, once it runs.
    fn pid(&self) -> String {
        for _ in 0..600 {
            let output = self.ask(&["ps", "--json"]);
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let all = told.pointer("/state/processes").and_then(Value::as_array);
            // Kernel threads are there, too.
            let busy = all.into_iter().flatten().find(|process| {
                process["rss_kib"].as_u64() > Some(3000) && process["pid"].is_u64()
            });
            if let Some(process) = busy {
                return process["pid"].to_string();
            }
            sleep(Duration::from_millis(100));
        }
        panic!("the program has not got its records in a minute");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// First address of the program's records, its largest area.
fn records(maps: &str) -> u64 {
    let range = |line: &str| -> Option<(u64, u64)> {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    let program = maps.lines().filter_map(range).filter(|(start, _)| *start < 0x100_0000);
    program.max_by_key(|(start, end)| end - start).expect("areas").0
}

fn translated(machine: &Machine<'_>, pid: &str, address: u64) -> Value {
    let address = format!("{address:#x}");
    let output = machine.ask(&["translate", "--pid", pid, &address, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    all[0].clone()
}

/// What must hold for a page that is there.
fn check(said: &Value, va: u64) {
    let walk = said["walk"].as_array().expect("steps");
    assert_eq!(walk.len(), 3, "{said}");
    for step in walk {
        let (level, index) = (step["level"].as_u64().unwrap(), step["index"].as_u64().unwrap());
        assert_eq!(index, va >> (12 + 9 * level) & 511);
        assert_eq!(step["entry_address"].as_u64().unwrap() >> 3 & 511, index);
    }
    let leaf = walk[2]["entry"].as_u64().expect("an entry");
    assert_eq!(said["pa"].as_u64(), Some((leaf >> 10 & ((1 << 44) - 1)) << 12 | va & 4095));
}

#[test]
fn a_process_of_a_running_machine_is_explained_with_its_hardware() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = start(folder.path(), &["--timing", "skylake"]);
    let pid = machine.pid();
    let va = records(&text(&machine.ask(&["maps", &pid]).stdout)) + 0x1008;
    let said = translated(&machine, &pid, va);
    check(&said, va);
    assert_eq!(said["pid"].to_string(), pid);
    let sets: Vec<u64> = said["tlb"]
        .as_array()
        .expect("lookups")
        .iter()
        .filter_map(|look| look["sets"].as_u64())
        .collect();
    assert_eq!(sets[..3], [16, 8, 1], "a Skylake's first level: {said}");
    let line = &said["caches"][0];
    let [co, ci, ct] = ["co", "ci", "ct"].map(|key| line[key].as_u64().expect("a number"));
    assert_eq!(Some(ct << 12 | ci << 6 | co), said["pa"].as_u64());
    let svg = folder.path().join("t.svg");
    let output = machine.ask(&[
        "translate",
        "--pid",
        &pid,
        &format!("{va:#x}"),
        "--svg",
        svg.to_str().unwrap(),
    ]);
    assert!(text(&output.stdout).contains("physical address"), "{}", text(&output.stderr));
    let svg = std::fs::read_to_string(svg).expect("drawn");
    assert!(
        svg.contains(&format!("VPN {:#09x}", va >> 12))
            && svg.contains("TLBI")
            && svg.contains("CT 0x"),
        "{svg}"
    );
}

#[test]
fn without_modelled_hardware_the_tables_are_shown_and_wrong_questions_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = start(folder.path(), &[]);
    let pid = machine.pid();
    let va = records(&text(&machine.ask(&["maps", &pid]).stdout));
    let said = translated(&machine, &pid, va);
    check(&said, va);
    assert_eq!(
        (said["tlb"].as_array().map(Vec::len), &said["needs_walk"]),
        (Some(0), &Value::Null)
    );
    let nothing = translated(&machine, &pid, 0x20_0000_0000);
    assert_eq!(
        (&nothing["pa"], &nothing["fault"]),
        (&Value::Null, &"the entry is not valid".into())
    );
    let beyond = translated(&machine, &pid, u64::MAX / 2);
    assert!(beyond["fault"].as_str().expect("why").contains("not canonical"), "{beyond}");
    for wrong in [
        &["translate", "--pid", "99999", "0x1000"][..],
        &["translate", "--pid", &pid],
        &["translate", "--pid", &pid, "0x1000", "--machine", "1"],
        &["translate", "--pid", &pid, "0x1000", "--levels", "2"],
    ] {
        assert_eq!(machine.ask(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
