//! What the Linux Test Project has to say of a call: the programs that pass on real kernels, by
//! group (testdata/ltp/expected.tsv), and those of them that do not pass here (exceptions.toml).

use crate::tree::Tree;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The programs of the Linux Test Project.
#[derive(Default, Debug)]
pub(super) struct Ltp {
    groups: BTreeMap<String, Vec<String>>,
    exceptions: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    tests: Vec<String>,
    reason: String,
}

impl Ltp {
    /// Reads both files; nothing where they are not.
    pub(super) fn of(tree: &Tree) -> anyhow::Result<Self> {
        let mut ltp = Self::default();
        for line in tree.get("testdata/ltp/expected.tsv").unwrap_or_default().lines().skip(1) {
            let mut columns = line.split('\t');
            if let (Some(test), Some(group)) = (columns.next(), columns.next()) {
                ltp.groups.entry(group.to_owned()).or_default().push(test.to_owned());
            }
        }
        let text = tree.get("testdata/ltp/exceptions.toml").unwrap_or_default();
        for Exception { tests, reason } in toml::from_str::<Exceptions>(text)?.exception {
            for test in tests {
                ltp.exceptions.insert(test, reason.clone());
            }
        }
        Ok(ltp)
    }

    /// Whether there is such a group.
    pub(super) fn has(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// `12 of mmap, mincore; not mmap22: why`; empty without groups.
    pub(super) fn summary(&self, groups: &[String]) -> String {
        let tests = || groups.iter().filter_map(|group| self.groups.get(group)).flatten();
        let failing = || tests().filter(|test| self.exceptions.contains_key(*test));
        if tests().next().is_none() {
            return String::new();
        }
        let passing = tests().count() - failing().count();
        let mut text = format!("{passing} programs of {}", groups.join(", "));
        for test in failing() {
            text.push_str(&format!("; not {test}: {}", self.exceptions[test]));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_counted_by_group_and_failures_named() {
        let tree = Tree::of(&[
            (
                "testdata/ltp/expected.tsv",
                "test\tgroup\tcommand\nmmap01\tmmap\tmmap01\nmmap22\tmmap\tx\nbrk01\tbrk\tx\n",
            ),
            (
                "testdata/ltp/exceptions.toml",
                "[[exception]]\ntests = ['mmap22']\nreason = 'no cgroups'\n",
            ),
        ]);
        let ltp = Ltp::of(&tree).expect("well-formed");
        assert!(ltp.has("mmap") && !ltp.has("mmap01"));
        assert_eq!(
            ltp.summary(&["mmap".into(), "brk".into()]),
            "2 programs of mmap, brk; not mmap22: no cgroups"
        );
        assert_eq!(ltp.summary(&[]), "");
    }
}
