//! A case: where calls are made, what files there are, and the calls; as text.
//!
//! ```text
//! # anything
//! window 0x1000000000 96
//! file 0x2345
//! brk 0x1000030000
//! 0 mmap addr=0x0 len=0x3000 prot=0x3 flags=0x22 file=- offset=0x0
//! ```

use crate::call::{BadStep, Step};
use kilburn_addr::{PAGE_SHIFT, PAGE_SIZE};
use std::fmt;
use std::str::FromStr;

/// Files a case may have at most.
pub const MAX_FILES: usize = 3;

/// Pages of a window at most.
pub const MAX_WINDOW_PAGES: u64 = 4096;
/// Bytes of a file at most.
pub const MAX_FILE_BYTES: u64 = 16 << 20;
/// Where windows may be: where no program has anything.
const LOWEST: u64 = 0x8_0000_0000;
const HIGHEST: u64 = 0x2000_0000_0000;

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
            let bad = |reason: String| BadCase { line: at + 1, reason };
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next();
            let usage = match keyword {
                Some("window") => "window START PAGES",
                Some("file") => "file BYTES",
                Some("brk") => "brk ADDRESS",
                _ => "",
            };
            let mut number = || {
                let word = words.next().unwrap_or("nothing");
                parse(word).ok_or_else(|| bad(format!("{word} where «{usage}» wants a number")))
            };
            match keyword {
                None => continue,
                Some("window") => case.window = Window { start: number()?, pages: number()? },
                Some("file") => case.files.push(number()?),
                Some("brk") => case.brk = number()?,
                Some(_) => {
                    case.steps.push(line.parse().map_err(|BadStep(why)| bad(why))?);
                    continue;
                }
            }
            if let Some(word) = words.next() {
                return Err(bad(format!("{word} is too much: «{usage}»")));
            }
            case.check().map_err(bad)?;
        }
        Ok(case)
    }
}

impl Case {
    /// Whether what comes before the steps makes sense.
    fn check(&self) -> Result<(), String> {
        let Window { start, pages } = self.window;
        if start % PAGE_SIZE != 0 || !(1..=MAX_WINDOW_PAGES).contains(&pages) {
            return Err(format!(
                "a window starts at a multiple of {PAGE_SIZE:#x} and has 1 to {MAX_WINDOW_PAGES} pages"
            ));
        }
        if !(LOWEST..=HIGHEST).contains(&start) {
            return Err(format!("a window starts at {LOWEST:#x} to {HIGHEST:#x}"));
        }
        if self.files.len() > MAX_FILES {
            return Err(format!("a case has {MAX_FILES} files at most"));
        }
        if self.files.iter().any(|size| *size > MAX_FILE_BYTES) {
            return Err(format!("a file has {MAX_FILE_BYTES:#x} bytes at most"));
        }
        Ok(())
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
    }

    #[test]
    fn a_bad_line_is_named_and_told_what_would_be_right() {
        for (text, line, why) in [
            ("window 1\n", 1, "nothing where «window START PAGES» wants a number"),
            ("\n# x\nfile -\n", 3, "- where «file BYTES» wants a number"),
            ("brk 0x1 2\n", 1, "2 is too much"),
            ("window 0x1000000001 9\n", 1, "multiple of 0x1000"),
            ("window 0x1000 9\n", 1, "starts at"),
            ("window 0x1000000000 9999999\n", 1, "1 to 4096 pages"),
            ("file 1\nfile 1\nfile 1\nfile 1\n", 4, "3 files at most"),
            ("file 0xffffffffffff\n", 1, "bytes at most"),
            ("brk 0\n0 munmap addr=1\n", 2, "wants len=NUMBER"),
        ] {
            let bad = text.parse::<Case>().expect_err(text);
            assert_eq!(bad.line, line, "{text}");
            assert!(bad.reason.contains(why), "{text}: {}", bad.reason);
        }
    }
}
