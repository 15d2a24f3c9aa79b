//! Our own format: accesses and what happened to address spaces, a few bits each.
//!
//! A file is the eight bytes `KBTRACE1`, then one zstd stream with checksum. In it, integers are LEB128
//! (seven bits a byte, lowest first). First a [`Header`]: the number of levels of the tables the trace
//! was recorded with (0 for none), and who set A and D in them (0 hardware, 1 software). Then records, each an integer `value << 3 | code` and what it needs more:
//!
//! | code | value | more | means |
//! |---|---|---|---|
//! | 0, 1, 2 | zigzag of the distance from the last address of the same kind | | load, store, fetch |
//! | 3 | instructions | | retired |
//! | 4 | kind (0 load, 1 store, 2 fetch) | size (at most 4096), address | an access with its size |
//! | 5 | number of an event | its fields | see below |
//! | 7 | records before | | the end; anything after it is an error |
//!
//! | event | fields |
//! |---|---|
//! | 0 hart | number |
//! | 1 space | number |
//! | 2 map | page address, level, frame, flags |
//! | 3 fault | address, level |
//! | 4 flush | cause, 0 (all) or 1 (space), space or 2 (range), space, start, length |
//! | 5 mmap | address, length, `PROT_*`, 0 (private) or 1 (shared) |
//! | 6 munmap | address, length |
//! | 7 mprotect | address, length, `PROT_*` |
//! | 8 fork | number of the child |
//! | 9 exec, 10 exit | |
//! | 11 process | its id |
//!
//! Flags are those of `kilburn_paging::LeafFlags`, causes those of `kilburn_mmu::Cause`. A trace without its end
//! record was cut off.

use crate::event::{Event, Records, Sharing, TraceError};
use kilburn_addr::{Access, AddrRange, PAGE_SIZE, VirtAddr};
use kilburn_mmu::model::config::AdUpdate;
use kilburn_mmu::{Cause, Flush};
use kilburn_paging::LeafFlags;
use std::io::{self, Read, Write};

/// What every file begins with.
pub const MAGIC: [u8; 8] = *b"KBTRACE1";

const CODE_BITS: u32 = 3;
const RETIRE: u64 = 3;
const SIZED: u64 = 4;
const EVENT: u64 = 5;
const END: u64 = 7;

const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Exec];

fn kind(access: Access) -> usize {
    match access {
        Access::Read => 0,
        Access::Write => 1,
        Access::Exec => 2,
    }
}

fn zigzag(distance: i64) -> u64 {
    (distance << 1 ^ distance >> 63) as u64
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What the tables of a trace are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Levels, 3 to 5; 0 when the trace says nothing of tables.
    pub levels: u8,
    /// Who set A and D: after a fault for software to do so, the access comes a second time.
    pub ad_update: AdUpdate,
}

impl Header {
    /// That of a trace which says nothing of tables.
    pub const NO_TABLES: Self = Self { levels: 0, ad_update: AdUpdate::Hardware };
}

/// Writes a trace.
pub struct Writer<W: Write> {
    output: zstd::Encoder<'static, W>,
    buffer: Vec<u8>,
    last: [u64; 3],
    records: u64,
}

/// zstd's level: about as fast as recording.
const LEVEL: i32 = 1;
const BUFFER: usize = 1 << 16;

