//! More memory than there is: the same output as with enough of it, under every policy, in every kind
//! of swap, and with stores that fail.

use crate::kilburn::{Outcome, debian_root, kilburn};
use serde_json::Value;
use std::path::Path;

const POLICIES: [&str; 9] =
    ["two-list", "mglru", "clock", "fifo", "lru", "arc", "s3-fifo", "sieve", "random"];

/// programs/pressure.c: what it works on, several times the memory of the machines here.
pub(crate) const WORK: [&str; 10] =
    ["sort", "6", "tree", "6", "shared", "6", "file", "6", "again", "6"];

pub(crate) fn program() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/pressure");
    path.to_str().expect("text").to_owned()
}

pub(crate) fn pressure(options: &[&str], work: &[&str]) -> Outcome {
    kilburn(&[&["run"], options, &[&program()], work].concat())
}

pub(crate) fn with_enough(work: &[&str]) -> String {
    let outcome = pressure(&["--memory=256M"], work);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    outcome.stdout
}

/// Runs it in little memory: what it prints must not change, and pages must have gone and come
/// back. Its figures, without those of the host.
pub(crate) fn in_little(memory: &str, options: &[&str], work: &[&str], expected: &str) -> Value {
    let memory = format!("--memory={memory}");
    let outcome = pressure(&[&["--stats=json", &memory], options].concat(), work);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, expected), "{options:?}");
    let mut figures: Value = serde_json::from_str(&outcome.stderr).expect("JSON and nothing else");
    figures.as_object_mut().expect("an object").remove("host");
    for figure in ["swapped_out", "swapped_in", "evicted"] {
        assert!(figures["reclaim"][figure].as_u64() > Some(500), "{options:?}: {figures}");
    }
    let frames = |name: &str| figures["frames"][name].as_u64().expect("a number");
    assert!(frames("peak") <= frames("total"), "{options:?}: {figures}");
    assert_eq!(frames("in_use_at_end"), 0, "{options:?}: frames leaked");
    figures
}

#[test]
fn every_policy_gets_everything_back() {
    let expected = with_enough(&WORK);
    for policy in POLICIES {
        let policy = format!("--policy={policy}");
        in_little("4M", &["--swap=lz4:64M", &policy], &WORK, &expected);
    }
}

#[test]
fn every_kind_of_swap_gives_everything_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, rest: &str| {
        format!("--swap=file:{}:64M{rest}", folder.path().join(name).display())
    };
    let expected = with_enough(&WORK);
    for areas in [
        &["--swap=zstd:64M".to_owned()][..],
        &[file("plain", "")],
        &[file("secret", ",encrypt")],
        &["--swap=lz4:64M,encrypt".to_owned()],
        &["--swap=zstd:4M,prio=10".to_owned(), file("second", ",prio=1"), file("equal", ",prio=1")],
    ] {
        let options: Vec<&str> = areas.iter().map(String::as_str).collect();
        in_little("4M", &options, &WORK, &expected);
    }
}

#[test]
fn twice_four_and_eight_times_memory() {
    for (memory, mib) in [("8M", "16"), ("4M", "16"), ("3M", "24")] {
        let work = ["sort", mib, "tree", mib];
        let expected = with_enough(&work);
        in_little(memory, &["--swap=lz4:128M"], &work, &expected);
    }
}

#[test]
fn one_seed_gives_one_run_under_pressure() {
    let work = ["tree", "8"];
    let expected = with_enough(&work);
    for options in [&["--swap=zstd:64M"][..], &["--swap=lz4:64M", "--policy=random", "--harts=2"]] {
        let again = || in_little("4M", options, &work, &expected).to_string();
        assert_eq!(again(), again(), "{options:?}");
    }
}

#[test]
fn the_tour_swaps_for_real() {
    let options = ["run", "--memory=16M", "--swap=zstd:256M", "--stats=json"];
    let outcome = kilburn(&options);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("of these pages are in swap now"), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("everything was as it should be.\n"), "{}", outcome.stdout);
    let figures: Value = serde_json::from_str(&outcome.stderr).expect("JSON and nothing else");
    assert!(figures["reclaim"]["swapped_in"].as_u64() > Some(3000), "{figures}");
}

/// A program under a store that fails: it prints what it would print, or dies of it by a signal;
/// nothing else.
fn right_or_killed(options: &[&str], work: &[&str], expected: &str) -> i32 {
    let outcome = pressure(&[&["--memory=4M"], options].concat(), work);
    assert_right_or_killed(&outcome, expected, &options.join(" "));
    outcome.status
}

