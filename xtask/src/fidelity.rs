//! docs/fidelity.md: how faithful each call is, flag by flag, and what proves it.
//!
//! `docs/fidelity.toml` claims; the source is asked whether the claims hold. Nothing is believed:
//! tests are looked up by name, files must mention the flag they are said to prove, the oracle's
//! generator is run to see whether it makes such calls, and the system call table is read from the
//! code. A claim that does not hold is a [`judge::Mistake`], and so is something that nobody claimed:
//! a call, or a departure from Linux, that the data does not list.
//!
//! - [`data`]: what `docs/fidelity.toml` may say.
//! - [`calls`]: the system call table, and handlers that are stubs.
//! - [`marks`]: tests, departures from Linux, declared differences of the oracle.
//! - [`oracle`]: which calls the oracle's generator makes.
//! - [`ltp`]: what passes of the Linux Test Project.
//! - [`judge`]: claims against evidence. [`page`]: the page.

mod calls;
mod data;
mod judge;
mod ltp;
mod marks;
mod oracle;
mod page;

use crate::tree::Tree;
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// Where the claims are.
const DATA: &str = "docs/fidelity.toml";
/// Where the page goes.
const PAGE: &str = "docs/fidelity.md";

/// What to do with the page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// It is written.
    Write,
    /// It must be what would be written.
    Check,
}

/// Everything the claims are judged by.
struct Evidence {
    calls: Vec<calls::Entry>,
    tests: marks::Tests,
    divergences: Vec<marks::Divergence>,
    declared: Vec<marks::Declared>,
    made: oracle::Made,
    ltp: ltp::Ltp,
}

impl Evidence {
    fn gather(tree: &Tree) -> Result<Self> {
        Ok(Self {
            calls: calls::table(tree)?,
            tests: marks::Tests::of(tree),
            divergences: marks::divergences(tree),
            declared: marks::declared(tree),
            made: oracle::Made::by_the_generator(),
            ltp: ltp::Ltp::of(tree)?,
        })
    }
}

/// Judges the claims, then writes or compares the page.
///
/// # Errors
/// Every mistake, or that the page is not up to date.
pub(crate) fn run(root: &Path, page: Page) -> Result<()> {
    let tree = Tree::load(root).context("reading the repository")?;
    let text = tree.get(DATA).with_context(|| format!("{DATA} is not there"))?;
    let data: data::Data = toml::from_str(text).context(DATA)?;
    let evidence = Evidence::gather(&tree)?;
    let mistakes = judge::judge(&data, &evidence, &tree);
    for mistake in &mistakes {
        eprintln!("{mistake}");
    }
    if !mistakes.is_empty() {
        bail!("{} claim(s) of {DATA} do not hold", mistakes.len());
    }
    let text = page::render(&data, &evidence);
    match page {
        Page::Write => {
            std::fs::write(root.join(PAGE), &text).context(PAGE)?;
            println!("{PAGE}: {} lines, written", text.lines().count());
        }
        Page::Check if tree.get(PAGE) == Some(text.as_str()) => println!("{PAGE}: up to date"),
        Page::Check => bail!("{PAGE} is not up to date: run `cargo xtask fidelity`"),
    }
    Ok(())
}
