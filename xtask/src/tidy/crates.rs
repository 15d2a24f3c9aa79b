//! Rules about crates: who may use whom, who may be unsafe, who does without std.

use super::Finding;
use crate::tree::Tree;
use std::collections::BTreeSet;
use toml::Table;

/// How a crate may use `unsafe`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsafe {
    /// Nowhere: `#![forbid(unsafe_code)]`.
    Forbidden,
    /// In modules that ask for it: `#![deny(unsafe_code)]` at the root, an `allow` or `expect`
    /// with a reason at each such module.
    Confined,
}

struct Layer {
    /// Folder under crates/.
    name: &'static str,
    /// The layers right below; what these use may be used as well.
    below: &'static [&'static str],
    std: bool,
    unsafety: Unsafe,
}

const fn layer(
    name: &'static str,
    below: &'static [&'static str],
    std: bool,
    unsafety: Unsafe,
) -> Layer {
    Layer { name, below, std, unsafety }
}

/// The crates, lowest first (ARCHITECTURE.md draws them).
const LAYERS: &[Layer] = &[
    layer("addr", &[], false, Unsafe::Forbidden),
    layer("paging", &["addr"], false, Unsafe::Forbidden),
    layer("mm", &["addr", "paging"], false, Unsafe::Forbidden),
    layer("mmu", &["addr", "paging"], false, Unsafe::Forbidden),
    layer("riscv", &["mmu"], true, Unsafe::Confined),
    layer("swap", &["mm"], true, Unsafe::Forbidden),
    layer("linux", &["mm", "riscv", "swap"], true, Unsafe::Confined),
    layer("model", &["addr"], true, Unsafe::Confined),
    layer("trace", &["mm", "mmu"], true, Unsafe::Forbidden),
    layer("bench", &["mm", "riscv", "swap", "model", "trace"], true, Unsafe::Forbidden),
    layer("cli", &["linux", "model", "trace", "bench"], true, Unsafe::Forbidden),
];

/// Everything that `name` may depend on: what lies below it.
fn below(name: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for direct in LAYERS.iter().find(|l| l.name == name).map_or(&[][..], |l| l.below) {
        found.insert(*direct);
        found.extend(below(direct));
    }
    found
}

/// Workspace crates are called `kilburn-NAME`; answers NAME.
fn own(dependency: &str) -> Option<&str> {
    dependency.strip_prefix("kilburn-")
}

fn manifests(tree: &Tree) -> impl Iterator<Item = (&str, &str, Table)> {
    tree.iter().filter_map(|(path, text)| {
        let folder = path.strip_suffix("/Cargo.toml")?;
        let name = folder.strip_prefix("crates/").unwrap_or(folder);
        Some((path, name, text.parse::<Table>().unwrap_or_default()))
    })
}

fn dependencies<'a>(
    manifest: &'a Table,
    section: &str,
) -> impl Iterator<Item = (&'a str, &'a toml::Value)> {
    manifest
        .get(section)
        .and_then(toml::Value::as_table)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

/// A crate uses only what lies below it. Tests may use `model` as well.
pub(super) fn arrows_point_down(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, name, manifest) in manifests(tree) {
        // An example with a package of its own uses what an embedder uses: what its crate stands on.
        let (name, is_example) = match name.split_once("/examples/") {
            Some((host, _)) => (host, true),
            None => (name, false),
        };
        if name != "xtask" && !LAYERS.iter().any(|l| l.name == name) {
            findings.push(Finding::file(
                path,
                format!("crate {name} has no layer in xtask/src/tidy/crates.rs"),
            ));
        }
        let allowed = below(name);
        for (section, for_tests) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            for (dependency, _) in dependencies(&manifest, section) {
                let Some(target) = own(dependency) else { continue };
                // A crate's tests may also ask for features of its own.
                let for_this_test = for_tests && (target == "model" || target == name);
                // The chores ask the oracle's generator what it makes (docs/fidelity.md).
                let for_chores = name == "xtask" && target == "model";
                let its_host = is_example && target == name;
                if !allowed.contains(target) && !for_this_test && !for_chores && !its_host {
                    findings.push(Finding::file(
                        path,
                        format!("{name} may not use {target} ({section})"),
                    ));
                }
            }
        }
    }
    findings
}

