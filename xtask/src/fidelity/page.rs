//! The page: claims and their proofs as Markdown.

use super::Evidence;
use super::calls::Support;
use super::data::{Call, Cell, Data, Group, Is};
use super::marks::Divergence;
use std::fmt::{self, Write as _};

const HEAD: &str = "# Fidelity

Made by `cargo xtask fidelity` from [fidelity.toml](fidelity.toml) and the source; CI refuses it when it is stale, when a
test it names is gone, when a departure from Linux or a system call is not listed, and when a handler that does nothing
is not declared. Reference: Linux 6.18, asked on x86-64 by `kilburn fidelity`; a real riscv64 kernel 6.12 for programs.

- **exact**: every answer, error and effect is Linux's. **partial**: the remark says what is not. **absent**: answers
  what Linux answers where it is not supported.
- *oracle*: random sequences with this flag, its errors included, are compared with the host's kernel step by step:
  `kilburn fidelity --steps 1000000 --seed N`. The generator was asked whether it makes such calls.
- *Linux Test Project*: its programs that pass on real kernels, x86-64 and riscv64; `cargo xtask ltp` runs them here.
- A *file* was compared, byte for byte, with what a real riscv64 kernel printed. Other names are tests of `cargo test`.
";

/// The whole page.
pub(super) fn render(data: &Data, evidence: &Evidence) -> String {
    let mut page = Page { text: HEAD.to_owned(), evidence };
    page.summary(data).and_then(|()| page.body(data)).expect("a string takes everything");
    page.text
}

struct Page<'e> {
    text: String,
    evidence: &'e Evidence,
}

impl Page<'_> {
    fn summary(&mut self, data: &Data) -> fmt::Result {
        let count = |is| data.call.iter().flat_map(|c| &c.cells).filter(|c| c.is == is).count();
        let (exact, partial, absent) = (count(Is::Exact), count(Is::Partial), count(Is::Absent));
        let calls = &self.evidence.calls;
        writeln!(
            self.text,
            "\n{} claims about memory calls: {exact} exact, {partial} partial, {absent} absent. {} system calls in the table, \
             {} departures from Linux.",
            exact + partial + absent,
            calls.len(),
            self.evidence.divergences.len(),
        )
    }

    fn body(&mut self, data: &Data) -> fmt::Result {
        writeln!(self.text, "\n## What virtual memory is made of, and where to see it\n")?;
        writeln!(self.text, "| | Kilburn has | | see |\n|---|---|---|---|")?;
        for feature in &data.feature {
            let tests = self.tests(&feature.tests).join(", ");
            let stop = if tests.is_empty() { "" } else { "; " };
            let see = format!("{}{stop}{tests}", feature.see);
            writeln!(
                self.text,
                "| {} | {} | {} | {see} |",
                feature.notes,
                feature.has,
                feature.is.word()
            )?;
        }
        writeln!(self.text, "\n## Memory calls")?;
        for call in &data.call {
            self.call(call)?;
        }
        writeln!(self.text, "\n## All other system calls")?;
        for group in &data.group {
            self.group(group)?;
        }
        self.departures()
    }

    fn call(&mut self, call: &Call) -> fmt::Result {
        writeln!(self.text, "\n### {}", call.name)?;
        if let Some(linux) = &call.linux {
            writeln!(self.text, "\n{linux}")?;
        }
        let ltp = self.evidence.ltp.summary(&call.ltp);
        if !ltp.is_empty() {
            writeln!(self.text, "\nLinux Test Project: {ltp}.")?;
        }
        writeln!(self.text, "\n| | | proof | remarks |\n|---|---|---|---|")?;
        for cell in &call.cells {
            let (proof, remarks) = (self.proof(cell), self.remarks(cell));
            writeln!(
                self.text,
                "| {} | {} | {proof} | {remarks} |",
                code(&cell.flag),
                cell.is.word()
            )?;
        }
        Ok(())
    }

    fn proof(&self, cell: &Cell) -> String {
        let oracle = cell.oracle.is_some().then(|| "*oracle*".to_owned());
        let proofs = oracle.into_iter().chain(self.tests(&cell.tests)).chain(files(&cell.files));
        proofs.collect::<Vec<_>>().join(", ")
    }

    fn tests(&self, tests: &[String]) -> Vec<String> {
        let links = tests.iter().filter_map(|test| {
            let path = self.evidence.tests.find(test).ok()?;
            let name = test.rsplit("::").next().unwrap_or(test);
            Some(format!("[{}](../{path})", name.replace('_', " ")))
        });
        links.collect()
    }

    fn remarks(&self, cell: &Cell) -> String {
        let divergences =
            cell.divergences.iter().map(|id| format!("[{id}](#departures-from-linux)"));
        cell.note.iter().cloned().chain(divergences).collect::<Vec<_>>().join("; ")
    }

    fn group(&mut self, group: &Group) -> fmt::Result {
        let proofs = self.tests(&group.tests).into_iter().chain(files(&group.files));
        let proofs = proofs.collect::<Vec<_>>().join(", ");
        writeln!(self.text, "\n### {}\n\nTests: {proofs}.\n", group.name)?;
        let ltp = self.evidence.ltp.summary(&group.ltp);
        if !ltp.is_empty() {
            writeln!(self.text, "Linux Test Project: {ltp}.\n")?;
        }
        let (mut full, mut rest) = (Vec::new(), Vec::new());
        for entry in self.evidence.calls.iter().filter(|entry| group.calls.contains(&entry.name)) {
            match &entry.support {
                Support::Full => full.push(format!("`{}`", entry.name)),
                Support::Partial(why) => {
                    rest.push(format!("| `{}` | partial | {why} |", entry.name));
                }
                Support::Absent(why) => rest.push(format!("| `{}` | absent | {why} |", entry.name)),
            }
        }
        if !full.is_empty() {
            writeln!(self.text, "In full: {}.", full.join(", "))?;
        }
        if !rest.is_empty() {
            writeln!(self.text, "\n| | | |\n|---|---|---|\n{}", rest.join("\n"))?;
        }
        Ok(())
    }

    fn departures(&mut self) -> fmt::Result {
        writeln!(self.text, "\n## Departures from Linux\n\n| id | why | where |\n|---|---|---|")?;
        for Divergence { id, why, path, function, .. } in &self.evidence.divergences {
            let function =
                if function.is_empty() { String::new() } else { format!(", `{function}`") };
            let name = path.strip_prefix("crates/").unwrap_or(path);
            writeln!(self.text, "| {id} | {} | [{name}](../{path}){function} |", sentence(why))?;
        }
        writeln!(
            self.text,
            "\n## Differences that the oracle knows\n\n\
             The oracle's kernel is of another architecture and configuration; what differs for that reason is declared in one \
             table.\n\n| id | why |\n|---|---|"
        )?;
        for declared in &self.evidence.declared {
            writeln!(self.text, "| {} | {} |", declared.id, sentence(&declared.why))?;
        }
        Ok(())
    }
}

