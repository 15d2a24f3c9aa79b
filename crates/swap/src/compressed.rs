//! Compressed memory (Linux drivers/block/zram).
//!
//! ```text
//!   a page of one repeated word   the word
//!   a page that compresses        as many bytes as that takes
//!   any other                     the page
//! ```

use crate::PAGE;
use kilburn_addr::Errno;
use kilburn_mm::SwapArea;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slots are locked by groups: neighbours are in different ones.
const SHARDS: usize = 64;
/// What does not get smaller than this is kept as it is (Linux `huge_class_size`, about).
const COMPRESSED_MAX: usize = PAGE * 3 / 4;
/// As zram uses it.
const ZSTD_LEVEL: i32 = 3;

/// How pages are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Fast.
    Lz4,
    /// Small.
    Zstd,
}

/// What a slot holds.
#[derive(Default)]
enum Stored {
    #[default]
    Nothing,
    Same(u64),
    Packed(Box<[u8]>),
    Plain(Box<[u8; PAGE]>),
}

/// How well pages compress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompressedStats {
    /// Slots that hold a page.
    pub pages: u64,
    /// Those of them that hold one repeated word.
    pub same: u64,
    /// Those of them that did not compress.
    pub incompressible: u64,
    /// Bytes of host memory the pages take.
    pub bytes: u64,
}

/// An area in compressed memory.
pub struct Compressed {
    compression: Compression,
    slots: u32,
    shards: Vec<Mutex<Vec<Stored>>>,
    /// Contexts of zstd at rest: making one is dear.
    contexts: Mutex<Vec<Context>>,
    pages: AtomicU64,
    same: AtomicU64,
    incompressible: AtomicU64,
    bytes: AtomicU64,
}

struct Context {
    packer: zstd::bulk::Compressor<'static>,
    unpacker: zstd::bulk::Decompressor<'static>,
}

