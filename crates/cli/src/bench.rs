//! `kilburn bench`: our work beside other people's, in turns, with ratios and goals.
//!
//! The work and the peers are `kilburn-bench`'s; here is what is chosen and where it goes. [`document`] puts tables and pictures
//! into docs/performance.md.

mod document;

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use kilburn_bench::complexity::{self, Growth};
use kilburn_bench::locks::{self, Sharings};
use kilburn_bench::rows::memory;
use kilburn_bench::{Effort, Report, SUITES, Work};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

const NOTES: &str = "\
Examples:
  kilburn bench sim                      translation simulated, beside valgrind where it is installed
  kilburn bench fault lib --json         two parts, for a program
  kilburn bench lib --only 'find a gap'  the rows whose names hold these words
  kilburn bench --quick                  everything, fewer and smaller: to see that it works
  kilburn bench complexity --plot plots  how operations grow, as pictures in a folder
  kilburn bench locks                    what threads of one address space share, and 64 CPUs simulated
  kilburn bench all complexity locks --write docs/performance.md

Contestants of a row take turns within one run: a ratio is the middle of the ratios of turns that followed each other, and above
1 where ours is better. All rows are gone over in several passes, among which the turns are shared, so that those of a row are minutes
apart: passes agree when their quartiles overlap, each with each other's, and a row says what each gave where they do not.
A goal that was set beside a peer is also one of ratios: machines differ, and hours.
Times are processor time, but for two threads. Peers: the kernel underneath by real system calls;
the crates page_table_multiarch, bitmap-allocator, buddy_system_allocator, rangemap, memory_set; where they are installed
valgrind and qemu-riscv64-static; qemu-system-riscv64 where KILBURN_REAL names a command that runs a program on a kernel of its own;
for root zram, made for the run and removed after it. Pages of real programs are those of guests in KILBURN_ROOT, a folder
made by `kilburn rootfs` with bash, coreutils, sed, python3-minimal and sqlite3.
Only a release build on a machine with nothing else to do gives figures worth keeping.

JSON: an object with `machine`, `passes`, `rounds` (turns in a pass), and `rows`, each with `suite`, `name`, `ours`, `unit`, `peers`,
`ratio_to_best`, `goal`, `goal_met`, `goal_beside` (`peer`, `ratio`, `met`), `passes` (each with `ours`, `ours_spread`, `ratio_to_best`, `ratio_spread`), `passes_agree`,
`ratios_agree`; `complexity` and `locks` where they were asked for. What could not be measured is null, and `notes` says why.

Exit status: 0, whether goals are met or not; 2 wrong usage.";

/// `kilburn bench`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// Parts to measure
    #[arg(value_enum, value_name = "PART", default_value = "all")]
    parts: Vec<Part>,

    /// Only rows whose names hold WORDS
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,

    /// Fewer turns, smaller states: to see that it works
    #[arg(long)]
    quick: bool,

    /// Go over all rows N times, with a share of the turns each time [default: 3; with --quick 1]
    #[arg(long, value_name = "N")]
    passes: Option<NonZeroUsize>,

    /// Print one JSON object
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print tables as Markdown has them
    #[arg(long)]
    markdown: bool,

    /// Draw ratios, and how operations grow, into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,

    /// Put the tables into FILE, between the lines that name them, and pictures into the folder FILE without its ending
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Do NAME on two threads in turns, for lackey to write down
    #[arg(long, value_name = "NAME", hide = true)]
    lines: Option<String>,

    /// Print what one of NAME takes, in a process that does nothing else
    #[arg(long, value_name = "NAME", hide = true)]
    bytes: Option<String>,
}

/// A part of the whole.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// All parts but `complexity` and `locks`
    All,
    /// Areas, frames, tables
    Lib,
    /// Calls and faults of an address space, beside Linux
    Fault,
    /// Guest programs
    Hart,
    /// Translation simulated
    Sim,
    /// Replacement policies
    Policies,
    /// Pages out to compressed memory and back, beside zram
    Swap,
    /// What it takes in bytes
    Memory,
    /// How operations grow with areas, pages, processes
    Complexity,
    /// Locks and cache lines that threads share, and how many CPUs that lets scale
    Locks,
}

