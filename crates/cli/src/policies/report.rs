//! The figures, as a table for people or JSON for programs.

use super::Workload;
use super::measure::{Contender, Measured, Setting};
use serde_json::json;
use std::io::{self, Write as _};

/// A number with its thousands set apart: `12,345,678`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Prints a table, best first.
pub(super) fn print_table(
    workload: &Workload,
    setting: &Setting<'_>,
    results: &[Measured],
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}: {} requests for {} objects; the cache holds {}",
        workload.description,
        grouped(workload.requests.len() as u64),
        grouped(u64::from(workload.distinct)),
        grouped(u64::from(setting.capacity)),
    )?;
    let best = results
        .iter()
        .find(|measured| measured.contender == Contender::Opt)
        .map(|opt| opt.outcome.misses);
    writeln!(
        out,
        "{:<10}{:>12}{:>14}{:>10}{:>10}",
        "policy", "miss ratio", "misses", "vs opt", "M req/s"
    )?;
    let mut ordered: Vec<&Measured> = results.iter().collect();
    ordered.sort_by_key(|measured| measured.outcome.misses);
    for measured in ordered {
        let Measured { contender, outcome, .. } = measured;
        let over = best.filter(|&best| best > 0).map_or("-".to_owned(), |best| {
            format!("{:+.1} %", (outcome.misses as f64 / best as f64 - 1.0) * 100.0)
        });
        writeln!(
            out,
            "{:<10}{:>12.4}{:>14}{:>10}{:>10.1}",
            contender.name(),
            outcome.miss_ratio(),
            grouped(outcome.misses),
            over,
            measured.requests_per_s() / 1e6,
        )?;
    }
    Ok(())
}

/// Prints a JSON list of one object a policy, in the order they ran.
pub(super) fn print_json(
    workload: &Workload,
    setting: &Setting<'_>,
    results: &[Measured],
) -> io::Result<()> {
    let list: Vec<_> = results
        .iter()
        .map(|measured| {
            json!({
                "policy": measured.contender.name(),
                "miss_ratio": measured.outcome.miss_ratio(),
                "requests_per_s": measured.requests_per_s(),
                "requests": measured.outcome.requests,
                "misses": measured.outcome.misses,
                "objects": workload.distinct,
                "capacity": setting.capacity,
                "seed": setting.seed,
            })
        })
        .collect();
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &list)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
