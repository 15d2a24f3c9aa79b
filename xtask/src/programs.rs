//! Rebuilds the guest programs of `programs/` and `benches/guest/` and compares them with the committed ELFs.
//!
//! A program is one `NAME.c`; its ELF is committed as `NAME`. The vDSO is assembly with a linker
//! script. The same compiler gives the same bytes: no build id, no paths, no dates.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const COMPILER: &str = "riscv64-linux-gnu-gcc";

/// What all programs without a library are compiled with.
const FLAGS: &[&str] = &[
    "-std=gnu11",
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
/// What is committed is to be small...
const SMALL: &[&str] = &["-Os"];
/// ... and what is measured, fast.
const FAST: &[&str] = &["-O2", "-Wno-unused-function"];

const VDSO_FLAGS: &[&str] = &[
    "-march=rv64gc",
    "-mabi=lp64d",
    "-nostdlib",
    "-shared",
    "-s",
    "-Wl,-T,vdso.lds",
    "-Wl,-soname=linux-vdso.so.1",
    "-Wl,--hash-style=both",
    "-Wl,--build-id=none",
    "-Wl,--eh-frame-hdr",
    "-Wl,-z,max-page-size=4096",
];

/// How one committed ELF is made.
struct Recipe {
    /// Folder of the source and of the committed ELF, below the repository's root.
    folder: &'static str,
    source: String,
    /// Name of the ELF, beside its source.
    elf: String,
    flags: Vec<&'static str>,
}

impl Recipe {
    /// Name for messages and for the committed file, below the repository's root.
    fn path(&self) -> PathBuf {
        Path::new(self.folder).join(&self.elf)
    }
}

/// All recipes; of each folder in order of name, the vDSO last.
fn recipes(root: &Path) -> Result<Vec<Recipe>> {
    let mut recipes = recipes_of(root, "programs", &[FLAGS, SMALL].concat())?;
    recipes.extend(recipes_of(root, "benches/guest", &[FLAGS, FAST].concat())?);
    recipes.push(Recipe {
        folder: "programs/vdso",
        source: "vdso.S".into(),
        elf: "vdso.so".into(),
        flags: VDSO_FLAGS.to_vec(),
    });
    Ok(recipes)
}

/// One for each `NAME.c` in a folder.
fn recipes_of(root: &Path, folder: &'static str, flags: &[&'static str]) -> Result<Vec<Recipe>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join(folder)).context(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "c") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    if names.is_empty() {
        bail!("no {folder}/*.c found");
    }
    names.sort();
    let recipe = |name: String| Recipe {
        folder,
        source: format!("{name}.c"),
        elf: name,
        flags: flags.to_vec(),
    };
    Ok(names.into_iter().map(recipe).collect())
}

fn build(root: &Path, recipe: &Recipe, output: &Path) -> Result<()> {
    let status = Command::new(COMPILER)
        .args(&recipe.flags)
        .arg("-o")
        .arg(output)
        // Relative, and from inside: no path of this machine reaches the ELF.
        .arg(&recipe.source)
        .current_dir(root.join(recipe.folder))
        .status()
        .with_context(|| format!("{COMPILER} (Debian package gcc-riscv64-linux-gnu)"))?;
    if !status.success() {
        bail!("{COMPILER} failed on {} in {}", recipe.source, recipe.folder);
    }
    Ok(())
}

fn built(root: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let work = tempfile::tempdir().context("a folder to build in")?;
    let mut all = Vec::new();
    for recipe in recipes(root)? {
        let output = work.path().join(&recipe.elf);
        build(root, &recipe, &output)?;
        all.push((recipe.path(), std::fs::read(&output)?));
    }
    Ok(all)
}

/// Rebuilds every program; fails when one differs from the committed ELF.
pub(crate) fn compare(root: &Path) -> Result<()> {
    let mut different = Vec::new();
    for (path, elf) in built(root)? {
        let same = std::fs::read(root.join(&path)).is_ok_and(|bytes| bytes == elf);
        println!(
            "{}: {} bytes, {}",
            path.display(),
            elf.len(),
            if same { "as committed" } else { "DIFFERENT" }
        );
        if !same {
            different.push(path.display().to_string());
        }
    }
    if !different.is_empty() {
        bail!(
            "{} differ from what is committed; if the source was changed: cargo xtask programs --write. \
             If not, compare the compiler with the one programs/README.md names",
            different.join(", ")
        );
    }
    Ok(())
}

/// Rebuilds every program and replaces the committed ELFs.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (path, elf) in built(root)? {
        std::fs::write(root.join(&path), &elf).with_context(|| path.display().to_string())?;
        println!("{}: {} bytes, written", path.display(), elf.len());
    }
    Ok(())
}
