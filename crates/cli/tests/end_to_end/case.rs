//! A case: what to run, and what a real riscv64 kernel prints for it.
//!
//! A file under testdata/e2e/ is made of sections. Those up to `== status` are written by hand, the
//! others captured from the real kernel by `cargo xtask e2e --update`:
//!
//! ```text
//! Why this case is here.
//! == run
//! dash -c                     one command a line, words apart by blanks;
//! busybox sh -c               several commands must all print the same
//! == script
//! echo hi                     appended to each command as its last word
//! == program hello static     C source, compiled and put at /root/hello
//! int main(void) { ... }
//! == options
//! sv39 fixed-layout maps      see Options
//! == status
//! 0
//! == stdout
//! hi
//! == stderr
//! ```

use crate::kilburn::{self, Outcome, debian_root, kilburn, kilburn_in, run};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a program of the case lies inside.
const HOME: &str = "/root";

/// How a case departs from the plain run.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Options {
    /// `sv39`, `sv48`, `sv57`; default `sv57`, the real machine's.
    paging: String,
    /// `fixed-layout`: ASLR off.
    fixed_layout: bool,
    /// `maps`: stdout has lines of /proc/PID/maps, compared without device and inode numbers.
    maps: bool,
}

struct Program {
    name: String,
    linking: String,
    source: String,
}

struct Case {
    path: PathBuf,
    /// Everything before `== status`, as written.
    written: String,
    commands: Vec<Vec<String>>,
    programs: Vec<Program>,
    options: Options,
    expected: Option<Outcome>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/e2e")
}

/// Names of all cases, sorted.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("testdata/e2e")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| path.file_stem().expect("named").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Runs a case and compares with what was captured; `KILBURN_E2E` asks the real kernel instead.
pub(crate) fn check(name: &str) {
    let case = Case::load(&folder().join(format!("{name}.txt")));
    let Some(root) = debian_root() else { return };
    let work = tempfile::tempdir().expect("a folder");
    if !case.programs.is_empty() && !case.compile(work.path()) {
        return;
    }
    let here = |words: &[String]| case.run_on_kilburn(&root, work.path(), words);
    let there = |words: &[String]| case.run_for_real(&root, work.path(), words);
    match std::env::var("KILBURN_E2E").as_deref() {
        Err(_) => {
            let captured = case.expected.as_ref().unwrap_or_else(|| {
                panic!("{}: not captured yet (cargo xtask e2e --update)", case.path.display())
            });
            case.compare(|_| captured.clone(), here);
        }
        Ok("compare") => case.compare(there, here),
        Ok("update") => case.update(there),
        Ok(other) => panic!("KILBURN_E2E={other}: neither compare nor update"),
    }
}

