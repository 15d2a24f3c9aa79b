//! Conformance of the hart: the public test programs, tables of our own, and random streams beside QEMU.

mod bare;
mod encoding;
mod isa;
mod riscv_tests;
mod streams;

use std::io::Write;

/// Says what a test has seen, past the capture of the output of tests that pass.
fn report(line: std::fmt::Arguments<'_>) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Says that a test could not be made, and why.
fn skip(why: &str) {
    report(format_args!("SKIP: {why}"));
}
