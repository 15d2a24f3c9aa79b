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
    /// The outcome class for statistics.
    pub fn class(self) -> Class {
        match self {
            Self::Returned(value @ -4095..0) => Class::Errno(-value as u16),
            Self::Returned(_) => Class::Ok,
            Self::Signal { signo, code, .. } => Class::Signal(signo as u8, code as i8),
            Self::Skipped => Class::Skipped,
        }
    }
}

/// What kind of outcome it is, values aside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// It was done.
    Ok,
    /// It was refused with this errno.
    Errno(u16),
    /// It raised a signal: its number and `si_code`.
    Signal(u8, i8),
    /// It was not made.
    Skipped,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ok => f.write_str("ok"),
            Self::Errno(number) => match errno_name(i64::from(number)) {
                Some(name) => f.write_str(name),
                None => write!(f, "errno {number}"),
            },
            Self::Signal(7, code) => write!(f, "SIGBUS/{code}"),
            Self::Signal(11, code) => write!(f, "SIGSEGV/{code}"),
            Self::Signal(signo, code) => write!(f, "signal {signo}/{code}"),
            Self::Skipped => f.write_str("skipped"),
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

/// The digest of bytes, and of how many there are.
pub fn digest_of_bytes(bytes: &[u8]) -> i64 {
    let mut digest = Digest::default();
    digest.add(bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        digest.add(u64::from_le_bytes(word));
    }
    digest.value()
}

/// What one step did: its outcome, and the process afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// Lines of `/proc/self/maps`, those of the window among them ([`crate::areas`]). `None` when
    /// nothing could have changed.
    pub maps: Option<String>,
    /// The pages of the window, in stage two.
    pub pages: Option<Box<Pages>>,
}

/// What a process can learn of its pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pages {
    /// `/proc/self/smaps`, the window's areas among others.
    pub smaps: String,
    /// `/proc/self/pagemap` of the window, an entry a page.
    pub pagemap: Vec<u64>,
    /// mincore(2) of the window, a byte a page; [`NOT_MAPPED`] where there is no area.
    pub mincore: Vec<u8>,
    /// Counts of the whole process.
    pub counts: Counts,
}

/// Stands in [`Pages::mincore`] for a page of no area.
pub const NOT_MAPPED: u8 = 2;

/// Counts of `/proc/self/status`, in kB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// `VmSize`
    pub size: u64,
    /// `VmLck`
    pub locked: u64,
    /// `VmData`
    pub data: u64,
    /// `VmStk`
    pub stack: u64,
    /// `VmExe` and `VmLib`
    pub exec: u64,
}

impl Counts {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The counts, with their names.
    pub fn named(&self) -> [(&'static str, u64); Self::COUNT] {
        let Self { size, locked, data, stack, exec } = *self;
        [("VmSize", size), ("VmLck", locked), ("VmData", data), ("VmStk", stack), ("VmExe", exec)]
    }

    /// The counts from the values of [`Counts::named`].
    pub fn from_values(values: [u64; Self::COUNT]) -> Self {
        let [size, locked, data, stack, exec] = values;
        Self { size, locked, data, stack, exec }
    }
}
