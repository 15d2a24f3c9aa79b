//! `kilburn policies`: which page replacement policy misses least, on a trace or on a Zipf distribution.
//!
//! - [`trace`]: reads traces. [`zipf`]: makes one.
//! - [`measure`]: runs policies over it and times them.
//! - [`report`]: the table and the JSON. [`plot`]: miss-ratio curves as SVG.
//!
//! The policies are those of `kilburn_mm::policy`, the very code that reclaim uses.

mod measure;
pub(crate) mod plot;
mod report;
mod trace;
mod zipf;

use crate::failure::Failure;
use clap::{Args, ValueEnum};
use kilburn_mm::policy::simulate::{Hits, RequestTrace};
use measure::Contender;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const NOTES: &str = "\
Examples:
  kilburn policies --zipf 1.0 --objects 1000000 --requests 10000000 --capacity 100000
  kilburn policies --zipf 0.8 --policy lru --policy sieve --json
  kilburn policies web.oracleGeneral.bin --capacity 10% --plot web.svg
  awk '{ print $3 }' log | kilburn policies -

A text trace has one key a line, decimal or 0x-hexadecimal; empty lines and lines that begin with # do
not count. Objects are of equal size. The cache starts empty, and first requests count as misses.

Policies: two-list mglru clock fifo lru arc s3-fifo sieve random, and opt, Belady's optimum, which
knows the future. M req/s is for one core, by the thread's processor time; making or reading the
trace is not part of it.

Exit status: 0; 2 wrong usage, or a trace that is bad from some record on (the figures up to there
are printed all the same).";

#[derive(Args, Debug)]
#[command(after_help = NOTES, override_usage = "kilburn policies [OPTIONS] <TRACE | --zipf S>")]
pub(crate) struct Arguments {
    /// File of requests, `-` for standard input
    #[arg(value_name = "TRACE", required_unless_present = "zipf", conflicts_with = "zipf")]
    trace: Option<PathBuf>,

    /// How the trace is written [default: oracle-general if the name says so, else text]
    #[arg(long, value_enum, requires = "trace")]
    format: Option<trace::Format>,

    /// Draw requests from a Zipf distribution: the Nth object is requested in proportion to 1 / N^S
    #[arg(long, value_name = "S", value_parser = parse_exponent)]
    zipf: Option<f64>,

    /// Objects of the Zipf distribution
    #[arg(long, value_name = "N", default_value_t = 1_000_000, conflicts_with = "trace",
          value_parser = clap::value_parser!(u32).range(1..=1 << 28))]
    objects: u32,

    /// Requests drawn from the Zipf distribution
    #[arg(long, value_name = "N", default_value_t = 10_000_000, conflicts_with = "trace",
          value_parser = clap::value_parser!(u32).range(1..i64::from(u32::MAX)))]
    requests: u32,

    /// Seed of the Zipf distribution and of the policy `random`
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Objects that the cache holds, or with % a share of the objects requested
    #[arg(long, value_name = "N|P%", default_value = "10%", value_parser = parse_capacity)]
    capacity: Capacity,

    /// Policy to run; may be repeated [default: all, and opt]
    #[arg(long, value_name = "NAME", value_parser = str::parse::<Contender>)]
    policy: Vec<Contender>,

    /// How policies learn of hits
    #[arg(long, value_enum, default_value_t = HitsSeen::Exact)]
    hits: HitsSeen,

    /// Print a JSON list instead of a table
    #[arg(long)]
    json: bool,

    /// Draw miss ratios over capacities into FILE as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Capacity {
    Objects(u32),
    /// Of the distinct objects requested; in parts of one.
    Share(f64),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HitsSeen {
    /// Each hit is reported, as for files used by read and write
    Exact,
    /// Hits set accessed bits that policies harvest, as for memory used by loads and stores
    AccessedBits,
}

impl From<HitsSeen> for Hits {
    fn from(seen: HitsSeen) -> Self {
        match seen {
            HitsSeen::Exact => Self::Exact,
            HitsSeen::AccessedBits => Self::AccessedBits,
        }
    }
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.0..=100.0).contains(&s) => Ok(s),
        _ => Err("a number from 0 (all objects alike) to 100".into()),
    }
}

