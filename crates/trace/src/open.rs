//! Which format a trace has, and the way through its compression.
//!
//! Compression is known by its first bytes: zstd, xz, gzip. Our own format is known by its magic, lackey's by
//! its text; ChampSim's records have nothing to know them by, so they are taken for granted when the name says
//! `champsim` or `.trace`, or `--format` does.

use crate::event::{Event, TraceError};
use crate::{champsim, lackey, native};
use std::io::{self, BufReader, Read};

/// A format of traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Text of `valgrind --tool=lackey --trace-mem=yes`.
    Lackey,
    /// Records of ChampSim.
    ChampSim,
    /// Our own.
    Native,
}

type Input = BufReader<Box<dyn Read>>;

/// A trace being read.
pub enum Source {
    /// Lackey's.
    Lackey(lackey::Reader<Input>),
    /// ChampSim's.
    ChampSim(champsim::Reader<Input>),
    /// Our own.
    Native(Box<native::Reader<Input>>),
}

impl Source {
    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// [`TraceError`], after which nothing more can be read.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        match self {
            Self::Lackey(reader) => reader.next_event(),
            Self::ChampSim(reader) => reader.next_event(),
            Self::Native(reader) => reader.next_event(),
        }
    }

    /// Number of the record at hand.
    pub fn record(&self) -> u64 {
        match self {
            Self::Lackey(reader) => reader.record(),
            Self::ChampSim(reader) => reader.record(),
            Self::Native(reader) => reader.record(),
        }
    }

    /// What the tables that the trace was recorded with are.
    pub fn header(&self) -> native::Header {
        match self {
            Self::Native(reader) => reader.header(),
            Self::Lackey(_) | Self::ChampSim(_) => native::Header::NO_TABLES,
        }
    }

    /// The format.
    pub fn format(&self) -> Format {
        match self {
            Self::Lackey(_) => Format::Lackey,
            Self::ChampSim(_) => Format::ChampSim,
            Self::Native(_) => Format::Native,
        }
    }
}

const BUFFER: usize = 1 << 18;

/// Opens a trace called `name` (its format is guessed from it when the content does not tell), decompressing it.
///
/// # Errors
/// [`TraceError`] with record 0 when it cannot be read, is empty, or its format is unknown.
pub fn open(
    name: &str,
    input: Box<dyn Read>,
    format: Option<Format>,
) -> Result<Source, TraceError> {
    let failed = |error: io::Error| TraceError::io(0, &error);
    let mut input = decompress(BufReader::with_capacity(BUFFER, input)).map_err(failed)?;
    let head = peek(&mut input, native::MAGIC.len()).map_err(failed)?;
    if head.is_empty() {
        return Err(TraceError::new(0, "the trace is empty"));
    }
    let is_native = head == native::MAGIC;
    let is_text = head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let guessed = if is_native {
        Some(Format::Native)
    } else if is_text {
        Some(Format::Lackey)
    } else if name.contains("champsim") || name.contains(".trace") {
        Some(Format::ChampSim)
    } else {
        None
    };
    match format.or(guessed) {
        Some(Format::Native) if !is_native => {
            Err(TraceError::new(0, "this does not begin as a trace of ours does"))
        }
        Some(Format::Native) => {
            let mut magic = native::MAGIC;
            input.read_exact(&mut magic).map_err(failed)?;
            Ok(Source::Native(Box::new(native::Reader::new(input)?)))
        }
        Some(Format::Lackey) => Ok(Source::Lackey(lackey::Reader::new(input))),
        Some(Format::ChampSim) => Ok(Source::ChampSim(champsim::Reader::new(input))),
        None => Err(TraceError::new(0, "neither content nor name tells the format (see --format)")),
    }
}

/// The first bytes, as many as there are up to `wanted`, left to be read.
fn peek(input: &mut Input, wanted: usize) -> io::Result<Vec<u8>> {
    // One fill is enough but for pipes that hand out single bytes.
    let mut head = Vec::new();
    input.by_ref().take(wanted as u64).read_to_end(&mut head)?;
    let rest = std::mem::replace(input, BufReader::new(Box::new(io::empty())));
    let again = io::Cursor::new(head.clone()).chain(rest);
    *input = BufReader::with_capacity(BUFFER, Box::new(again));
    Ok(head)
}

fn decompress(mut input: Input) -> io::Result<Input> {
    let head = peek(&mut input, 6)?;
    let inner: Box<dyn Read> = match head.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(input)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input))
        }
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        _ => return Ok(input),
    };
    Ok(BufReader::with_capacity(BUFFER, inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const TEXT: &str = "I  10,1\n L 20,4\n";

    fn events(name: &str, bytes: Vec<u8>, format: Option<Format>) -> Result<usize, String> {
        let input = Box::new(io::Cursor::new(bytes));
        let mut source = open(name, input, format).map_err(|error| error.to_string())?;
        let mut count = 0;
        while source.next_event().map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn compression_is_seen_through() {
        let zstd = zstd::encode_all(TEXT.as_bytes(), 1).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(TEXT.as_bytes()).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(TEXT.as_bytes()).unwrap();
        let all = [TEXT.as_bytes().to_vec(), zstd, gz.finish().unwrap(), xz.finish().unwrap()];
        for (number, bytes) in all.into_iter().enumerate() {
            assert_eq!(events("t", bytes.clone(), None), Ok(2), "{number}");
            if number > 0 {
                let cut = bytes[..bytes.len() - 3].to_vec();
                assert!(events("t", cut, None).is_err(), "{number} is cut off");
            }
        }
    }

    #[test]
    fn a_wrong_label_is_an_error() {
        assert!(events("t", vec![0xff; 64], None).unwrap_err().contains("--format"));
        assert!(events("t", Vec::new(), None).unwrap_err().contains("empty"));
        assert!(
            events("t", vec![0xff; 64], Some(Format::ChampSim)).unwrap_err().contains("record 1")
        );
        assert!(
            events("t", TEXT.into(), Some(Format::Native)).unwrap_err().contains("does not begin")
        );
    }
}
