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

#[test]
fn a_real_process_is_explained_at_a_moment_of_its_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("tour.ktrace").display().to_string();
    assert_eq!(kilburn(&["run", "--record", &trace, "--stats=off"]).status.code(), Some(0));
    for at in ["1", "3000", "200000", "2000000"] {
        let arguments =
            ["translate", "--trace", &trace, "--timing", "skylake", "--at", at, "--json"];
        let output = kilburn(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = &json(&output)[0];
        assert!(said["pid"].as_u64() > Some(0), "{said}");
        let walk = said["walk"].as_array().expect("steps");
        let vpn = said["vpn"].as_u64().expect("a number");
        for step in walk {
            let level = step["level"].as_u64().expect("a level");
            assert_eq!(step["index"].as_u64(), Some(vpn >> (9 * level) & 511), "{said}");
            assert_eq!(
                step["entry_address"].as_u64().unwrap() >> 3 & 511,
                step["index"].as_u64().unwrap()
            );
        }
        let Some(pa) = said["pa"].as_u64() else {
            assert!(said["fault"].is_string(), "{said}");
            continue;
        };
        assert_eq!(walk.len(), 3);
        let leaf = walk[2]["entry"].as_u64().expect("an entry");
        assert_eq!(pa, (leaf >> 10 & ((1 << 44) - 1)) << 12 | said["vpo"].as_u64().unwrap());
        let line = &said["caches"][0];
        let [co, ci, ct] = ["co", "ci", "ct"].map(|key| line[key].as_u64().expect("a number"));
        assert_eq!(ct << 12 | ci << 6 | co, pa, "64 sets of 64 bytes");
        // What is in the TLB agrees with the tables: the page hits or a walk finds it.
        let tlb = said["tlb"].as_array().expect("lookups");
        assert_eq!(tlb[0]["tlbi"].as_u64(), Some(vpn & (tlb[0]["sets"].as_u64().unwrap() - 1)));
    }
    let output = kilburn(&["translate", "--trace", &trace, "--pid", "99", "0x10000"]);
    assert_eq!(output.status.code(), Some(2), "no such process");
}

#[test]
fn questions_about_a_real_run_are_answered_by_their_solutions() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("tour.ktrace").display().to_string();
    assert_eq!(kilburn(&["run", "--record", &trace, "--stats=off"]).status.code(), Some(0));
    let ask = ["exercise", "--trace", &trace, "--timing", "skylake", "--seed", "5", "--count", "3"];
    let solved = json(&kilburn(&[&ask[..], &["--json"]].concat()));
    assert_eq!(solved, json(&kilburn(&[&ask[..], &["--json"]].concat())), "by the seed");
    // The solution in the order that it is asked for: that of --solve.
    let told = text(&kilburn(&[&ask[..], &["--solve"]].concat()).stdout);
    let is_item = |line: &&str| line.starts_with("  ") && !line.trim().starts_with("0x");
    let answers: Vec<&str> =
        told.lines().filter(is_item).filter_map(|line| line.split_whitespace().last()).collect();
    let answered = |answers: &[&str]| {
        use std::io::Write as _;
        let mut child = Command::new(env!("CARGO_BIN_EXE_kilburn"))
            .args(ask)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all((answers.join("\n") + "\n").as_bytes()).expect("read");
        drop(pipe);
        child.wait().expect("it ends").code()
    };
    assert_eq!(answered(&answers), Some(0), "{told}");
    assert_eq!(answered(&[&["0x1"], &answers[1..]].concat()), Some(1), "{told}");
}

#[test]
fn a_recorded_debian_program_is_replayed_with_the_same_counts() {
    let Some(root) = std::env::var_os("KILBURN_ROOT") else {
        eprintln!(
            "SKIP: KILBURN_ROOT names no Debian riscv64 root folder (make one: kilburn rootfs DIR python3)"
        );
        return;
    };
    let root = root.to_str().expect("text");
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("run.ktrace").display().to_string();
    for program in [
        &["python3", "-c", "print(sum(i * i for i in range(3000)))"][..],
        &["dash", "-c", "for i in 1 2 3; do ls /bin | sort | wc -l; done"],
    ] {
        let run = [
            "run",
            "--root",
            root,
            "--harts",
            "2",
            "--record",
            &trace,
            "--timing",
            "skylake",
            "--stats=json",
        ];
        let output = kilburn(&[&run[..], program].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let run: Value = serde_json::from_slice(&output.stderr).expect("figures on stderr");
        let output = kilburn(&["sim", &trace, "--timing", "skylake", "--json"]);
        let replayed = json(&output);
        for (hart, replayed) in run["timing"]
            .as_array()
            .expect("one a hart")
            .iter()
            .zip(replayed[0]["harts"].as_array().expect("one a hart"))
        {
            for key in [
                "instructions",
                "tlb",
                "walk_reads_by_level",
                "walk_cache_hits_by_level",
                "walks_by_cause",
                "shootdowns",
            ] {
                assert_eq!(hart[key], replayed[key], "{key} of {program:?}");
            }
        }
        // Over address spaces of the memory manager: every area comes from the trace, and nothing is refused.
        let output = kilburn(&["sim", &trace, "--memory", "1G", "--json"]);
        let managed = &json(&output)[0];
        assert_eq!(
            (&managed["areas_made"], &managed["refused"]),
            (&0.into(), &0.into()),
            "{program:?}"
        );
        assert!(managed["faults"]["demand_zero"].as_u64() > Some(10), "{managed}");
    }
}
