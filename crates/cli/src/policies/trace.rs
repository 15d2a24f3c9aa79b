//! Reading traces of requests.
//!
//! - [`Format::Text`]: one key a line.
//! - [`Format::OracleGeneral`]: libCacheSim's binary records of 24 bytes, little-endian: time `u32`, key `u64`, size `u32`,
//!   next request `i64`. Only the key is used.
//!
//! Keys become dense object numbers in order of appearance. A record that cannot be read ends the trace ([`BadRecord`]);
//! what came before it is kept.

use clap::ValueEnum;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One key a line, decimal or 0x-hexadecimal
    Text,
    /// libCacheSim's oracleGeneral records
    OracleGeneral,
}

impl Format {
    /// What a file's name says.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if name.contains("oraclegeneral") { Self::OracleGeneral } else { Self::Text }
    }
}

/// A trace, as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Object numbers in order of requests.
    pub(super) requests: Vec<u32>,
    /// What ended it early.
    pub(super) bad: Option<BadRecord>,
    objects: HashMap<u64, u32>,
}

/// The record at which a trace stops making sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRecord {
    /// From 1.
    record: u64,
    /// Line of a text, from 1.
    line: Option<u64>,
    why: String,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.record)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Reads the trace at `path`, `-` for standard input.
pub(super) fn read(path: &Path, format: Option<Format>) -> io::Result<Trace> {
    let format = format.unwrap_or_else(|| Format::of(path));
    let mut trace = Trace::default();
    let (input, bytes): (Box<dyn Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin()), 0)
    } else {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        (Box::new(file), bytes)
    };
    let progress = super::measure::byte_progress("reading the trace", bytes);
    let input = BufReader::with_capacity(1 << 18, progress.wrap_read(input));
    match format {
        Format::Text => trace.read_text(input),
        Format::OracleGeneral => trace.read_oracle_general(input),
    }?;
    progress.finish_and_clear();
    Ok(trace)
}

impl Trace {
    /// How many objects were requested.
    pub(super) fn distinct(&self) -> u32 {
        self.objects.len() as u32
    }

    fn request(&mut self, key: u64) -> Result<(), String> {
        // Request and object numbers are 32 bits wide in the simulation.
        if self.requests.len() >= u32::MAX as usize - 1 {
            return Err(format!("more than {} requests", u32::MAX - 1));
        }
        let next = self.objects.len() as u32;
        self.requests.push(*self.objects.entry(key).or_insert(next));
        Ok(())
    }

    fn end(&mut self, line: Option<u64>, why: String) {
        self.bad = Some(BadRecord { record: self.requests.len() as u64 + 1, line, why });
    }

    fn read_text(&mut self, mut input: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim_ascii();
            if text.is_empty() || text[0] == b'#' {
                continue;
            }
            if let Err(why) = parse_key(text).and_then(|key| self.request(key)) {
                self.end(Some(number), why);
                return Ok(());
            }
        }
        Ok(())
    }

    fn read_oracle_general(&mut self, mut input: impl BufRead) -> io::Result<()> {
        const RECORD: usize = 24;
        loop {
            let mut record = Vec::with_capacity(RECORD);
            let read = input.by_ref().take(RECORD as u64).read_to_end(&mut record)?;
            if read == 0 {
                return Ok(());
            }
            let Some((key, _)) =
                record.get(4..).filter(|_| read == RECORD).and_then(<[u8]>::split_first_chunk)
            else {
                self.end(None, format!("the trace ends after {read} of its {RECORD} bytes"));
                return Ok(());
            };
            if let Err(why) = self.request(u64::from_le_bytes(*key)) {
                self.end(None, why);
                return Ok(());
            }
        }
    }
}

/// No key is this long; so a binary file is not read into one line.
const LINE_MAX: u64 = 4096;

