//! Project chores, run as `cargo xtask CHORE`.
//!
//! - [`tidy`]: the structure check (arrows between crates, unsafe policy, file heads, sizes, ...).
//! - [`programs`]: rebuilds the guest programs and compares them with the committed ELFs.
//!
//! Nothing here is part of what users run.
#![forbid(unsafe_code)]

mod programs;
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
    /// Rebuild programs/*.c and compare with the committed ELFs.
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
        Chore::Programs { write: true } => programs::write(&root),
        Chore::Programs { write: false } => programs::compare(&root),
    }
}

/// The repository this was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of it").to_path_buf()
}
