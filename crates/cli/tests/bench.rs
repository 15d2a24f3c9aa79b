//! `kilburn bench` from outside: its forms, and what it puts where. What is measured here says nothing of speed.
#![cfg(feature = "bench")]

use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilburn"));
    command.arg("bench").args(arguments).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_row_is_measured_beside_its_peers_and_told_in_every_form() {
    let output = bench(&["lib", "fault", "--quick", "--only", "frame: alloc", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = told["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), 1, "{told}");
    let row = &rows[0];
    assert_eq!(
        (&row["suite"], &row["unit"], &row["goal"]),
        (&"lib".into(), &"ns".into(), &10.0.into())
    );
    assert!(row["ours"].as_f64() > Some(0.0) && row["goal_met"].is_boolean());
    let peers = row["peers"].as_array().expect("a list");
    let names: Vec<&str> = peers.iter().filter_map(|peer| peer["name"].as_str()).collect();
    assert_eq!(names, ["bitmap-allocator", "buddy_system_allocator"]);
    let least =
        peers.iter().filter_map(|peer| peer["ratio"].as_f64()).fold(f64::INFINITY, f64::min);
    assert_eq!(row["ratio_to_best"].as_f64(), Some(least));
    let quick = ["lib", "--quick", "--only", "frame: alloc"];
    assert!(text(&bench(&quick).stdout).contains("lib: frame: alloc + free"));
    assert!(
        text(&bench(&[&quick[..], &["--markdown"]].concat()).stdout)
            .contains("| frame: alloc + free |")
    );
}

#[test]
fn passes_are_told_one_by_one() {
    let of_passes = |more: &[&str]| {
        let row = ["lib", "--quick", "--only", "frame: alloc"];
        bench(&[&row[..], more].concat())
    };
    let output = of_passes(&["--passes", "2", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["passes"], &told["rounds"]), (&2.into(), &3.into()));
    let row = &told["rows"][0];
    assert!(row["passes_agree"].is_boolean() && row["ratios_agree"].is_boolean(), "{row}");
    let passes = row["passes"].as_array().expect("a list");
    assert_eq!(passes.len(), 2);
    for pass in passes {
        assert!(pass["ours"].as_f64() > Some(0.0) && pass["ratio_to_best"].as_f64() > Some(0.0));
        let ends = |name: &str| pass[name].as_array().map_or(0, Vec::len);
        assert_eq!((ends("ours_spread"), ends("ratio_spread")), (2, 2));
    }
    assert!(
        text(&of_passes(&["--passes", "2"]).stdout).contains("2 passes of 3 turns; of 1 rows ")
    );
    let once: Value = serde_json::from_slice(&of_passes(&["--json"]).stdout).expect("JSON");
    assert_eq!(
        (&once["passes"], once["rows"][0]["passes"].as_array().map(Vec::len)),
        (&1.into(), Some(1))
    );
    assert_eq!(
        (&once["rows"][0]["passes_agree"], &once["rows"][0]["ratios_agree"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn tables_and_pictures_go_where_a_document_has_places_for_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("doc.md");
    let before = "before\n<!-- kilburn bench: lib -->\nold\n<!-- end -->\nafter\n";
    std::fs::write(&path, before).expect("written");
    let file = path.to_str().expect("text");
    let output = bench(&["lib", "--quick", "--only", "frame: alloc", "--write", file]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let after = std::fs::read_to_string(&path).expect("read");
    assert!(
        after.starts_with("before\n<!-- kilburn bench: lib -->\n")
            && after.ends_with("<!-- end -->\nafter\n")
    );
    assert!(after.contains("| frame: alloc + free |") && !after.contains("old"), "{after}");
    assert!(
        std::fs::read_to_string(folder.path().join("doc/lib.svg")).expect("drawn").contains("<svg")
    );
}

#[test]
fn wrong_usage_is_told_before_anything_is_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("doc.md");
    std::fs::write(&path, "no places\n").expect("written");
    for wrong in [
        &["nonsense"][..],
        &["lib", "--only", "no such row"],
        &["lib", "--write", "/nowhere/doc.md"],
        &["lib", "--write", path.to_str().expect("text")],
        &["--bytes", "no-such-thing"],
        &["--json", "--markdown"],
        &["--passes", "0"],
    ] {
        assert_eq!(bench(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
