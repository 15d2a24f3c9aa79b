//! ChampSim's traces: one record of 64 bytes an instruction (ChampSim, inc/trace_instruction.h).
//!
//! ```text
//!   0 ip u64 | 8 is_branch u8 | 9 branch_taken u8 | 10 destination registers 2 x u8
//!   12 source registers 4 x u8 | 16 stored addresses 2 x u64 | 32 loaded addresses 4 x u64
//! ```
//!
//! An address of 0 is none. Sizes are not in the trace.

use crate::event::{Event, Records, TraceError};
use kilburn_addr::{Access, VirtAddr};
use std::io::Read;

const RECORD: usize = 64;

/// Reads records.
pub struct Reader<R> {
    input: R,
    number: u64,
    /// Events of the record at hand, the next one last.
    events: Vec<Event>,
}

impl<R: Read> Reader<R> {
    /// A reader of `input`, which is decompressed.
    pub fn new(input: R) -> Self {
        Self { input, number: 0, events: Vec::with_capacity(8) }
    }

    /// Number of the record at hand.
    pub fn record(&self) -> u64 {
        self.number
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`] when the last record is cut off, or one cannot be what it should.
    pub fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        if let Some(event) = self.events.pop() {
            return Ok(Some(event));
        }
        self.number += 1;
        let mut record = [0; RECORD];
        let mut filled = 0;
        while filled < RECORD {
            match self.input.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => {
                    let why = format!("the trace ends after {filled} of its {RECORD} bytes");
                    return Err(TraceError::new(self.number, why));
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                Err(error) => return Err(TraceError::io(self.number, &error)),
            }
        }
        self.decode(&record)?;
        Ok(self.events.pop())
    }

    fn decode(&mut self, record: &[u8; RECORD]) -> Result<(), TraceError> {
        let word = |at: usize| {
            let bytes = record[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let ip = word(0);
        if record[8] > 1 || record[9] > 1 || ip == 0 {
            let why = "this is no ChampSim record: its instruction address is 0, or a flag of a \
                       branch is neither 0 nor 1 (see --format)";
            return Err(TraceError::new(self.number, why));
        }
        let access = |access, va| Event::Access { access, va: VirtAddr::new(va), size: 0 };
        self.events.push(Event::Retire(1));
        let stores = [16, 24].map(word).into_iter().rev().filter(|&va| va != 0);
        self.events.extend(stores.map(|va| access(Access::Write, va)));
        let loads = [32, 40, 48, 56].map(word).into_iter().rev().filter(|&va| va != 0);
        self.events.extend(loads.map(|va| access(Access::Read, va)));
        self.events.push(access(Access::Exec, ip));
        Ok(())
    }
}

impl<R: Read> Records for Reader<R> {
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

    fn record(ip: u64, loads: &[u64], stores: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        let mut put =
            |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0, ip);
        stores.iter().enumerate().for_each(|(i, &va)| put(16 + 8 * i, va));
        loads.iter().enumerate().for_each(|(i, &va)| put(32 + 8 * i, va));
        bytes
    }

    #[test]
    fn an_instruction_is_its_fetch_its_loads_and_its_stores() {
        let bytes = record(0x40_0000, &[0x10, 0x20], &[0x30]);
        let mut reader = Reader::new(bytes.as_slice());
        let mut seen = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            seen.push(match event {
                Event::Access { access, va, .. } => (Some(access), va.get()),
                _ => (None, 0),
            });
        }
        let (exec, read, write) = (Some(Access::Exec), Some(Access::Read), Some(Access::Write));
        let expected = [(exec, 0x40_0000), (read, 0x10), (read, 0x20), (write, 0x30), (None, 0)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_record() {
        let mut bytes = record(1, &[], &[]);
        bytes.extend_from_slice(&record(2, &[], &[])[..40]);
        let mut reader = Reader::new(bytes.as_slice());
        let said = loop {
            match reader.next_event() {
                Ok(Some(_)) => (),
                Ok(None) => panic!("cut off"),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(said, "record 2: the trace ends after 40 of its 64 bytes");
        let zeros = std::io::repeat(0);
        assert!(Reader::new(zeros).next_event().unwrap_err().to_string().starts_with("record 1:"));
    }
}
