//! `kilburn sim`: a trace replayed through the translation hardware.
//!
//! - [`figures`]: the counts as text and JSON. [`table`]: the same as rows of CSV and Parquet.
//! - [`input`]: the bytes of a trace, until somebody presses ^C.
//!
//! Traces, replay and configurations are `kilburn-trace`'s. Neighbour: [`crate::sweep`] replays on many configurations.

pub(crate) mod figures;
pub(crate) mod input;
pub(crate) mod table;

use crate::args::{parse_as, parse_size};
use crate::failure::Failure;
use clap::{Args, ValueEnum};
use figures::{Figures, Form};
use indicatif::{ProgressBar, ProgressStyle};
use input::Input;
use kilburn_mm::policy::Builtin;
use kilburn_mmu::ModelConfig;
use kilburn_trace::managed::Managed;
use kilburn_trace::recorded::Recorded;
use kilburn_trace::replay::Backing;
use kilburn_trace::{Replay, Source, open, timing};
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const NOTES: &str = "\
Examples:
  valgrind --tool=lackey --trace-mem=yes --log-file=ls.lackey ls
  kilburn sim ls.lackey --timing skylake
  xz -dc 600.perlbench_s-210B.champsimtrace.xz | kilburn sim - --format champsim --limit 100000000
  kilburn run --record cc.ktrace --root /srv/trixie gcc -c hello.c; kilburn sim cc.ktrace --json
  kilburn sim *.ktrace --timing mine.toml --csv > counts.csv
  kilburn sim *.ktrace --parquet counts.parquet
  kilburn sim cc.ktrace --memory 8M --policy mglru

A trace recorded by `kilburn run --record` is replayed over the tables that its run had. Others, and with
--memory that one, too, get address spaces of the memory manager: a page is zeroed when it is first used, and
an access outside of all areas makes one, as the program must have had one there.
Compression (zstd, xz, gzip) is seen through. Presets of --timing: skylake, cortex-a72, u54, simple.
A TOML file changes a preset; the head of crates/trace/src/timing.rs shows how.

Exit status: 0; 2 wrong usage, or a trace that is bad from some record on; 130 after ^C. The counts up to there
are printed all the same.";

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

    /// When memory is used up, swap out the page that this policy chooses: two-list, mglru, clock, fifo, lru, arc, s3-fifo,
    /// sieve, random [default: no swap, and the replay ends there]
    #[arg(long, value_name = "NAME", requires = "memory", value_parser = parse_as::<Builtin>)]
    policy: Option<Builtin>,

    /// Stop after this many accesses of each trace
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Print a JSON list of one object a trace
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print CSV: a line of names, then one a trace
    #[arg(long)]
    csv: bool,

    /// Write a table with one row a trace into FILE
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,

    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// `--format`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TraceFormat {
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

/// What a trace is replayed on.
pub(crate) struct Setup {
    pub(crate) config: ModelConfig,
    /// Address spaces of the memory manager on a machine with so much; `None` for the tables that were recorded.
    pub(crate) memory: Option<u64>,
    /// Who chooses the page that is swapped out; `None` for no swap.
    pub(crate) policy: Option<Builtin>,
    pub(crate) format: Option<TraceFormat>,
    /// Most accesses.
    pub(crate) limit: Option<u64>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let setup = Setup {
        config: timing::load(&arguments.timing)
            .map_err(|why| Failure::usage(format!("--timing: {why}")))?,
        memory: arguments.memory,
        policy: arguments.policy,
        format: arguments.format,
        limit: arguments.limit,
    };
    let stop = input::stop_flag().map_err(|error| Failure::internal(error.to_string()))?;
    let mut all = Vec::new();
    let mut is_any_bad = false;
    for path in &arguments.traces {
        let figures = match replay(path, &setup, &stop, |bytes| progress(bytes, arguments.quiet)) {
            Ok(figures) => figures,
            // The counts of the others are worth having all the same.
            Err(failure) if arguments.traces.len() > 1 => {
                eprintln!("kilburn: {failure}");
                is_any_bad = true;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        is_any_bad |= figures.error.is_some();
        if let Some(error) = &figures.error {
            eprintln!("kilburn: {}: {error}", path.display());
        }
        all.push(figures);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    if let Some(path) = &arguments.parquet {
        let rows: Vec<table::Row> = all.iter().map(|one| table::flatten(&one.to_json())).collect();
        let written = File::create(path)
            .map_err(|error| error.to_string())
            .and_then(|file| table::write_parquet(&rows, file).map_err(|error| error.to_string()));
        written.map_err(|why| Failure::usage(format!("--parquet {}: {why}", path.display())))?;
    }
    let form = match (arguments.json, arguments.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Text,
    };
    io::stdout()
        .write_all(figures::render(&all, form).as_bytes())
        .map_err(|error| Failure::usage(format!("standard output: {error}")))?;
    Ok(match is_any_bad {
        _ if stop.load(Ordering::Relaxed) => ExitCode::from(130),
        true => ExitCode::from(2),
        false => ExitCode::SUCCESS,
    })
}

/// Replays the trace at `path` until it ends or `stop` is set; `progress` makes a bar for so many bytes.
///
/// # Errors
/// A trace that cannot be opened, a machine that cannot be built. A trace that is bad later on is one of the [`Figures`].
pub(crate) fn replay(
    path: &Path,
    setup: &Setup,
    stop: &Arc<AtomicBool>,
    progress: impl FnOnce(u64) -> ProgressBar,
) -> Result<Figures, Failure> {
    let name = path.display().to_string();
    let failed = |why: String| Failure::usage(format!("{name}: {why}"));
    let (input, bytes) = Input::open(path, stop).map_err(|error| failed(error.to_string()))?;
    let bar = progress(bytes);
    let input = Box::new(bar.wrap_read(input));
    let mut source = open::open(&name, input, setup.format.map(Into::into))
        .map_err(|error| failed(error.to_string()))?;
    let mut replay = prepare(setup, &source)?;
    let start = Instant::now();
    let limit = setup.limit.unwrap_or(u64::MAX);
    let outcome = replay.run(&mut source, limit, |done| {
        bar.set_message(format!("{done} accesses"));
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    let error = match outcome {
        Err(error) => Some(error.to_string()),
        Ok(()) if stop.load(Ordering::Relaxed) => {
            Some(format!("stopped by a signal after record {}", source.record()))
        }
        Ok(()) => None,
    };
    Ok(Figures::new(name, &replay, error, start.elapsed()))
}

/// A replay with nothing done yet.
pub(crate) fn prepare(setup: &Setup, source: &Source) -> Result<Replay, Failure> {
    let backing = if source.header().levels > 0 && setup.memory.is_none() {
        Backing::Recorded(Recorded::new(source.header()))
    } else {
        let managed = Managed::new(setup.memory.unwrap_or(MEMORY), setup.policy)
            .map_err(|why| Failure::usage(format!("--memory: {why}")))?;
        Backing::Managed(Box::new(managed))
    };
    Replay::new(setup.config.clone(), backing).map_err(|error| Failure::usage(error.to_string()))
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
