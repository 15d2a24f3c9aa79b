//! Asks a real riscv64 kernel what the end-to-end cases of testdata/e2e/ print there.
//!
//! The cases live in the tests of crates/cli, which compare Kilburn with what was captured; here
//! the same tests run them for real, side by side with Kilburn or to capture anew.

use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;

/// What to do with the answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Kilburn must print the same, here and now.
    Compare,
    /// They replace what is committed.
    Update,
}

/// Runs every case through `real`, a command of the form `real [--root DIR] [--paging MODE]
/// [--append TEXT] [--put FILE] -- PROGRAM ARGS...`, in the Debian root folder `debian_root`.
pub(crate) fn run(root: &Path, real: &Path, debian_root: &Path, answers: Answers) -> Result<()> {
    let real = real.canonicalize().with_context(|| real.display().to_string())?;
    let debian_root =
        debian_root.canonicalize().with_context(|| debian_root.display().to_string())?;
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["test", "--package", "kilburn", "--test", "end_to_end", "real_programs"])
        .env("KILBURN_REAL", real)
        .env("KILBURN_ROOT", debian_root)
        .env("KILBURN_NO_SKIP", "1")
        .env(
            "KILBURN_E2E",
            match answers {
                Answers::Compare => "compare",
                Answers::Update => "update",
            },
        )
        .status()
        .context("cargo test")?;
    if !status.success() {
        bail!("some cases differ from the real kernel, or could not be run there");
    }
    Ok(())
}
