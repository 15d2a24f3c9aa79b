//! Claims against evidence: what docs/fidelity.toml says that is not so, or does not say.

use super::Evidence;
use super::calls::{Entry, Handler, Support};
use super::data::{Call, Cell, Data, Is};
use super::marks::NoTest;
use super::oracle::Looks;
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A claim that does not hold, or that is missing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Mistake {
    /// Which claim, as `call.flag`, or where in the source.
    place: String,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Every mistake, by place.
pub(super) fn judge(data: &Data, evidence: &Evidence, tree: &Tree) -> Vec<Mistake> {
    let mut judge = Judge { evidence, tree, mistakes: Vec::new() };
    for call in &data.call {
        judge.call(call);
    }
    for group in &data.group {
        judge.tests(&group.name, &group.tests);
        judge.files_exist(&group.name, &group.files);
        judge.ltp_groups_exist(&group.name, &group.ltp);
        if group.tests.is_empty() && group.files.is_empty() {
            judge.mistake(&group.name, "no test");
        }
    }
    for feature in &data.feature {
        judge.tests(&feature.notes, &feature.tests);
        judge.files_exist(&feature.notes, &feature.files);
        if feature.is == Is::Exact && feature.tests.is_empty() && feature.files.is_empty() {
            judge.mistake(&feature.notes, "nothing proves it");
        }
    }
    judge.table_is_covered(data);
    judge.divergences_are_listed(data);
    judge.mistakes.sort();
    judge.mistakes
}

struct Judge<'e> {
    evidence: &'e Evidence,
    tree: &'e Tree,
    mistakes: Vec<Mistake>,
}

