//! Rebuilds the guest programs of `programs/` and compares them with the committed ELFs.
//!
//! A program is one `NAME.c`; its ELF is committed as `NAME`. The same compiler gives the same
//! bytes: no build id, no paths, no dates.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const COMPILER: &str = "riscv64-linux-gnu-gcc";

const FLAGS: &[&str] = &[
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-march=rv64gc",
    "-mabi=lp64d",
    "-mcmodel=medany",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fno-pic",
    "-no-pie",
    "-fno-asynchronous-unwind-tables",
    "-nostdlib",
    "-static",
    "-s",
    "-Wl,--build-id=none",
];

/// Names of the programs, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).context("programs/")? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "c") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn build(folder: &Path, name: &str, output: &Path) -> Result<()> {
    let status = Command::new(COMPILER)
        .args(FLAGS)
        .arg("-o")
        .arg(output)
        // Relative, and from inside: no path of this machine reaches the ELF.
        .arg(format!("{name}.c"))
        .current_dir(folder)
        .status()
        .with_context(|| format!("{COMPILER} (Debian package gcc-riscv64-linux-gnu)"))?;
    if !status.success() {
        bail!("{COMPILER} failed on programs/{name}.c");
    }
    Ok(())
}

fn built(root: &Path) -> Result<Vec<(String, PathBuf, Vec<u8>)>> {
    let folder = root.join("programs");
    let work = tempfile::tempdir().context("a folder to build in")?;
    let mut all = Vec::new();
    for name in names(&folder)? {
        let output = work.path().join(&name);
        build(&folder, &name, &output)?;
        all.push((name.clone(), folder.join(&name), std::fs::read(&output)?));
    }
    if all.is_empty() {
        bail!("no programs/*.c found");
    }
    Ok(all)
}

/// Rebuilds every program; fails when one differs from the committed ELF.
pub(crate) fn compare(root: &Path) -> Result<()> {
    let mut different = Vec::new();
    for (name, committed, elf) in built(root)? {
        let same = std::fs::read(&committed).is_ok_and(|bytes| bytes == elf);
        println!(
            "programs/{name}: {} bytes, {}",
            elf.len(),
            if same { "as committed" } else { "DIFFERENT" }
        );
        if !same {
            different.push(name);
        }
    }
    if !different.is_empty() {
        bail!(
            "{} differ from programs/NAME; if the source was changed: cargo xtask programs --write. \
             If not, compare the compiler with the one programs/README.md names",
            different.join(", ")
        );
    }
    Ok(())
}

/// Rebuilds every program and replaces the committed ELFs.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (name, committed, elf) in built(root)? {
        std::fs::write(&committed, &elf).with_context(|| format!("programs/{name}"))?;
        println!("programs/{name}: {} bytes, written", elf.len());
    }
    Ok(())
}
