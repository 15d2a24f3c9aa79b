//! The structure check: what the compiler does not hold, held here.
//!
//! A rule is a function from a [`Tree`] to [`Finding`]s. Each is tried on a made-up tree that
//! breaks it, and all of them run on the repository itself as a test.
//!
//! - [`crates`]: dependency arrows, unsafe policy, `no_std`, manifests.
//! - [`files`]: heads, sizes, names, orphans, words that do not belong into the repository.
//! - [`source`]: function length, unfinished code, reasons of exceptions, clocks, DIVERGENCE ids.

mod crates;
mod files;
mod source;

use crate::tree::Tree;
use std::fmt;

/// Something that breaks a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Finding {
    /// About a whole file.
    fn file(path: &str, what: impl Into<String>) -> Self {
        Self::at(path, 1, what)
    }

    /// About a line, counted from 1.
    fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule: "", what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.path, self.line, self.what, self.rule)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

/// Every rule, by the name findings carry.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("arrows-point-down", crates::arrows_point_down),
    ("manifests-inherit", crates::manifests_inherit),
    ("unsafe-is-confined", crates::unsafe_is_confined),
    ("no-std-stays", crates::no_std_stays),
    ("files-have-heads", files::files_have_heads),
    ("files-are-short", files::files_are_short),
    ("names-say-something", files::names_say_something),
    ("no-orphans", files::no_orphans),
    ("no-foreign-words", files::no_foreign_words),
    ("functions-are-short", source::functions_are_short),
    ("nothing-unfinished", source::nothing_unfinished),
    ("exceptions-have-reasons", source::exceptions_have_reasons),
    ("no-ambient-clock", source::no_ambient_clock),
    ("divergences-are-unique", source::divergences_are_unique),
];

/// Runs every rule; findings come sorted by path and line.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, rule) in RULES {
        all.extend(rule(tree).into_iter().map(|finding| Finding { rule: name, ..finding }));
    }
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let tree = Tree::load(&crate::repository()).expect("readable");
        assert!(tree.get("xtask/src/tidy.rs").is_some(), "the repository itself was read");
        let findings = check(&tree);
        assert!(
            findings.is_empty(),
            "\n{}",
            findings.iter().map(|f| format!("{f}\n")).collect::<String>()
        );
    }
}
