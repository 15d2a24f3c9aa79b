//! `kilburn sweep`: traces replayed on every configuration of a grid, on all cores.
//!
//! - [`plan`]: the file that says what to run. [`plot`]: pictures along each axis of the grid.
//!
//! Each run that ends is a line of `runs.jsonl` in the output folder at once, so a sweep that was stopped goes on where it was.
//! When all are there they become one table, in the plan's order. Neighbour: [`crate::sim`] replays one trace.

mod plan;
mod plot;

use crate::failure::Failure;
use crate::sim::figures::Figures;
use crate::sim::{input, replay, table};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use plan::{Plan, Run};
use plot::{Panel, Series};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

const NOTES: &str = "\
Example, grid.toml:
  traces = [\"cc.ktrace\", \"ls.lackey\"]
  [base]                                as a file of `kilburn sim --timing`
  preset = \"skylake\"
  [base.l2]
  entries = 1536
  ways = 12
  pages = [\"4K\", \"2M\"]
  [grid]                                each key of it with the values it takes
  prefetch = [\"off\", \"next-page\"]
  \"l2.entries\" = [384, 768, 1536, 3072]

  kilburn sweep grid.toml               eight runs for each trace, into grid.sweep/

In the output folder: table.parquet with a row a run, KEY.svg for each key of the grid, and runs.jsonl. Stopped by ^C, or
by anything else, and started again, a sweep runs only what is missing; what is changed in the file or in a trace
is run anew. `memory`, `format` and `limit` beside `traces` are as the options of `kilburn sim`.

Exit status: 0; 2 wrong usage, or runs whose trace is bad (they are in the table with their `error`, and are tried again next
time); 130 after ^C.";

/// `kilburn sweep`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// What to run
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,

    /// Folder of the results [default: FILE.sweep]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Runs at once [default: one a core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let path = &arguments.file;
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let plan = Plan::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(wrong)?;
    let out = arguments.out.clone().unwrap_or_else(|| path.with_extension("sweep"));
    let broken = |error: io::Error| Failure::usage(format!("{}: {error}", out.display()));
    fs::create_dir_all(&out).map_err(broken)?;
    let mut journal = Journal::open(&out.join("runs.jsonl")).map_err(broken)?;
    let stop = input::stop_flag().map_err(|error| Failure::internal(error.to_string()))?;
    let missing: Vec<&Run> =
        plan.runs.iter().filter(|run| !journal.rows.contains_key(&run.key)).collect();
    let known = plan.runs.len() - missing.len();
    let bar = progress(plan.runs.len(), known, arguments.quiet);
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get).min(missing.len());
    let mut failed = BTreeMap::new();
    work(&missing, jobs, &stop, |run, figures| {
        let figures = figures?;
        let row = figures.to_json();
        match figures.error {
            // What was stopped is not done; what failed is tried again next time.
            _ if stop.load(Ordering::Relaxed) => (),
            Some(_) => drop(failed.insert(run.key.clone(), row)),
            None => journal.add(&run.key, row).map_err(broken)?,
        }
        bar.inc(1);
        Ok(())
    })?;
    bar.finish_and_clear();
    let row = |run: &Run| journal.rows.get(&run.key).or_else(|| failed.get(&run.key));
    let done: Vec<(&Run, &Value)> =
        plan.runs.iter().filter_map(|run| Some((run, row(run)?))).collect();
    if stop.load(Ordering::Relaxed) {
        eprintln!("kilburn: stopped with {} of {} runs done", done.len(), plan.runs.len());
        return Ok(ExitCode::from(130));
    }
    write_results(&out, &plan, &done).map_err(|why| Failure::usage(why.to_string()))?;
    for (run, row) in &done {
        if let Some(error) = row["error"].as_str() {
            eprintln!("kilburn: {}: {error}", run.trace.display());
        }
    }
    println!("{} runs, {known} of them known before; {}", done.len(), out.display());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Runs by their keys, on a disk.
struct Journal {
    file: File,
    rows: BTreeMap<String, Value>,
}

impl Journal {
    /// The runs in the file at `path`; what was cut off at its end is dropped.
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut rows = BTreeMap::new();
        let mut reader = BufReader::new(&file);
        let mut whole = 0;
        loop {
            let mut line = String::new();
            whole += match reader.read_line(&mut line)? {
                len if line.ends_with('\n') => len as u64,
                _ => break,
            };
            let Ok(mut run) = serde_json::from_str::<Value>(&line) else { continue };
            if let Some(key) = run["key"].as_str().map(str::to_owned) {
                rows.insert(key, run["figures"].take());
            }
        }
        file.set_len(whole)?;
        Ok(Self { file, rows })
    }

    fn add(&mut self, key: &str, figures: Value) -> io::Result<()> {
        let line = format!("{}\n", json!({ "key": key, "figures": figures }));
        self.file.write_all(line.as_bytes())?;
        self.rows.insert(key.to_owned(), figures);
        Ok(())
    }
}

/// Runs `runs`, `jobs` at once, and hands out each as it ends. After a failure, or when `stop` is set, no further one begins.
fn work<'r>(
    runs: &[&'r Run],
    jobs: usize,
    stop: &Arc<AtomicBool>,
    mut ended: impl FnMut(&'r Run, Result<Figures, Failure>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed)
                    && let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let hidden = |_| ProgressBar::hidden();
                    if sender.send((*run, replay(&run.trace, &run.setup, stop, hidden))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (run, figures) in results {
            if let Err(failure) = ended(run, figures) {
                next.store(runs.len(), Ordering::Relaxed);
                return Err(failure);
            }
        }
        Ok(())
    })
}

fn write_results(
    out: &Path,
    plan: &Plan,
    done: &[(&Run, &Value)],
) -> Result<(), Box<dyn std::error::Error>> {
    let rows: Vec<table::Row> = done
        .iter()
        .map(|(run, figures)| {
            let mut row = table::flatten(figures);
            for (axis, &value) in plan.axes.iter().zip(&run.point) {
                row.insert(format!("grid.{}", axis.name), axis.values[value].clone());
            }
            for (name, value) in sums(figures) {
                row.insert(name.to_owned(), value.into());
            }
            row
        })
        .collect();
    table::write_parquet(&rows, File::create(out.join("table.parquet"))?)?;
    for number in 0..plan.axes.len() {
        let name: String = plan.axes[number].name.replace(['/', '.'], "-");
        fs::write(out.join(format!("{name}.svg")), picture(plan, number, done))?;
    }
    Ok(())
}

/// Counts of all harts together.
fn sums(figures: &Value) -> [(&'static str, u64); 3] {
    let harts = || figures["harts"].as_array().into_iter().flatten();
    let of_tlb = |name: &str| {
        harts()
            .flat_map(|hart| {
                ["load", "store", "fetch"].map(|kind| hart["tlb"][kind][name].as_u64())
            })
            .flatten()
            .sum()
    };
    let cycles = harts().filter_map(|hart| hart["translation_cycles"].as_u64()).sum();
    [
        ("references", of_tlb("references")),
        ("walks", of_tlb("walks")),
        ("translation_cycles", cycles),
    ]
}

/// Walks and cycles along axis `number`: a line for each trace and point of the other axes, or, if these are too many, for each
/// trace the mean of them.
fn picture(plan: &Plan, number: usize, done: &[(&Run, &Value)]) -> String {
    let axis = &plan.axes[number];
    let labels: Vec<String> = axis.values.iter().map(plan::shown).collect();
    let trace =
        |run: &Run| run.trace.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let point = |run: &Run| {
        let others = plan.axes.iter().zip(&run.point).enumerate();
        let others = others.filter(|(other, _)| *other != number).map(|(_, (axis, &value))| {
            format!(" {}={}", axis.name, plan::shown(&axis.values[value]))
        });
        trace(run) + &others.collect::<String>()
    };
    let mut names: Vec<String> = done.iter().map(|(run, _)| point(run)).collect();
    names.sort();
    names.dedup();
    let is_mean = names.len() > plot::SERIES_MAX;
    let name = |run: &Run| if is_mean { trace(run) } else { point(run) };
    let panel = |unit, part: usize| {
        // For each series and value of the axis the sum and the number of what falls there.
        let mut found: BTreeMap<String, Vec<(f64, u32)>> = BTreeMap::new();
        for (run, figures) in done {
            let [(_, references), parts @ ..] = sums(figures);
            let cell = &mut found.entry(name(run)).or_insert_with(|| vec![(0.0, 0); labels.len()])
                [run.point[number]];
            cell.0 += parts[part].1 as f64 * 1000.0 / references.max(1) as f64;
            cell.1 += 1;
        }
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        let series = found
            .into_iter()
            .take(plot::SERIES_MAX)
            .map(|(name, cells)| Series { name, values: cells.into_iter().map(mean).collect() });
        Panel { unit, series: series.collect() }
    };
    let panels = [
        panel("walks in 1000 references", 0),
        panel("cycles of translation in 1000 references", 1),
    ];
    let title = if is_mean { "means over the other keys" } else { "kilburn sweep" };
    plot::draw(title, &axis.name, &labels, &panels)
}

fn progress(runs: usize, known: usize, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(runs as u64).with_position(known as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs {eta}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_was_cut_off_keeps_its_whole_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("runs.jsonl");
        let mut journal = Journal::open(&path).expect("a new one");
        journal.add("one", json!({ "accesses": 1 })).expect("written");
        journal.add("two", json!({ "accesses": 2 })).expect("written");
        drop(journal);
        let text = fs::read_to_string(&path).expect("text");
        fs::write(&path, &text[..text.len() - 5]).expect("cut");
        let mut journal = Journal::open(&path).expect("still one");
        assert_eq!(journal.rows.keys().collect::<Vec<_>>(), ["one"]);
        journal.add("two", json!({ "accesses": 2 })).expect("written");
        assert_eq!(Journal::open(&path).expect("whole again").rows.len(), 2);
    }
}
