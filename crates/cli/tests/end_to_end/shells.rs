//! Real shells on the machine: input, seeds, figures and confinement, rather than what they print.

use crate::kilburn::{Outcome, debian_root, kilburn, kilburn_with_input};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Pipes, processes, files and memory, all at once.
const BUSY: &str = "seq 1 3000 | sort -rn | head -n 2; i=0; while [ $i -lt 60 ]; do (exit 1) & \
    i=$((i + 1)); done; wait; x=$(seq 1 5000); echo ${#x} > /tmp/x; cat /tmp/x; \
    (sleep 5; echo late) & sleep 1; kill $!; yes | head -n 1000 | wc -l";

fn in_root(root: &Path, options: &[&str], words: &[&str]) -> Outcome {
    let root = format!("--root={}", root.display());
    kilburn(&[&["run", root.as_str()], options, words].concat())
}

#[test]
fn a_shell_reads_its_script_from_stdin() {
    let Some(root) = debian_root() else { return };
    let root = format!("--root={}", root.display());
    let script =
        b"echo first\nread line\nthis is read, not run\necho \"$line\" | tr a-z A-Z\nexit 3\n";
    let outcome = kilburn_with_input(&["run", &root, "bash"], script);
    assert_eq!(outcome.stdout, "first\nTHIS IS READ, NOT RUN\n", "{outcome:?}");
    assert_eq!(outcome.status, 3);
    let megabyte = b"0123456789abcde\n".repeat(65536);
    let outcome =
        kilburn_with_input(&["run", &root, "sh", "-c", "cat | sort -u | wc; wc -c"], &megabyte);
    assert_eq!(
        outcome.stdout.split_whitespace().collect::<Vec<_>>(),
        ["1", "1", "16", "0"],
        "{outcome:?}"
    );
}

#[test]
fn a_reader_that_leaves_ends_the_guest_by_sigpipe() {
    let Some(root) = debian_root() else { return };
    let mut child = Command::new(env!("CARGO_BIN_EXE_kilburn"))
        .arg("run")
        .arg(format!("--root={}", root.display()))
        .arg("yes")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "y\n");
    let status = child.wait().expect("ended");
    assert_eq!((status.code(), status.signal()), (Some(128 + 13), None));
}

#[test]
fn one_seed_one_run_of_a_whole_shell_session() {
    let Some(root) = debian_root() else { return };
    let run = |seed: &str, harts: &str| {
        let script = format!("{BUSY}; head -c 16 /dev/urandom | od -An -tx1; cat /proc/self/maps");
        let options = [seed, harts, "--stats=json"];
        let mut outcome = in_root(&root, &options, &["bash", "-c", &script]);
        let mut figures: Value = serde_json::from_str(&outcome.stderr).expect("JSON");
        assert!(figures.as_object_mut().expect("an object").remove("host").is_some());
        outcome.stderr = figures.to_string();
        outcome
    };
    for harts in ["--harts=1", "--harts=3"] {
        let first = run("--seed=5", harts);
        assert_eq!(first.status, 0, "{first:?}");
        assert!(first == run("--seed=5", harts), "two runs with one seed differ, {harts}");
        assert_ne!(first.stdout, run("--seed=6", harts).stdout);
    }
}

#[test]
fn whatever_a_session_leaves_behind_its_memory_comes_back() {
    let Some(root) = debian_root() else { return };
    // Background jobs outlive the shell; it dies of a signal; it execs something that fails.
    for end in
        ["sleep 1000 & exit 0", "yes > /dev/null & kill -9 $$", "exec /nowhere", ": > /tmp/kept"]
    {
        let script = format!("{BUSY}; {end}");
        let outcome = in_root(&root, &["--stats=json"], &["bash", "-c", &script]);
        let start = outcome.stderr.find("{\n").expect("JSON after the shell's own words");
        let figures: Value = serde_json::from_str(&outcome.stderr[start..]).expect("JSON");
        assert_eq!(figures["frames"]["in_use_at_end"], 0, "{end}");
        assert_eq!(figures["page_tables"]["in_use_at_end"], 0, "{end}");
        assert!(figures["processes"].as_array().expect("a list").len() > 70, "{end}");
    }
}

#[test]
fn a_shell_session_fits_into_little_memory_or_fails_cleanly() {
    let Some(root) = debian_root() else { return };
    let outcome = in_root(&root, &["--memory=16M"], &["dash", "-c", BUSY]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    for memory in ["--memory=1M", "--memory=2M", "--memory=3M"] {
        let outcome = in_root(&root, &[memory], &["dash", "-c", BUSY]);
        assert!(!outcome.stderr.contains("panicked"), "{memory}: {outcome:?}");
    }
}

#[test]
fn nothing_outside_of_the_root_is_reached() {
    let Some(debian) = debian_root() else { return };
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret");
    fs::write(&secret, "the secret\n").expect("written");
    let root = outside.path().join("root");
    fs::create_dir_all(root.join("bin")).expect("made");
    fs::copy(debian.join("usr/bin/busybox"), root.join("bin/busybox")).expect("copied");
    symlink(&secret, root.join("absolute")).expect("linked");
    symlink("../secret", root.join("relative")).expect("linked");
    symlink("/../../../../../../../..", root.join("up")).expect("linked");
    symlink("/proc/self/root/../secret", root.join("through-proc")).expect("linked");
    let inside = secret.display();
    let script = format!(
        "for f in {inside} /absolute /relative /up{inside} /through-proc ../secret /../secret \
         /proc/1/root/../secret /proc/self/cwd/../secret /bin/../../secret; do busybox cat $f; done; \
         cd ..; cd /up; busybox cat secret; busybox ls -a /up/..; echo changed > /absolute; \
         echo new > /../new; busybox ln -s {inside} /link; busybox cat /link"
    );
    let outcome = in_root(&root, &[], &["/bin/busybox", "sh", "-c", &script]);
    assert!(!outcome.stdout.contains("secret"), "{outcome:?}");
    assert_eq!(fs::read_to_string(&secret).expect("read"), "the secret\n");
    assert!(!outside.path().join("new").exists() && root.join("new").exists(), "{outcome:?}");
}