impl Judge<'_> {
    fn mistake(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.mistakes.push(Mistake { place: place.into(), what: what.into() });
    }

    fn ltp_groups_exist(&mut self, place: &str, groups: &[String]) {
        for group in groups.iter().filter(|group| !self.evidence.ltp.has(group)) {
            self.mistake(place, format!("testdata/ltp/expected.tsv has no group {group}"));
        }
    }

    fn call(&mut self, call: &Call) {
        self.ltp_groups_exist(&call.name, &call.ltp);
        let mut seen = BTreeSet::new();
        for cell in &call.cells {
            let place = format!("{}.{}", call.name, cell.flag);
            if !seen.insert(&cell.flag) {
                self.mistake(&place, "claimed twice");
            }
            self.cell(&place, call, cell);
        }
        let all = |is| call.cells.iter().all(|cell| cell.is == is);
        let any = |is| call.cells.iter().any(|cell| cell.is == is);
        for name in call.covers() {
            let Some(entry) = self.evidence.calls.iter().find(|entry| entry.name == name) else {
                if !all(Is::Absent) {
                    self.mistake(&call.name, format!("there is no system call {name}"));
                }
                continue;
            };
            match &entry.support {
                Support::Full if !all(Is::Exact) && call.calls.is_none() => self.mistake(
                    &call.name,
                    format!("{} says Support::Full, but a cell is not exact", entry.path),
                ),
                Support::Absent(_) if any(Is::Exact) => self.mistake(
                    &call.name,
                    format!("{} says Support::Absent, but a cell is exact", entry.path),
                ),
                _ => {}
            }
        }
    }

    fn cell(&mut self, place: &str, call: &Call, cell: &Cell) {
        self.tests(place, &cell.tests);
        self.files_exist(place, &cell.files);
        let is_name = cell.flag.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        for file in cell.files.iter().filter(|_| is_name) {
            // A case of the oracle has numbers for flags.
            let wanted = if file.ends_with(".case") { &call.name } else { &cell.flag };
            if self.tree.get(file).is_some_and(|text| !text.contains(wanted.as_str())) {
                self.mistake(place, format!("{file} does not mention it"));
            }
        }
        if let Some(text) = &cell.oracle {
            match Looks::parse(&call.name, text) {
                Err(error) => self.mistake(place, error),
                Ok(looks) if self.evidence.made.count(looks) == 0 => {
                    self.mistake(place, format!("the oracle's generator never makes {text:?}"));
                }
                Ok(_) => {}
            }
        }
        let proven = cell.oracle.is_some() || !cell.tests.is_empty() || !cell.files.is_empty();
        let explained = cell.note.is_some() || !cell.divergences.is_empty();
        match cell.is {
            Is::Exact if !proven => self.mistake(place, "exact, but no test shows it"),
            Is::Exact if !cell.divergences.is_empty() => {
                self.mistake(place, "exact, but departs from Linux");
            }
            Is::Partial if !proven => self.mistake(place, "partial, but no test shows it"),
            Is::Partial | Is::Absent if !explained => {
                self.mistake(place, format!("{}, but nothing says why", cell.is.word()));
            }
            _ => {}
        }
    }

    fn tests(&mut self, place: &str, tests: &[String]) {
        for test in tests {
            match self.evidence.tests.find(test) {
                Ok(_) => {}
                Err(NoTest::Missing) => self.mistake(place, format!("there is no test {test}")),
                Err(NoTest::Ambiguous(files)) => {
                    self.mistake(place, format!("{test} is a test of {}", files.join(" and of ")));
                }
            }
        }
    }

    fn files_exist(&mut self, place: &str, files: &[String]) {
        for file in files.iter().filter(|file| self.tree.get(file).is_none()) {
            self.mistake(place, format!("there is no file {file}"));
        }
    }

    /// Every call of the table is claimed once, and no stub pretends to be more.
    fn table_is_covered(&mut self, data: &Data) {
        let mut claims: BTreeMap<&str, usize> = BTreeMap::new();
        let in_calls = data.call.iter().flat_map(Call::covers);
        let in_groups = data.group.iter().flat_map(|g| g.calls.iter().map(String::as_str));
        for name in in_calls.chain(in_groups) {
            *claims.entry(name).or_default() += 1;
        }
        let pure: BTreeSet<&str> =
            data.group.iter().flat_map(|g| g.pure.iter().map(String::as_str)).collect();
        for entry in &self.evidence.calls {
            match claims.remove(entry.name.as_str()) {
                Some(1) => {}
                Some(_) => self.mistake(&entry.name, "has several places"),
                None => self.mistake(&entry.path, format!("{} has no place", entry.name)),
            }
            if let Some(what) = undeclared_stub(entry, pure.contains(entry.name.as_str())) {
                self.mistake(&entry.path, what);
            }
        }
        for group in &data.group {
            for name in group.calls.iter().filter(|name| claims.contains_key(name.as_str())) {
                self.mistake(&group.name, format!("there is no system call {name}"));
            }
            for name in group.pure.iter().filter(|name| !group.calls.contains(name)) {
                self.mistake(
                    &group.name,
                    format!("{name} is called pure, but is not of the group"),
                );
            }
        }
    }

    fn divergences_are_listed(&mut self, data: &Data) {
        let cells = data.call.iter().flat_map(|call| &call.cells);
        let listed: BTreeSet<&str> = cells
            .flat_map(|cell| &cell.divergences)
            .chain(data.group.iter().flat_map(|group| &group.divergences))
            .chain(&data.elsewhere.divergences)
            .map(String::as_str)
            .collect();
        for found in &self.evidence.divergences {
            if !listed.contains(found.id.as_str()) {
                let place = format!("{}:{}", found.path, found.line);
                self.mistake(place, format!("the divergence {} is not listed", found.id));
            }
        }
        for id in listed {
            if !self.evidence.divergences.iter().any(|found| found.id == id) {
                self.mistake(id, "listed, but the source has no such divergence");
            }
        }
    }
}

