//! Runs real programs here and on a real riscv64 kernel and writes docs/programs.md: what each
//! printed compared, and what it cost.
//!
//! docs/programs.toml lists the programs; [`Program`] is one. Neighbour: [`crate::e2e`] keeps small
//! cases whose output is committed, here are the long ones.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

/// docs/programs.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    program: Vec<Program>,
}

/// A program, or a script of several, that must print the same on both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    name: String,
    /// What it does, for people.
    what: String,
    /// Who runs `script`: `bash` or `python3`.
    run: String,
    script: String,
    /// Why it cannot print the same, where it does not.
    #[serde(default)]
    differs: Option<String>,
}

/// The figures of `kilburn run --stats=json` that are shown.
#[derive(Deserialize)]
struct Figures {
    instructions: u64,
    syscalls: Vec<Calls>,
    frames: Frames,
    host: Host,
}

#[derive(Deserialize)]
struct Calls {
    calls: u64,
}

#[derive(Deserialize)]
struct Frames {
    peak: u64,
}

#[derive(Deserialize)]
struct Host {
    wall_seconds: f64,
}

const HEAD: &str = "\
# Real programs

Unmodified programs of Debian trixie (riscv64), run on Kilburn and on a real riscv64 Linux kernel from the same root
folder. *Same* means: stdout, stderr and exit status are equal, byte for byte. The scripts are in
[programs.toml](programs.toml); `cargo xtask programs-table --real COMMAND --root DIR` runs them and writes this page.

Memory is the most frames of guest RAM in use at once, page cache included. Seconds are those of the host that wrote
this page, Kilburn's and the real kernel's under emulation (boot included); they say something about each other only.

| program | what it does | verdict | instructions, millions | system calls | memory, MiB | seconds here | there |
|---|---|---|---:|---:|---:|---:|---:|
";

/// Runs every program of docs/programs.toml in `debian_root` on `kilburn` and through `real`.
pub(crate) fn run(root: &Path, kilburn: &Path, real: &Path, debian_root: &Path) -> Result<()> {
    let list = fs::read_to_string(root.join("docs/programs.toml")).context("docs/programs.toml")?;
    let list: List = toml::from_str(&list).context("docs/programs.toml")?;
    let work = tempfile::tempdir()?;
    let mut page = HEAD.to_owned();
    let mut unexplained = Vec::new();
    for program in &list.program {
        eprintln!("{} ...", program.name);
        let stats = work.path().join("stats.json");
        let mut here = Command::new(kilburn);
        here.args(["run", "--memory=1G", "--paging=sv57", "--cwd=/root", "--stats=json"]);
        here.arg("--stats-file").arg(&stats).arg("--root").arg(debian_root);
        let here = output(here, program)?;
        let start = Instant::now();
        let mut there = Command::new(real);
        there.args(["--memory", "1G", "--paging", "sv57", "--timeout", "290", "--root"]);
        there.arg(debian_root).arg("--");
        let there = output(there, program)?;
        let there_seconds = start.elapsed().as_secs_f64();
        let figures = fs::read(&stats).with_context(|| format!("figures of {}", program.name))?;
        let figures = String::from_utf8(figures)?;
        let figures: Figures = serde_json::from_str(&figures).context("figures")?;
        let same = here.status.code() == there.status.code()
            && here.stdout == there.stdout
            && here.stderr == there.stderr;
        let verdict = match (&program.differs, same) {
            (_, true) => "same".to_owned(),
            (Some(why), false) => why.clone(),
            (None, false) => {
                eprintln!("{}", difference(&here, &there));
                unexplained.push(program.name.clone());
                "**differs**".to_owned()
            }
        };
        let _ = writeln!(
            page,
            "| {} | {} | {verdict} | {} | {} | {} | {:.1} | {there_seconds:.1} |",
            program.name,
            program.what,
            figures.instructions / 1_000_000,
            figures.syscalls.iter().map(|calls| calls.calls).sum::<u64>(),
            figures.frames.peak >> 8,
            figures.host.wall_seconds,
        );
    }
    fs::write(root.join("docs/programs.md"), page).context("docs/programs.md")?;
    if unexplained.is_empty() {
        return Ok(());
    }
    bail!("differ from the real kernel: {}", unexplained.join(", "))
}

fn output(mut command: Command, program: &Program) -> Result<Output> {
    let command = command.args([&program.run, "-c", &program.script]);
    command.stdin(std::process::Stdio::null());
    command.output().with_context(|| format!("{}: {command:?}", program.name))
}

/// The first line that differs.
fn difference(here: &Output, there: &Output) -> String {
    let mut text = format!("status: here {}, there {}\n", here.status, there.status);
    for (name, here, there) in
        [("stdout", &here.stdout, &there.stdout), ("stderr", &here.stderr, &there.stderr)]
    {
        let (here, there) = (String::from_utf8_lossy(here), String::from_utf8_lossy(there));
        let (mut a, mut b) = (here.lines(), there.lines());
        loop {
            match (a.next(), b.next()) {
                (None, None) => break,
                (a, b) if a == b => (),
                (a, b) => {
                    let _ = writeln!(text, "{name}: here {a:?}, there {b:?}");
                    break;
                }
            }
        }
    }
    text
}