/// Links to files, by their names.
fn files(paths: &[String]) -> impl Iterator<Item = String> {
    paths.iter().map(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        format!("[{name}](../{path})")
    })
}

/// A flag's name as code; a rule in words as it is.
fn code(flag: &str) -> String {
    let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if flag.bytes().all(is_name) { format!("`{flag}`") } else { flag.to_owned() }
}

/// Starts with a capital, ends without a full stop, and does not end a table's cell.
fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.').replace('|', "\\|");
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::super::calls::{Entry, Handler};
    use super::super::ltp::Ltp;
    use super::super::marks::{Declared, Tests};
    use super::super::oracle::Made;
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn every_claim_reason_and_departure_is_on_the_page() {
        let entry = |name: &str, support| Entry {
            number: 1,
            name: name.into(),
            support,
            handler: Handler::Real,
            path: "t.rs".into(),
        };
        let evidence = Evidence {
            calls: vec![
                entry("read", Support::Full),
                entry("ioctl", Support::Partial("terminals".into())),
                entry("inotify_init1", Support::Absent("none".into())),
            ],
            tests: Tests::of(&Tree::of(&[("crates/a.rs", "#[test] fn it_maps() {}")])),
            divergences: vec![Divergence {
                id: "small".into(),
                why: "it is a|b.".into(),
                path: "crates/mm/src/b.rs".into(),
                line: 7,
                function: "f".into(),
            }],
            declared: vec![Declared { id: "x86".into(), why: "other bits".into() }],
            ltp: Ltp::default(),
            made: Made::of(&[]),
        };
        let data = toml::from_str(
            "[[call]]\nname = 'mmap'\ncells = [{ flag = 'MAP_FIXED', is = 'exact', oracle = 'any', tests = ['it_maps'] },\
             { flag = 'a rule', is = 'absent', note = 'so', divergences = ['small'] }]\n\
             [[group]]\nname = 'Files'\ncalls = ['read', 'ioctl', 'inotify_init1']\ntests = ['it_maps']\n\
             [[feature]]\nnotes = 'areas'\nhas = '`Vma`'\nis = 'partial'\nsee = '`kilburn run`'\n",
        )
        .expect("well-formed");
        let page = render(&data, &evidence);
        for line in [
            "2 claims about memory calls: 1 exact, 0 partial, 1 absent. 3 system calls in the table, 1 departures from Linux.",
            "| areas | `Vma` | partial | `kilburn run` |",
            "| `MAP_FIXED` | exact | *oracle*, [it maps](../crates/a.rs) |  |",
            "| a rule | absent |  | so; [small](#departures-from-linux) |",
            "In full: `read`.",
            "| `ioctl` | partial | terminals |",
            "| `inotify_init1` | absent | none |",
            "| small | It is a\\|b | [mm/src/b.rs](../crates/mm/src/b.rs), `f` |",
            "| x86 | Other bits |",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
    }
}