/// Manifests take lints, edition and dependency versions from the workspace.
pub(super) fn manifests_inherit(tree: &Tree) -> Vec<Finding> {
    let inherits = |value: Option<&toml::Value>| {
        value.and_then(|v| v.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let mut findings = Vec::new();
    for (path, _, manifest) in manifests(tree) {
        if !inherits(manifest.get("lints")) {
            findings.push(Finding::file(path, "[lints] workspace = true is missing"));
        }
        for key in ["edition", "rust-version", "license"] {
            if !inherits(manifest.get("package").and_then(|p| p.get(key))) {
                findings.push(Finding::file(
                    path,
                    format!("package.{key} does not come from the workspace"),
                ));
            }
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in dependencies(&manifest, section) {
                let itself = value.get("path").and_then(toml::Value::as_str) == Some(".");
                if !itself && !inherits(Some(value)) {
                    findings.push(Finding::file(
                        path,
                        format!("the version of {dependency} does not come from the workspace"),
                    ));
                }
            }
        }
    }
    findings
}

/// `src/lib.rs` and `src/main.rs` of a crate's folder, those that exist.
fn roots<'t>(tree: &'t Tree, folder: &str) -> Vec<(String, &'t str)> {
    ["lib", "main"]
        .map(|stem| format!("{folder}/src/{stem}.rs"))
        .into_iter()
        .filter_map(|path| tree.get(&path).map(|text| (path, text)))
        .collect()
}

fn lines_without_comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Crates without unsafe code say so where the compiler reads it; the others open up module by
/// module.
pub(super) fn unsafe_is_confined(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folders = LAYERS.iter().map(|l| (format!("crates/{}", l.name), l.unsafety));
    for (folder, unsafety) in folders.chain([("xtask".to_owned(), Unsafe::Forbidden)]) {
        let wanted = match unsafety {
            Unsafe::Forbidden => "#![forbid(unsafe_code)]",
            Unsafe::Confined => "#![deny(unsafe_code)]",
        };
        for (path, text) in roots(tree, &folder) {
            let has = |attribute| lines_without_comments(text).any(|line| line == attribute);
            if !has(wanted) && !has("#![forbid(unsafe_code)]") {
                findings.push(Finding::file(&path, format!("{wanted} is missing")));
            }
        }
    }
    findings
}

/// Crates that must do without std declare it, and do not take it back outside tests.
pub(super) fn no_std_stays(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Layer { name, .. } in LAYERS.iter().filter(|l| !l.std) {
        for (path, text) in roots(tree, &format!("crates/{name}")) {
            if !lines_without_comments(text).any(|line| line == "#![no_std]") {
                findings.push(Finding::file(&path, "#![no_std] is missing"));
            }
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (i, line) in lines.iter().enumerate() {
                let gated = i > 0 && lines[i - 1] == "#[cfg(test)]";
                if *line == "extern crate std;" && !gated {
                    findings.push(Finding::at(&path, i + 1, "std comes back in outside of tests"));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const INHERITS: &str = "[package]\nname = 'x'\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n";

    fn whats(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn what_lies_below_is_closed_over_layers() {
        assert_eq!(below("riscv"), BTreeSet::from(["addr", "paging", "mmu"]));
        assert!(below("cli").contains("addr"));
        assert!(!below("mm").contains("mmu") && !below("mmu").contains("mm"));
    }

    #[test]
    fn an_arrow_that_points_up_or_sideways_is_found() {
        let tree = Tree::of(&[
            (
                "crates/mm/Cargo.toml",
                "[dependencies]\nkilburn-mmu.workspace = true\nkilburn-addr.workspace = true\n",
            ),
            (
                "crates/addr/Cargo.toml",
                "[dev-dependencies]\nkilburn-model.workspace = true\nkilburn-mm.workspace = true\nkilburn-addr = { path = '.' }\n",
            ),
            ("crates/paging/Cargo.toml", "[dependencies]\nkilburn-model.workspace = true\n"),
            ("crates/stray/Cargo.toml", ""),
            (
                "crates/mm/examples/own/Cargo.toml",
                "[dependencies]\nkilburn-mm.workspace = true\nkilburn-linux.workspace = true\n",
            ),
        ]);
        assert_eq!(
            whats(arrows_point_down(&tree)),
            [
                "addr may not use mm (dev-dependencies)",
                "mm may not use mmu (dependencies)",
                "mm may not use linux (dependencies)",
                "paging may not use model (dependencies)",
                "crate stray has no layer in xtask/src/tidy/crates.rs",
            ]
        );
    }

    #[test]
    fn a_manifest_of_its_own_mind_is_found() {
        let tree = Tree::of(&[
            ("crates/addr/Cargo.toml", INHERITS),
            (
                "crates/mm/Cargo.toml",
                "[package]\nedition = '2021'\nrust-version.workspace = true\nlicense.workspace = true\n[dependencies]\nrand = '0.9'\n",
            ),
        ]);
        assert_eq!(
            whats(manifests_inherit(&tree)),
            [
                "[lints] workspace = true is missing",
                "package.edition does not come from the workspace",
                "the version of rand does not come from the workspace",
            ]
        );
    }

    #[test]
    fn a_missing_unsafe_policy_is_found() {
        let tree = Tree::of(&[
            ("crates/addr/src/lib.rs", "//! #![forbid(unsafe_code)]\n"),
            ("crates/mm/src/lib.rs", "#![forbid(unsafe_code)]\n"),
            ("crates/riscv/src/lib.rs", "#![allow(unsafe_code)]\n"),
            ("crates/linux/src/lib.rs", "#![deny(unsafe_code)]\n"),
        ]);
        assert_eq!(
            whats(unsafe_is_confined(&tree)),
            ["#![forbid(unsafe_code)] is missing", "#![deny(unsafe_code)] is missing"]
        );
    }

    #[test]
    fn std_in_a_crate_without_it_is_found() {
        let tree = Tree::of(&[
            ("crates/addr/src/lib.rs", "#![no_std]\n#[cfg(test)]\nextern crate std;\n"),
            ("crates/mm/src/lib.rs", "#![no_std]\nextern crate std;\n"),
            ("crates/mmu/src/lib.rs", "pub mod tlb;\n"),
            ("crates/riscv/src/lib.rs", "use std::fmt;\n"),
        ]);
        assert_eq!(
            whats(no_std_stays(&tree)),
            ["std comes back in outside of tests", "#![no_std] is missing"]
        );
    }
}
