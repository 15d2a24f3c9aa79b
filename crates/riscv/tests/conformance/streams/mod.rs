//! Random instruction streams on the hart and under QEMU's user-mode emulator, compared register by register.
//!
//! `generate.rs` makes streams from a seed, `program.rs` lays many of them out as one static ELF file, `shrink.rs` reduces
//! one that diverges. Both machines run the same file; it hands back all registers, `fcsr` and the memory each
//! stream could write.
//!
//! `KILBURN_STREAMS` sets how many streams are run (each about [`STREAM_INSTRUCTIONS`] instructions), `KILBURN_STREAM_SEED`
//! where their seeds begin.

mod generate;
mod program;
mod shrink;

use std::process::{Command, Stdio};

use kilburn_riscv::{Regs, Trap};

use self::generate::{NOT_COMPARED, Random, Reservations};
use self::program::{
    AFTER, BLOCK, CODE_BASE, DATA_BASE, FCSR, FLOATS, Program, SYS_WRITE, Stream, WINDOW,
};
use crate::bare::{CODE, DATA, Machine};
use crate::{report, skip};

const QEMU: &str = "qemu-riscv64-static";
const STREAM_INSTRUCTIONS: usize = 2_000;
const STREAMS_A_PROGRAM: usize = 50;
/// Far more than a program of so many streams executes.
const BUDGET: u64 = 20_000_000;

/// How one machine ended a program.
#[derive(Debug)]
enum Ending {
    /// It handed back its data segment.
    Data(Vec<u8>),
    /// It did not, for the reason given; the stream is named if it is known.
    Died { why: String, stream: Option<usize> },
}

/// A stream that ended differently.
#[derive(Debug)]
struct Divergence {
    /// The first one, if it is known.
    stream: Option<usize>,
    how: String,
}

fn run_under_qemu(program: &Program) -> Ending {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (elf, out) = (folder.path().join("streams"), folder.path().join("out"));
    std::fs::write(&elf, program.to_elf()).expect("the program can be written");
    let mut options = std::fs::File::options();
    // A program whose own write fails must not look like one that wrote nothing.
    let stdout = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(&out)
        .expect("its output can be written");
    make_executable(&elf);
    let status = Command::new(QEMU)
        .arg(&elf)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .status()
        .expect("QEMU starts");
    let data = std::fs::read(&out).expect("its output can be read");
    if status.success() && data.len() == program.data.len() {
        Ending::Data(data)
    } else {
        Ending::Died { why: format!("QEMU: {status}, {} bytes", data.len()), stream: None }
    }
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(path, mode).expect("the program can be made executable");
}

/// How the hart is to run a program.
#[derive(Clone, Copy, Debug)]
enum Runs {
    Whole,
    /// In runs of few and many instructions, drawn by this seed.
    Cut(u64),
}

impl Runs {
    /// Every other program is cut.
    fn of(program: usize) -> Self {
        if program.is_multiple_of(2) { Self::Whole } else { Self::Cut(program as u64) }
    }

    fn reservations(self) -> Reservations {
        match self {
            Self::Whole => Reservations::Used,
            Self::Cut(_) => Reservations::Absent,
        }
    }
}

/// Runs the program on the hart; answers with the number of instructions too.
fn run_on_the_hart(program: &Program, runs: Runs) -> (Ending, u64) {
    let mut machine = Machine::new(64 << 20);
    machine.map(CODE_BASE, program.code.len() as u64, CODE);
    machine.map(DATA_BASE, program.data.len() as u64, DATA);
    machine.write(CODE_BASE, &program.code);
    machine.write(DATA_BASE, &program.data);
    let mut regs = Regs { pc: CODE_BASE, ..Regs::new() };
    let mut random = Random::new(if let Runs::Cut(seed) = runs { seed } else { 0 });
    let ending = loop {
        if machine.hart.stats().instructions > BUDGET {
            break died(program, "still running".into(), regs.pc);
        }
        let step = match runs {
            Runs::Whole => BUDGET,
            Runs::Cut(_) if random.below(4) == 0 => 1 + random.below(4_000),
            Runs::Cut(_) => 1 + random.below(40),
        };
        match machine.run(&mut regs, step) {
            Trap::Quantum => {}
            Trap::Syscall if regs.x[Regs::A7] == SYS_WRITE => {
                break Ending::Data(machine.read(DATA_BASE, program.data.len()));
            }
            trap => break died(program, format!("{trap:x?}"), regs.pc),
        }
    };
    (ending, machine.hart.stats().instructions)
}

fn died(program: &Program, why: String, pc: u64) -> Ending {
    Ending::Died { why: format!("the hart: {why} at {pc:#x}"), stream: Some(program.stream_at(pc)) }
}

/// Runs `streams` on both machines: the first divergence, and the instructions the hart executed.
fn compare(streams: &[Stream], runs: Runs) -> (Option<Divergence>, u64) {
    let program = Program::new(streams);
    let (ours, instructions) = run_on_the_hart(&program, runs);
    let divergence = match (ours, run_under_qemu(&program)) {
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
fn explain(streams: Vec<Stream>, runs: Runs, divergence: Divergence) -> String {
    let diverges = |stream: &Stream| compare(std::slice::from_ref(stream), runs).0;
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
    let version = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        skip("qemu-riscv64-static is not installed");
        return;
    }
    let count = setting("KILBURN_STREAMS", 100) as usize;
    let first_seed = setting("KILBURN_STREAM_SEED", 1);
    let mut executed = 0;
    let mut failures = Vec::new();
    for begin in (0..count).step_by(STREAMS_A_PROGRAM) {
        let runs = Runs::of(begin / STREAMS_A_PROGRAM);
        let streams: Vec<_> = (begin..count.min(begin + STREAMS_A_PROGRAM))
            .map(|index| first_seed + index as u64)
            .map(|seed| generate::stream(seed, STREAM_INSTRUCTIONS, runs.reservations()))
            .collect();
        let (divergence, instructions) = compare(&streams, runs);
        executed += instructions;
        if let Some(divergence) = divergence {
            let seed = divergence.stream.map(|index| first_seed + (begin + index) as u64);
            failures.push(format!("seed {seed:?}:\n{}", explain(streams, runs, divergence)));
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