/// The program that ran under `faults` printed what is `expected`, or died by a signal.
pub(crate) fn assert_right_or_killed(outcome: &Outcome, expected: &str, faults: &str) {
    match outcome.status {
        0 => assert_eq!(outcome.stdout, expected, "{faults}"),
        // SIGBUS, or the OOM killer's SIGKILL.
        135 | 137 => assert_eq!(outcome.stdout, "", "{faults}"),
        _ => panic!("{faults}: {outcome:?}"),
    }
}

#[test]
fn a_failing_store_never_makes_bytes_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = format!("--swap=file:{}:64M", folder.path().join("swap").display());
    let work = ["sort", "6"];
    let expected = with_enough(&work);
    let mut ends = Vec::new();
    for area in ["--swap=lz4:64M", "--swap=zstd:64M,encrypt", &file] {
        for faults in [
            "eio=0.001",
            "enospc=0.2",
            "short=0.05",
            "torn=0.0005",
            "delay=0.01",
            "gone=3000",
            "enospc=0.1,short=0.1,delay=0.01",
        ] {
            let inject = format!("--inject={faults}");
            ends.push(right_or_killed(&[area, &inject], &work, &expected));
        }
    }
    assert!(ends.contains(&0) && ends.contains(&135), "{ends:?}");
}

#[test]
fn writes_that_fail_cost_nothing_but_time() {
    let work = ["sort", "6", "tree", "6", "shared", "6"];
    let expected = with_enough(&work);
    for faults in ["enospc=0.3", "short=0.3", "delay=0.02"] {
        let inject = format!("--inject={faults}");
        in_little("4M", &["--swap=lz4:64M", &inject], &work, &expected);
    }
}

#[test]
fn swapoff_under_load_brings_all_home_or_says_that_there_is_no_room() {
    let said = |home, room| {
        format!("off: 0 words wrong; all came home: {home}, no room: {room}, other answers: 0\n")
    };
    for (options, work, expected) in [
        (&["--memory=32M", "--swap=lz4:64M"][..], "8", said("yes", "never")),
        (&["--memory=4M", "--swap=lz4:64M"], "16", said("yes", "yes")),
        // What finds no room in memory goes to the other area, when a page in memory is evicted.
        (&["--memory=6M", "--swap=zstd:64M,prio=2", "--swap=lz4:8M"], "8", said("yes", "never")),
    ] {
        let outcome = pressure(options, &["off", work]);
        assert_eq!((outcome.status, outcome.stdout), (0, expected), "{options:?}");
    }
}

#[test]
fn who_wants_more_than_there_is_dies_and_the_rest_goes_on() {
    let outcome =
        pressure(&["--memory=16M", "--swap=lz4:8M", "--stats=json"], &["bomb", "12", "sort", "4"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("bomb: some killed, all of the rest done"), "{outcome:?}");
    assert!(outcome.stdout.contains(" 0 out of order"), "{outcome:?}");
    let figures: Value = serde_json::from_str(&outcome.stderr).expect("JSON and nothing else");
    assert!(figures["reclaim"]["oom_kills"].as_u64() >= Some(1), "{figures}");
}

/// Debian's programs: a sort, an index, a script that holds objects, at 2, 4 and 8 times memory.
#[test]
fn real_programs_do_not_notice() {
    let Some(root) = debian_root() else { return };
    let root = format!("--root={}", root.display());
    let run = |memory: &str, program: &[&str]| {
        let memory = format!("--memory={memory}");
        let options = ["run", "--stats=json", &root, &memory, "--swap=zstd:512M"];
        kilburn(&[&options[..], program].concat())
    };
    let objects = "d = [{'a': i, 'b': str(i)} for i in range(60000)]; print(sum(x['a'] * len(x['b']) for x in d))";
    let sort =
        "seq 60000 | awk '{print $1*7919%1000003, $1}' > /tmp/b; sort -S 16M -n /tmp/b | md5sum";
    let index = "pragma journal_mode=memory; pragma cache_size=-16000; create table t(a,b); with recursive n(x) as (select 1 union all select x+1 from n where x<80000) insert into t select x, 'k'||(x*7919%100003) from n; create index i on t(b); select count(*), max(b) from t; pragma integrity_check;";
    for (little, program) in [
        ("12M", &["python3", "-c", objects][..]),
        ("5M", &["python3", "-c", objects]),
        ("5M", &["bash", "-c", sort]),
        ("6M", &["sqlite3", ":memory:", index]),
    ] {
        let (here, expected) = (run(little, program), run("256M", program));
        assert_eq!((here.status, &here.stdout), (0, &expected.stdout), "{program:?}: {here:?}");
        let figures: Value = serde_json::from_str(&here.stderr).expect("JSON and nothing else");
        assert!(figures["reclaim"]["evicted"].as_u64() > Some(300), "{program:?}: {figures}");
    }
}
