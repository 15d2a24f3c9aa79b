//! Project chores, run as `cargo xtask CHORE`.
//!
//! - [`tidy`]: the structure check (arrows between crates, unsafe policy, file heads, sizes, ...).
//! - [`counts`]: instructions of hot paths, compared with those recorded.
//! - [`fidelity`]: docs/fidelity.md from the source and its claims, and whether the claims hold.
//! - [`e2e`]: asks a real riscv64 kernel what the end-to-end cases print.
//! - [`ltp`]: runs the Linux Test Project's programs.
//! - [`pressure`]: programs in 2, 4 and 8 times too little memory; the table of docs/pressure.md.
//! - [`programs_table`]: runs real programs here and on a real kernel and writes docs/programs.md.
//! - [`programs`]: rebuilds the guest programs and compares them with the committed ELFs.
//!
//! Nothing here is part of what users run.
#![forbid(unsafe_code)]

mod counts;
mod e2e;
mod fidelity;
mod ltp;
mod pressure;
mod programs;
mod programs_table;
mod tidy;
mod tree;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Project chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check the structure of the repository; says what breaks which rule.
    Tidy,
    /// Write docs/fidelity.md after judging what docs/fidelity.toml claims.
    Fidelity {
        /// Do not write it: fail when it is not up to date.
        #[arg(long)]
        check: bool,
    },
    /// Run the cases of testdata/e2e/ on a real riscv64 kernel and here, side by side.
    E2e {
        /// Command that runs `[options] -- PROGRAM ARGS...` on a real riscv64 kernel.
        #[arg(long, env = "KILBURN_REAL")]
        real: PathBuf,
        /// Debian riscv64 root folder (kilburn rootfs).
        #[arg(long, env = "KILBURN_ROOT")]
        root: PathBuf,
        /// Do not run them here, but replace what is committed by the real kernel's answers.
        #[arg(long)]
        update: bool,
    },
    /// Run the Linux Test Project's programs of a folder; fails when one should pass and does not.
    Ltp(ltp::Args),
    /// Run programs in too little memory under every policy and in every kind of swap; write the
    /// table of docs/pressure.md.
    Pressure(pressure::Args),
    /// Run the programs of docs/programs.toml here and on a real riscv64 kernel; write
    /// docs/programs.md.
    ProgramsTable(programs_table::Args),
    /// Count the instructions of hot paths (callgrind); fails when one takes 3 % more than recorded.
    Counts(counts::Args),
    /// Rebuild programs/*.c and benches/guest/*.c and compare with the committed ELFs.
    Programs {
        /// Replace the committed ELFs instead.
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    let root = repository();
    match chore {
        Chore::Tidy => {
            let tree = tree::Tree::load(&root).context("reading the repository")?;
            let findings = tidy::check(&tree);
            for finding in &findings {
                eprintln!("{finding}");
            }
            if !findings.is_empty() {
                bail!("{} finding(s)", findings.len());
            }
            println!("tidy: {} files, {} rules, nothing found", tree.len(), tidy::RULES.len());
            Ok(())
        }
        Chore::Fidelity { check: true } => fidelity::run(&root, fidelity::Page::Check),
        Chore::Fidelity { check: false } => fidelity::run(&root, fidelity::Page::Write),
        Chore::E2e { real, root: debian_root, update } => {
            let answers = if update { e2e::Answers::Update } else { e2e::Answers::Compare };
            e2e::run(&root, &real, &debian_root, answers)
        }
        Chore::Ltp(args) => ltp::run(&root, &args),
        Chore::Counts(args) => counts::run(&root, &args),
        Chore::Pressure(args) => pressure::run(&root, &args),
        Chore::ProgramsTable(args) => programs_table::run(&root, &args),
        Chore::Programs { write: true } => programs::write(&root),
        Chore::Programs { write: false } => programs::compare(&root),
    }
}

/// The repository this was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of it").to_path_buf()
}
