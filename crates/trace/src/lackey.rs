//! `valgrind --tool=lackey --trace-mem=yes`: one access a line.
//!
//! ```text
//!   I  04016b80,3        an instruction: address, bytes
//!    L 1ffefffe70,8      a load
//!    S 1ffefffe78,8      a store
//!    M 0421c7a8,4        a load and a store of the same bytes
//!   ==123== text         valgrind's own lines, passed over
//! ```

use crate::event::{Event, Records, TraceError};
use kilburn_addr::{Access, VirtAddr};
use std::io::{BufRead, Read as _};

/// No line of a trace is this long; so a binary file is not read into one line.
const LINE_MAX: u64 = 4096;

/// Reads lines.
pub struct Reader<R> {
    input: R,
    line: Vec<u8>,
    /// Lines read so far.
    number: u64,
    /// The store of a modification whose load was handed out.
    pending: Option<Event>,
}

impl<R: BufRead> Reader<R> {
    /// A reader of `input`.
    pub fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0, pending: None }
    }

    /// Lines read so far: the number of the record at hand.
    pub fn record(&self) -> u64 {
        self.number
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`] for a line that is none of the above.
    pub fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        loop {
            self.number += 1;
            match self.next_line()? {
                Line::Access(access) => return Ok(Some(self.events_of(access))),
                Line::Passed => (),
                Line::None => return Ok(None),
            }
        }
    }

    fn next_line(&mut self) -> Result<Line, TraceError> {
        let failed = |error: std::io::Error| TraceError::io(self.number, &error);
        let buffered = loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                other => break other.map_err(failed)?,
            }
        };
        // Nearly all lines lie whole in the buffer.
        if let Some(end) = buffered.iter().take(LINE_MAX as usize).position(|&byte| byte == b'\n') {
            let line = understand(&buffered[..end]);
            if matches!(line, Line::Access(_)) {
                self.input.consume(end + 1);
                return Ok(line);
            }
        }
        self.next_odd_line()
    }

    /// A line that is cut in two by the end of the buffer, or by that of the trace, or is no access.
    #[cold]
    fn next_odd_line(&mut self) -> Result<Line, TraceError> {
        let number = self.number;
        self.line.clear();
        let mut limited = self.input.by_ref().take(LINE_MAX);
        let read = limited
            .read_until(b'\n', &mut self.line)
            .map_err(|error| TraceError::io(number, &error))?;
        if read as u64 == LINE_MAX {
            return Err(TraceError::new(number, "this is no text (see --format)"));
        }
        match understand(&self.line) {
            _ if read == 0 => Ok(Line::None),
            Line::None if self.line.last() != Some(&b'\n') => {
                Err(TraceError::new(number, "the trace is cut off here"))
            }
            Line::None => {
                let line = String::from_utf8_lossy(self.line.trim_ascii_end());
                let shown: String = line.chars().take(40).collect();
                let why = format!("`{}` is no access as lackey writes it", shown.escape_debug());
                Err(TraceError::new(number, why))
            }
            line => Ok(line),
        }
    }

    /// The event of a line; that of a modification's store is kept for the next call.
    fn events_of(&mut self, (kind, va, size): (u8, VirtAddr, u32)) -> Event {
        let access = |access| Event::Access { access, va, size };
        match kind {
            b'I' => access(Access::Exec),
            b'L' => access(Access::Read),
            b'S' => access(Access::Write),
            _ => {
                self.pending = Some(access(Access::Write));
                access(Access::Read)
            }
        }
    }
}

/// What a line is.
enum Line {
    /// Kind, first byte and bytes of an access.
    Access((u8, VirtAddr, u32)),
    /// Empty, or valgrind's own.
    Passed,
    /// Nothing that lackey writes.
    None,
}

fn understand(line: &[u8]) -> Line {
    if let Some(access) = parse(line) {
        return Line::Access(access);
    }
    let line = line.trim_ascii_end();
    if line.is_empty() || line.starts_with(b"==") || line.starts_with(b"--") {
        Line::Passed
    } else {
        Line::None
    }
}

/// The kind, address and size of a line.
fn parse(line: &[u8]) -> Option<(u8, VirtAddr, u32)> {
    let line = line.trim_ascii();
    let (&kind, rest) = line.split_first()?;
    if !matches!(kind, b'I' | b'L' | b'S' | b'M') {
        return None;
    }
    let rest = rest.trim_ascii_start();
    let comma = rest.iter().position(|&byte| byte == b',')?;
    let va = number(&rest[..comma], 16)?;
    let size = number(&rest[comma + 1..], 10).filter(|size| (1..=4096).contains(size))?;
    Some((kind, VirtAddr::new(va), size as u32))
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, &digit| {
        Some(sum.checked_mul(u64::from(radix))? + u64::from(char::from(digit).to_digit(radix)?))
    })
}

impl<R: BufRead> Records for Reader<R> {
    const FETCHES_ARE_INSTRUCTIONS: bool = true;

    #[inline]
    fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        Self::next_event(self)
    }

    fn record(&self) -> u64 {
        Self::record(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (Vec<Event>, Option<String>) {
        let mut reader = Reader::new(text.as_bytes());
        let mut events = Vec::new();
        loop {
            match reader.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, None),
                Err(error) => return (events, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn lines_become_accesses() {
        let (events, error) = all("==1== Lackey\nI  04016b80,3\n S 1ffe,8\n L ff,1\n M 10,4\n");
        let access = |access, va, size| Event::Access { access, va: VirtAddr::new(va), size };
        assert_eq!(error, None);
        assert_eq!(
            events,
            [
                access(Access::Exec, 0x401_6b80, 3),
                access(Access::Write, 0x1ffe, 8),
                access(Access::Read, 0xff, 1),
                access(Access::Read, 0x10, 4),
                access(Access::Write, 0x10, 4),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_record() {
        let said = |text: &str| all(text).1.unwrap();
        assert!(said("I  10,1\nX  10,1\n").starts_with("record 2: `X  10,1` is no access"));
        assert!(said("I  10,1\nI  1").contains("record 2: the trace is cut off"));
        assert!(said(&"\u{7f}".repeat(10_000)).contains("record 1: this is no text"));
        assert!(said("I  10000000000000000,1\n").contains("record 1"));
        assert_eq!(all("I  10,1\nX\n").0.len(), 1, "what came before counts");
    }
}
