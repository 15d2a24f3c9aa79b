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
    assert!(cases.len() >= 9, "{} cases", cases.len());
    cases
}

#[test]
fn known_cases_do_not_diverge() {
    let cases = cases();
    let mut arguments = vec!["--replay"];
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
