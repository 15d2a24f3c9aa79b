//! What a sweep's file asks for: every trace on every configuration of the grid.
//!
//! ```toml
//! traces = ["cc.ktrace", "ls.lackey"]   # beside the file, if not absolute
//! memory = "4G"                         # as `kilburn sim --memory`; likewise policy, format and limit
//!
//! [base]                                # a --timing file
//! preset = "skylake"
//! [base.l2]
//! entries = 1536
//! ways = 12
//! pages = ["4K", "2M"]
//!
//! [grid]                                # each key of base with the values it takes
//! prefetch = ["off", "next-page"]
//! "l2.entries" = [384, 768, 1536]
//! ```
//!
//! A value may be anything the key takes, a whole table too. `memory` and `policy` may be keys of the grid as well.

use crate::args::{parse_as, parse_size};
use crate::sim::{Setup, TraceFormat};
use clap::ValueEnum as _;
use kilburn_mm::policy::Builtin;
use kilburn_mmu::ModelConfig;
use kilburn_trace::timing;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    traces: Vec<PathBuf>,
    memory: Option<String>,
    policy: Option<String>,
    format: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    base: Table,
    #[serde(default)]
    grid: BTreeMap<String, Vec<Value>>,
}

/// A key of the grid.
pub(super) struct Axis {
    pub(super) name: String,
    /// Its values.
    pub(super) values: Vec<serde_json::Value>,
}

/// One trace on one configuration.
pub(super) struct Run {
    pub(super) trace: PathBuf,
    pub(super) setup: Setup,
    /// For each axis the number of its value.
    pub(super) point: Vec<usize>,
    /// All that the counts depend on: a run with the same key need not be run again.
    pub(super) key: String,
}

/// All runs, in order.
pub(super) struct Plan {
    pub(super) axes: Vec<Axis>,
    pub(super) runs: Vec<Run>,
}

/// Most runs: more is a mistyped grid.
const RUNS_MAX: usize = 100_000;

impl Plan {
    /// The plan that `text` describes; traces are looked for from `folder` on.
    ///
    /// # Errors
    /// What is wrong, with the point of the grid it is wrong at.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.traces.is_empty() {
            return Err("traces: there is none".to_owned());
        }
        let format = file.format.as_deref().map(|name| TraceFormat::from_str(name, false));
        let format = format.transpose().map_err(|why| format!("format: {why}"))?;
        let counts = file.grid.values().map(Vec::len);
        let points = counts.chain([file.traces.len()]).try_fold(1, usize::checked_mul);
        match points {
            Some(0) => return Err("grid: a key has no value".to_owned()),
            Some(runs) if runs <= RUNS_MAX => (),
            _ => return Err(format!("grid: these are more than {RUNS_MAX} runs")),
        }
        let identities: Vec<(PathBuf, String)> = file
            .traces
            .iter()
            .map(|trace| identify(folder.join(trace)))
            .collect::<Result<_, _>>()?;
        let mut plan = Self { axes: axes(&file.grid)?, runs: Vec::new() };
        for point in points_of(&file.grid) {
            let (machine, said) = configure(&file, &point).map_err(|why| {
                let at = plan.axes.iter().zip(&point);
                let at =
                    at.map(|(axis, &i)| format!("{} = {}: ", axis.name, shown(&axis.values[i])));
                at.collect::<String>() + &why
            })?;
            for (trace, identity) in &identities {
                let key = format!("{identity} {:?} {format:?} {said}", file.limit);
                let Machine { config, memory, policy } = machine.clone();
                let setup = Setup { config, memory, policy, format, limit: file.limit };
                plan.runs.push(Run { trace: trace.clone(), setup, point: point.clone(), key });
            }
        }
        Ok(plan)
    }
}

/// The trace and what tells its contents from others'.
fn identify(trace: PathBuf) -> Result<(PathBuf, String), String> {
    let metadata = std::fs::metadata(&trace)
        .and_then(|metadata| Ok((metadata.len(), metadata.is_file(), metadata.modified()?)))
        .map_err(|error| format!("{}: {error}", trace.display()))?;
    let (len, is_file, modified) = metadata;
    if !is_file {
        return Err(format!("{}: a sweep reads a trace many times: a file", trace.display()));
    }
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let identity = format!("{} {len} {}", trace.display(), since.as_nanos());
    Ok((trace, identity))
}

fn axes(grid: &BTreeMap<String, Vec<Value>>) -> Result<Vec<Axis>, String> {
    let axis = |(name, values): (&String, &Vec<Value>)| {
        let values = values.iter().map(serde_json::to_value).collect::<Result<_, _>>();
        let values = values.map_err(|error| format!("grid: {name}: {error}"))?;
        Ok(Axis { name: name.clone(), values })
    };
    grid.iter().map(axis).collect()
}