impl<W: Write> Writer<W> {
    /// A trace into `output`.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn new(mut output: W, header: Header) -> io::Result<Self> {
        output.write_all(&MAGIC)?;
        let mut output = zstd::Encoder::new(output, LEVEL)?;
        output.include_checksum(true)?;
        let mut writer =
            Self { output, buffer: Vec::with_capacity(2 * BUFFER), last: [0; 3], records: 0 };
        writer.integer(u64::from(header.levels));
        writer.integer(u64::from(header.ad_update == AdUpdate::Fault));
        Ok(writer)
    }

    fn integer(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    fn fields(&mut self, event: u64, fields: &[u64]) {
        self.integer(event << CODE_BITS | EVENT);
        for &field in fields {
            self.integer(field);
        }
    }

    /// Writes an event.
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        self.records += 1;
        match *event {
            Event::Access { access, va, size } => self.access(access, va.get(), size),
            Event::Retire(count) => self.integer(count << CODE_BITS | RETIRE),
            Event::Hart(number) => self.fields(0, &[u64::from(number)]),
            Event::Space(asid) => self.fields(1, &[u64::from(asid)]),
            Event::Map { va, level, pfn, flags } => {
                self.fields(2, &[va.get(), u64::from(level), pfn, u64::from(flags.bits())]);
            }
            Event::Fault { va, level } => self.fields(3, &[va.get(), u64::from(level)]),
            Event::Flush { what, cause } => {
                let cause = cause as u64;
                match what {
                    Flush::All => self.fields(4, &[cause, 0]),
                    Flush::Asid(asid) => self.fields(4, &[cause, 1, u64::from(asid)]),
                    Flush::Range { asid, range } => {
                        let (start, end) = (range.start().get(), range.end().get());
                        self.fields(4, &[cause, 2, u64::from(asid), start, end - start]);
                    }
                }
            }
            Event::Mmap { va, len, prot, sharing } => {
                self.fields(5, &[va.get(), len, prot, sharing as u64]);
            }
            Event::Munmap { va, len } => self.fields(6, &[va.get(), len]),
            Event::Mprotect { va, len, prot } => self.fields(7, &[va.get(), len, prot]),
            Event::Fork { child } => self.fields(8, &[u64::from(child)]),
            Event::Exec => self.fields(9, &[]),
            Event::Exit => self.fields(10, &[]),
            Event::Process { pid } => self.fields(11, &[u64::from(pid)]),
        }
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn access(&mut self, access: Access, va: u64, size: u32) {
        let kind = kind(access);
        let distance = zigzag(va.wrapping_sub(self.last[kind]) as i64);
        self.last[kind] = va;
        if size == 0 && distance >> (64 - CODE_BITS) == 0 {
            self.integer(distance << CODE_BITS | kind as u64);
        } else {
            self.integer((kind as u64) << CODE_BITS | SIZED);
            self.integer(u64::from(size));
            self.integer(va);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the end; answers the output and how many records there are.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let records = self.records;
        self.integer(records << CODE_BITS | END);
        self.flush()?;
        Ok((self.output.finish()?, records))
    }
}

/// Reads a trace.
pub struct Reader<R: Read> {
    input: zstd::Decoder<'static, io::BufReader<R>>,
    /// Decompressed bytes; those from `at` to `filled` are to be read.
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    header: Header,
    last: [u64; 3],
    record: u64,
    ended: bool,
}

/// Bytes of the longest number.
const INTEGER_MAX: usize = 10;

/// The number that `bytes` begin with and how many they are; `None` if it has more than 64 bits.
#[inline]
fn integer(bytes: &[u8; INTEGER_MAX]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == INTEGER_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

impl<R: Read> Reader<R> {
    /// A reader of `input`, whose magic has been read.
    ///
    /// # Errors
    /// [`TraceError`] when there is no header.
    pub fn new(input: R) -> Result<Self, TraceError> {
        let input = zstd::Decoder::new(input).map_err(|error| TraceError::io(0, &error))?;
        let buffer = vec![0; BUFFER].into();
        let (header, last) = (Header::NO_TABLES, [0; 3]);
        let mut reader =
            Self { input, buffer, at: 0, filled: 0, header, last, record: 0, ended: false };
        reader.header = reader.read_header().map_err(|error| TraceError::io(0, &error))?;
        Ok(reader)
    }

    fn read_header(&mut self) -> io::Result<Header> {
        let levels = match self.integer()? {
            levels @ (0 | 3..=5) => levels as u8,
            other => return Err(bad(&format!("tables of {other} levels: 3 to 5 or none"))),
        };
        let ad_update = match self.integer()? {
            0 => AdUpdate::Hardware,
            1 => AdUpdate::Fault,
            _ => return Err(bad("neither hardware nor software sets A and D")),
        };
        Ok(Header { levels, ad_update })
    }

    /// What its tables are.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Number of the record at hand.
    pub fn record(&self) -> u64 {
        self.record
    }

    /// The next [`INTEGER_MAX`] bytes, if they are in the buffer.
    #[inline]
    fn ahead(&self) -> Option<&[u8; INTEGER_MAX]> {
        self.buffer[..self.filled].get(self.at..)?.first_chunk()
    }

    fn integer(&mut self) -> io::Result<u64> {
        let mut bytes = [0; INTEGER_MAX];
        for byte in &mut bytes {
            *byte = self.byte()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if *byte & 0x80 == 0 {
                break;
            }
        }
        let (value, _) = integer(&bytes).ok_or_else(|| bad("a number of more than 64 bits"))?;
        Ok(value)
    }

    /// The next byte; `None` at the end of the stream.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        while self.at == self.filled {
            match self.input.read(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(filled) => (self.at, self.filled) = (0, filled),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        self.at += 1;
        Ok(Some(self.buffer[self.at - 1]))
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`] when the trace is cut off or damaged.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        // Nearly all records are a number that is in the buffer.
        if let Some((head, len)) = self.ahead().and_then(integer) {
            let (value, code) = (head >> CODE_BITS, head & ((1 << CODE_BITS) - 1));
            if code <= RETIRE {
                self.record += 1;
                self.at += len;
                return Ok(Some(self.short(value, code)));
            }
        }
        self.next_in_full()
    }

    #[cold]
    fn next_in_full(&mut self) -> Result<Option<Event>, TraceError> {
        if self.ended {
            return Ok(None);
        }
        self.record += 1;
        self.decode().map_err(|error| TraceError::io(self.record, &error))
    }

    /// A record of one number; its code is at most [`RETIRE`].
    #[inline]
    fn short(&mut self, value: u64, code: u64) -> Event {
        if code == RETIRE {
            return Event::Retire(value);
        }
        let last = &mut self.last[code as usize];
        *last = last.wrapping_add(unzigzag(value) as u64);
        Event::Access { access: ACCESSES[code as usize], va: VirtAddr::new(*last), size: 0 }
    }

    fn decode(&mut self) -> io::Result<Option<Event>> {
        let head = self.integer()?;
        let (value, code) = (head >> CODE_BITS, head & ((1 << CODE_BITS) - 1));
        Ok(Some(match code {
            0..=RETIRE => self.short(value, code),
            SIZED => {
                let access =
                    *ACCESSES.get(value as usize).ok_or_else(|| bad("no kind of access"))?;
                let size = self.small("a size")?;
                if u64::from(size) > PAGE_SIZE {
                    return Err(bad("an access of more than a page"));
                }
                let va = self.integer()?;
                self.last[value as usize] = va;
                Event::Access { access, va: VirtAddr::new(va), size }
            }
            EVENT => self.event(value)?,
            END => return self.end(value),
            _ => return Err(bad("no code of a record")),
        }))
    }

    fn end(&mut self, records: u64) -> io::Result<Option<Event>> {
        if records != self.record - 1 {
            return Err(bad("the trace says that it has another number of records"));
        }
        // Reads on, so that the checksum is looked at.
        if self.byte()?.is_some() {
            return Err(bad("there is more after the end"));
        }
        self.ended = true;
        Ok(None)
    }

    fn small<T: TryFrom<u64>>(&mut self, what: &str) -> io::Result<T> {
        T::try_from(self.integer()?).map_err(|_| bad(&format!("{what} is too large")))
    }

    fn address(&mut self) -> io::Result<VirtAddr> {
        Ok(VirtAddr::new(self.integer()?))
    }

    fn event(&mut self, number: u64) -> io::Result<Event> {
        Ok(match number {
            0 => Event::Hart(self.small("a hart's number")?),
            1 => Event::Space(self.small("a space's number")?),
            2 => Event::Map {
                va: self.address()?,
                level: self.small("a level")?,
                pfn: self.integer()?,
                flags: LeafFlags::from_bits(self.small("flags")?).ok_or_else(|| bad("no flags"))?,
            },
            3 => Event::Fault { va: self.address()?, level: self.small("a level")? },
            4 => {
                let cause = self.integer()? as usize;
                let cause = *Cause::ALL.get(cause).ok_or_else(|| bad("no cause of a flush"))?;
                Event::Flush { what: self.flushed()?, cause }
            }
            5 => Event::Mmap {
                va: self.address()?,
                len: self.integer()?,
                prot: self.integer()?,
                sharing: match self.integer()? {
                    0 => Sharing::Private,
                    1 => Sharing::Shared,
                    _ => return Err(bad("neither private nor shared")),
                },
            },
            6 => Event::Munmap { va: self.address()?, len: self.integer()? },
            7 => {
                Event::Mprotect { va: self.address()?, len: self.integer()?, prot: self.integer()? }
            }
            8 => Event::Fork { child: self.small("a space's number")? },
            9 => Event::Exec,
            10 => Event::Exit,
            11 => Event::Process { pid: self.small("a process's id")? },
            _ => return Err(bad("no event has this number")),
        })
    }

    fn flushed(&mut self) -> io::Result<Flush> {
        Ok(match self.integer()? {
            0 => Flush::All,
            1 => Flush::Asid(self.small("a space's number")?),
            2 => {
                let asid = self.small("a space's number")?;
                let (start, len) = (self.address()?, self.integer()?);
                let range = AddrRange::with_len(start, len).ok_or_else(|| bad("no range"))?;
                Flush::Range { asid, range }
            }
            _ => return Err(bad("no kind of a flush")),
        })
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
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
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = Event> {
        let va = || prop_oneof![any::<u64>(), 0_u64..1 << 39].prop_map(VirtAddr::new);
        let access = prop::sample::select(ACCESSES.to_vec());
        let flags = any::<u16>().prop_map(LeafFlags::from_bits_truncate);
        let range =
            (any::<u16>(), 0_u64..1 << 40, 0_u64..1 << 30).prop_map(|(asid, start, len)| {
                let range = AddrRange::with_len(VirtAddr::new(start), len).expect("low");
                Flush::Range { asid, range }
            });
        let what = prop_oneof![Just(Flush::All), any::<u16>().prop_map(Flush::Asid), range];
        let cause = prop::sample::select(Cause::ALL.to_vec());
        prop_oneof![
            10 => (access, va(), prop_oneof![Just(0), 1_u32..64])
                .prop_map(|(access, va, size)| Event::Access { access, va, size }),
            1 => (0_u64..1 << 60).prop_map(Event::Retire),
            1 => any::<u32>().prop_map(Event::Hart),
            1 => any::<u16>().prop_map(Event::Space),
            1 => (va(), 0_u8..5, any::<u64>(), flags)
                .prop_map(|(va, level, pfn, flags)| Event::Map { va, level, pfn, flags }),
            1 => (va(), 0_u8..5).prop_map(|(va, level)| Event::Fault { va, level }),
            1 => (what, cause).prop_map(|(what, cause)| Event::Flush { what, cause }),
            1 => (va(), any::<u64>(), 0_u64..8, any::<bool>()).prop_map(|(va, len, prot, shared)| {
                let sharing = if shared { Sharing::Shared } else { Sharing::Private };
                Event::Mmap { va, len, prot, sharing }
            }),
            1 => any::<u32>().prop_map(|pid| Event::Process { pid }),
            1 => (va(), any::<u64>()).prop_map(|(va, len)| Event::Munmap { va, len }),
            1 => any::<u16>().prop_map(|child| Event::Fork { child }),
            1 => Just(Event::Exec),
            1 => Just(Event::Exit),
        ]
    }

    const TABLES: Header = Header { levels: 3, ad_update: AdUpdate::Fault };

    fn written(events: &[Event]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), TABLES).unwrap();
        events.iter().for_each(|event| writer.write(event).unwrap());
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> (Vec<Event>, Option<TraceError>) {
        let mut events = Vec::new();
        let mut reader = match Reader::new(&bytes[MAGIC.len()..]) {
            Ok(reader) => reader,
            Err(error) => return (events, Some(error)),
        };
        loop {
            match reader.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => {
                    assert_eq!(reader.header(), TABLES);
                    return (events, None);
                }
                Err(error) => return (events, Some(error)),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(events in prop::collection::vec(event(), 0..200)) {
            let (found, error) = read(&written(&events));
            prop_assert!(error.is_none(), "{:?}", error);
            prop_assert_eq!(found, events);
        }

        #[test]
        fn a_trace_that_is_cut_off_says_so(
            events in prop::collection::vec(event(), 1..50),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = written(&events);
            let len = MAGIC.len() + cut.index(bytes.len() - MAGIC.len());
            prop_assert!(read(&bytes[..len]).1.is_some());
        }

        #[test]
        fn a_damaged_trace_is_noticed(
            events in prop::collection::vec(event(), 1..50),
            at in any::<prop::sample::Index>(),
            change in 1_u8..,
        ) {
            let mut bytes = written(&events);
            let at = MAGIC.len() + at.index(bytes.len() - MAGIC.len());
            bytes[at] ^= change;
            let (found, error) = read(&bytes);
            // zstd's header has bits that mean nothing: then the events are the same.
            prop_assert!(error.is_some() || found == events);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 8..300)) {
            let mut inner = zstd::Encoder::new(Vec::new(), 1).unwrap();
            inner.write_all(&bytes).unwrap();
            let mut file = MAGIC.to_vec();
            file.extend(inner.finish().unwrap());
            let _ = read(&file);
            let _ = read(&bytes);
        }
    }

    #[test]
    fn nearby_accesses_take_a_byte_or_two() {
        let near = |i: u64| Event::Access {
            access: Access::Read,
            va: VirtAddr::new(0x40_0000 + i * 4 % 64),
            size: 0,
        };
        let mut writer = Writer::new(Vec::new(), Header::NO_TABLES).unwrap();
        for i in 0..1000 {
            writer.write(&near(i)).unwrap();
        }
        assert!(writer.buffer.len() < 2010, "{}", writer.buffer.len());
    }
}
