//! Compressed memory (Linux drivers/block/zram).
//!
//! ```text
//!   a page of one repeated word   the word
//!   a page that compresses        as many bytes as that takes, in a buffer of a multiple of 64
//!   any other                     the page
//! ```

use crate::PAGE;
use kilburn_addr::Errno;
use kilburn_mm::SwapArea;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
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
    /// So many bytes at the beginning of a buffer.
    Packed(Box<[u8]>, usize),
    Plain(Box<[u8]>),
}

/// Buffers come in sizes this far apart.
const CLASS: usize = 64;
/// Bytes of buffers that wait to be used again, at most.
const IDLE_MAX: usize = 8 << 20;
/// Buffers made at once: one by one they would be cut out of the room that lz4's table had, and the heap would grow by a table for each page.
const MADE_AT_ONCE: usize = 8;

/// Buffers by size, to be used again: the allocator gives pages back to the kernel below as soon as they are free at its end, and to have them
/// again takes as long as compressing them.
struct Buffers {
    /// By size in classes.
    idle: Vec<Vec<Box<[u8]>>>,
    /// Bytes of them all.
    bytes: usize,
}

impl Buffers {
    fn new() -> Self {
        Self { idle: (0..=PAGE / CLASS).map(|_| Vec::new()).collect(), bytes: 0 }
    }

    /// A buffer of at least `len` bytes, at most a page; what it holds is undefined.
    fn take(&mut self, len: usize) -> Box<[u8]> {
        let class = len.div_ceil(CLASS);
        let size = class * CLASS;
        if let Some(buffer) = self.idle[class].pop() {
            self.bytes -= size;
            return buffer;
        }
        let make = || vec![0; size].into_boxed_slice();
        self.idle[class].extend((1..MADE_AT_ONCE).map(|_| make()));
        self.bytes += size * (MADE_AT_ONCE - 1);
        make()
    }

    fn give(&mut self, buffer: Box<[u8]>) {
        if self.bytes + buffer.len() <= IDLE_MAX {
            self.bytes += buffer.len();
            self.idle[buffer.len() / CLASS].push(buffer);
        }
    }
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
    /// Bytes of host memory the pages take: those of their buffers.
    pub bytes: u64,
}

/// An area in compressed memory.
pub struct Compressed {
    compression: Compression,
    slots: u32,
    shards: Vec<Mutex<Vec<Stored>>>,
    /// Contexts of zstd at rest: making one is dear.
    contexts: Mutex<Vec<Context>>,
    buffers: Mutex<Buffers>,
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
            buffers: Mutex::new(Buffers::new()),
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
        // lz4 wants room for the worst case, or does not begin.
        let mut room = [0; get_maximum_output_size(PAGE)];
        let packed = match self.compression {
            Compression::Lz4 => compress_into(page, &mut room).ok(),
            Compression::Zstd => self.with_context(|context| {
                context.packer.compress_to_buffer(page, &mut room[..COMPRESSED_MAX]).ok()
            })?,
        };
        let packed = packed.filter(|&len| len <= COMPRESSED_MAX);
        let from = packed.map_or(page.as_slice(), |len| &room[..len]);
        let mut buffer = self.buffers.lock().take(from.len());
        buffer[..from.len()].copy_from_slice(from);
        Ok(match packed {
            Some(len) => Stored::Packed(buffer, len),
            None => Stored::Plain(buffer),
        })
    }

    fn unpack(&self, packed: &[u8], into: &mut [u8; PAGE]) -> Result<(), Errno> {
        let len = match self.compression {
            Compression::Lz4 => decompress_into(packed, into).ok(),
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
            Stored::Packed(buffer, _) => buffer.len(),
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
        if let Stored::Packed(buffer, _) | Stored::Plain(buffer) = before {
            self.buffers.lock().give(buffer);
        }
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

    fn is_synchronous(&self) -> bool {
        true
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
            Stored::Packed(buffer, len) => self.unpack(&buffer[..*len], into),
            Stored::Plain(page) => {
                into.copy_from_slice(page);
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

    /// Like the heap of a program: pointers, then nothing.
    fn heap_like(page: &mut [u8; PAGE]) {
        for (i, word) in page[..3000].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (0x3f_8000_0000 + (i as u64 * 7919 % 0x1000 * 16)).to_le_bytes();
        }
    }

    #[test]
    fn a_page_that_compresses_takes_less_and_its_buffer_is_used_again() {
        for compression in BOTH {
            let area = Compressed::new(compression, 8);
            let mut page = [0; PAGE];
            heap_like(&mut page);
            round_trip(&area, &page);
            let stats = area.stats();
            assert_eq!(
                (stats.pages, stats.same, stats.incompressible),
                (1, 0, 0),
                "{compression:?}"
            );
            assert!(stats.bytes < COMPRESSED_MAX as u64 && stats.bytes > 0, "{stats:?}");
            let idle = area.buffers.lock().bytes;
            area.discard(3);
            assert_eq!(area.buffers.lock().bytes, idle + stats.bytes as usize);
            round_trip(&area, &page);
            assert_eq!(area.buffers.lock().bytes, idle);
        }
    }

    #[test]
    fn buffers_do_not_wait_for_ever() {
        let mut buffers = Buffers::new();
        for _ in 0..2 * IDLE_MAX / PAGE {
            buffers.give(vec![0; PAGE].into_boxed_slice());
        }
        assert_eq!(buffers.bytes, IDLE_MAX);
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