impl Case {
    fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let written = text.split("== status\n").next().unwrap_or_default().to_owned();
        let mut case = Self {
            path: path.to_owned(),
            written,
            commands: Vec::new(),
            programs: Vec::new(),
            options: Options { paging: "sv57".into(), fixed_layout: false, maps: false },
            expected: None,
        };
        let mut script = None;
        let mut outcome = Outcome { status: -1, stdout: String::new(), stderr: String::new() };
        for (head, body) in sections(&text) {
            match head.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["run"] => case.commands = body.lines().map(words).collect(),
                ["script"] => script = Some(body),
                ["program", name, linking @ ("static" | "dynamic")] => {
                    let (name, linking) = ((*name).to_owned(), (*linking).to_owned());
                    case.programs.push(Program { name, linking, source: body });
                }
                ["options"] => case.options.read(&body),
                ["status"] => outcome.status = body.trim().parse().expect("a number"),
                ["stdout"] => outcome.stdout = body,
                ["stderr"] => outcome.stderr = body,
                _ => panic!("{}: unknown section {head:?}", path.display()),
            }
        }
        if outcome.status >= 0 {
            case.expected = Some(outcome);
        }
        for command in &mut case.commands {
            command.extend(script.clone());
        }
        assert!(!case.commands.is_empty(), "{}: nothing to run", path.display());
        case
    }

    /// Compiles the programs into `folder`; false when there is no compiler.
    fn compile(&self, folder: &Path) -> bool {
        self.programs.iter().all(|Program { name, linking, source }| {
            let options: &[&str] =
                if linking == "static" { &["-Wall", "-static"] } else { &["-Wall"] };
            kilburn::compile(folder, name, source, options)
        })
    }

    fn compare(&self, expects: impl Fn(&[String]) -> Outcome, runs: impl Fn(&[String]) -> Outcome) {
        for command in &self.commands {
            let expected = self.normalise(expects(command));
            let found = self.normalise(runs(command));
            assert!(
                found == expected,
                "{}: {}\n{}",
                self.path.display(),
                command.join(" "),
                difference(&expected, &found)
            );
        }
    }

    fn update(&self, runs: impl Fn(&[String]) -> Outcome) {
        let mut outcomes: Vec<Outcome> =
            self.commands.iter().map(|command| self.normalise(runs(command))).collect();
        outcomes.dedup();
        let [outcome] = outcomes.as_slice() else {
            panic!("{}: the commands do not print the same: {outcomes:#?}", self.path.display())
        };
        let mut text = self.written.clone();
        let _ = write!(text, "== status\n{}\n", outcome.status);
        for (head, body) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
            assert!(
                body.is_empty() || body.ends_with('\n'),
                "{}: {head} ends amid a line",
                self.path.display()
            );
            let _ = write!(text, "== {head}\n{body}");
        }
        fs::write(&self.path, text).expect("written");
    }

    /// Runs a command, and sees to it that no frame is in use afterwards.
    fn run_on_kilburn(&self, root: &Path, work: &Path, words: &[String]) -> Outcome {
        let figures = tempfile::NamedTempFile::new().expect("a file");
        let outcome = self.run_counted(root, work, words, figures.path());
        let text = fs::read_to_string(figures.path()).expect("written");
        let figures: Value = serde_json::from_str(&text).expect("figures");
        for what in ["frames", "page_tables"] {
            assert_eq!(figures[what]["in_use_at_end"], 0, "{what} leaked: {}", self.path.display());
        }
        outcome
    }

    fn run_counted(&self, root: &Path, work: &Path, words: &[String], figures: &Path) -> Outcome {
        let mut arguments = vec!["run".to_owned(), format!("--paging={}", self.options.paging)];
        arguments.push("--stats=json".into());
        arguments.push(format!("--stats-file={}", figures.display()));
        if self.options.fixed_layout {
            arguments.push("--no-aslr".into());
        }
        let private = tempfile::tempdir().expect("a folder");
        match self.programs.iter().find(|p| words[0] == format!("./{}", p.name)) {
            // Its own root: the file alone.
            Some(program) if program.linking == "static" => {
                arguments.extend_from_slice(words);
                return kilburn_in(work, &arguments);
            }
            Some(program) => {
                small_root(root, private.path());
                let inside = private.path().join(&HOME[1..]);
                fs::create_dir_all(&inside).expect("made");
                fs::copy(work.join(&program.name), inside.join(&program.name)).expect("copied");
                arguments.push(format!("--root={}", private.path().display()));
            }
            None => arguments.push(format!("--root={}", root.display())),
        }
        arguments.push(format!("--cwd={HOME}"));
        arguments.extend_from_slice(words);
        kilburn(&arguments)
    }

    /// A machine that has not ended when it should, or did not boot, is given one more chance with
    /// more time: that says something of the host's load, nothing of what the kernel prints.
    fn run_for_real(&self, root: &Path, work: &Path, words: &[String]) -> Outcome {
        const NO_RESULT: [i32; 2] = [124, 125];
        let outcome = self.boot_and_run(root, work, words, 100);
        if NO_RESULT.contains(&outcome.status) {
            return self.boot_and_run(root, work, words, 290);
        }
        outcome
    }

    fn boot_and_run(&self, root: &Path, work: &Path, words: &[String], seconds: u32) -> Outcome {
        let real = std::env::var_os("KILBURN_REAL").expect("KILBURN_REAL names the command");
        let mut command = Command::new(real);
        command.arg("--root").arg(root).args(["--paging", &self.options.paging]);
        command.args(["--timeout", &seconds.to_string()]);
        if self.options.fixed_layout {
            command.args(["--append", "norandmaps"]);
        }
        for program in &self.programs {
            command.arg("--put").arg(work.join(&program.name));
        }
        command.arg("--").args(words);
        run(command, b"")
    }

    fn normalise(&self, outcome: Outcome) -> Outcome {
        if !self.options.maps {
            return outcome;
        }
        let stdout = outcome.stdout.lines().map(|line| plain_maps_line(line) + "\n").collect();
        Outcome { stdout, ..outcome }
    }
}

