//! The memory manager against the kernel underneath: known cases, and a few thousand random steps.
//!
//! More of them: `kilburn fidelity --steps 1000000`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `kilburn fidelity`; `None` when the kernel cannot be asked here.
fn fidelity(arguments: &[&str]) -> Option<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_kilburn"))
        .arg("fidelity")
        .args(arguments)
        .output()
        .expect("the command starts");
    if output.status.code() == Some(2) {
        println!("SKIP: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output)
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fidelity");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 18, "{} cases", cases.len());
    cases
}

#[test]
fn known_cases_do_not_diverge() {
    let cases = cases();
    let mut arguments = vec!["--stage", "2", "--replay"];
    arguments.extend(cases.iter().map(|case| case.to_str().expect("a plain path")));
    let Some(output) = fidelity(&arguments) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(&format!("in {} cases", cases.len())), "{text}");
}

#[test]
fn random_steps_do_not_diverge() {
    let Some(output) = fidelity(&["--steps", "8000", "--seed", "20", "--json"]) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(r#""divergences":[]"#), "{text}");
}

#[test]
fn pages_do_not_diverge_either() {
    let Some(output) = fidelity(&["--stage", "2", "--steps", "2500", "--seed", "20"]) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
}

/// A property test of the memory manager that needs no kernel: a naive model agrees, and all
/// invariants hold after every step.
/// Needs root, and a disk that swap files can be on.
#[test]
fn pages_in_swap_do_not_diverge_either() {
    let calls = "--calls=mmap,madvise,mincore,read,write,fork,munmap,mprotect,mremap,mlock";
    let arguments =
        ["--stage", "2", "--host-swap", "auto", "--steps", "2500", "--seed", "20", calls];
    let Some(output) = fidelity(&arguments) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let paged_out = text.lines().find(|line| line.contains("MADV_PAGEOUT"));
    assert!(paged_out.is_some_and(|line| line.contains(" ok ")), "{text}");
    let swaps = std::fs::read_to_string("/proc/swaps").expect("there");
    assert!(!swaps.contains("/kilburn-swap-"), "the host's swap file is left: {swaps}");
}

#[test]
fn a_naive_model_agrees_and_invariants_hold_after_every_step() {
    let arguments = ["--without-kernel", "--steps", "40000", "--seed", "9", "--check-every", "1"];
    let output = fidelity(&arguments).expect("no kernel is needed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let knew = text.lines().find_map(|line| line.strip_prefix("naive model: knew "));
    let knew = knew.and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    assert!(knew.is_some_and(|steps| steps > 20_000), "{text}");
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let figures = |workers| {
        let arguments = ["--without-kernel", "--steps", "6000", "--json", "--workers", workers];
        let output = fidelity(&arguments).expect("no kernel is needed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        (json["coverage"].clone(), json["steps"].clone(), json["modelled"].clone())
    };
    assert_eq!(figures("1"), figures("3"));
}

/// The mutation test: our side is made wrong on purpose, in one way at a time.
#[test]
fn planted_faults_are_found() {
    const FAULTS: [&str; 14] = [
        "merge",
        "errno",
        "cow",
        "accounting",
        "truncate",
        "mremap",
        "munlock",
        "lock-on-fault",
        "wipe-on-fork",
        "brk",
        "guard-gap",
        "dontneed",
        "mprotect",
        "mseal",
    ];
    for fault in FAULTS {
        let arguments = ["--plant", fault, "--steps", "100000", "--check-every", "1000", "--json"];
        let Some(output) = fidelity(&arguments) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{fault} was not found: {text}");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let found = &json["divergences"][0];
        // Not by our own invariants: what it does is wrong, not how it counts.
        assert_ne!(found["what"], "invariant", "{fault}: {found}");
        println!("{fault}: after {} steps", json["steps"]);
    }
}

#[test]
fn a_bad_case_is_told_its_line_and_what_would_be_right() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "brk 0x1000000000\n0 munmap addr=0x1000\n").expect("written");
    let path = file.path().to_str().expect("a plain path");
    let output = Command::new(env!("CARGO_BIN_EXE_kilburn"))
        .args(["fidelity", "--without-kernel", "--replay", path])
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("line 2: nothing where PROCESS munmap"), "{said}");
}

#[test]
fn a_case_that_would_harm_the_oracle_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let case = "window 0x1000000000 96\nbrk 0x1000000000\n0 munmap addr=0x1000 len=0x100000\n";
    std::fs::write(file.path(), case).expect("written");
    let path = file.path().to_str().expect("a plain path");
    let output = Command::new(env!("CARGO_BIN_EXE_kilburn"))
        .args(["fidelity", "--replay", path])
        .output()
        .expect("the command starts");
    assert_eq!(output.status.code(), Some(2));
}
