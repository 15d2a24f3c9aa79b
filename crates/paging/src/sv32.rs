//! RISC-V Sv32, and the 64-bit modes with Svnapot (Privileged Architecture 20240411, 10.3 and 11).
//!
//! Sv32 has two levels of 1024 four-byte entries with a 22-bit frame number:
//!
//! ```text
//!  31 ............ 10  9  8  7 6 5 4 3 2 1 0
//!  page frame number   SD SP D A G U X W R V
//! ```
//!
//! Svnapot's N (bit 63) makes a leaf of level 0 one of sixteen equal ones that translate 64 KiB:
//! the lowest four frame bits are then 1000 and say so.

use crate::format::{Entry, Format, Leaf};
use crate::hardware::HardwareFormat;
use crate::sv::Sv;
use kilburn_addr::{Access, Pfn, VirtAddr};

/// RISC-V's 32-bit paging; pages of 4 KiB and 4 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sv32;

impl HardwareFormat for Sv32 {
    fn levels(self) -> u8 {
        2
    }

    fn va_bits(self) -> u32 {
        32
    }

    fn is_canonical(self, va: VirtAddr) -> bool {
        va.get() >> 32 == 0
    }

    fn entry_shift(self) -> u32 {
        2
    }

    fn index_bits(self, _level: u8) -> u32 {
        10
    }

    fn decode(self, raw: u64, level: u8) -> Entry {
        // The low ten bits are those of the 64-bit modes; only the frame number is narrower.
        Format::decode(Sv::SV39, raw, level)
    }

    fn encode(self, entry: Entry, level: u8) -> u64 {
        Format::encode(Sv::SV39, entry, level) & u64::from(u32::MAX)
    }

    fn mark_used(self, raw: u64, access: Access) -> u64 {
        raw | Sv::SV39.used_bits(access)
    }
}

const N: u64 = 1 << 63;
const PPN_SHIFT: u32 = 10;
/// log2 of the entries of a 64 KiB run, the one size Svnapot defines.
const NAPOT_SHIFT: u32 = 4;

/// A 64-bit RISC-V mode with naturally aligned power-of-two runs of 64 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SvNapot(
    /// The mode.
    pub Sv,
);

impl SvNapot {
    /// Makes the leaf `raw` of level 0 one of sixteen that translate 64 KiB; all are equal.
    pub const fn make_napot(self, raw: u64) -> u64 {
        let size = 0b1000 << PPN_SHIFT;
        raw & !(0b1111 << PPN_SHIFT) | size | N
    }
}

impl HardwareFormat for SvNapot {
    fn levels(self) -> u8 {
        Format::levels(self.0)
    }

    fn va_bits(self) -> u32 {
        Format::va_bits(self.0)
    }

    fn is_canonical(self, va: VirtAddr) -> bool {
        Format::is_canonical(self.0, va)
    }

    fn index_bits(self, _level: u8) -> u32 {
        9
    }

    fn decode(self, raw: u64, level: u8) -> Entry {
        if raw & N == 0 || raw & 1 == 0 {
            return Format::decode(self.0, raw, level);
        }
        let is_64k = raw >> PPN_SHIFT & 0b1111 == 0b1000;
        match Format::decode(self.0, raw & !N, level) {
            Entry::Leaf(leaf) if level == 0 && is_64k => {
                let pfn = Pfn::new(leaf.pfn.get() & !0b1111);
                Entry::Leaf(Leaf { pfn, ..leaf })
            }
            // Reserved: a page fault.
            _ => Entry::None,
        }
    }

    fn encode(self, entry: Entry, level: u8) -> u64 {
        Format::encode(self.0, entry, level)
    }

    fn reach(self, raw: u64, level: u8) -> u32 {
        self.span_shift(level) + if raw & N != 0 { NAPOT_SHIFT } else { 0 }
    }

    fn mark_used(self, raw: u64, access: Access) -> u64 {
        raw | self.0.used_bits(access)
    }
}
