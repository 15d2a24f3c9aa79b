//! The built-in tour: the same bytes as on the real kernel, the same run for the same seed, and
//! figures that add up.

use crate::case::plain_maps_line;
use crate::kilburn::{Outcome, kilburn, kilburn_with_input};
use serde_json::Value;

/// What the tour printed on Debian's riscv64 kernel 6.12, sv39, address layout not randomised.
const REAL: &str = include_str!("../../../../testdata/tour.txt");

/// The stop from which on addresses and sizes are printed.
const LAST_STOP: &str = "\n8. ";

fn before_last_stop(text: &str) -> &str {
    text.split(LAST_STOP).next().expect("a first part")
}

fn tour(options: &[&str]) -> Outcome {
    kilburn(&[&["run"], options].concat())
}

/// The figures of a run, and what they were without those of the host.
fn figures(options: &[&str]) -> (Value, String) {
    let outcome = tour(&[&["--stats=json"], options].concat());
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let mut figures: Value = serde_json::from_str(&outcome.stderr).expect("JSON and nothing else");
    let host = figures.as_object_mut().expect("an object").remove("host").expect("host figures");
    assert!(host["mips"].as_f64().expect("a number") > 0.0);
    let rest = outcome.stdout + &figures.to_string();
    (figures, rest)
}

fn figure(figures: &Value, path: &str) -> u64 {
    let value = path.split('.').fold(figures, |value, key| &value[key]);
    value.as_u64().unwrap_or_else(|| panic!("{path} in {figures}"))
}

#[test]
fn the_tour_prints_what_it_prints_on_the_real_kernel() {
    for options in [
        &[][..],
        &["--paging=sv48"],
        &["--paging=sv57"],
        &["--no-aslr"],
        &["--seed=12345"],
        &["--memory=24M"],
        &["--harts=2"],
    ] {
        let outcome = tour(options);
        assert_eq!(outcome.status, 0, "{options:?}: {outcome:?}");
        assert_eq!(before_last_stop(&outcome.stdout), before_last_stop(REAL), "{options:?}");
        assert!(outcome.stdout.ends_with("everything was as it should be.\n"), "{options:?}");
    }
}

#[test]
fn the_address_space_is_laid_out_as_on_the_real_kernel() {
    let maps = |text: &str| -> Vec<String> {
        let list = text.split(LAST_STOP).nth(1).expect("the last stop");
        list.lines().take_while(|l| !l.contains("/proc/self/status")).map(plain_maps_line).collect()
    };
    let outcome = tour(&["--no-aslr"]);
    assert!(maps(REAL).len() > 10);
    assert_eq!(maps(&outcome.stdout), maps(REAL));
}

#[test]
fn sizes_in_status_are_the_real_kernels() {
    // VmHWM and VmRSS are not compared: the kernel that was asked counts them in batches.
    let exact = |text: &str| -> Vec<String> {
        let sizes = text.lines().map(str::trim).filter(|line| line.starts_with("Vm"));
        sizes
            .filter(|l| !l.starts_with("VmHWM") && !l.starts_with("VmRSS"))
            .map(str::to_owned)
            .collect()
    };
    assert!(exact(REAL).len() > 8);
    assert_eq!(exact(&tour(&["--no-aslr"]).stdout), exact(REAL));
}

#[test]
fn one_seed_one_run_figures_included() {
    let (_, first) = figures(&["--seed=99"]);
    let (_, again) = figures(&["--seed=99"]);
    assert!(first == again, "two runs with one seed differ");
    let (_, other) = figures(&["--seed=100"]);
    assert_ne!(first, other, "the seed moves the layout");
    let (_, two) = figures(&["--seed=99", "--harts=2"]);
    let (_, two_again) = figures(&["--seed=99", "--harts=2"]);
    assert!(two == two_again, "two runs on two harts with one seed differ");
}

