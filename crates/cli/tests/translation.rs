//! The commands about translation hardware, from outside: `translate`, `exercise`, `tables`, `sim`, `run --record`.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn kilburn(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kilburn")).args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn the_standard_textbooks_example_is_explained() {
    let answer = json(&kilburn(&["translate", "--preset", "csapp", "0x03d4", "--json"]));
    let said = &answer[0];
    for (path, value) in [
        ("/vpn", 0x0f),
        ("/vpo", 0x14),
        ("/tlb/tlbi", 3),
        ("/tlb/tlbt", 3),
        ("/ppn", 0x0d),
        ("/pa", 0x354),
        ("/cache/co", 0),
        ("/cache/ci", 5),
        ("/cache/ct", 0x0d),
        ("/byte", 0x36),
    ] {
        assert_eq!(said.pointer(path), Some(&Value::from(value)), "{path}");
    }
    assert_eq!(said["tlb"]["is_hit"], true);
}

#[test]
fn wrong_usage_is_told_in_a_line() {
    for wrong in [
        &["translate", "--levels", "9", "1"][..],
        &["translate", "--va-bits", "70", "1"],
        &["translate", "--tlb", "3x2", "1"],
        &["translate", "--map", "0x1000:1", "1"],
        &["tables", "--map", "0x1000:8K", "--map", "0x2000:4K"],
        &["sim", "/nowhere"],
        &["sim", "/dev/null"],
        &["sim", "/dev/zero"],
        &["run", "--timing", "z80"],
    ] {
        let output = kilburn(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("kilburn: "), "{}", text(&output.stderr));
    }
}

#[test]
fn a_bad_trace_still_gives_the_counts_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bad.lackey");
    std::fs::write(&path, "I  401000,4\n L 7000,8\nnonsense\n").expect("written");
    let output = kilburn(&["sim", path.to_str().expect("text"), "--json", "--memory", "64M"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("record 3: `nonsense`"), "{}", text(&output.stderr));
    let figures = json(&output);
    assert_eq!(figures[0]["accesses"], 2);
    assert_eq!(figures[0]["harts"][0]["tlb"]["load"]["references"], 3, "faulted, then not");
}

/// Runs the tour with `harts` harts, recorded and timed; answers the run's counts and the replay's.
fn record_and_replay(folder: &Path, harts: &str, timing: &str) -> (Value, Value) {
    let trace = folder.join("tour.ktrace");
    let trace = trace.to_str().expect("text");
    let run = ["run", "--record", trace, "--timing", timing, "--harts", harts, "--stats=json"];
    let output = kilburn(&run);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stats: Value = serde_json::from_slice(&output.stderr).expect("figures on stderr");
    let output = kilburn(&["sim", trace, "--timing", timing, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    (stats["timing"].clone(), json(&output)[0]["harts"].clone())
}

#[test]
fn a_recorded_run_is_replayed_with_the_same_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    for (harts, timing) in [("1", "simple"), ("2", "u54")] {
        let (run, replay) = record_and_replay(folder.path(), harts, timing);
        let all = run.as_array().expect("one a hart");
        assert_eq!(all.len().to_string(), harts);
        assert!(all[0]["instructions"].as_u64() > Some(100_000), "{run}");
        for (run, replay) in all.iter().zip(replay.as_array().expect("one a hart")) {
            for key in [
                "instructions",
                "tlb",
                "walk_reads_by_level",
                "walk_cache_hits_by_level",
                "walks_by_cause",
                "shootdowns",
                "ad_updates",
                "context_switches",
            ] {
                assert_eq!(run[key], replay[key], "{key} with {timing}");
            }
        }
    }
}

#[test]
fn a_timed_run_prints_what_an_untimed_one_prints() {
    let plain = kilburn(&["run", "--stats=off"]);
    let timed = kilburn(&["run", "--stats=off", "--timing", "skylake"]);
    assert_eq!(plain.status.code(), timed.status.code());
    let translation = text(&timed.stderr);
    assert!(translation.contains("cycles of translation"), "{translation}");
    assert_eq!(text(&plain.stdout).lines().count(), text(&timed.stdout).lines().count());
}
