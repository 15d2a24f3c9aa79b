//! What `kilburn sim` prints is true: every figure recomputed from others, or by hand, in every form.

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PRESETS: [&str; 4] = ["skylake", "cortex-a72", "u54", "simple"];
const KINDS: [&str; 3] = ["load", "store", "fetch"];

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilburn"));
    command.arg("sim").args(arguments).output().expect("it starts")
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A lackey trace: a loop of eight instructions over `pages` pages, with a modification and accesses across lines and pages.
fn trace(folder: &Path, pages: u64) -> PathBuf {
    let mut lines = String::new();
    for turn in 0..4 * pages {
        let at = 0x7000_0000 + turn * 7 % pages * 4096;
        for instruction in 0..8 {
            let _ = writeln!(lines, "I  {:x},4", 0x40_0000 + turn % 3 * 4096 + instruction * 4);
        }
        let _ = writeln!(lines, " L {:x},8\n S {:x},8\n M {:x},4", at + 8, at + 60, at + 4000);
        if turn % 5 == 0 {
            let _ = writeln!(lines, " L {:x},8", at + 4092);
        }
    }
    let path = folder.join(format!("{pages}.lackey"));
    std::fs::write(&path, lines).expect("written");
    path
}

fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("{path} in {value}"))
}

/// Cycles of what `kinds` asked of the caches, from their counts: each reference pays for where it hit.
fn cycles(hart: &Value, first: &str, kinds: &[&str], latencies: [u64; 4]) -> u64 {
    let levels = [first, "l2", "l3"];
    let count = |level: &str, kind: &str, what: &str| {
        number(hart, &format!("/caches/{level}/{kind}/{what}"))
    };
    let of_kind = |kind: &&str| {
        let mut cycles = 0;
        let mut asked = 0;
        for (level, latency) in levels.iter().zip(latencies) {
            let references = count(level, kind, "references");
            asked = if references == 0 { asked } else { references };
            let misses = count(level, kind, "misses");
            cycles += (references - misses) * latency;
            asked = if references == 0 { asked } else { misses };
        }
        cycles + asked * latencies[3]
    };
    kinds.iter().map(of_kind).sum()
}

