//! `kilburn fidelity`: asks the kernel underneath whether our memory manager does as it does.
//!
//! - [`ours`]: a case run on `kilburn-mm`. [`compare`]: both sides, step by step; [`pages`]: what
//!   stage two compares. [`workers`]: cases shared out among threads.
//! - [`host_swap`]: a swap file on the host, for what MADV_PAGEOUT does.
//! - [`declared`]: differences that are meant. [`coverage`]: what was exercised.
//!
//! Cases, their generator and the kernel's side are `kilburn-model`'s.

mod compare;
mod coverage;
mod declared;
mod host_swap;
mod ours;
mod pages;
mod planted;
mod workers;

use clap::Args;
use compare::{Divergence, Findings, Found, Kernel, Kernels, Settings, Sides, Swap, What};
use coverage::JsonCoverage;
use host_swap::HostSwap;
use indicatif::{ProgressBar, ProgressStyle};
use kilburn_mm::config::Leasing;
use kilburn_model::{Case, Generator, Kind, Stage};
use planted::Planted;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use workers::Goal;

const NOTES: &str = "\
Random memory calls are made twice: in a child of this process by the kernel, and on Kilburn's own
memory manager. After every step the return value or errno, the signal with its code and address,
the bytes read, and the lines of /proc/self/maps must be equal. A difference is shrunk to a minimal
case and printed; --replay runs such a case again.

Needs x86-64 Linux 6.10 or later. The reference is 6.18.

Examples:
  kilburn fidelity --steps 1000000 --seed 7
  kilburn fidelity --replay testdata/fidelity/split.case
  kilburn fidelity --calls mmap,munmap,mprotect --json
  kilburn fidelity --lease --seed 7
  kilburn fidelity --stage 2 --host-swap auto --calls mmap,madvise,read,write,fork

Exit status: 0 nothing diverged, 1 something did, 2 the kernel cannot be asked.";

/// The arguments of `kilburn fidelity`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct FidelityArgs {
    /// Steps to compare
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    steps: u64,

    /// Seed of the cases
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// What is compared: 1 outcomes, bytes and areas; 2 also smaps, pagemap, mincore and counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stage: u8,

    /// Let both sides swap, this machine to a new file (`auto`: below /var/tmp) that goes when the
    /// command ends: in stage 2, smaps and pagemap of pages that MADV_PAGEOUT took are compared. Needs
    /// root, and a file system that swap files can be on
    #[arg(long, value_name = "FILE")]
    host_swap: Option<String>,

    /// Steps between checks of all invariants of our side
    #[arg(long, value_name = "N", default_value_t = 40)]
    check_every: usize,

    /// Threads that run cases; the result is the same with any number [default: one a CPU]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Make these calls only, by name, with commas
    #[arg(long, value_name = "CALLS", value_delimiter = ',', value_parser = parse_kind)]
    calls: Vec<Kind>,

    /// Compare with the naive model only, as on systems without the kernel for it
    #[arg(long)]
    without_kernel: bool,

    /// Make our side wrong on purpose, to see that it is found
    #[arg(long, value_name = "FAULT", value_parser = Planted::by_name)]
    plant: Option<Planted>,

    /// Let our side give parts of address spaces locks of their own at every chance, as it does when
    /// threads contend: what calls do must be the same
    #[arg(long)]
    lease: bool,

    /// Go on after a divergence, up to this many
    #[arg(long, value_name = "N", default_value_t = 1)]
    divergences: usize,

    /// Run these cases instead of making some
    #[arg(long, value_name = "FILE", num_args = 1..)]
    replay: Vec<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn parse_kind(name: &str) -> Result<Kind, String> {
    Kind::ALL.iter().find(|kind| kind.name() == name).copied().ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("not a call; there are: {}", names.join(", "))
    })
}

