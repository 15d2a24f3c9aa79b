//! The counts of a replay, or of a timed run, as text and JSON; as rows of [`table`].

use super::table;
use kilburn_mmu::model::stats::{CacheStats, CachesStats};
use kilburn_mmu::{Cause, ModelStats};
use kilburn_trace::Replay;
use kilburn_trace::replay::Backing;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How figures are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Text,
    Json,
    Csv,
}

/// One trace's counts.
pub(crate) struct Figures {
    name: String,
    harts: Vec<ModelStats>,
    accesses: u64,
    outside: u64,
    denied: u64,
    refused: u64,
    faults: BTreeMap<&'static str, u64>,
    areas_made: u64,
    table_pages: Option<u64>,
    /// What reclaim and swap did, as /proc/vmstat names it.
    reclaim: BTreeMap<&'static str, u64>,
    time: Duration,
    /// Why the trace was not replayed to its end.
    pub(crate) error: Option<String>,
}

impl Figures {
    /// What `replay` has counted.
    pub(crate) fn new(
        name: String,
        replay: &Replay,
        error: Option<String>,
        time: Duration,
    ) -> Self {
        let counts = replay.counts();
        let reclaim = match replay.backing() {
            Backing::Recorded(_) => BTreeMap::new(),
            Backing::Managed(managed) => {
                managed.memory().vm_stat().entries().filter(|(_, count)| *count > 0).collect()
            }
        };
        let (areas_made, table_pages) = match replay.backing() {
            Backing::Recorded(tables) => (0, tables.tables() as u64),
            Backing::Managed(managed) => {
                (managed.areas_made, managed.spaces().map(|mm| mm.stats().table_pages).sum())
            }
        };
        Self {
            name,
            harts: replay.stats(),
            accesses: counts.accesses,
            outside: counts.outside,
            denied: counts.denied,
            refused: counts.refused,
            faults: counts.faults.clone(),
            areas_made,
            table_pages: Some(table_pages),
            reclaim,
            time,
            error,
        }
    }

    /// One object, with every count.
    pub(crate) fn to_json(&self) -> Value {
        let harts: Vec<Value> = self.harts.iter().map(model_json).collect();
        json!({
            "trace": self.name,
            "accesses": self.accesses,
            "outside": self.outside,
            "denied": self.denied,
            "refused": self.refused,
            "faults": self.faults,
            "areas_made": self.areas_made,
            "table_pages": self.table_pages,
            "reclaim": self.reclaim,
            "harts": harts,
            "error": self.error,
            "host_seconds": self.time.as_secs_f64(),
        })
    }
}

/// Accesses by kind, in the order of their numbers in the model.
const KINDS: [&str; 3] = ["load", "store", "fetch"];

/// The counts of one hart's model.
pub(crate) fn model_json(stats: &ModelStats) -> Value {
    let mut tlb = Map::new();
    for (name, counts) in KINDS.into_iter().zip(&stats.accesses) {
        let counts = json!({
            "references": counts.references,
            "l1_hits": counts.l1_hits,
            "l2_hits": counts.l2_hits,
            "walks": counts.walks,
            "faults": counts.faults,
        });
        tlb.insert(name.to_owned(), counts);
    }
    let causes: Map<String, Value> = Cause::ALL
        .into_iter()
        .map(|cause| (cause.name().to_owned(), stats.walks.by_cause[cause as usize].into()))
        .collect();
    let shootdowns: Map<String, Value> = Cause::ALL
        .into_iter()
        .filter(|&cause| stats.shootdowns[cause as usize].requests > 0)
        .map(|cause| {
            let shot = stats.shootdowns[cause as usize];
            let counts = json!({
                "requests": shot.requests,
                "l1_entries": shot.l1_entries,
                "l2_entries": shot.l2_entries,
                "walk_cache_entries": shot.walk_cache_entries,
            });
            (cause.name().to_owned(), counts)
        })
        .collect();
    json!({
        "instructions": stats.instructions,
        "tlb": tlb,
        "walk_reads_by_level": stats.walks.reads,
        "walk_cache_hits_by_level": stats.walks.cache_hits,
        "ad_updates": stats.walks.ad_updates,
        "prefetches": stats.walks.prefetches,
        "walks_by_cause": causes,
        "shootdowns": shootdowns,
        "context_switches": stats.context_switches,
        "reach_bytes": levels(stats.reach),
        "reach_peak_bytes": levels(stats.reach_peak),
        "translation_cycles": stats.translation_cycles,
        "walk_cycles": stats.walks.cycles,
        "memory_cycles": stats.memory_cycles,
        "l1_misses_per_kilo_instruction": stats.l1_misses_per_kilo(),
        "walks_per_kilo_instruction": stats.walks_per_kilo(),
        "translation_cycles_per_kilo_instruction": stats.translation_cycles_per_kilo(),
        "caches": caches_json(&stats.caches),
    })
}

/// Bytes of each level of TLBs.
fn levels([fetch, data, second]: [u64; 3]) -> Value {
    json!({ "l1_fetch": fetch, "l1_data": data, "l2": second })
}

