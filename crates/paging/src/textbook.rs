//! A textbook's paging: any address widths, any page size, one to six levels.
//!
//! An entry is as wide as its frame number needs, 4 or 8 bytes:
//!
//! ```text
//!  .............. 8  7 6 5 4  3     2    1   0
//!  frame number      0 T D A  WRITE READ SUP V
//! ```
//!
//! SUP keeps user mode out, READ and WRITE are the rights (a page that may be read may be
//! executed), T says that the entry leads to a table. Neighbours: [`crate::hardware`] walks it.

use crate::format::{Entry, Leaf, LeafFlags};
use crate::hardware::HardwareFormat;
use core::fmt;
use kilburn_addr::{Access, Pfn, VirtAddr};

/// Most levels of a textbook system.
pub const LEVELS_MAX: usize = 6;

const V: u64 = 1 << 0;
const SUP: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const WRITE: u64 = 1 << 3;
const A: u64 = 1 << 4;
const D: u64 = 1 << 5;
const TABLE: u64 = 1 << 6;
const FRAME_SHIFT: u32 = 8;

/// A system of one's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Textbook {
    va_bits: u32,
    pa_bits: u32,
    page_shift: u32,
    levels: u8,
    /// Index bits of each level, the leaf's first.
    index_bits: [u8; LEVELS_MAX],
}

/// Why a system of that kind cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextbookError {
    /// Address widths outside 4 to 64 (virtual) or 4 to 52 (physical) bits.
    Width,
    /// The page is not smaller than the address spaces, or smaller than 8 bytes.
    Page,
    /// No level, more than [`LEVELS_MAX`], or more levels than index bits.
    Levels,
    /// A table of more than 2^30 entries.
    Table,
}

impl fmt::Display for TextbookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Width => "virtual addresses have 4 to 64 bits and physical ones 4 to 52",
            Self::Page => "a page has at least 8 bytes and is smaller than either address space",
            Self::Levels => "there are 1 to 6 levels, each with at least one index bit",
            Self::Table => "a table has at most 2^30 entries",
        })
    }
}

impl core::error::Error for TextbookError {}

impl Textbook {
    /// A system with these widths; index bits are shared out evenly, lower levels first.
    ///
    /// # Errors
    /// [`TextbookError`] when they do not fit together.
    pub fn new(
        va_bits: u32,
        pa_bits: u32,
        page_shift: u32,
        levels: u8,
    ) -> Result<Self, TextbookError> {
        if !(4..=64).contains(&va_bits) || !(4..=52).contains(&pa_bits) {
            return Err(TextbookError::Width);
        }
        if page_shift < 3 || page_shift >= va_bits || page_shift >= pa_bits {
            return Err(TextbookError::Page);
        }
        let vpn_bits = va_bits - page_shift;
        if levels == 0 || usize::from(levels) > LEVELS_MAX || u32::from(levels) > vpn_bits {
            return Err(TextbookError::Levels);
        }
        let mut index_bits = [0; LEVELS_MAX];
        let (each, rest) = (vpn_bits / u32::from(levels), vpn_bits % u32::from(levels));
        for (level, bits) in index_bits.iter_mut().enumerate().take(usize::from(levels)) {
            *bits = (each + u32::from((level as u32) < rest)) as u8;
        }
        if index_bits.iter().any(|&bits| bits > 30) {
            return Err(TextbookError::Table);
        }
        Ok(Self { va_bits, pa_bits, page_shift, levels, index_bits })
    }

    /// Width of a physical address in bits.
    pub fn pa_bits(self) -> u32 {
        self.pa_bits
    }
}

impl HardwareFormat for Textbook {
    fn levels(self) -> u8 {
        self.levels
    }

    fn va_bits(self) -> u32 {
        self.va_bits
    }

    fn is_canonical(self, va: VirtAddr) -> bool {
        self.va_bits == 64 || va.get() >> self.va_bits == 0
    }

    fn page_shift(self) -> u32 {
        self.page_shift
    }

    fn entry_shift(self) -> u32 {
        if self.pa_bits - self.page_shift + FRAME_SHIFT <= 32 { 2 } else { 3 }
    }

    fn index_bits(self, level: u8) -> u32 {
        u32::from(self.index_bits[usize::from(level)])
    }

    fn decode(self, raw: u64, level: u8) -> Entry {
        if raw & V == 0 {
            return if raw == 0 { Entry::None } else { Entry::Software(raw >> FRAME_SHIFT) };
        }
        let pfn = Pfn::new(raw >> FRAME_SHIFT);
        match (raw & TABLE != 0, level) {
            (true, 1..) => Entry::Table(pfn),
            (false, 0) => {
                let mut flags = LeafFlags::empty();
                flags.set(LeafFlags::READ | LeafFlags::EXEC, raw & READ != 0);
                flags.set(LeafFlags::WRITE, raw & WRITE != 0);
                flags.set(LeafFlags::USER, raw & SUP == 0);
                flags.set(LeafFlags::ACCESSED, raw & A != 0);
                flags.set(LeafFlags::DIRTY, raw & D != 0);
                Entry::Leaf(Leaf { pfn, flags })
            }
            _ => Entry::None,
        }
    }

    fn encode(self, entry: Entry, _level: u8) -> u64 {
        match entry {
            Entry::None => 0,
            Entry::Table(pfn) => pfn.get() << FRAME_SHIFT | TABLE | V,
            Entry::Software(payload) => {
                debug_assert!(payload != 0);
                payload << FRAME_SHIFT
            }
            Entry::Leaf(Leaf { pfn, flags }) => {
                let mut raw = pfn.get() << FRAME_SHIFT | V;
                for (flag, bit) in [
                    (LeafFlags::READ, READ),
                    (LeafFlags::WRITE, WRITE),
                    (LeafFlags::ACCESSED, A),
                    (LeafFlags::DIRTY, D),
                ] {
                    if flags.contains(flag) {
                        raw |= bit;
                    }
                }
                if flags.contains(LeafFlags::USER) { raw } else { raw | SUP }
            }
        }
    }

    fn mark_used(self, raw: u64, access: Access) -> u64 {
        match access {
            Access::Read | Access::Exec => raw | A,
            Access::Write => raw | A | D,
        }
    }
}
