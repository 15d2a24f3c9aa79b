//! `kilburn tables`: what page tables cost, one flat table against a tree, in every format.

use crate::args::parse_size;
use crate::failure::Failure;
use crate::translate::{broken, parse_number};
use clap::Args;
use kilburn_addr::{AddrRange, VirtAddr};
use kilburn_paging::footprint::flat_bytes;
use kilburn_paging::{
    Aarch64, Footprint, HardwareFormat, Sv, Sv32, Textbook, X86_64, X86Pae, X86TwoLevel,
};
use serde_json::json;
use std::io::{self, Write as _};
use std::process::ExitCode;

const NOTES: &str = "\
Examples:
  kilburn tables                      a small program: text and data, heap, libraries, stack
  kilburn tables --map 0x400000:1G --map 0x7ffff000:4K --json

A flat table has an entry for every page of the address space: 4 MiB for 32 bits with entries of 4
bytes, 2^27 x 4 KiB for 48 bits with entries of 8. A tree has the tables that lead to mapped pages.
Ranges past the end of a format's address space are left out there.";

/// `kilburn tables`.
#[derive(Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// A mapped range: address and length; may be repeated
    #[arg(long, value_name = "ADDRESS:SIZE", value_parser = parse_range)]
    map: Vec<AddrRange>,

    /// Print a JSON list of one object a format
    #[arg(long)]
    json: bool,
}

fn parse_range(text: &str) -> Result<AddrRange, String> {
    let (start, len) = text.split_once(':').ok_or("an address and a length as in 0x400000:64K")?;
    let (start, len) = (parse_number(start)?, parse_size(len)?);
    AddrRange::with_len(VirtAddr::new(start), len)
        .filter(|range| !range.is_empty())
        .ok_or_else(|| "the range is empty, or ends past 64 bits".to_owned())
}

struct Row {
    name: &'static str,
    va_bits: u32,
    entry_bytes: u32,
    flat: u128,
    tree: Footprint,
    levels: u8,
    /// Ranges that lie within the address space.
    ranges: usize,
}

fn row<F: HardwareFormat>(name: &'static str, format: F, mapped: &[AddrRange]) -> Row {
    let end = 1_u128 << format.va_bits();
    let inside: Vec<AddrRange> =
        mapped.iter().copied().filter(|range| u128::from(range.end().get()) <= end).collect();
    Row {
        name,
        va_bits: format.va_bits(),
        entry_bytes: 1 << format.entry_shift(),
        flat: flat_bytes(format),
        tree: Footprint::of(format, &inside),
        levels: format.levels(),
        ranges: inside.len(),
    }
}

fn rows(mapped: &[AddrRange]) -> Vec<Row> {
    let notes = Textbook::new(48, 52, 12, 3).expect("three times twelve bits");
    vec![
        row("x86-32", X86TwoLevel, mapped),
        row("x86-pae", X86Pae, mapped),
        row("sv32", Sv32, mapped),
        row("sv39", Sv::SV39, mapped),
        row("sv48", Sv::SV48, mapped),
        row("sv57", Sv::SV57, mapped),
        row("x86-64", X86_64::FOUR_LEVEL, mapped),
        row("x86-64-la57", X86_64::FIVE_LEVEL, mapped),
        row("aarch64-4k", Aarch64, mapped),
        row("3x12 bits", notes, mapped),
    ]
}

/// What a small program maps, below 2 GiB so that every format has room for it.
const SMALL: [(u64, u64); 4] =
    [(0x1_0000, 0x8_0000), (0x9_0000, 0x2_1000), (0x6f00_0000, 0x20_0000), (0x7ffd_e000, 0x2_1000)];

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut mapped = arguments.map.clone();
    if mapped.is_empty() {
        let range = |(start, len)| AddrRange::with_len(VirtAddr::new(start), len);
        mapped.extend(SMALL.into_iter().filter_map(range));
    }
    mapped.sort_by_key(|range| range.start());
    if let Some(pair) = mapped.windows(2).find(|pair| pair[1].start() < pair[0].end()) {
        return Err(Failure::usage(format!("--map: ranges overlap at {}", pair[1].start())));
    }
    let mut out = io::stdout().lock();
    let rows = rows(&mapped);
    if arguments.json {
        let list: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "format": row.name,
                    "va_bits": row.va_bits,
                    "entry_bytes": row.entry_bytes,
                    "flat_bytes": row.flat.to_string(),
                    "tree_bytes": row.tree.bytes as u64,
                    "tables_by_level": &row.tree.tables[..usize::from(row.levels)],
                    "ranges": row.ranges,
                })
            })
            .collect();
        let text = serde_json::to_string_pretty(&list).expect("plain values");
        writeln!(out, "{text}").map_err(broken)?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes: u64 = mapped.iter().map(|range| range.end().get() - range.start().get()).sum();
    print(&mut out, &rows, mapped.len(), bytes).map_err(broken)?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl io::Write, rows: &[Row], ranges: usize, bytes: u64) -> io::Result<()> {
    writeln!(out, "{ranges} ranges of {} in all are mapped\n", amount(u128::from(bytes)))?;
    writeln!(
        out,
        "{:<12}{:>8}{:>7}{:>25}{:>12}  tables, the root's level first",
        "format", "address", "entry", "one flat table", "a tree"
    )?;
    for row in rows {
        let levels = row.tree.tables[..usize::from(row.levels)].iter().rev();
        let tables: Vec<String> = levels.map(u64::to_string).collect();
        let pages = row.flat / 4096;
        let flat = if pages > 1 << 10 && pages.is_power_of_two() {
            format!("2^{} x 4 KiB = {}", pages.ilog2(), amount(row.flat))
        } else {
            amount(row.flat)
        };
        let left_out = if row.ranges == ranges { "" } else { "  (some ranges do not fit)" };
        writeln!(
            out,
            "{:<12}{:>5} bit{:>5} B{flat:>25}{:>12}  {}{left_out}",
            row.name,
            row.va_bits,
            row.entry_bytes,
            amount(row.tree.bytes),
            tables.join(" + ")
        )?;
    }
    Ok(())
}

/// `4 MiB`, `12.5 KiB`.
fn amount(bytes: u128) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value.fract() != 0.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_arithmetic_is_printed() {
        let mut text = Vec::new();
        print(&mut text, &rows(&[]), 0, 0).unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("x86-32").contains(" 4 MiB "), "{text}");
        assert!(line("x86-64 ").contains("  2^27 x 4 KiB = 512 GiB "), "{text}");
    }

    #[test]
    fn ranges_are_read() {
        assert!(parse_range("0x1000:4K").is_ok());
        for wrong in ["0x1000", "0x1000:0", "0xffffffffffffffff:4K", "x:1"] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }
}
