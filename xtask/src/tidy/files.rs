//! Rules about files: heads, sizes, names, orphans, words that belong elsewhere.

use super::Finding;
use crate::tree::Tree;
use std::collections::BTreeSet;

/// Lines a Rust file may have.
const LINES_MAX: usize = 800;

/// Names that do not say what is inside.
const EMPTY_NAMES: [&str; 5] = ["util", "utils", "common", "helpers", "misc"];

/// Where packages come from is the builder's configuration, never the repository's.
/// (Written in parts, so that this file passes.)
const FOREIGN_WORDS: [&str; 5] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb.debian", ".org"),
    concat!("proxy.golang", ".org"),
];

/// A Rust file opens with `//!`.
pub(super) fn files_have_heads(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| Finding::file(path, "the file does not open with //! and its purpose"))
        .collect()
}

/// A Rust file stays below [`LINES_MAX`] lines.
pub(super) fn files_are_short(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines >= LINES_MAX)
        .map(|(path, lines)| {
            Finding::file(path, format!("{lines} lines; the bound is {LINES_MAX}"))
        })
        .collect()
}

/// No file or folder is called util, common, helpers or misc.
pub(super) fn names_say_something(tree: &Tree) -> Vec<Finding> {
    tree.iter()
        .filter(|(path, _)| {
            path.split('/').any(|part| {
                let stem = part.split_once('.').map_or(part, |(stem, _)| stem);
                EMPTY_NAMES.contains(&stem)
            })
        })
        .map(|(path, _)| Finding::file(path, "the name does not say what is inside"))
        .collect()
}

/// Every Rust file is part of some target: a root that cargo finds, or reached by `mod`.
pub(super) fn no_orphans(tree: &Tree) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    for (path, _) in tree.rust().filter(|(path, _)| is_target_root(tree, path)) {
        reach(tree, path, &folder_of(path), &mut reached);
    }
    tree.rust()
        .filter(|(path, _)| !reached.contains(*path))
        .map(|(path, _)| Finding::file(path, "no target reaches this file"))
        .collect()
}

fn folder_of(path: &str) -> String {
    path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))
}

/// Whether cargo makes `path` the root of a target by its place.
fn is_target_root(tree: &Tree, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let holds =
        |package: &[&str]| tree.get(&[package, &["Cargo.toml"]].concat().join("/")).is_some();
    match parts.as_slice() {
        [package @ .., "src", "lib.rs" | "main.rs"] | [package @ .., "build.rs"] => holds(package),
        [package @ .., "src", "bin", _] | [package @ .., "src", "bin", _, "main.rs"] => {
            holds(package)
        }
        [package @ .., "tests" | "benches" | "examples", _]
        | [package @ .., "tests" | "benches" | "examples", _, "main.rs"] => holds(package),
        [package @ .., "fuzz_targets", _] => holds(package),
        _ => false,
    }
}

/// Marks `path` and all files its `mod` items lead to; `children` is the folder they lie in.
fn reach(tree: &Tree, path: &str, children: &str, reached: &mut BTreeSet<String>) {
    let Some(text) = tree.get(path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    if let Ok(file) = syn::parse_file(text) {
        reach_items(tree, &folder_of(path), children, &file.items, reached);
    }
}

fn reach_items(
    tree: &Tree,
    here: &str,
    children: &str,
    items: &[syn::Item],
    reached: &mut BTreeSet<String>,
) {
    for item in items {
        let syn::Item::Mod(module) = item else { continue };
        let name = module.ident.to_string();
        let inside = format!("{children}{name}/");
        if let Some((_, items)) = &module.content {
            reach_items(tree, &inside, &inside, items, reached);
        } else if let Some(path) = path_attribute(module) {
            reach(tree, &format!("{here}{path}"), &folder_of(&format!("{here}{path}")), reached);
        } else {
            reach(tree, &format!("{children}{name}.rs"), &inside, reached);
            reach(tree, &format!("{inside}mod.rs"), &inside, reached);
        }
    }
}

/// The `x.rs` of `#[path = "x.rs"]`.
fn path_attribute(module: &syn::ItemMod) -> Option<String> {
    module.attrs.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            path,
            value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(value), .. }),
            ..
        }) if path.is_ident("path") => Some(value.value()),
        _ => None,
    })
}

/// No host of a package registry is named. (Cargo.lock names one by itself.)
pub(super) fn no_foreign_words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (i, line) in text.lines().enumerate() {
            for word in FOREIGN_WORDS.iter().filter(|word| line.contains(**word)) {
                findings.push(Finding::at(path, i + 1, format!("names {word}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|f| f.path).collect()
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        let tree = Tree::of(&[
            ("a.rs", "//! Head.\n"),
            ("b.rs", "\n//! Late.\n"),
            ("c.rs", "//!\n"),
            ("d.md", ""),
        ]);
        assert_eq!(paths(files_have_heads(&tree)), ["b.rs", "c.rs"]);
    }

    #[test]
    fn a_long_file_is_found() {
        let lines = |n| "x\n".repeat(n);
        let tree = Tree::of(&[
            ("a.rs", &lines(LINES_MAX - 1)),
            ("b.rs", &lines(LINES_MAX)),
            ("c.txt", &lines(LINES_MAX)),
        ]);
        assert_eq!(paths(files_are_short(&tree)), ["b.rs"]);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        let tree = Tree::of(&[
            ("src/utility.rs", ""),
            ("src/util.rs", ""),
            ("common/a.c", ""),
            ("src/helpers.test.rs", ""),
        ]);
        assert_eq!(
            paths(names_say_something(&tree)),
            ["common/a.c", "src/helpers.test.rs", "src/util.rs"]
        );
    }

    #[test]
    fn a_file_that_no_target_reaches_is_found() {
        let tree = Tree::of(&[
            ("p/Cargo.toml", ""),
            ("p/src/lib.rs", "mod a; mod inline { mod b; } #[path = \"odd/c.rs\"] mod c;"),
            ("p/src/a.rs", "mod deep;"),
            ("p/src/a/deep.rs", ""),
            ("p/src/a/lost.rs", ""),
            ("p/src/inline/b.rs", ""),
            ("p/src/odd/c.rs", "mod d;"),
            ("p/src/odd/d.rs", ""),
            ("p/src/e/mod.rs", ""),
            ("p/src/bin/tool.rs", ""),
            ("p/tests/end_to_end.rs", "mod cases;"),
            ("p/tests/cases/mod.rs", ""),
            ("p/tests/cases/lost.rs", ""),
            ("elsewhere/src/lib.rs", ""),
        ]);
        assert_eq!(
            paths(no_orphans(&tree)),
            ["elsewhere/src/lib.rs", "p/src/a/lost.rs", "p/src/e/mod.rs", "p/tests/cases/lost.rs"]
        );
    }

    #[test]
    fn a_registry_host_is_found_with_its_line() {
        let text = format!("fine\nfrom https://{}/x\n", FOREIGN_WORDS[0]);
        let tree = Tree::of(&[("README.md", &text), ("Cargo.lock", &text)]);
        let found = no_foreign_words(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("README.md", 2));
    }
}