/// What is wrong with a handler that looks at too little for what the table says of it.
fn undeclared_stub(entry: &Entry, pure: bool) -> Option<String> {
    let name = &entry.name;
    match (entry.handler, &entry.support) {
        (Handler::Constant, Support::Full) => Some(format!("{name} answers a constant: a stub")),
        (Handler::Constant, Support::Partial(_)) => {
            Some(format!("{name} answers a constant: that is Support::Absent"))
        }
        (Handler::ArgumentsOnly, Support::Full | Support::Partial(_)) if !pure => Some(format!(
            "{name} never looks at its task: a stub, or `pure` if its arguments decide the answer"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ltp::Ltp;
    use super::super::marks::{Divergence, Tests};
    use super::super::oracle::Made;
    use super::*;

    fn evidence() -> Evidence {
        let entry = |number, name: &str, support, handler| Entry {
            number,
            name: name.into(),
            support,
            handler,
            path: "table.rs".into(),
        };
        Evidence {
            calls: vec![
                entry(222, "mmap", Support::Partial("most".into()), Handler::Real),
                entry(63, "read", Support::Full, Handler::Real),
            ],
            tests: Tests::of(&Tree::of(&[("a.rs", "#[test] fn it_maps() {}")])),
            divergences: vec![Divergence {
                id: "small".into(),
                why: "because".into(),
                path: "b.rs".into(),
                line: 7,
                function: "f".into(),
            }],
            declared: Vec::new(),
            ltp: Ltp::default(),
            made: Made::of(&["0 mmap addr=0x0 len=0x1 prot=0x3 flags=0x22 file=- offset=0x0"]),
        }
    }

    const GOOD: &str = r#"
        [[call]]
        name = "mmap"
        cells = [
            { flag = "MAP_PRIVATE", is = "exact", oracle = "flags & 0xf == 0x2" },
            { flag = "MAP_FIXED", is = "exact", tests = ["it_maps"], files = ["c.txt"] },
            { flag = "MAP_SYNC", is = "partial", tests = ["a.rs::it_maps"], divergences = ["small"] },
            { flag = "MAP_HUGETLB", is = "absent", note = "no pool" },
        ]
        [[group]]
        name = "Files"
        calls = ["read"]
        tests = ["it_maps"]
        [[feature]]
        notes = "areas"
        has = "areas"
        is = "exact"
        see = "look"
        tests = ["it_maps"]
    "#;

    fn mistakes_with(text: &str, evidence: &Evidence) -> Vec<String> {
        let tree = Tree::of(&[("c.txt", "MAP_FIXED"), ("d.txt", "nothing of it")]);
        let data: Data = toml::from_str(text).expect("well-formed");
        judge(&data, evidence, &tree).iter().map(ToString::to_string).collect()
    }

    /// The one mistake of the good data with `from` replaced by `to`.
    fn planted(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        let mistakes = mistakes_with(&GOOD.replacen(from, to, 1), &evidence());
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes[0].clone()
    }

    #[test]
    fn claims_that_hold_are_believed() {
        assert_eq!(mistakes_with(GOOD, &evidence()), Vec::<String>::new());
    }

    #[test]
    fn a_claim_without_a_test_is_refused() {
        assert_eq!(
            planted(", oracle = \"flags & 0xf == 0x2\"", ""),
            "mmap.MAP_PRIVATE: exact, but no test shows it"
        );
        assert_eq!(
            planted("tests = [\"a.rs::it_maps\"], ", ""),
            "mmap.MAP_SYNC: partial, but no test shows it"
        );
        assert_eq!(
            planted(
                "calls = [\"read\"]\n        tests = [\"it_maps\"]",
                "calls = [\"read\"]\n        tests = []"
            ),
            "Files: no test"
        );
    }

    #[test]
    fn a_test_or_file_that_is_not_there_is_refused() {
        assert_eq!(
            planted("[\"it_maps\"]", "[\"it_flaps\"]"),
            "mmap.MAP_FIXED: there is no test it_flaps"
        );
        assert_eq!(planted("c.txt", "lost.txt"), "mmap.MAP_FIXED: there is no file lost.txt");
        assert_eq!(planted("c.txt", "d.txt"), "mmap.MAP_FIXED: d.txt does not mention it");
    }

    #[test]
    fn a_test_of_two_files_must_say_which() {
        let mut evidence = evidence();
        let twice = [("a.rs", "#[test] fn it_maps() {}"), ("b.rs", "#[test] fn it_maps() {}")];
        evidence.tests = Tests::of(&Tree::of(&twice));
        let mistakes = mistakes_with(GOOD, &evidence);
        assert_eq!(mistakes.len(), 3, "all but a.rs::it_maps");
        assert_eq!(mistakes[0], "Files: it_maps is a test of a.rs and of b.rs");
    }

    #[test]
    fn an_oracle_that_never_makes_the_call_proves_nothing() {
        assert_eq!(
            planted("flags & 0xf == 0x2", "flags & 0x10"),
            "mmap.MAP_PRIVATE: the oracle's generator never makes \"flags & 0x10\""
        );
    }

    #[test]
    fn a_gap_without_a_reason_is_refused() {
        assert_eq!(
            planted(", note = \"no pool\"", ""),
            "mmap.MAP_HUGETLB: absent, but nothing says why"
        );
    }

    #[test]
    fn a_divergence_that_is_not_listed_is_refused_and_so_is_one_that_is_gone() {
        assert_eq!(
            planted("divergences = [\"small\"]", "note = \"most\""),
            "b.rs:7: the divergence small is not listed"
        );
        assert_eq!(
            planted("[\"small\"]", "[\"small\", \"gone\"]"),
            "gone: listed, but the source has no such divergence"
        );
    }

    #[test]
    fn what_departs_from_linux_is_not_exact() {
        assert_eq!(
            planted(
                "oracle = \"flags & 0xf == 0x2\"",
                "oracle = \"any\", divergences = [\"small\"]"
            ),
            "mmap.MAP_PRIVATE: exact, but departs from Linux"
        );
    }

    #[test]
    fn a_call_without_a_place_or_with_two_is_refused() {
        assert_eq!(planted("[\"read\"]", "[]"), "table.rs: read has no place");
        assert_eq!(planted("[\"read\"]", "[\"read\", \"mmap\"]"), "mmap: has several places");
        assert_eq!(
            planted("[\"read\"]", "[\"read\", \"peruse\"]"),
            "Files: there is no system call peruse"
        );
    }

    #[test]
    fn table_and_cells_must_agree() {
        let mut evidence = evidence();
        evidence.calls[0].support = Support::Full;
        assert_eq!(
            mistakes_with(GOOD, &evidence),
            ["mmap: table.rs says Support::Full, but a cell is not exact"]
        );
        evidence.calls[0].support = Support::Absent("x".into());
        assert_eq!(
            mistakes_with(GOOD, &evidence),
            ["mmap: table.rs says Support::Absent, but a cell is exact"]
        );
    }

    #[test]
    fn a_stub_must_be_declared() {
        let mut evidence = evidence();
        let mut answers = |handler, support| {
            evidence.calls[1].handler = handler;
            evidence.calls[1].support = support;
            mistakes_with(GOOD, &evidence)
        };
        assert_eq!(
            answers(Handler::Constant, Support::Full),
            ["table.rs: read answers a constant: a stub"]
        );
        assert_eq!(answers(Handler::Constant, Support::Absent("no".into())), [""; 0]);
        assert_eq!(answers(Handler::Constant, Support::Partial("a bit".into())).len(), 1);
        assert_eq!(answers(Handler::ArgumentsOnly, Support::Full).len(), 1);
        let pure = GOOD.replace("calls = [\"read\"]", "calls = [\"read\"]\npure = [\"read\"]");
        assert_eq!(mistakes_with(&pure, &evidence), [""; 0]);
    }

    #[test]
    fn a_group_of_the_test_project_must_be_there() {
        assert_eq!(
            planted("calls = [\"read\"]", "calls = [\"read\"]\nltp = [\"read\"]"),
            "Files: testdata/ltp/expected.tsv has no group read"
        );
    }

    #[test]
    fn a_flag_claimed_twice_is_refused() {
        assert_eq!(planted("MAP_SYNC", "MAP_PRIVATE"), "mmap.MAP_PRIVATE: claimed twice");
    }
}