/// What must hold between the figures of a hart, with these latencies: second-level TLB; L1, L2, L3, memory (walks where there
/// are no caches).
fn check(hart: &Value, preset: &str) {
    let (tlb, l1, l2, l3, memory) = match preset {
        "skylake" => (9, 4, 12, 44, 246),
        "cortex-a72" => (6, 4, 18, 0, 244),
        "u54" => (0, 2, 21, 0, 100),
        _ => (8, 0, 0, 0, 30),
    };
    let mut all = BTreeMap::new();
    for kind in KINDS {
        let of = |name: &str| number(hart, &format!("/tlb/{kind}/{name}"));
        assert_eq!(of("references"), of("l1_hits") + of("l2_hits") + of("walks"), "{kind}");
        for name in ["references", "l1_hits", "walks", "faults"] {
            *all.entry(name).or_insert(0) += of(name);
        }
    }
    let causes = hart["walks_by_cause"].as_object().expect("an object");
    let by_cause: u64 = causes.values().filter_map(Value::as_u64).sum();
    assert_eq!(by_cause, all["walks"] - all["faults"], "a cause for each walk that found a page");
    let reads: u64 = hart["walk_reads_by_level"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    let l1_misses = all["references"] - all["l1_hits"];
    let walk_cycles = number(hart, "/walk_cycles");
    assert_eq!(number(hart, "/translation_cycles"), tlb * l1_misses + walk_cycles);
    let latencies = [l1, l2, l3, memory];
    if preset == "simple" {
        assert_eq!(walk_cycles, reads * memory);
        assert_eq!(number(hart, "/memory_cycles"), 0);
    } else {
        assert_eq!(walk_cycles, cycles(hart, "l1_data", &["walk"], latencies));
        let data = cycles(hart, "l1_data", &["load", "store"], latencies);
        let fetch = cycles(hart, "l1_fetch", &["fetch"], latencies);
        assert_eq!(number(hart, "/memory_cycles"), data + fetch);
        let references: u64 = KINDS[..2]
            .iter()
            .map(|kind| number(hart, &format!("/caches/l1_data/{kind}/references")))
            .sum();
        let translated: u64 = KINDS[..2]
            .iter()
            .map(|kind| {
                let of = |name: &str| number(hart, &format!("/tlb/{kind}/{name}"));
                of("references") - of("faults")
            })
            .sum();
        assert_eq!(references, translated, "what is translated reaches the caches, once");
    }
    let instructions = number(hart, "/instructions");
    for (name, count) in [
        ("translation_cycles", number(hart, "/translation_cycles")),
        ("l1_misses", l1_misses),
        ("walks", all["walks"]),
    ] {
        let per_kilo = hart[format!("{name}_per_kilo_instruction")].as_f64().expect("a number");
        let expected = count as f64 * 1000.0 / instructions as f64;
        assert!((per_kilo - expected).abs() < 1e-9, "{name}: {per_kilo} {expected}");
    }
    for level in ["l1_fetch", "l1_data", "l2"] {
        let now = number(hart, &format!("/reach_bytes/{level}"));
        assert!(now <= number(hart, &format!("/reach_peak_bytes/{level}")), "{level}");
    }
}

#[test]
fn figures_agree_with_each_other_on_every_preset() {
    let folder = tempfile::tempdir().expect("a folder");
    for pages in [5, 300] {
        let path = trace(folder.path(), pages);
        let path = path.to_str().expect("text");
        for preset in PRESETS {
            let told = text(&sim(&[path, "--timing", preset, "--memory", "64M", "--json"]));
            let all: Value = serde_json::from_str(&told).expect("JSON");
            let hart = &all[0]["harts"][0];
            check(hart, preset);
            // Eight instructions a turn; a modification is a load and a store.
            assert_eq!(number(hart, "/instructions"), 4 * pages * 8);
            assert_eq!(number(&all[0], "/accesses"), 4 * pages * 12 + (4 * pages).div_ceil(5));
            // And three pages of code.
            let faults: u64 = ["zero_page", "demand_zero"]
                .iter()
                .filter_map(|kind| all[0]["faults"][kind].as_u64())
                .sum();
            assert_eq!(faults, pages + 3, "{}", all[0]["faults"]);
        }
    }
}

#[test]
fn a_small_trace_counts_what_it_does_by_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("small.lackey");
    std::fs::write(&path, "I  401000,4\n L 7000,8\n S 7008,8\n M 7010,4\n").expect("written");
    let told = text(&sim(&[path.to_str().expect("text"), "--memory", "64M", "--json"]));
    let all: Value = serde_json::from_str(&told).expect("JSON");
    let hart = &all[0]["harts"][0];
    // The fetch faults (nothing there: one level read), and again walks: level 3 to 0. The load faults: the table of level 1 is
    // known by then, its entry is not. Tried again: levels 1 and 0. The store finds a page that is read-only (the zero page):
    // level 0; after the copy again. The modification hits twice.
    let counts = |kind: &str| {
        ["references", "l1_hits", "l2_hits", "walks", "faults"]
            .map(|name| number(hart, &format!("/tlb/{kind}/{name}")))
    };
    assert_eq!(counts("fetch"), [2, 0, 0, 2, 1]);
    assert_eq!(counts("load"), [3, 1, 0, 2, 1]);
    assert_eq!(counts("store"), [3, 1, 0, 2, 1]);
    assert_eq!(all[0]["faults"], serde_json::json!({ "zero_page": 2, "cow_copy": 1 }));
    let cow = &hart["shootdowns"]["cow"];
    assert_eq!(
        [number(cow, "/requests"), number(cow, "/l1_entries"), number(cow, "/l2_entries")],
        [1; 3]
    );
    // Six misses of the first level ask the second (8 cycles); thirteen entries take 30 each.
    assert_eq!(number(hart, "/translation_cycles"), 6 * 8 + 13 * 30);
    assert_eq!((number(hart, "/instructions"), number(hart, "/reach_peak_bytes/l2")), (1, 8192));
}

