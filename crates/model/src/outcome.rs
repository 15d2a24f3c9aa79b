//! What a call did, as far as a program can see it.

use std::fmt;

/// The visible result of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It returned this; errors are negative errnos, data is a value or a digest.
    Returned(i64),
    /// The access raised a signal.
    Signal {
        /// `SIGSEGV` (11) or `SIGBUS` (7).
        signo: i32,
        /// `si_code`
        code: i32,
        /// `si_addr`
        addr: u64,
    },
    /// It was not made: the process that should make it does not exist.
    Skipped,
}

impl Outcome {
    /// The outcome class for statistics: `ok`, an errno's number, or a signal's.
    pub fn class(self) -> String {
        match self {
            Self::Returned(value @ -4095..0) => match errno_name(-value) {
                Some(name) => name.to_owned(),
                None => format!("errno {}", -value),
            },
            Self::Returned(_) => "ok".to_owned(),
            Self::Signal { signo: 7, code, .. } => format!("SIGBUS/{code}"),
            Self::Signal { signo: 11, code, .. } => format!("SIGSEGV/{code}"),
            Self::Signal { signo, code, .. } => format!("signal {signo}/{code}"),
            Self::Skipped => "skipped".to_owned(),
        }
    }
}

fn errno_name(number: i64) -> Option<&'static str> {
    kilburn_addr::Errno::from_number(u16::try_from(number).ok()?).name()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Returned(value @ -4095..0) => match errno_name(-value) {
                Some(name) => write!(f, "-{name}"),
                None => write!(f, "{value}"),
            },
            Self::Returned(value) => write!(f, "{value:#x}"),
            Self::Signal { signo, code, addr } => {
                let name = match signo {
                    7 => "SIGBUS",
                    11 => "SIGSEGV",
                    _ => return write!(f, "signal {signo} code {code} at {addr:#x}"),
                };
                write!(f, "{name} code {code} at {addr:#x}")
            }
            Self::Skipped => f.write_str("skipped"),
        }
    }
}

/// Folds numbers into one, so that data can be compared as a return value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(u64);

impl Digest {
    /// Adds a number.
    pub fn add(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// The digest, never negative: it cannot be taken for an error.
    pub fn value(self) -> i64 {
        (self.0 >> 1) as i64
    }
}

/// The digest of `values`.
pub fn digest_of(values: &[u64]) -> i64 {
    let mut digest = Digest::default();
    for &value in values {
        digest.add(value);
    }
    digest.value()
}

/// What one step did: its outcome, and the areas of the process afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// The lines of `/proc/self/maps` that lie in the window: range, rights, offset and name.
    /// Device and inode are left out, they differ by kernel. `None` when nothing could have
    /// changed.
    pub maps: Option<String>,
}

/// Brings a maps line into the form of [`Report::maps`]; `None` when it lies outside `window`.
pub fn maps_line(line: &str, window: crate::Window) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let range = fields.next()?;
    let (start, end) = range.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    if end <= window.start || start >= window.end() {
        return None;
    }
    let (rights, offset) = (fields.next()?, fields.next()?);
    let (_device, _inode) = (fields.next()?, fields.next()?);
    let name = fields.collect::<Vec<_>>().join(" ");
    Some(format!("{start:x}-{end:x} {rights} {offset} {name}"))
}
