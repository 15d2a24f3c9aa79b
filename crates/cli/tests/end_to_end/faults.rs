//! Files that fail on purpose: programs are told as Linux tells them, and never read wrong bytes.

use crate::kilburn::{Outcome, kilburn};
use std::path::Path;
use tempfile::TempDir;

/// A root folder with programs/pressure in it, whose `file` works on a file beside it.
fn root() -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/pressure");
    std::fs::copy(program, root.path().join("pressure")).expect("copied");
    root
}

fn run(options: &[&str], work: &[&str]) -> Outcome {
    let root = root();
    let folder = format!("--root={}", root.path().display());
    let inject = ["--memory=4M", "--swap=lz4:64M", &folder];
    kilburn(&[&["run"], &inject[..], options, &["/pressure"], work].concat())
}

const WORK: [&str; 4] = ["file", "6", "again", "6"];

fn expected() -> String {
    let outcome = run(&[], &WORK);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    outcome.stdout
}

#[test]
fn a_failing_file_never_makes_bytes_wrong() {
    let expected = expected();
    let mut ends = Vec::new();
    for faults in ["eio=0.01", "eio=0.00001", "torn=0.01", "gone=3000"] {
        let inject = format!("--inject=file:{faults},under=/kilburn-pressure");
        let outcome = run(&[&inject], &WORK);
        match outcome.status {
            0 => assert_eq!(outcome.stdout, expected, "{faults}"),
            // A call said EIO, and the program ended of it.
            1 => {
                assert!(outcome.stdout.contains(": error 5\n"), "{faults}: {outcome:?}");
                assert!(!outcome.stdout.contains("again: "), "{faults}: {outcome:?}");
            }
            135 => assert!(!outcome.stdout.contains("again: "), "{faults}: {outcome:?}"),
            _ => panic!("{faults}: {outcome:?}"),
        }
        ends.push(outcome.status);
    }
    assert!([0, 1, 135].iter().all(|status| ends.contains(status)), "{ends:?}");
}

#[test]
fn writes_that_fail_for_a_while_cost_nothing_but_time() {
    let expected = expected();
    for faults in ["enospc=0.3", "short=0.1", "delay=0.05"] {
        let inject = format!("--inject=file:{faults},under=/kilburn-pressure");
        let outcome = run(&[&inject], &WORK);
        assert_eq!((outcome.status, &outcome.stdout), (0, &expected), "{faults}: {outcome:?}");
    }
}

/// As Linux 6.18 answers for a file of ext4 whose device is full, but for the page that stays dirty.
#[test]
fn each_open_file_is_told_once_of_a_failed_write() {
    let outcome = run(&["--inject=file:enospc=1,under=/kilburn-pressure"], &["told", "1"]);
    let told = "told: fsync -28; the same file, waiting: 0\n\
                told: another open file, waiting: -28, again: 0\n\
                told: opened since, waiting: 0\n\
                told: msync -28, the file it maps, waiting: 0, the first one: -28\n\
                told: 0 words wrong\n";
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, told), "{outcome:?}");
}

#[test]
fn files_elsewhere_do_not_fail() {
    let outcome = run(&["--inject=file:eio=1,under=/elsewhere"], &WORK);
    assert_eq!((outcome.status, outcome.stdout), (0, expected()));
}

#[test]
fn a_program_that_cannot_be_read_cannot_be_run() {
    let outcome = run(&["--inject=file:eio=1"], &WORK);
    assert_eq!(outcome.status, 126, "{outcome:?}");
    assert!(outcome.stderr.contains("/pressure"), "{outcome:?}");
}