impl Part {
    fn holds(self, suite: &str) -> bool {
        let own = match self {
            Self::All => return true,
            Self::Lib => "lib",
            Self::Fault => "fault",
            Self::Hart => "hart",
            Self::Sim => "sim",
            Self::Policies => "policies",
            Self::Swap => "swap",
            Self::Memory => "memory",
            Self::Complexity | Self::Locks => return false,
        };
        own == suite
    }
}

/// What was measured.
struct Results {
    report: Report,
    growths: Vec<Growth>,
    sharings: Option<Sharings>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let Some(name) = &arguments.bytes {
        println!("{}", memory::bytes_of(name).map_err(Failure::usage)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &arguments.lines {
        locks::lines::perform(name).map_err(Failure::usage)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kilburn = std::env::current_exe().map_err(|error| Failure::internal(error.to_string()))?;
    let effort = if arguments.quick { Effort::quick(kilburn) } else { Effort::full(kilburn) };
    let effort = match arguments.passes {
        Some(passes) => effort.in_passes(passes),
        None => effort,
    };
    let only = arguments.only.as_deref().unwrap_or("");
    let chosen = |work: &Work| {
        work.name.contains(only) && arguments.parts.iter().any(|part| part.holds(work.suite))
    };
    let work: Vec<Work> = kilburn_bench::all().into_iter().filter(chosen).collect();
    let wants = |part| arguments.parts.contains(&part);
    if work.is_empty() && !wants(Part::Complexity) && !wants(Part::Locks) {
        return Err(Failure::usage(format!("--only: no row of these parts holds `{only}`")));
    }
    if let Some(path) = &arguments.write {
        document::check(path)?;
    }
    if cfg!(debug_assertions) {
        eprintln!("kilburn: this is a debug build: its figures say nothing");
    }
    let results = measure(&work, &arguments.parts, &effort);
    if let Some(folder) = &arguments.plot {
        document::draw(folder, &results)?;
    }
    if let Some(path) = &arguments.write {
        document::write(path, &results)?;
    }
    let text = if arguments.json {
        as_json(&results)
    } else if arguments.markdown {
        as_markdown(&results)
    } else {
        as_text(&results)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::usage(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn measure(work: &[Work], parts: &[Part], effort: &Effort) -> Results {
    let bar = ProgressBar::new((work.len() * effort.passes) as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let report = kilburn_bench::run(work, effort, |work| {
        bar.inc(1);
        bar.set_message(format!("{}: {}", work.suite, work.name));
    });
    let growths = if parts.contains(&Part::Complexity) {
        complexity::measure(effort, |what| bar.set_message(format!("complexity: {what}")))
    } else {
        Vec::new()
    };
    let sharings = parts
        .contains(&Part::Locks)
        .then(|| locks::measure(effort, |what| bar.set_message(format!("locks: {what}"))));
    bar.finish_and_clear();
    Results { report, growths, sharings }
}

fn as_json(results: &Results) -> String {
    let mut all = serde_json::to_value(&results.report).expect("plain values");
    if !results.growths.is_empty() {
        all["complexity"] = json!(results.growths);
    }
    if let Some(sharings) = &results.sharings {
        all["locks"] = json!(sharings);
    }
    serde_json::to_string_pretty(&all).expect("plain values") + "\n"
}

fn as_text(results: &Results) -> String {
    let mut text = results.report.to_text();
    for growth in &results.growths {
        let _ = writeln!(text, "\n{}", growth.to_markdown());
    }
    if let Some(sharings) = &results.sharings {
        let _ = writeln!(text, "\n{}", sharings.to_markdown());
    }
    text
}

fn as_markdown(results: &Results) -> String {
    let mut text = String::new();
    for suite in SUITES {
        if results.report.rows.iter().any(|line| line.suite == suite) {
            let _ = writeln!(text, "## {suite}\n\n{}", results.report.to_markdown(suite));
        }
    }
    for growth in &results.growths {
        let _ = writeln!(text, "## {}\n\n{}", growth.name, growth.to_markdown());
    }
    if let Some(sharings) = &results.sharings {
        let _ = writeln!(text, "## locks\n\n{}", sharings.to_markdown());
    }
    text
}
