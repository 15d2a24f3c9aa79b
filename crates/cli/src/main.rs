//! The `kilburn` command.
//!
//! - [`args`]: the command line. [`failure`]: what goes wrong before or instead of a guest.
//! - [`rootfs`]: makes a Debian riscv64 root folder for `run --root`.
#![forbid(unsafe_code)]

mod args;
mod failure;
mod rootfs;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match args::Cli::parse().command {
        args::Command::Rootfs(arguments) => rootfs::make(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("kilburn: {failure}");
            failure.exit_code()
        }
    }
}