/// Runs the command.
pub(crate) fn run(arguments: &FidelityArgs) -> ExitCode {
    let start = Instant::now();
    let host_swap = arguments.host_swap.as_deref().map(HostSwap::start).transpose();
    let outcome = if let Err(why) = &host_swap {
        Err(format!("swap on this machine: {why}"))
    } else if arguments.replay.is_empty() {
        explore(arguments)
    } else {
        replay(arguments)
    };
    // The machine is as it was before anything is printed.
    drop(host_swap);
    match outcome {
        Ok(outcome) => {
            let elapsed = start.elapsed();
            if arguments.json {
                println!("{}", as_json(arguments, &outcome, elapsed));
            } else {
                print(arguments, &outcome, elapsed);
            }
            if outcome.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(why) => {
            eprintln!("kilburn: {why}");
            ExitCode::from(2)
        }
    }
}

impl FidelityArgs {
    fn kinds(&self) -> &[Kind] {
        if self.calls.is_empty() { Kind::ALL } else { &self.calls }
    }

    fn settings(&self) -> Settings {
        let stage = if self.stage == 1 { Stage::One } else { Stage::Two };
        let without =
            self.without_kernel || !cfg!(all(target_os = "linux", target_arch = "x86_64"));
        Settings {
            stage,
            check_every: self.check_every.max(1),
            kernel: if without { Kernel::Left } else { Kernel::Asked },
            planted: self.plant,
            swap: if self.host_swap.is_some() { Swap::Both } else { Swap::Neither },
            leasing: if self.lease { Leasing::Always } else { Leasing::OnContention },
        }
    }
}

fn explore(arguments: &FidelityArgs) -> Result<Findings, String> {
    let generator = Generator::new(arguments.seed, arguments.kinds());
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} steps, {per_sec}, {eta} left");
    // Shown on a terminal only.
    let progress = ProgressBar::new(arguments.steps).with_style(style.expect("well-formed"));
    let workers = arguments
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let goal = Goal { steps: arguments.steps, divergences: arguments.divergences.max(1), workers };
    let findings = workers::explore(&generator, arguments.settings(), &goal, |steps| {
        progress.set_position(steps);
    });
    progress.finish_and_clear();
    findings
}

fn replay(arguments: &FidelityArgs) -> Result<Findings, String> {
    let settings = arguments.settings();
    let mut sides = Sides::new(Kernels::new(settings)?, settings);
    let mut findings = Findings::default();
    for path in &arguments.replay {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        let case: Case = text.parse().map_err(|error| named(&error))?;
        findings.merge(sides.take(&case).map_err(|error| named(&error))?);
    }
    Ok(findings)
}

fn print(arguments: &FidelityArgs, findings: &Findings, elapsed: Duration) {
    if let Some(planted) = arguments.plant {
        println!("planted: {}: {}", planted.name(), planted.what());
    }
    print!("{}", findings.coverage.text(arguments.kinds()));
    for declared in declared::DECLARED {
        if let Some(count) = findings.declared.get(declared.id) {
            println!("declared: {}, {count} times: {}", declared.id, declared.why);
        }
    }
    println!("naive model: knew {} of {} steps", findings.modelled, findings.steps);
    for (why, count) in &findings.unsure {
        println!("naive model: gave up {count} cases: {why}");
    }
    for found in &findings.found {
        print_found(found);
    }
    let rate = findings.steps as f64 / elapsed.as_secs_f64();
    println!(
        "{} steps in {} cases, {rate:.0} steps/s: {}",
        findings.steps,
        findings.cases,
        match findings.found.len() {
            0 => "nothing diverged".to_owned(),
            1 => "1 divergence".to_owned(),
            count => format!("{count} divergences"),
        }
    );
}

fn print_found(found: &Found) {
    let Divergence { step, what, said } = &found.divergence;
    println!("\n# Divergence in {what} at step {}:", step + 1);
    for (who, text) in said {
        if *what == What::Maps || text.contains('\n') {
            println!("# {who}:");
            for line in text.lines() {
                println!("#   {line}");
            }
        } else if !text.is_empty() {
            println!("# {who}: {text}");
        }
    }
    println!("{}", found.case);
}

#[derive(Serialize)]
struct Json<'a> {
    seed: u64,
    stage: u8,
    steps: u64,
    cases: u64,
    steps_per_second: f64,
    coverage: JsonCoverage,
    declared: &'a BTreeMap<&'static str, u64>,
    /// Steps that the naive model knew the answer to, and why it gave cases up.
    modelled: u64,
    unsure: &'a BTreeMap<&'static str, u64>,
    divergences: Vec<JsonDivergence<'a>>,
}

#[derive(Serialize)]
struct JsonDivergence<'a> {
    what: String,
    step: usize,
    /// Who says what.
    said: BTreeMap<&'static str, &'a str>,
    case: String,
}

fn said(divergence: &Divergence) -> BTreeMap<&'static str, &str> {
    divergence.said.iter().map(|(who, text)| (*who, text.as_str())).collect()
}

fn as_json(arguments: &FidelityArgs, outcome: &Findings, elapsed: Duration) -> String {
    let json = Json {
        seed: arguments.seed,
        stage: arguments.stage,
        steps: outcome.steps,
        cases: outcome.cases,
        steps_per_second: outcome.steps as f64 / elapsed.as_secs_f64(),
        coverage: outcome.coverage.json(arguments.kinds()),
        declared: &outcome.declared,
        modelled: outcome.modelled,
        unsure: &outcome.unsure,
        divergences: outcome
            .found
            .iter()
            .map(|found| JsonDivergence {
                what: found.divergence.what.to_string(),
                step: found.divergence.step,
                said: said(&found.divergence),
                case: found.case.to_string(),
            })
            .collect(),
    };
    serde_json::to_string(&json).expect("plain data")
}
