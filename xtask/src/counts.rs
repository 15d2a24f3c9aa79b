//! Instructions of hot paths, counted by callgrind and compared with those recorded.
//!
//! Counts repeat where time does not: the same build on the same libraries takes the same instructions, but for what
//! depends on addresses. Each path is run twice, with N turns and with twice as many, so that making it ready does not count.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where counts are recorded.
const FILE: &str = "crates/bench/counts.tsv";
/// A path that takes more than so many times the instructions recorded has become worse.
const WORSE: f64 = 1.03;

/// What is done with the counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Fail when a path has become worse.
    Check,
    /// Record them.
    Update,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Record the counts instead of comparing them.
    #[arg(long)]
    update: bool,
    /// Compare with what is recorded, and fail when a path takes 3 % more (what is done without options, too).
    #[arg(long, conflicts_with = "update")]
    check: bool,
    /// The program whose instructions are counted [default: target/release/counts, built first]
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Counts, then compares or records.
pub(crate) fn run(root: &Path, args: &Args) -> Result<()> {
    let purpose = if args.update { Purpose::Update } else { Purpose::Check };
    let program = match &args.program {
        Some(path) => path.clone(),
        None => build(root)?,
    };
    let mut counts = BTreeMap::new();
    for (name, times) in paths(&program)? {
        let (once, twice) = (count(&program, &name, times)?, count(&program, &name, 2 * times)?);
        let each = twice.saturating_sub(once) as f64 / times as f64;
        println!("{name:<24}{each:>12.1}");
        counts.insert(name, each);
    }
    let file = root.join(FILE);
    if purpose == Purpose::Update {
        return std::fs::write(&file, to_text(&counts)).context(FILE);
    }
    let recorded = parse(&std::fs::read_to_string(&file).context(FILE)?)?;
    let findings = compare(&recorded, &counts);
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    if findings.is_empty() {
        println!("counts: {} paths, none takes more than 3 % over what is recorded", counts.len());
        return Ok(());
    }
    bail!(
        "{} finding(s); if that is what it shall cost: cargo xtask counts --update",
        findings.len()
    )
}

fn build(root: &Path) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--package", "kilburn-bench", "--bin", "counts"])
        .current_dir(root)
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("the release build failed");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/counts"))
}

/// The paths, and turns of each.
fn paths(program: &Path) -> Result<Vec<(String, u64)>> {
    let output = Command::new(program)
        .arg("list")
        .output()
        .with_context(|| program.display().to_string())?;
    if !output.status.success() {
        bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    let line = |line: &str| {
        let (name, times) = line.split_once(' ')?;
        Some((name.to_owned(), times.parse().ok()?))
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(line).collect::<Option<_>>().context("the program lists no paths")
}

/// Instructions that `times` turns of a path take, with all that comes before.
fn count(program: &Path, path: &str, times: u64) -> Result<u64> {
    let folder = tempfile::tempdir().context("a folder")?;
    let out = folder.path().join("callgrind");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([path, &times.to_string()])
        .output()
        .context("valgrind (Debian package valgrind)")?;
    if !output.status.success() {
        bail!("{path} under valgrind: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = std::fs::read_to_string(&out).context("callgrind's file")?;
    totals(&text).with_context(|| format!("{path}: callgrind told no totals"))
}

fn totals(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")))?;
    line.split_whitespace().next()?.parse().ok()
}

fn to_text(counts: &BTreeMap<String, f64>) -> String {
    let mut text = "# Instructions of hot paths in a release build, by callgrind: cargo xtask counts --update\n".to_owned();
    for (name, each) in counts {
        let _ = writeln!(text, "{name}\t{each:.1}");
    }
    text
}

fn parse(text: &str) -> Result<BTreeMap<String, f64>> {
    let line = |line: &str| {
        let (name, each) = line.split_once('\t').with_context(|| format!("{FILE}: `{line}`"))?;
        Ok((name.to_owned(), each.parse().with_context(|| format!("{FILE}: `{line}`"))?))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// What has become worse, is missing, or is new.
fn compare(recorded: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, before) in recorded {
        match now.get(name) {
            Some(each) if *each > before * WORSE => findings.push(format!(
                "{name}: {each:.1} instructions, {:.1} % more than the {before:.1} recorded",
                (each / before - 1.0) * 100.0
            )),
            Some(_) => (),
            None => findings.push(format!("{name}: recorded, but no longer there")),
        }
    }
    let new = now.keys().filter(|name| !recorded.contains_key(*name));
    findings.extend(new.map(|name| format!("{name}: not recorded yet")));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, f64)]) -> BTreeMap<String, f64> {
        all.iter().map(|(name, each)| ((*name).to_owned(), *each)).collect()
    }

    #[test]
    fn only_what_is_worse_missing_or_new_is_found() {
        let before = counts(&[("fault", 100.0), ("fork", 100.0), ("gone", 1.0)]);
        let now = counts(&[("fault", 102.9), ("fork", 103.1), ("new", 5.0)]);
        let found = compare(&before, &now).join("\n");
        assert!(found.contains("fork: 103.1") && found.contains("gone") && found.contains("new"));
        assert!(!found.contains("fault"), "{found}");
        assert_eq!(compare(&before, &before), Vec::<String>::new());
    }

    #[test]
    fn what_is_recorded_is_read_back() {
        let all = counts(&[("a", 12.3), ("b", 4.0)]);
        assert_eq!(parse(&to_text(&all)).unwrap(), all);
        assert_eq!(totals("events: Ir\nsummary: 5\n"), Some(5));
        assert_eq!(totals("totals: 12 3"), Some(12));
    }
}