/// The columns and values of a CSV of numbers and words without commas.
fn from_csv(told: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    let fields =
        |line: &str| line.split(',').map(|field| field.trim_matches('"').to_owned()).collect();
    let (names, values): (Vec<String>, Vec<String>) = (fields(lines[0]), fields(lines[1]));
    names.into_iter().zip(values).collect()
}

/// Single values by their paths.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let inside =
        |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| flatten(&inside(key), value, into));
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(i, value)| flatten(&inside(&i.to_string()), value, into));
        }
        Value::Null => drop(into.insert(prefix.to_owned(), String::new())),
        Value::String(text) => drop(into.insert(prefix.to_owned(), text.clone())),
        other => drop(into.insert(prefix.to_owned(), other.to_string())),
    }
}

fn from_parquet(path: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).expect("written");
    let reader = SerializedFileReader::new(file).expect("a Parquet file");
    let mut rows = reader.get_row_iter(None).expect("rows");
    let row = rows.next().expect("a row").expect("readable");
    assert!(rows.next().is_none());
    let value = |field: Field| match field {
        Field::Null => String::new(),
        Field::Long(number) => number.to_string(),
        Field::Double(number) => Value::from(number).to_string(),
        Field::Str(text) => text,
        other => panic!("no such column: {other:?}"),
    };
    row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

#[test]
fn csv_json_and_parquet_say_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = trace(folder.path(), 40);
    let path = path.to_str().expect("text");
    let table = folder.path().join("t.parquet");
    let shared = [path, "--timing", "skylake", "--memory", "64M"];
    let json = text(&sim(&[&shared[..], &["--json"]].concat()));
    let csv =
        text(&sim(&[&shared[..], &["--csv", "--parquet", table.to_str().expect("text")]].concat()));
    let mut from_json = BTreeMap::new();
    flatten("", &serde_json::from_str::<Value>(&json).expect("JSON")[0], &mut from_json);
    let (mut from_csv, mut from_parquet) = (from_csv(&csv), from_parquet(&table));
    for all in [&mut from_json, &mut from_csv, &mut from_parquet] {
        assert!(all.remove("host_seconds").is_some(), "it differs from run to run");
        // A number of no digits behind the point is one column's 5 and another's 5.0.
        all.values_mut().for_each(|value| *value = value.trim_end_matches(".0").to_owned());
    }
    assert!(from_json.len() > 100);
    assert_eq!(from_json, from_csv);
    assert_eq!(from_json, from_parquet);
}

#[test]
fn a_trace_that_cannot_be_opened_costs_the_others_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = trace(folder.path(), 5);
    let path = path.to_str().expect("text");
    let output = sim(&[path, "/nowhere", path, "--memory", "64M", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere: No such file"));
}

#[test]
fn the_figures_of_a_timed_run_are_the_models() {
    let output = Command::new(env!("CARGO_BIN_EXE_kilburn"))
        .args(["run", "--timing", "u54", "--harts", "2", "--stats=json"])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let figures: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    let harts = figures["timing"].as_array().expect("a list");
    harts.iter().for_each(|hart| check(hart, "u54"));
    let sum = |path: &str| -> u64 { harts.iter().map(|hart| number(hart, path)).sum() };
    let walks: u64 = KINDS.iter().map(|kind| sum(&format!("/tlb/{kind}/walks"))).sum();
    assert_eq!(number(&figures, "/tlb/walks"), walks);
    assert_eq!(number(&figures, "/tlb/misses"), walks);
    assert_eq!(number(&figures, "/instructions"), sum("/instructions"));
    let requests = |cause: &str| {
        let of = |hart: &Value| hart["shootdowns"][cause]["requests"].as_u64().unwrap_or(0);
        harts.iter().map(of).sum::<u64>()
    };
    assert!(
        ["cow", "fork", "unmap", "protect", "exit"].into_iter().all(|cause| requests(cause) > 0)
    );
}
