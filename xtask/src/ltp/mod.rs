//! Runs the Linux Test Project's programs, built by the user, under `kilburn run`.
//!
//! [`mod@run`] takes the tests of a table (what passes on real kernels), runs each that the folder
//! holds, prints what became of it, and fails when one fails that is not among the named
//! exceptions. [`run::Verdict`] reads a test's exit status as LTP defines it.

mod list;
mod run;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use list::{Exceptions, Test};
use run::{Outcome, Runner, Verdict};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What to run, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of LTP's test programs, linked statically for riscv64 (testcases/bin of an install).
    dir: PathBuf,
    /// Guest root folder; the programs are copied to /opt/ltp/testcases/bin in it. Tests that read
    /// the kernel's configuration need gzip in it. Without it: a root with the programs alone.
    #[arg(long)]
    root: Option<PathBuf>,
    /// The kilburn command.
    #[arg(long, env = "KILBURN", default_value = "target/release/kilburn")]
    kilburn: PathBuf,
    /// Only tests whose group or name matches this regular expression.
    #[arg(long, default_value = "")]
    group: regex_lite::Regex,
    /// Table of the tests that pass on real kernels: columns test, group, command.
    #[arg(long, default_value = "testdata/ltp/expected.tsv")]
    expect: PathBuf,
    /// Tests that run at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Seconds until a test counts as hung: some race two threads for 40 seconds, whatever one sets.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Keep what each test printed in this folder.
    #[arg(long)]
    logs: Option<PathBuf>,
}

/// Runs the tests that `args` name; an error when one fails that should pass.
pub(crate) fn run(repository: &Path, args: &Args) -> Result<()> {
    let tests = list::read(&args.expect)?;
    let exceptions = Exceptions::read(&repository.join("testdata/ltp/exceptions.toml"))?;
    exceptions.check_against(&tests)?;
    let chosen: Vec<Test> = tests
        .into_iter()
        .filter(|test| args.group.is_match(&test.group) || args.group.is_match(&test.name))
        .collect();
    if chosen.is_empty() {
        bail!("no test of {} matches {}", args.expect.display(), args.group);
    }
    let runner = Runner::new(args)?;
    let outcomes = run_all(&runner, &chosen, args)?;
    report(&chosen, &outcomes, &exceptions)
}

fn run_all(runner: &Runner, tests: &[Test], args: &Args) -> Result<Vec<Outcome>> {
    let bar = ProgressBar::new(tests.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?);
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
    let work = || -> Result<()> {
        while let Some((at, test)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, tests.get(at)?)))
        {
            bar.set_message(test.name.clone());
            let outcome = runner.run(test).with_context(|| test.name.clone())?;
            done.lock().expect("no thread panics with it").insert(at, outcome);
            bar.inc(1);
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("a worker does not panic")?;
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(done.into_inner().expect("all threads ended").into_values().collect())
}

/// Prints the table; an error when a test failed without a named reason.
fn report(tests: &[Test], outcomes: &[Outcome], exceptions: &Exceptions) -> Result<()> {
    let mut failed = Vec::new();
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    println!("{:<24} {:<18} {:<8} note", "test", "group", "verdict");
    for (test, outcome) in tests.iter().zip(outcomes) {
        *counts.entry(outcome.verdict).or_default() += 1;
        let passed = outcome.verdict == Verdict::Pass;
        let note = match exceptions.reason(&test.name) {
            Some(reason) if !passed => format!("known: {reason}"),
            Some(_) => "passes: its exception can go".to_owned(),
            None if passed => String::new(),
            None => {
                failed.push(test.name.as_str());
                outcome.cause.clone()
            }
        };
        println!("{:<24} {:<18} {:<8} {note}", test.name, test.group, outcome.verdict.to_string());
    }
    let total: Vec<_> = counts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
    println!("{} tests: {}", tests.len(), total.join(", "));
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of them should pass: {}", failed.len(), failed.join(" "))
}
