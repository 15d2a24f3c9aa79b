//! `kilburn fidelity`: asks the kernel underneath whether our memory manager does as it does.
//!
//! - [`ours`]: a case run on `kilburn-mm`. [`compare`]: both sides, step by step.
//! - [`declared`]: differences that are meant.
//!
//! Cases, their generator and the kernel's side are `kilburn-model`'s.

mod compare;
mod declared;
mod ours;

use clap::Args;
use compare::{Coverage, Divergence, Run, Sides, What};
use indicatif::{ProgressBar, ProgressStyle};
use kilburn_model::{Case, Generator, Kind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

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

    /// What is compared: 1 outcomes, bytes and areas
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    stage: u8,

    /// Make these calls only, by name, with commas
    #[arg(long, value_name = "CALLS", value_delimiter = ',', value_parser = parse_kind)]
    calls: Vec<Kind>,

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

/// What came of it all.
#[derive(Default)]
struct Outcome {
    steps: u64,
    cases: u64,
    coverage: Coverage,
    declared: BTreeMap<&'static str, u64>,
    found: Vec<Found>,
}

/// A divergence, shrunk.
struct Found {
    case: Case,
    divergence: Divergence,
}

/// Runs the command.
pub(crate) fn run(arguments: &FidelityArgs) -> ExitCode {
    let start = Instant::now();
    let outcome = if arguments.replay.is_empty() { explore(arguments) } else { replay(arguments) };
    match outcome {
        Ok(outcome) => {
            let elapsed = start.elapsed();
            if arguments.json {
                println!("{}", as_json(arguments, &outcome, elapsed));
            } else {
                print(&outcome, elapsed);
            }
            if outcome.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(why) => {
            eprintln!("kilburn: {why}");
            ExitCode::from(2)
        }
    }
}

fn explore(arguments: &FidelityArgs) -> Result<Outcome, String> {
    let mut sides = Sides::new()?;
    let kinds = if arguments.calls.is_empty() { Kind::ALL } else { &arguments.calls };
    let mut generator = Generator::new(arguments.seed, kinds);
    let mut outcome = Outcome::default();
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} steps, {per_sec}, {eta} left");
    // Shown on a terminal only.
    let progress = ProgressBar::new(arguments.steps).with_style(style.expect("well-formed"));
    while outcome.steps < arguments.steps && outcome.found.len() < arguments.divergences {
        let case = generator.case();
        take(&mut sides, case, &mut outcome)?;
        progress.set_position(outcome.steps);
    }
    progress.finish_and_clear();
    Ok(outcome)
}

fn replay(arguments: &FidelityArgs) -> Result<Outcome, String> {
    let mut sides = Sides::new()?;
    let mut outcome = Outcome::default();
    for path in &arguments.replay {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        let case: Case = text.parse().map_err(|error| named(&error))?;
        take(&mut sides, case, &mut outcome)?;
    }
    Ok(outcome)
}

/// Runs a case, and shrinks it if it shows a divergence.
fn take(sides: &mut Sides, case: Case, outcome: &mut Outcome) -> Result<(), String> {
    let run = sides
        .run(&case, Some(&mut outcome.coverage))
        .map_err(|error| format!("{error}; the case was:\n{case}"))?;
    outcome.cases += 1;
    outcome.steps += run.steps as u64;
    if let Some(declared) = run.declared {
        *outcome.declared.entry(declared.id).or_default() += 1;
    }
    if let Some(divergence) = run.divergence {
        outcome.found.push(shrunk(sides, case, divergence));
    }
    Ok(())
}

fn shrunk(sides: &mut Sides, mut case: Case, divergence: Divergence) -> Found {
    case.steps.truncate(divergence.step + 1);
    let what = divergence.what;
    let mut last = divergence;
    let mut small = kilburn_model::shrink::shrink(case, |case| match sides.run(case, None) {
        Ok(Run { divergence: Some(divergence), .. }) if divergence.what == what => {
            last = divergence;
            true
        }
        _ => false,
    });
    if let Ok(Run { divergence: Some(divergence), .. }) = sides.run(&small, None) {
        last = divergence;
    }
    small.steps.truncate(last.step + 1);
    Found { case: small, divergence: last }
}

fn print(outcome: &Outcome, elapsed: Duration) {
    println!("{:<18} {:>10}  outcomes", "call", "steps");
    for kind in Kind::ALL {
        let classes: Vec<(&str, u64)> = outcome
            .coverage
            .iter()
            .filter(|((of, _), _)| of == kind)
            .map(|((_, class), count)| (class.as_str(), *count))
            .collect();
        if classes.is_empty() {
            continue;
        }
        let total: u64 = classes.iter().map(|(_, count)| count).sum();
        let classes: Vec<String> =
            classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
        println!("{:<18} {total:>10}  {}", kind.name(), classes.join(", "));
    }
    for (id, count) in &outcome.declared {
        let why = declared::DECLARED.iter().find(|declared| declared.id == *id);
        println!("declared: {id}, {count} times: {}", why.map_or("", |declared| declared.why));
    }
    for found in &outcome.found {
        print_found(found);
    }
    let rate = outcome.steps as f64 / elapsed.as_secs_f64();
    println!(
        "{} steps in {} cases, {rate:.0} steps/s: {}",
        outcome.steps,
        outcome.cases,
        match outcome.found.len() {
            0 => "nothing diverged".to_owned(),
            1 => "1 divergence".to_owned(),
            count => format!("{count} divergences"),
        }
    );
}

fn print_found(found: &Found) {
    let Divergence { step, what, kernel, ours } = &found.divergence;
    println!("\n# Divergence in {what} at step {}:", step + 1);
    for (who, text) in [("kernel", kernel), ("ours", ours)] {
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
    coverage: BTreeMap<&'static str, BTreeMap<&'a str, u64>>,
    declared: &'a BTreeMap<&'static str, u64>,
    divergences: Vec<JsonDivergence<'a>>,
}

#[derive(Serialize)]
struct JsonDivergence<'a> {
    what: String,
    step: usize,
    kernel: &'a str,
    ours: &'a str,
    case: String,
}

fn as_json(arguments: &FidelityArgs, outcome: &Outcome, elapsed: Duration) -> String {
    let mut coverage: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for ((kind, class), count) in &outcome.coverage {
        coverage.entry(kind.name()).or_default().insert(class, *count);
    }
    let json = Json {
        seed: arguments.seed,
        stage: arguments.stage,
        steps: outcome.steps,
        cases: outcome.cases,
        steps_per_second: outcome.steps as f64 / elapsed.as_secs_f64(),
        coverage,
        declared: &outcome.declared,
        divergences: outcome
            .found
            .iter()
            .map(|found| JsonDivergence {
                what: found.divergence.what.to_string(),
                step: found.divergence.step,
                kernel: &found.divergence.kernel,
                ours: &found.divergence.ours,
                case: found.case.to_string(),
            })
            .collect(),
    };
    serde_json::to_string(&json).expect("plain data")
}
