//! A case: where calls are made, what files there are, and the calls; as text.
//!
//! ```text
//! # anything
//! window 0x1000000000 96
//! file 0x2345
//! brk 0x1000030000
//! 0 mmap addr=0x0 len=0x3000 prot=0x3 flags=0x22 file=- offset=0x0
//! ```

use crate::call::Step;
use kilburn_addr::{PAGE_SHIFT, PAGE_SIZE};
use std::fmt;
use std::str::FromStr;

/// Files a case may have at most.
pub const MAX_FILES: usize = 3;

/// The addresses that a case's calls concern; everything else is occupied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// First address.
    pub start: u64,
    /// Size in pages.
    pub pages: u64,
}

impl Window {
    /// A window small enough that random calls meet.
    pub const NARROW: Self = Self { start: 0x10_0000_0000, pages: 96 };
    /// A window with room for guard gaps and huge-page alignment.
    pub const WIDE: Self = Self { start: 0x10_0000_0000, pages: 4096 };

    /// First address past the window.
    pub const fn end(self) -> u64 {
        self.start + (self.pages << PAGE_SHIFT)
    }

    /// The address of page `page` of the window.
    pub const fn page(self, page: u64) -> u64 {
        self.start + page * PAGE_SIZE
    }
}

/// Calls to make, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// Where they are made.
    pub window: Window,
    /// Where the heap starts (Linux `mm->start_brk`).
    pub brk: u64,
    /// The sizes in bytes of the shared-memory files there are. Each page of a file begins with
    /// [`stamp`].
    pub files: Vec<u64>,
    /// The calls.
    pub steps: Vec<Step>,
}

/// The first 8 bytes of page `page` of file `file`, where they fit.
pub const fn stamp(file: u64, page: u64) -> u64 {
    0xf11e_0000_0000_0000 | file << 32 | (page + 1)
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "window {:#x} {}", self.window.start, self.window.pages)?;
        for size in &self.files {
            writeln!(f, "file {size:#x}")?;
        }
        writeln!(f, "brk {:#x}", self.brk)?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

/// A text that is no case.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadCase {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl FromStr for Case {
    type Err = BadCase;

    fn from_str(text: &str) -> Result<Self, BadCase> {
        let mut case = Self { window: Window::NARROW, brk: 0, files: vec![], steps: vec![] };
        for (at, line) in text.lines().enumerate() {
            let bad = |reason: &str| BadCase { line: at + 1, reason: reason.to_owned() };
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next();
            let mut number =
                || words.next().and_then(parse).ok_or_else(|| bad("a number is missing"));
            match keyword {
                None => {}
                Some("window") => case.window = Window { start: number()?, pages: number()? },
                Some("file") => case.files.push(number()?),
                Some("brk") => case.brk = number()?,
                Some(_) => case.steps.push(line.parse().map_err(|_| bad("not a step"))?),
            }
        }
        if case.files.len() > MAX_FILES {
            return Err(BadCase { line: 0, reason: format!("more than {MAX_FILES} files") });
        }
        Ok(case)
    }
}

fn parse(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_survive_text() {
        let text = "window 0x1000000000 96\nfile 0x2345\nbrk 0x1000030000\n\
                    0 munmap addr=0x1000000000 len=0x1000\n1 exit\n";
        let case: Case = text.parse().expect("well-formed");
        assert_eq!(case.files, [0x2345]);
        assert_eq!(case.to_string(), text);
        assert_eq!(format!("# why\n\n{text} # end").parse(), Ok(case));
        let bad = "window 1\n".parse::<Case>().expect_err("a number is missing");
        assert_eq!(bad.line, 1);
    }
}