impl Compressed {
    /// An area of `slots` slots.
    pub fn new(compression: Compression, slots: u32) -> Self {
        let in_shard = (slots as usize).div_ceil(SHARDS);
        let shard = || Mutex::new((0..in_shard).map(|_| Stored::Nothing).collect());
        Self {
            compression,
            slots,
            shards: (0..SHARDS).map(|_| shard()).collect(),
            contexts: Mutex::new(Vec::new()),
            pages: AtomicU64::new(0),
            same: AtomicU64::new(0),
            incompressible: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// How well the pages held now compress.
    pub fn stats(&self) -> CompressedStats {
        CompressedStats {
            pages: self.pages.load(Ordering::Relaxed),
            same: self.same.load(Ordering::Relaxed),
            incompressible: self.incompressible.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn with_slot<R>(&self, slot: u32, act: impl FnOnce(&mut Stored) -> R) -> R {
        let (shard, at) = (slot as usize % SHARDS, slot as usize / SHARDS);
        act(&mut self.shards[shard].lock()[at])
    }

    fn with_context<R>(&self, act: impl FnOnce(&mut Context) -> R) -> Result<R, Errno> {
        let mut context = match self.contexts.lock().pop() {
            Some(context) => context,
            None => Context {
                packer: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(|_| Errno::ENOMEM)?,
                unpacker: zstd::bulk::Decompressor::new().map_err(|_| Errno::ENOMEM)?,
            },
        };
        let result = act(&mut context);
        self.contexts.lock().push(context);
        Ok(result)
    }

    fn pack(&self, page: &[u8; PAGE]) -> Result<Stored, Errno> {
        if let Some(word) = same_word(page) {
            return Ok(Stored::Same(word));
        }
        let mut buffer = [0; PAGE];
        let packed = match self.compression {
            Compression::Lz4 => {
                lz4_flex::block::compress_into(page, &mut buffer[..COMPRESSED_MAX]).ok()
            }
            Compression::Zstd => self.with_context(|context| {
                context.packer.compress_to_buffer(page, &mut buffer[..COMPRESSED_MAX]).ok()
            })?,
        };
        Ok(match packed {
            Some(len) => Stored::Packed(buffer[..len].into()),
            None => Stored::Plain(Box::new(*page)),
        })
    }

    fn unpack(&self, packed: &[u8], into: &mut [u8; PAGE]) -> Result<(), Errno> {
        let len = match self.compression {
            Compression::Lz4 => lz4_flex::block::decompress_into(packed, into).ok(),
            Compression::Zstd => self.with_context(|context| {
                context.unpacker.decompress_to_buffer(packed, into.as_mut_slice()).ok()
            })?,
        };
        if len == Some(PAGE) { Ok(()) } else { Err(Errno::EIO) }
    }

    fn count(&self, stored: &Stored, count: impl Fn(&AtomicU64, u64)) {
        let bytes = match stored {
            Stored::Nothing => return,
            Stored::Same(_) => {
                count(&self.same, 1);
                0
            }
            Stored::Packed(bytes) => bytes.len(),
            Stored::Plain(_) => {
                count(&self.incompressible, 1);
                PAGE
            }
        };
        count(&self.pages, 1);
        count(&self.bytes, bytes as u64);
    }

    fn replace(&self, slot: u32, stored: Stored) {
        self.count(&stored, |count, by| {
            count.fetch_add(by, Ordering::Relaxed);
        });
        let before = self.with_slot(slot, |place| std::mem::replace(place, stored));
        self.count(&before, |count, by| {
            count.fetch_sub(by, Ordering::Relaxed);
        });
    }
}

/// The word that the page repeats, if it does.
fn same_word(page: &[u8; PAGE]) -> Option<u64> {
    let (first, rest) = page.split_first_chunk::<8>()?;
    // The last word differs more often than the second: zram looks there first as well.
    let same = page.last_chunk::<8>() == Some(first)
        && rest.as_chunks::<8>().0.iter().all(|word| word == first);
    same.then(|| u64::from_ne_bytes(*first))
}

impl SwapArea for Compressed {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn read(&self, slot: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        self.with_slot(slot, |stored| match stored {
            Stored::Nothing => Err(Errno::EIO),
            Stored::Same(word) => {
                for place in into.as_chunks_mut::<8>().0 {
                    *place = word.to_ne_bytes();
                }
                Ok(())
            }
            Stored::Packed(packed) => self.unpack(packed, into),
            Stored::Plain(page) => {
                into.copy_from_slice(page.as_slice());
                Ok(())
            }
        })
    }

    fn write(&self, slot: u32, from: &[u8; PAGE]) -> Result<(), Errno> {
        let stored = self.pack(from)?;
        self.replace(slot, stored);
        Ok(())
    }

    fn discard(&self, slot: u32) {
        self.replace(slot, Stored::Nothing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Compression; 2] = [Compression::Lz4, Compression::Zstd];

    fn round_trip(area: &Compressed, page: &[u8; PAGE]) {
        area.write(3, page).expect("room");
        let mut back = [0; PAGE];
        area.read(3, &mut back).expect("written");
        assert!(back == *page);
    }

    #[test]
    fn a_page_of_one_word_takes_no_memory() {
        for compression in BOTH {
            let area = Compressed::new(compression, 8);
            let mut page = [0; PAGE];
            for (i, byte) in page.iter_mut().enumerate() {
                *byte = (i % 8) as u8;
            }
            round_trip(&area, &page);
            let all = CompressedStats { pages: 1, same: 1, ..CompressedStats::default() };
            assert_eq!(area.stats(), all);
            page[4000] ^= 1;
            round_trip(&area, &page);
            assert_eq!(area.stats().same, 0);
            area.discard(3);
            assert_eq!(area.stats(), CompressedStats::default());
        }
    }

    #[test]
    fn a_page_that_does_not_compress_is_kept_as_it_is() {
        for compression in BOTH {
            let area = Compressed::new(compression, 8);
            let mut page = [0; PAGE];
            let mut state = 1_u32;
            for byte in &mut page {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            round_trip(&area, &page);
            assert_eq!((area.stats().incompressible, area.stats().bytes), (1, PAGE as u64));
        }
    }

    #[test]
    fn nothing_is_read_from_a_slot_that_was_not_written() {
        let area = Compressed::new(Compression::Lz4, 8);
        assert_eq!(area.read(0, &mut [0; PAGE]), Err(Errno::EIO));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            zstd in any::<bool>(),
            runs in prop::collection::vec((any::<u8>(), 1_usize..600), 1..200),
        ) {
            let area = Compressed::new(BOTH[usize::from(zstd)], 8);
            let mut bytes: Vec<u8> = Vec::new();
            for (byte, len) in runs {
                bytes.extend(std::iter::repeat_n(byte, len));
            }
            bytes.resize(PAGE, 0);
            let page: &[u8; PAGE] = bytes.as_slice().try_into().expect("a page");
            round_trip(&area, page);
        }
    }
}
