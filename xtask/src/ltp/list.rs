//! Which tests there are, and which are known to fail.
//!
//! [`read`] reads the table of tests, [`Exceptions`] the file of those that cannot pass, each with
//! its reason. Neighbour: [`super`].

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A test that passes on real kernels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Test {
    /// Its name.
    pub(super) name: String,
    /// What it is about: a system call or a folder of LTP's.
    pub(super) group: String,
    /// Its command line; a shell's when it needs one.
    pub(super) command: String,
}

/// Reads a table with the columns `test`, `group` and `command`, separated by tabs, in any order
/// among others.
pub(super) fn read(path: &Path) -> Result<Vec<Test>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Test>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().context("it is empty")?.split('\t').collect();
    let column = |name: &str| {
        header.iter().position(|field| *field == name).with_context(|| format!("no column {name}"))
    };
    let (name, group, command) = (column("test")?, column("group")?, column("command")?);
    lines
        .enumerate()
        .map(|(at, line)| {
            let fields: Vec<&str> = line.split('\t').collect();
            let field = |i: usize| {
                let text = fields.get(i).filter(|text| !text.is_empty());
                text.map(|text| (*text).to_owned())
                    .with_context(|| format!("line {}: no {}", at + 2, header[i]))
            };
            Ok(Test { name: field(name)?, group: field(group)?, command: field(command)? })
        })
        .collect()
}

/// Tests that do not pass, with the reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exceptions {
    #[serde(rename = "exception", default)]
    list: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    tests: Vec<String>,
    reason: String,
}

impl Exceptions {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Why `test` is known not to pass.
    pub(super) fn reason(&self, test: &str) -> Option<&str> {
        let known = self.list.iter().find(|known| known.tests.iter().any(|name| name == test));
        known.map(|known| known.reason.as_str())
    }

    /// Every exception is for a test of the list, once.
    pub(super) fn check_against(&self, tests: &[Test]) -> Result<()> {
        let mut seen = BTreeMap::new();
        for name in self.list.iter().flat_map(|known| &known.tests) {
            if !tests.iter().any(|test| test.name == *name) {
                bail!("exception for {name}, which is not in the table");
            }
            if seen.insert(name, ()).is_some() {
                bail!("two exceptions for {name}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_may_not_be_missing() {
        let table = "group\tx\ttest\tcommand\nbrk\t1\tbrk01\tbrk01 -v\n";
        let test = Test {
            name: "brk01".to_owned(),
            group: "brk".to_owned(),
            command: "brk01 -v".to_owned(),
        };
        assert_eq!(parse(table).unwrap(), [test]);
        assert!(parse("test\tgroup\n").is_err());
        assert!(parse("test\tgroup\tcommand\nbrk01\tbrk\n").is_err());
    }

    #[test]
    fn an_exception_is_for_a_test_of_the_table_once() {
        let test = |name: &str| Test {
            name: name.to_owned(),
            group: "g".to_owned(),
            command: "c".to_owned(),
        };
        let known: Exceptions =
            toml::from_str("[[exception]]\ntests = [\"a\", \"b\"]\nreason = \"why\"\n").unwrap();
        assert!(known.check_against(&[test("a"), test("b")]).is_ok());
        assert!(known.check_against(&[test("a")]).is_err());
        assert_eq!(known.reason("b"), Some("why"));
        assert_eq!(known.reason("c"), None);
    }
}