/// A value as people write it.
pub(super) fn shown(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Numbers of values, one a key; the last key's change first.
fn points_of(grid: &BTreeMap<String, Vec<Value>>) -> Vec<Vec<usize>> {
    grid.values().fold(vec![Vec::new()], |points, values| {
        let extend =
            |point: Vec<usize>| (0..values.len()).map(move |value| [&point[..], &[value]].concat());
        points.into_iter().flat_map(extend).collect()
    })
}

/// A point of the grid.
#[derive(Clone)]
struct Machine {
    config: ModelConfig,
    memory: Option<u64>,
    policy: Option<Builtin>,
}

/// The machine at a point of the grid, and all that was said of it.
fn configure(file: &File, point: &[usize]) -> Result<(Machine, String), String> {
    let mut table = file.base.clone();
    let given = |text: &Option<String>| text.clone().map(Value::String);
    let (mut memory, mut policy) = (given(&file.memory), given(&file.policy));
    for ((name, values), &value) in file.grid.iter().zip(point) {
        match name.as_str() {
            "memory" => memory = Some(values[value].clone()),
            "policy" => policy = Some(values[value].clone()),
            _ => put(&mut table, name, &values[value])?,
        }
    }
    fn read<T>(
        name: &str,
        value: Option<&Value>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let Some(value) = value else { return Ok(None) };
        let parsed = value.as_str().ok_or_else(|| "a text is needed".to_owned()).and_then(parse);
        parsed.map(Some).map_err(|why| format!("{name}: {why}"))
    }
    let memory = read("memory", memory.as_ref(), parse_size)?;
    let policy = read("policy", policy.as_ref(), parse_as::<Builtin>)?;
    if policy.is_some() && memory.is_none() {
        return Err("policy: it needs a memory that can be used up".to_owned());
    }
    let said = serde_json::to_string(&table).map_err(|error| error.to_string())?;
    let said = format!("{memory:?} {:?} {said}", policy.map(|policy| format!("{policy:?}")));
    let machine = Machine { config: timing::from_table(table)?, memory, policy };
    Ok((machine, said))
}

/// Puts `value` where the dotted `path` leads.
fn put(table: &mut Table, path: &str, value: &Value) -> Result<(), String> {
    let (mut table, mut rest) = (table, path);
    while let Some((head, tail)) = rest.split_once('.') {
        let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
        table = inner
            .as_table_mut()
            .ok_or_else(|| format!("grid: {path}: {head} is no table in base"))?;
        rest = tail;
    }
    table.insert(rest.to_owned(), value.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), "I  10,1\n").expect("written");
        std::fs::write(folder.path().join("b"), "I  20,1\n").expect("written");
        Plan::parse(text, folder.path())
    }

    const L2: &str = "[base.l2]\nentries = 64\nways = 4\npages = ['4K']\n";

    #[test]
    fn every_trace_meets_every_point() {
        let text = format!(
            "traces = ['a', 'b']\n{L2}[grid]\n'l2.entries' = [64, 128, 256]\nasids = [true, false]\n"
        );
        let plan = plan(&text).expect("a good plan");
        assert_eq!(plan.runs.len(), 12);
        let names: Vec<&str> = plan.axes.iter().map(|axis| axis.name.as_str()).collect();
        assert_eq!(
            (names, shown(&plan.axes[1].values[2])),
            (vec!["asids", "l2.entries"], "256".into())
        );
        let last = plan.runs.last().expect("runs");
        assert_eq!((last.point.clone(), last.setup.config.l2[0].sets), (vec![1, 2], 64));
        let mut keys: Vec<&String> = plan.runs.iter().map(|run| &run.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 12);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_point() {
        let said = |text: &str| plan(text).err().expect("refused");
        assert!(said("traces = []").contains("there is none"));
        assert!(said("traces = ['c']").contains("c: "));
        assert!(said("traces = ['a']\ntrace = 1").contains("unknown field"));
        assert!(said("traces = ['a']\npolicy = 'lru'").contains("needs a memory"));
        assert!(said("traces = ['a']\n[grid]\nmemory = ['1X']").starts_with("memory = 1X: memory"));
        assert!(said("traces = ['a']\nformat = 'elf'").contains("format: "));
        assert!(said("traces = ['a']\n[grid]\nasids = []").contains("no value"));
        assert!(said("traces = ['a']\n[grid]\npreset = ['z80']").starts_with("preset = z80: "));
        let odd = format!("traces = ['a']\n{L2}[grid]\n'l2.entries' = [64, 65]\n");
        assert!(said(&odd).starts_with("l2.entries = 65: l2: 65 entries"), "{}", said(&odd));
    }
}
