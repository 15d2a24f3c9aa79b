//! Random instruction streams on the hart and under QEMU's user-mode emulator, compared register by register.
//!
//! `generate.rs` makes streams from a seed, `program.rs` lays many of them out as one static ELF file, `shrink.rs` reduces
//! one that diverges. Both machines run the same file; it hands back all registers, `fcsr` and the memory each
//! stream could write. The hart runs them whole, cut into small runs, or with their pages taken away under them (`run.rs`).
//!
//! `KILBURN_STREAMS` sets how many streams are run (each about [`STREAM_INSTRUCTIONS`] instructions), `KILBURN_STREAM_SEED`
//! where their seeds begin.

mod checks;
mod generate;
mod program;
mod run;
mod shrink;

use self::generate::NOT_COMPARED;
use self::program::{AFTER, BLOCK, FCSR, FLOATS, Program, Stream, WINDOW};
use self::run::{Ending, Regime};
use crate::{report, skip};

const STREAM_INSTRUCTIONS: usize = 2_000;
const STREAMS_A_PROGRAM: usize = 50;

/// A stream that ended differently.
#[derive(Debug)]
struct Divergence {
    /// The first one, if it is known.
    stream: Option<usize>,
    how: String,
}

/// Runs `streams` on both machines: the first divergence, and the instructions the hart executed.
fn compare(streams: &[Stream], regime: Regime) -> (Option<Divergence>, u64) {
    let program = Program::new(streams);
    let (ours, instructions) = run::on_the_hart(&program, regime);
    let divergence = match (ours, run::under_qemu(&program)) {
        (Ending::Data(ours), Ending::Data(theirs)) => differing_stream(streams, &ours, &theirs),
        (Ending::Died { why, stream }, Ending::Data(_)) => Some(Divergence { stream, how: why }),
        (Ending::Data(_), Ending::Died { why, stream }) => Some(Divergence { stream, how: why }),
        (Ending::Died { why: ours, stream }, Ending::Died { why: theirs, .. }) => {
            Some(Divergence { stream, how: format!("{ours}; {theirs}") })
        }
    };
    (divergence, instructions)
}

fn differing_stream(streams: &[Stream], ours: &[u8], theirs: &[u8]) -> Option<Divergence> {
    let blocks = ours.chunks(BLOCK).zip(theirs.chunks(BLOCK));
    let (index, (ours, theirs)) = blocks.enumerate().find(|(_, (ours, theirs))| ours != theirs)?;
    Some(Divergence { stream: Some(index), how: differences(&streams[index], ours, theirs) })
}

/// Names the registers and the memory in which two blocks differ.
fn differences(stream: &Stream, ours: &[u8], theirs: &[u8]) -> String {
    let word = |block: &[u8], at: usize| {
        u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"))
    };
    let mut lines = Vec::new();
    for at in (0..BLOCK).step_by(8) {
        let (ours, theirs) = (word(ours, at), word(theirs, at));
        if ours == theirs {
            continue;
        }
        let place = match at {
            at if at >= WINDOW => format!("window + {:#x}", at - WINDOW),
            at if at == AFTER + FCSR => "fcsr".to_string(),
            at if (AFTER + FLOATS..AFTER + FCSR).contains(&at) => {
                format!("f{}", (at - AFTER - FLOATS) / 8)
            }
            at if (AFTER..AFTER + FLOATS).contains(&at) => format!("x{}", (at - AFTER) / 8),
            at => format!("block + {at:#x}, which no instruction writes"),
        };
        lines.push(format!("  {place}: {ours:#018x}, QEMU {theirs:#018x}"));
    }
    lines.truncate(12);
    format!("{:?}\n{}", stream.roles, lines.join("\n"))
}

/// Finds the diverging stream among `streams`, shrinks it and describes it.
fn explain(streams: Vec<Stream>, regime: Regime, divergence: Divergence) -> String {
    let diverges = |stream: &Stream| compare(std::slice::from_ref(stream), regime).0;
    let suspects = match divergence.stream {
        Some(index) => vec![streams[index].clone()],
        None => streams,
    };
    for stream in suspects {
        if diverges(&stream).is_some() {
            let minimal = shrink::shrink(stream, |candidate| diverges(candidate).is_some());
            let how = diverges(&minimal).map_or_else(String::new, |divergence| divergence.how);
            let listing: Vec<_> = minimal.insns().iter().map(|insn| format!("  {insn}")).collect();
            return format!("{}\n{how}", listing.join("\n"));
        }
    }
    format!("{} (not in one stream alone)", divergence.how)
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

#[test]
fn random_streams_end_as_under_qemu() {
    if !run::has_qemu() {
        skip("qemu-riscv64-static is not installed");
        return;
    }
    let count = setting("KILBURN_STREAMS", 150) as usize;
    let first_seed = setting("KILBURN_STREAM_SEED", 1);
    let mut executed = 0;
    let mut failures = Vec::new();
    for begin in (0..count).step_by(STREAMS_A_PROGRAM) {
        let regime = Regime::of(begin / STREAMS_A_PROGRAM);
        let streams: Vec<_> = (begin..count.min(begin + STREAMS_A_PROGRAM))
            .map(|index| first_seed + index as u64)
            .map(|seed| generate::stream(seed, STREAM_INSTRUCTIONS, regime.reservations()))
            .collect();
        let (divergence, instructions) = compare(&streams, regime);
        executed += instructions;
        if let Some(divergence) = divergence {
            let seed = divergence.stream.map(|index| first_seed + (begin + index) as u64);
            failures.push(format!("seed {seed:?}:\n{}", explain(streams, regime, divergence)));
            if failures.len() == 3 {
                break;
            }
        }
    }
    report(format_args!(
        "{count} streams from seed {first_seed}: {executed} instructions, {} divergences",
        failures.len()
    ));
    if !failures.is_empty() {
        let known: Vec<_> =
            NOT_COMPARED.iter().map(|(what, why)| format!("  {what}: {why}")).collect();
        panic!("\n{}\nnot compared by design:\n{}", failures.join("\n\n"), known.join("\n"));
    }
}