fn caches(stats: &CachesStats) -> [(&'static str, CacheStats); 4] {
    [("l1_fetch", stats.l1_fetch), ("l1_data", stats.l1_data), ("l2", stats.l2), ("l3", stats.l3)]
}

fn caches_json(stats: &CachesStats) -> Value {
    let cache = |(name, stats): (&str, CacheStats)| {
        let counts = [
            ("fetch", stats.fetch),
            ("load", stats.read),
            ("store", stats.write),
            ("walk", stats.walk),
        ];
        let mut all: Map<String, Value> = counts
            .into_iter()
            .map(|(kind, count)| {
                let value = json!({ "references": count.references, "misses": count.misses });
                (kind.to_owned(), value)
            })
            .collect();
        all.insert("writebacks".to_owned(), stats.writebacks.into());
        (name.to_owned(), Value::Object(all))
    };
    Value::Object(caches(stats).into_iter().map(cache).collect())
}

/// All figures in one text.
pub(crate) fn render(all: &[Figures], form: Form) -> String {
    match form {
        Form::Json => {
            let list: Vec<Value> = all.iter().map(Figures::to_json).collect();
            let mut text = serde_json::to_string_pretty(&list).expect("plain values");
            text.push('\n');
            text
        }
        Form::Csv => {
            let rows: Vec<table::Row> =
                all.iter().map(|figures| table::flatten(&figures.to_json())).collect();
            table::csv(&rows)
        }
        Form::Text => all.iter().map(to_text).collect(),
    }
}

fn to_text(figures: &Figures) -> String {
    let mut out = String::new();
    write_text(&mut out, figures).expect("a string takes any text");
    out
}

fn write_text(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let seconds = figures.time.as_secs_f64();
    writeln!(
        out,
        "{}: {} accesses, {:.1} M/s on this host",
        figures.name,
        figures.accesses,
        figures.accesses as f64 / seconds.max(1e-9) / 1e6
    )?;
    for (name, count) in [
        ("left out: no user address", figures.outside),
        ("not permitted", figures.denied),
        ("events that were refused", figures.refused),
        ("areas made for accesses", figures.areas_made),
    ] {
        if count > 0 {
            writeln!(out, "  {name:<28}{count:>14}")?;
        }
    }
    for (name, count) in &figures.faults {
        writeln!(out, "  fault {name:<22}{count:>14}")?;
    }
    for (name, count) in &figures.reclaim {
        writeln!(out, "  {name:<28}{count:>14}")?;
    }
    if let Some(pages) = figures.table_pages {
        writeln!(out, "  {:<28}{pages:>14}", "pages of tables at the end")?;
    }
    for (number, stats) in figures.harts.iter().enumerate() {
        if figures.harts.len() > 1 {
            writeln!(out, "hart {number}")?;
        }
        model_text(out, stats)?;
    }
    if let Some(error) = &figures.error {
        writeln!(out, "  stopped early: {error}")?;
    }
    writeln!(out)
}

/// The counts of one hart's model, as text.
pub(crate) fn model_text(out: &mut String, stats: &ModelStats) -> std::fmt::Result {
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    writeln!(
        out,
        "  {:<8}{:>14}{:>14}{:>12}{:>12}{:>10}{:>9}",
        "TLB", "references", "L1 hits", "L2 hits", "walks", "faults", "walked"
    )?;
    for (name, counts) in KINDS.into_iter().zip(&stats.accesses) {
        writeln!(
            out,
            "  {name:<8}{:>14}{:>14}{:>12}{:>12}{:>10}{:>8.3}%",
            counts.references,
            counts.l1_hits,
            counts.l2_hits,
            counts.walks,
            counts.faults,
            share(counts.walks, counts.references)
        )?;
    }
    let reads: Vec<String> = stats
        .walks
        .reads
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, count)| **count > 0)
        .map(|(level, count)| format!("{count} at level {level}"))
        .collect();
    writeln!(out, "  entries read by walks: {}", reads.join(", "))?;
    for (when, reach) in [("at most", stats.reach_peak), ("at the end", stats.reach)] {
        let [fetch, data, second] = reach.map(|bytes| bytes >> 10);
        let when = format!("reach {when}:");
        writeln!(
            out,
            "  {when:<18}L1 {fetch} KiB for fetches, {data} KiB for data; L2 {second} KiB"
        )?;
    }
    for cause in Cause::ALL {
        let walks = stats.walks.by_cause[cause as usize];
        let shot = stats.shootdowns[cause as usize];
        if walks + shot.requests > 0 {
            writeln!(
                out,
                "  {:<16}{walks:>12} walks{:>12} shootdowns{:>12} entries lost",
                cause.name(),
                shot.requests,
                shot.l1_entries + shot.l2_entries
            )?;
        }
    }
    for (name, cache) in caches(&stats.caches) {
        let kinds = [cache.fetch, cache.read, cache.write, cache.walk];
        let references: u64 = kinds.iter().map(|count| count.references).sum();
        let misses: u64 = kinds.iter().map(|count| count.misses).sum();
        if references > 0 {
            writeln!(
                out,
                "  cache {name:<10}{references:>14} references{misses:>12} misses{:>8.3}%",
                share(misses, references)
            )?;
        }
    }
    write!(
        out,
        "  {} cycles of translation, {} of them in walks",
        stats.translation_cycles, stats.walks.cycles
    )?;
    if stats.memory_cycles > 0 {
        write!(out, "; {} of memory", stats.memory_cycles)?;
    }
    writeln!(out)?;
    if let (Some(cycles), Some(misses), Some(walks)) =
        (stats.translation_cycles_per_kilo(), stats.l1_misses_per_kilo(), stats.walks_per_kilo())
    {
        writeln!(
            out,
            "  {} instructions: {:.4} cycles of translation each; in 1000 {misses:.3} L1 misses, {walks:.3} walks",
            stats.instructions,
            cycles / 1000.0
        )?;
    }
    Ok(())
}