fn parse_capacity(text: &str) -> Result<Capacity, String> {
    let wrong = || "a number of objects from 1, or a percentage above 0 up to 100%".to_owned();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        return if percent > 0.0 && percent <= 100.0 {
            Ok(Capacity::Share(percent / 100.0))
        } else {
            Err(wrong())
        };
    }
    text.parse().ok().filter(|&objects| objects > 0).map(Capacity::Objects).ok_or_else(wrong)
}

impl Capacity {
    fn of(self, distinct: u32) -> u32 {
        match self {
            Self::Objects(objects) => objects,
            Self::Share(share) => ((f64::from(distinct) * share).round() as u32).max(1),
        }
    }
}

/// The requests to serve, and where they are from.
struct Workload {
    requests: Vec<u32>,
    /// One more than the largest object number.
    objects: u32,
    /// Objects requested at least once.
    distinct: u32,
    /// For the head of the report.
    description: String,
    /// What ended the trace early.
    bad: Option<trace::BadRecord>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let workload = load(arguments)?;
    if let Some(bad) = workload.bad.as_ref().filter(|_| workload.requests.is_empty()) {
        return Err(Failure::usage(format!("{}: {bad}", workload.description)));
    }
    let setting = measure::Setting {
        trace: RequestTrace { requests: &workload.requests, objects: workload.objects },
        // Room for more than there is changes nothing.
        capacity: arguments.capacity.of(workload.distinct).min(workload.objects),
        hits: arguments.hits.into(),
        seed: arguments.seed,
    };
    let contenders = match arguments.policy.as_slice() {
        [] => Contender::all(),
        chosen => chosen.to_vec(),
    };
    // Before minutes of work, not after them.
    let plot = match &arguments.plot {
        Some(path) => Some((path, File::create(path).map_err(|error| unusable(path, &error))?)),
        None => None,
    };
    let results = measure::run_each(&setting, &contenders);
    let shown = match arguments.json {
        true => report::print_json(&workload, &setting, &results),
        false => report::print_table(&workload, &setting, &results),
    };
    shown.map_err(|error| Failure::usage(format!("standard output: {error}")))?;
    if let Some((path, mut file)) = plot {
        let capacities = measure::capacities(workload.distinct, setting.capacity);
        let curves = measure::curves(&setting, &contenders, &capacities);
        let picture = plot::draw(&workload.description, &capacities, &curves);
        file.write_all(picture.as_bytes()).map_err(|error| unusable(path, &error))?;
    }
    match &workload.bad {
        None => Ok(ExitCode::SUCCESS),
        Some(bad) => Err(Failure::usage(format!(
            "{}: {bad}; the figures are for the {} requests before it",
            workload.description,
            report::grouped(workload.requests.len() as u64)
        ))),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

fn load(arguments: &Arguments) -> Result<Workload, Failure> {
    if let Some(s) = arguments.zipf {
        let progress = measure::progress("drawing requests", u64::from(arguments.requests));
        let requests =
            zipf::draw(s, arguments.objects, arguments.requests, arguments.seed, |done| {
                progress.set_position(done);
            });
        progress.finish_and_clear();
        let mut requested = vec![false; arguments.objects as usize];
        requests.iter().for_each(|&object| requested[object as usize] = true);
        let distinct = requested.iter().filter(|&&requested| requested).count() as u32;
        let description =
            format!("Zipf({s}) over {} objects", report::grouped(u64::from(arguments.objects)));
        return Ok(Workload {
            requests,
            objects: arguments.objects,
            distinct,
            description,
            bad: None,
        });
    }
    let path = arguments.trace.as_ref().expect("clap asks for a trace without --zipf");
    let read = trace::read(path, arguments.format).map_err(|error| unusable(path, &error))?;
    let objects = read.distinct();
    let description = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    if read.requests.is_empty() && read.bad.is_none() {
        return Err(Failure::usage(format!("{description}: no requests")));
    }
    Ok(Workload { objects, distinct: objects, requests: read.requests, description, bad: read.bad })
}
