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
    let load = &figures[0]["harts"][0]["tlb"]["load"];
    assert_eq!((&load["references"], &load["faults"]), (&2.into(), &1.into()), "faulted, then not");
}

/// Runs the tour with `harts` harts, recorded and timed; answers the run's counts and the replay's.
fn record_and_replay(folder: &Path, harts: &str, timing: &str) -> (Value, Value) {
    let trace = folder.join("tour.ktrace");
    let trace = trace.to_str().expect("text");
    let run = ["run", "--record", trace, "--timing", timing, "--harts", harts, "--stats=json"];
    let output = kilburn(&run);
    // Where A is left to software, a child's first reads fault as well: the tour counts them and says so (status 1).
    let status = Some(i32::from(timing == "u54"));
    assert_eq!(output.status.code(), status, "{}", text(&output.stderr));
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

/// A lackey trace of so many loads, a page apart, in turn.
fn pages_in_turn(pages: u64, loads: u64) -> String {
    (0..loads).map(|i| format!(" L {:x},8\n", 0x40_0000 + i % pages * 4096)).collect()
}

#[test]
fn a_sweep_fills_its_table_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.lackey"), pages_in_turn(100, 5000)).expect("written");
    let grid = "traces = ['a.lackey']\nmemory = '64M'\n[base.l1_data]\nentries = 16\nways = 4\n\
                pages = ['4K']\n[grid]\n'l1_data.entries' = [16, 128, 256]\nprefetch = ['off', 'next-page']\n";
    std::fs::write(at("grid.toml"), grid).expect("written");
    let file = at("grid.toml").display().to_string();
    let output = kilburn(&["sweep", &file, "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("6 runs, 0 of them known before"));
    let journal = at("grid.sweep/runs.jsonl");
    let runs = std::fs::read_to_string(&journal).expect("a journal");
    let l1_misses: Vec<u64> = runs
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line"))
        .map(|run| run["figures"]["harts"][0]["tlb"]["load"].clone())
        .map(|load| load["references"].as_u64().unwrap() - load["l1_hits"].as_u64().unwrap())
        .collect();
    // Pages in turn miss always or once: with the 100 pages' first faults 200 times.
    assert_eq!(l1_misses.iter().filter(|misses| **misses > 5000).count(), 2, "{l1_misses:?}");
    assert_eq!(l1_misses.iter().filter(|misses| **misses <= 200).count(), 4, "{l1_misses:?}");
    assert_eq!(std::fs::read(at("grid.sweep/table.parquet")).expect("a table")[..4], *b"PAR1");
    assert!(
        at("grid.sweep/l1_data-entries.svg").exists() && at("grid.sweep/prefetch.svg").exists()
    );
    // Two are lost, one of them half: they are run again, nothing else is.
    let kept: Vec<&str> = runs.lines().take(4).collect();
    std::fs::write(&journal, kept.join("\n") + "\n{\"key\":").expect("cut");
    let output = kilburn(&["sweep", &file, "--quiet", "--jobs", "1"]);
    assert!(text(&output.stdout).starts_with("6 runs, 4 of them known before"));
    assert_eq!(std::fs::read_to_string(&journal).expect("a journal").lines().count(), 6);
}

#[test]
fn a_sweep_over_a_bad_trace_says_so_and_finishes_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("good"), pages_in_turn(4, 10)).expect("written");
    std::fs::write(at("bad"), pages_in_turn(4, 10) + "junk\n").expect("written");
    std::fs::write(at("grid.toml"), "traces = ['bad', 'good']\nmemory = '16M'\n").expect("written");
    let file = at("grid.toml").display().to_string();
    let output = kilburn(&["sweep", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("bad: record 11: `junk`"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(at("grid.sweep/runs.jsonl")).unwrap().lines().count(), 1);
    let output = kilburn(&["sweep", &at("nothing.toml").display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_endless_trace_ends_with_a_signal_and_keeps_its_counts() {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_kilburn"))
        .args(["sim", "-", "--json", "--memory", "64M"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(pages_in_turn(4, 100_000).as_bytes()).expect("read");
    // All of it is read when a second helping has been: a pipe holds 64 KiB.
    pipe.write_all(pages_in_turn(4, 100_000).as_bytes()).expect("read");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let output = child.wait_with_output().expect("it ends");
    drop(pipe);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let figures = json(&output);
    assert!(figures[0]["accesses"].as_u64() > Some(90_000), "{figures}");
    assert!(figures[0]["error"].as_str().expect("why").contains("stopped by a signal"));
}