impl Options {
    fn read(&mut self, text: &str) {
        for word in text.split_whitespace() {
            match word {
                "sv39" | "sv48" | "sv57" => self.paging = word.to_owned(),
                "fixed-layout" => self.fixed_layout = true,
                "maps" => self.maps = true,
                _ => panic!("unknown option {word:?}"),
            }
        }
    }
}

/// What a dynamic program needs: the loader and the C library at the paths of Debian.
fn small_root(from: &Path, to: &Path) {
    let library = to.join("usr/lib/riscv64-linux-gnu");
    fs::create_dir_all(&library).expect("made");
    std::os::unix::fs::symlink("usr/lib", to.join("lib")).expect("linked");
    let source = from.join("usr/lib/riscv64-linux-gnu");
    for name in ["libc.so.6", "libm.so.6", "ld-linux-riscv64-lp64d.so.1"] {
        fs::copy(source.join(name), library.join(name))
            .unwrap_or_else(|e| panic!("{}: {e}", source.join(name).display()));
    }
    std::os::unix::fs::symlink(
        "riscv64-linux-gnu/ld-linux-riscv64-lp64d.so.1",
        to.join("usr/lib/ld-linux-riscv64-lp64d.so.1"),
    )
    .expect("linked");
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// `== head` and the lines up to the next one. Text before the first is the case's reason.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (line.strip_prefix("== "), all.last_mut()) {
            (Some(head), _) => all.push((head.trim().to_owned(), String::new())),
            (None, Some((_, body))) => body.push_str(line),
            (None, None) => {}
        }
    }
    all
}

/// Puts `-` for device and inode of a line of /proc/PID/maps; other lines stay as they are.
pub(crate) fn plain_maps_line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields.as_slice() {
        [range, rights, offset, device, _inode, name @ ..]
            if range.contains('-') && rights.len() == 4 && device.contains(':') =>
        {
            let line =
                format!("{}{range} {rights} {offset} - - {}", &line[..indent], name.join(" "));
            line.trim_end().to_owned()
        }
        _ => line.to_owned(),
    }
}

/// The first lines that differ, with what was expected.
fn difference(expected: &Outcome, found: &Outcome) -> String {
    let mut text = String::new();
    if expected.status != found.status {
        let _ = writeln!(text, "status: expected {}, found {}", expected.status, found.status);
    }
    for (name, expected, found) in
        [("stdout", &expected.stdout, &found.stdout), ("stderr", &expected.stderr, &found.stderr)]
    {
        if expected == found {
            continue;
        }
        let (e, f): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
        let at = e.iter().zip(&f).take_while(|(e, f)| e == f).count();
        let _ = writeln!(
            text,
            "{name}, {} lines expected, {} found, from line {}:",
            e.len(),
            f.len(),
            at + 1
        );
        for line in e.iter().skip(at).take(8) {
            let _ = writeln!(text, "  - {line}");
        }
        for line in f.iter().skip(at).take(8) {
            let _ = writeln!(text, "  + {line}");
        }
    }
    if !found.stderr.is_empty() && found.stderr == expected.stderr {
        let _ = writeln!(text, "stderr, as expected: {}", found.stderr);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_inode_of_a_maps_line_are_left_out() {
        assert_eq!(
            plain_maps_line("00010000-00013000 r-xp 00000000 fe:00 2668             /root/a b"),
            "00010000-00013000 r-xp 00000000 - - /root/a b"
        );
        assert_eq!(plain_maps_line("  1-2 rw-p 0 00:00 0 "), "  1-2 rw-p 0 - -");
        assert_eq!(plain_maps_line("no such line"), "no such line");
    }

    #[test]
    fn sections_start_at_their_heads() {
        assert_eq!(
            sections("why\n== run\na b\n== stdout\n\nx\n"),
            [("run".to_owned(), "a b\n".to_owned()), ("stdout".to_owned(), "\nx\n".to_owned())]
        );
    }
}