fn parse_key(text: &[u8]) -> Result<u64, String> {
    let wrong = |why: &str| {
        let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
        format!("`{}` is {why}", shown.escape_debug())
    };
    let is_text = |text: &&str| !text.contains(|c: char| c.is_control() && c != '\t');
    let number =
        std::str::from_utf8(text).ok().filter(is_text).ok_or("this is not text (see --format)")?;
    let (digits, radix) = match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    if digits.starts_with('+') {
        return Err(wrong("no decimal or 0x-hexadecimal number"));
    }
    u64::from_str_radix(digits, radix).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow => wrong("more than 64 bits"),
        _ => wrong("no decimal or 0x-hexadecimal number"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &str) -> Trace {
        let mut trace = Trace::default();
        trace.read_text(input.as_bytes()).unwrap();
        trace
    }

    #[test]
    fn keys_become_numbers_in_order_of_appearance() {
        let trace = text("# a trace\n17\n0x11\n\n  18446744073709551615 \r\n3\n17");
        assert_eq!(trace.requests, [0, 0, 1, 2, 0]);
        assert_eq!(trace.distinct(), 3);
        assert_eq!(trace.bad, None);
    }

    #[test]
    fn a_bad_line_ends_the_trace_and_is_named() {
        let said = |input: &str| text(input).bad.unwrap().to_string();
        assert_eq!(
            said("1\n\n2\nx9\n3\n"),
            "record 3 (line 4): `x9` is no decimal or 0x-hexadecimal number"
        );
        assert_eq!(said("-1"), "record 1 (line 1): `-1` is no decimal or 0x-hexadecimal number");
        assert_eq!(said("0x"), "record 1 (line 1): `0x` is no decimal or 0x-hexadecimal number");
        assert_eq!(
            said("0x+1"),
            "record 1 (line 1): `0x+1` is no decimal or 0x-hexadecimal number"
        );
        assert_eq!(said("1 2"), "record 1 (line 1): `1 2` is no decimal or 0x-hexadecimal number");
        assert_eq!(
            said("0x10000000000000000"),
            "record 1 (line 1): `0x10000000000000000` is more than 64 bits"
        );
        assert_eq!(text("1\n2\nx\n4").requests, [0, 1]);
    }

    #[test]
    fn a_file_without_lines_is_not_swallowed_whole() {
        let mut trace = Trace::default();
        trace.read_text(io::repeat(0xff).take(1 << 30).chain(io::empty()).buffered()).unwrap();
        assert!(trace.bad.unwrap().to_string().contains("this is not text"));
    }

    trait Buffered: Read + Sized {
        fn buffered(self) -> BufReader<Self> {
            BufReader::new(self)
        }
    }

    impl<R: Read> Buffered for R {}

    fn oracle_general(keys: &[u64]) -> Vec<u8> {
        keys.iter()
            .flat_map(|key| [&[1; 4], key.to_le_bytes().as_slice(), &[9; 12]].concat())
            .collect()
    }

    #[test]
    fn oracle_general_records_give_their_keys() {
        let mut trace = Trace::default();
        trace.read_oracle_general(oracle_general(&[7, u64::MAX, 7]).as_slice()).unwrap();
        assert_eq!((trace.requests, trace.bad), (vec![0, 1, 0], None));
    }

    #[test]
    fn a_cut_off_record_is_named() {
        let mut trace = Trace::default();
        trace.read_oracle_general(&oracle_general(&[7, 8])[..35]).unwrap();
        assert_eq!(trace.requests, [0]);
        assert_eq!(
            trace.bad.unwrap().to_string(),
            "record 2: the trace ends after 11 of its 24 bytes"
        );
    }

    #[test]
    fn the_name_tells_the_format() {
        assert_eq!(Format::of(Path::new("/d/w.oracleGeneral.bin")), Format::OracleGeneral);
        assert_eq!(Format::of(Path::new("/oracleGeneral/w.txt")), Format::Text);
        assert_eq!(Format::of(Path::new("-")), Format::Text);
    }
}
