//! Runs real programs here and on a real riscv64 kernel and writes docs/programs.md: what each
//! printed compared, and what it cost.
//!
//! docs/programs.toml lists the programs; [`Program`] is one. Neighbour: [`crate::e2e`] keeps small
//! cases whose output is committed, here are the long ones.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
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

/// What to run, and on what.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Command that runs `[options] -- PROGRAM ARGS...` on a real riscv64 kernel.
    #[arg(long, env = "KILBURN_REAL")]
    real: PathBuf,
    /// Debian riscv64 root folder (kilburn rootfs) with the packages that docs/programs.toml names.
    #[arg(long, env = "KILBURN_ROOT")]
    root: PathBuf,
    /// The command under test.
    #[arg(long, default_value = "target/release/kilburn")]
    kilburn: PathBuf,
    /// Only programs whose name matches this regular expression: prints their rows, writes nothing.
    #[arg(long)]
    only: Option<regex_lite::Regex>,
    /// Seconds until the real kernel's run of a program counts as hung.
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
    /// Programs that run at a time; the page says so, as its seconds suffer.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

/// Runs the programs of docs/programs.toml here and on the real kernel.
pub(crate) fn run(repository: &Path, args: &Args) -> Result<()> {
    let list = repository.join("docs/programs.toml");
    let list = fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let list: List = toml::from_str(&list).context("docs/programs.toml")?;
    let chosen = |program: &&Program| args.only.as_ref().is_none_or(|o| o.is_match(&program.name));
    let chosen: Vec<&Program> = list.program.iter().filter(chosen).collect();
    let mut page = HEAD.to_owned();
    let mut unexplained = Vec::new();
    for (program, run) in chosen.iter().zip(run_all(&chosen, args)?) {
        page.push_str(&run.row(program));
        if !run.same() && program.differs.is_none() {
            unexplained.push(program.name.clone());
        }
    }
    if args.jobs > 1 {
        let _ = writeln!(
            page,
            "\n{} ran at a time, so the seconds are longer than they need be.",
            args.jobs
        );
    }
    if args.only.is_none() {
        fs::write(repository.join("docs/programs.md"), page).context("docs/programs.md")?;
    }
    if unexplained.is_empty() {
        return Ok(());
    }
    bail!("differ from the real kernel: {}", unexplained.join(", "))
}

/// Runs the programs, `args.jobs` at a time; answers in their order.
fn run_all(programs: &[&Program], args: &Args) -> Result<Vec<Run>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Run>> = Mutex::default();
    let work = || -> Result<()> {
        while let Some((at, program)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, programs.get(at)?)))
        {
            eprintln!("{} ...", program.name);
            let run = Run::of(program, args).with_context(|| program.name.clone())?;
            eprint!("{}", run.row(program));
            if !run.same() {
                eprintln!("{}", difference(&run.here, &run.there));
            }
            done.lock().expect("no thread panics with it").insert(at, run);
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("a worker does not panic")?;
        }
        Ok(())
    })?;
    Ok(done.into_inner().expect("all threads ended").into_values().collect())
}

/// A program's run here and there.
struct Run {
    here: Output,
    there: Output,
    there_seconds: f64,
    figures: Figures,
}

impl Run {
    fn of(program: &Program, args: &Args) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let stats = work.path().join("stats.json");
        let mut here = Command::new(&args.kilburn);
        here.args(["run", "--memory=1G", "--paging=sv57", "--cwd=/root", "--stats=json"]);
        here.arg("--stats-file").arg(&stats).arg("--root").arg(&args.root);
        let here = output(here, program)?;
        let start = Instant::now();
        let mut there = Command::new(&args.real);
        there.args(["--memory", "1G", "--paging", "sv57", "--timeout", &args.timeout.to_string()]);
        there.arg("--root").arg(&args.root).arg("--");
        let there = output(there, program)?;
        let there_seconds = start.elapsed().as_secs_f64();
        let figures = fs::read_to_string(&stats).context("its figures")?;
        let figures = serde_json::from_str(&figures).context("its figures")?;
        Ok(Self { here, there, there_seconds, figures })
    }

    fn same(&self) -> bool {
        self.here.status.code() == self.there.status.code()
            && self.here.stdout == self.there.stdout
            && self.here.stderr == self.there.stderr
    }

    /// Its line of the table.
    fn row(&self, program: &Program) -> String {
        let verdict = match &program.differs {
            _ if self.same() => "same",
            Some(why) => why,
            None => "**differs**",
        };
        let Figures { instructions, syscalls, frames, host } = &self.figures;
        format!(
            "| {} | {} | {verdict} | {} | {} | {} | {:.1} | {:.1} |\n",
            program.name,
            program.what,
            instructions / 1_000_000,
            syscalls.iter().map(|calls| calls.calls).sum::<u64>(),
            frames.peak >> 8,
            host.wall_seconds,
            self.there_seconds,
        )
    }
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
