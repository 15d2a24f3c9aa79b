//! Runs the programs of the public riscv-tests suite, if a folder of them is named.
//!
//! `KILBURN_RISCV_TESTS` names a folder of static riscv64 ELF files built for user mode: each ends with `exit(0)`, or
//! with `exit(n)` where `n` is the number of the case that failed. They run on the bare hart, whole and in small steps.

use std::path::{Path, PathBuf};

use kilburn_riscv::{Regs, Trap};
use object::{Object, ObjectSegment};

use crate::bare::{CODE, DATA, Machine};
use crate::{report, skip};

/// The longest program takes far fewer.
const INSTRUCTIONS_MAX: u64 = 10_000_000;
const SYS_EXIT: u64 = 93;

/// Loads and runs one program, `step` instructions at a time.
///
/// # Errors
/// What went wrong, for the reader.
fn run(image: &[u8], step: u64) -> Result<u64, String> {
    let program =
        object::File::parse(image).map_err(|error| format!("not an ELF file: {error}"))?;
    let mut machine = Machine::new(16 << 20);
    for segment in program.segments() {
        let rights = if segment.permissions().executable() { CODE } else { DATA };
        machine.map(segment.address(), segment.size(), rights);
        machine.write(segment.address(), segment.data().map_err(|error| error.to_string())?);
    }
    let mut regs = Regs { pc: program.entry(), ..Regs::new() };
    let mut executed = 0;
    while executed < INSTRUCTIONS_MAX {
        match machine.run(&mut regs, step) {
            Trap::Quantum => executed += step,
            Trap::Syscall if regs.x[Regs::A7] == SYS_EXIT => {
                return match regs.x[Regs::A0] {
                    0 => Ok(machine.hart.stats().instructions),
                    case => Err(format!("case {case} failed")),
                };
            }
            trap => return Err(format!("{trap:?} at {:#x}, in case {}", regs.pc, regs.x[3])),
        }
    }
    Err(format!("still running after {INSTRUCTIONS_MAX} instructions at {:#x}", regs.pc))
}

fn programs(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().expect("KILBURN_RISCV_TESTS names a readable folder");
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths
}

#[test]
fn the_public_test_programs_pass() {
    let Some(folder) = std::env::var_os("KILBURN_RISCV_TESTS") else {
        skip("KILBURN_RISCV_TESTS names no folder of riscv-tests programs");
        return;
    };
    let paths = programs(folder.as_ref());
    assert!(!paths.is_empty(), "no programs in {}", folder.display());
    let mut failures = Vec::new();
    let mut instructions = 0;
    for path in &paths {
        let image = std::fs::read(path).expect("the program is readable");
        // The end of a run ends a reservation, as any return from the kernel does, so a retry loop of single steps never ends.
        let retries = path.to_string_lossy().contains("lrsc");
        for step in [INSTRUCTIONS_MAX, 7, 1].into_iter().take(if retries { 2 } else { 3 }) {
            match run(&image, step) {
                Ok(count) => instructions += count,
                Err(why) => {
                    let path = path.display();
                    failures.push(format!("{path}, {step} instructions a run: {why}"));
                }
            }
        }
    }
    report(format_args!(
        "{} programs, {instructions} instructions, {} failures",
        paths.len(),
        failures.len()
    ));
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