#[test]
fn figures_add_up() {
    let (all, _) = figures(&[]);
    let faults = |name: &str| figure(&all, &format!("faults.{name}"));
    let causes = [
        "demand_zero",
        "zero_page",
        "file_read",
        "file_cow",
        "file_write",
        "cow_copy",
        "cow_reuse",
        "spurious",
        "segv_maperr",
        "segv_accerr",
        "bus",
    ];
    assert_eq!(causes.iter().map(|c| faults(c)).sum::<u64>(), faults("total"));
    // 8 MiB of working set and then some; the tour provokes these signals, no more and no less.
    assert!(faults("demand_zero") > 2048);
    assert!(faults("cow_copy") >= 8 && faults("cow_reuse") >= 8 && faults("zero_page") >= 1);
    assert!(faults("file_read") >= 1 && faults("file_cow") >= 1 && faults("file_write") >= 1);
    assert_eq!((faults("segv_maperr"), faults("segv_accerr"), faults("bus")), (5, 4, 1));
    assert!(faults("stack_growth") >= 100);

    let frames = |name: &str| figure(&all, &format!("frames.{name}"));
    assert_eq!(frames("total") * 4096, figure(&all, "machine.memory_bytes"));
    assert!(frames("peak") > 2048 && frames("peak") < frames("total"));
    let tlb = |name: &str| figure(&all, &format!("tlb.{name}"));
    assert_eq!(tlb("misses"), tlb("walks"));
    assert!(tlb("hits") > tlb("misses") && tlb("walk_steps") >= tlb("walks") && tlb("flushes") > 0);
    assert!(figure(&all, "instructions") > 10_000_000);
    assert!(figure(&all, "page_tables.peak") >= 5);
}

#[test]
fn every_process_is_accounted_for() {
    let (all, _) = figures(&[]);
    let processes = all["processes"].as_array().expect("a list");
    // Four for the kinds of mmap, one for copy-on-write, two that die of signals; the tour itself.
    assert_eq!(processes.len(), 8);
    let sum = |key: &str| processes.iter().map(|p| figure(p, key)).sum::<u64>();
    assert_eq!(sum("instructions"), figure(&all, "instructions"));
    let calls = all["syscalls"].as_array().expect("a list");
    assert_eq!(sum("syscalls"), calls.iter().map(|c| figure(c, "calls")).sum::<u64>());
    for process in processes {
        let (rss, pss, uss) =
            (figure(process, "rss_kib"), figure(process, "pss_kib"), figure(process, "uss_kib"));
        assert!(
            0 < uss && uss <= pss && pss <= rss && rss <= figure(process, "peak_rss_kib"),
            "{process}"
        );
    }
    let ends: Vec<String> = processes.iter().map(|p| p["exit"].to_string()).collect();
    assert_eq!(ends.iter().filter(|e| *e == r#"{"killed":11}"#).count(), 1, "{ends:?}");
    assert_eq!(ends.last().map(String::as_str), Some(r#"{"exited":0}"#), "{ends:?}");
}

#[test]
fn nothing_is_left_after_the_last_exit() {
    for paging in ["--paging=sv39", "--paging=sv48", "--paging=sv57"] {
        let (all, _) = figures(&[paging]);
        assert_eq!(figure(&all, "frames.in_use_at_end"), 0);
        assert_eq!(figure(&all, "page_tables.in_use_at_end"), 0);
    }
}

#[test]
fn the_text_form_ends_with_the_one_line_that_may_differ() {
    let (first, again) = (tour(&[]), tour(&[]));
    assert_eq!(first.stdout, again.stdout);
    let without_last = |text: &str| -> String {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[..lines.len() - 1].join("\n")
    };
    assert!(first.stderr.contains("MIPS"));
    assert_eq!(without_last(&first.stderr), without_last(&again.stderr));
}

#[test]
fn figures_can_be_switched_off_and_put_into_a_file() {
    assert_eq!(tour(&["--stats=off"]).stderr, "");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("figures.json");
    let outcome = tour(&["--stats=json", "--stats-file", file.to_str().expect("text")]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let text = std::fs::read_to_string(file).expect("written");
    assert!(serde_json::from_str::<Value>(&text).expect("JSON")["faults"]["total"].is_u64());
}

#[test]
fn input_that_nobody_reads_does_no_harm() {
    let outcome = kilburn_with_input(&["run", "--stats=off"], &[b'x'; 1 << 20]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}
