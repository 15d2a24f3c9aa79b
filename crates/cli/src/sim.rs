//! `kilburn sim`: a trace replayed through the translation hardware.
//!
//! [`figures`]: the counts as text, JSON and CSV. Traces, replay and configurations are `kilburn-trace`'s.

pub(crate) mod figures;

use crate::args::parse_size;
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use figures::{Figures, Form};
use indicatif::{ProgressBar, ProgressStyle};
use kilburn_trace::managed::Managed;
use kilburn_trace::recorded::Recorded;
use kilburn_trace::replay::Backing;
use kilburn_trace::{Replay, Source, open, timing};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const NOTES: &str = "\
Examples:
  valgrind --tool=lackey --trace-mem=yes --log-file=ls.lackey ls
  kilburn sim ls.lackey --timing skylake
  xz -dc 600.perlbench_s-210B.champsimtrace.xz | kilburn sim - --format champsim --limit 100000000
  kilburn run --record cc.ktrace --root /srv/trixie gcc -c hello.c; kilburn sim cc.ktrace --json
  kilburn sim *.ktrace --timing mine.toml --csv > counts.csv

A trace recorded by `kilburn run --record` is replayed over the tables that its run had. Others, and with
--memory that one, too, get address spaces of the memory manager: a page is zeroed when it is first used, and
an access outside of all areas makes one, as the program must have had one there.
Compression (zstd, xz, gzip) is seen through. Presets of --timing: skylake, cortex-a72, u54, simple.
A TOML file changes a preset; the head of crates/trace/src/timing.rs shows how.

Exit status: 0; 2 wrong usage, or a trace that is bad from some record on (the counts up to there
are printed all the same).";

/// `kilburn sim`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// Traces, `-` for standard input
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,

    /// Format of the traces [default: by content and name]
    #[arg(long, value_enum)]
    format: Option<TraceFormat>,

    /// Hardware: a preset, or a file that ends with .toml
    #[arg(long, value_name = "PRESET|FILE", default_value = "simple")]
    timing: String,

    /// Memory of the machine, with pages as the memory manager gives them [default: 16G, or the tables
    /// that were recorded]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,

    /// Stop after this many accesses of each trace
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Print a JSON list of one object a trace
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print CSV: a line of names, then one a trace
    #[arg(long)]
    csv: bool,

    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// `--format`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum TraceFormat {
    /// Text of valgrind's lackey
    Lackey,
    /// ChampSim's records
    Champsim,
    /// Recorded by `kilburn run --record`
    Kilburn,
}

impl From<TraceFormat> for kilburn_trace::Format {
    fn from(format: TraceFormat) -> Self {
        match format {
            TraceFormat::Lackey => Self::Lackey,
            TraceFormat::Champsim => Self::ChampSim,
            TraceFormat::Kilburn => Self::Native,
        }
    }
}

/// Memory where nobody said how much.
const MEMORY: u64 = 16 << 30;

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let form = match (arguments.json, arguments.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Text,
    };
    let mut all = Vec::new();
    let mut is_whole = true;
    for path in &arguments.traces {
        let figures = replay(arguments, path)?;
        if let Some(error) = &figures.error {
            is_whole = false;
            eprintln!("kilburn: {}: {error}", path.display());
        }
        all.push(figures);
    }
    let text = figures::render(&all, form);
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::usage(format!("standard output: {error}")))?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn replay(arguments: &Arguments, path: &Path) -> Result<Figures, Failure> {
    let name = path.display().to_string();
    let failed = |why: String| Failure::usage(format!("{name}: {why}"));
    let (input, bytes): (Box<dyn Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin()), 0)
    } else {
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(file), bytes)
    };
    let bar = progress(bytes, arguments.quiet);
    let input = Box::new(bar.wrap_read(input));
    let mut source = open::open(&name, input, arguments.format.map(Into::into))
        .map_err(|error| failed(error.to_string()))?;
    let mut replay = prepare(arguments, &source)?;
    let start = Instant::now();
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let outcome = replay.run(&mut source, limit, |done| {
        bar.set_message(format!("{done} accesses"));
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(Figures::new(name, &replay, outcome.err().map(|error| error.to_string()), start.elapsed()))
}

fn prepare(arguments: &Arguments, source: &Source) -> Result<Replay, Failure> {
    let config = timing::load(&arguments.timing)
        .map_err(|why| Failure::usage(format!("--timing: {why}")))?;
    let backing = if source.levels() > 0 && arguments.memory.is_none() {
        Backing::Recorded(Recorded::new(source.levels()))
    } else {
        let managed = Managed::new(arguments.memory.unwrap_or(MEMORY))
            .map_err(|why| Failure::usage(format!("--memory: {why}")))?;
        Backing::Managed(Box::new(managed))
    };
    Replay::new(config, backing).map_err(|error| Failure::usage(error.to_string()))
}

/// Bytes of the trace read so far, on stderr when that is a terminal.
fn progress(bytes: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = if bytes == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(bytes) };
    let template = if bytes == 0 {
        "{spinner} {bytes} ({bytes_per_sec}) {msg}"
    } else {
        "{wide_bar} {bytes}/{total_bytes} {eta} {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
