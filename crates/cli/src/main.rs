//! The `kilburn` command.
//!
//! - [`args`]: the command line. [`failure`]: what goes wrong before or instead of a guest.
//! - `bench` (a feature, on by default): our work beside other people's.
//! - [`fidelity`]: asks the kernel underneath whether our memory manager does as it does.
//! - [`run`]: one guest program and what it starts, on a machine of its own. [`figures`]: what
//!   `--stats` prints about it.
//! - [`inject`]: what `--inject` takes.
//! - [`observe`]: looks at machines that run, through their [`control`] sockets.
//! - [`rmap`]: their ways back from pages to areas and processes, drawn.
//! - [`policies`]: page replacement policies compared.
//! - [`translate`], [`exercise`], [`tables`]: address translation explained, asked for, and its cost.
//! - [`timed`]: a run whose translations are timed or recorded.
//! - [`sim`]: traces replayed through the translation hardware.
//! - [`sweep`]: the same on every configuration of a grid.
//! - [`svg`]: what pictures have in common.
//! - [`rootfs`]: makes a Debian riscv64 root folder for `run --root`.
#![forbid(unsafe_code)]

mod args;
#[cfg(feature = "bench")]
mod bench;
mod control;
mod exercise;
mod failure;
mod fidelity;
mod figures;
mod inject;
mod observe;
mod policies;
mod rmap;
mod rootfs;
mod run;
mod sim;
mod svg;
mod sweep;
mod tables;
mod timed;
mod translate;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match args::Cli::parse().command {
        args::Command::Run(arguments) => run::run(&arguments),
        args::Command::Ps(arguments) => observe::ps(&arguments),
        args::Command::Maps(arguments) => observe::maps(&arguments),
        args::Command::Smaps(arguments) => observe::smaps(&arguments),
        args::Command::Top(arguments) => observe::top(&arguments),
        args::Command::Rmap(arguments) => rmap::run(&arguments),
        args::Command::Policies(arguments) => policies::run(&arguments),
        args::Command::Rootfs(arguments) => rootfs::make(&arguments),
        args::Command::Fidelity(arguments) => Ok(fidelity::run(&arguments)),
        args::Command::Translate(arguments) => translate::run(&arguments),
        args::Command::Exercise(arguments) => exercise::run(&arguments),
        args::Command::Tables(arguments) => tables::run(&arguments),
        #[cfg(feature = "bench")]
        args::Command::Bench(arguments) => bench::run(&arguments),
        args::Command::Sim(arguments) => sim::run(&arguments),
        args::Command::Sweep(arguments) => sweep::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("kilburn: {failure}");
            failure.exit_code()
        }
    }
}
