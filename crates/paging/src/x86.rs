//! x86: two levels with 32-bit entries, PAE, and four or five levels of 64-bit entries.
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A, chapter 5 (paging):
//!
//! ```text
//!  63 62-59 58-52 51 ......... 12  11-9  8 7  6 5  4   3   2   1   0
//!  XD key   AVL   frame            AVL   G PS D A PCD PWT U/S R/W  P
//! ```
//!
//! Reading cannot be refused to a present page, and without XD neither can execution: such leaves
//! come back from [`HardwareFormat::decode`] with the rights hardware grants. Software's bits as
//! Linux uses them (arch/x86/include/asm/pgtable_types.h): SPECIAL is bit 9, soft-dirty bit 11. A
//! page without rights is kept with P=0 and G=1 (`_PAGE_PROTNONE`), a software payload with both 0.

use crate::format::{Entry, Format, Leaf, LeafFlags};
use crate::hardware::HardwareFormat;
use kilburn_addr::{Access, PAGE_SHIFT, Pfn, VirtAddr};

const P: u64 = 1 << 0;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const SPECIAL: u64 = 1 << 9;
const SOFT_DIRTY: u64 = 1 << 11;
const XD: u64 = 1 << 63;
const PAYLOAD_SHIFT: u32 = 9;

/// Frame bits of an entry by physical address width.
const fn frame_mask(pa_bits: u32) -> u64 {
    ((1 << pa_bits) - 1) & !0xfff
}

/// Whether entries have an execute-disable bit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Execute {
    CanBeDisabled,
    Always,
}

#[inline]
fn decode(raw: u64, level: u8, pages_up_to: u8, frames: u64, execute: Execute) -> Entry {
    if raw == 0 {
        return Entry::None;
    }
    if raw & P == 0 {
        return if raw & G != 0 {
            Entry::Leaf(kept(raw, frames))
        } else {
            Entry::Software(raw >> PAYLOAD_SHIFT)
        };
    }
    let pfn = Pfn::new((raw & frames) >> PAGE_SHIFT);
    if level > 0 && raw & PS == 0 {
        return Entry::Table(pfn);
    }
    if level > pages_up_to {
        // PS is reserved there: a fault to hardware.
        return Entry::None;
    }
    let mut flags = LeafFlags::READ | state(raw);
    flags.set(LeafFlags::WRITE, raw & RW != 0);
    flags.set(LeafFlags::EXEC, execute == Execute::Always || raw & XD == 0);
    flags.set(LeafFlags::GLOBAL, raw & G != 0);
    Entry::Leaf(Leaf { pfn, flags })
}

#[inline]
fn kept(raw: u64, frames: u64) -> Leaf {
    Leaf { pfn: Pfn::new((raw & frames) >> PAGE_SHIFT), flags: state(raw) }
}

const STATE_BITS: [(LeafFlags, u64); 5] = [
    (LeafFlags::USER, US),
    (LeafFlags::ACCESSED, A),
    (LeafFlags::DIRTY, D),
    (LeafFlags::SPECIAL, SPECIAL),
    (LeafFlags::SOFT_DIRTY, SOFT_DIRTY),
];

/// The bit `to` if `bits` has the bit `from`: no branch, as which bits are set cannot be guessed.
#[inline]
const fn moved(bits: u64, from: u64, to: u64) -> u64 {
    (bits >> from.trailing_zeros() & 1) << to.trailing_zeros()
}

#[inline]
fn state(raw: u64) -> LeafFlags {
    let bits = |bits, (flag, bit): (LeafFlags, u64)| bits | moved(raw, bit, flag.bits().into());
    LeafFlags::from_bits_retain(STATE_BITS.into_iter().fold(0, bits) as u16)
}

#[inline]
fn encode(entry: Entry, level: u8, execute: Execute) -> u64 {
    match entry {
        Entry::None => 0,
        Entry::Table(pfn) => pfn.base().get() | P | RW | US | A,
        Entry::Software(payload) => {
            debug_assert!(payload != 0);
            payload << PAYLOAD_SHIFT
        }
        Entry::Leaf(Leaf { pfn, flags }) => {
            let set = |raw, (flag, bit): (LeafFlags, u64)| {
                raw | moved(flags.bits().into(), flag.bits().into(), bit)
            };
            let mut raw = STATE_BITS.into_iter().fold(pfn.base().get(), set);
            if !flags.intersects(LeafFlags::RIGHTS) {
                return raw | G;
            }
            raw |= P;
            raw = [(LeafFlags::WRITE, RW), (LeafFlags::GLOBAL, G)].into_iter().fold(raw, set);
            if execute == Execute::CanBeDisabled && !flags.contains(LeafFlags::EXEC) {
                raw |= XD;
            }
            if level > 0 { raw | PS } else { raw }
        }
    }
}

#[inline]
const fn used(access: Access) -> u64 {
    match access {
        Access::Read | Access::Exec => A,
        Access::Write => A | D,
    }
}

/// 64-bit x86 with four or five levels; pages of 4 KiB, 2 MiB and 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct X86_64 {
    levels: u8,
}

impl X86_64 {
    /// Four levels, 48-bit addresses.
    pub const FOUR_LEVEL: Self = Self { levels: 4 };
    /// Five levels (LA57), 57-bit addresses.
    pub const FIVE_LEVEL: Self = Self { levels: 5 };
}

impl Format for X86_64 {
    const ENTRIES: usize = 512;
    // Bits 9 to 62: bit 8 says that a page is kept, and nothing else is taken.
    const PAYLOAD_BITS: u32 = 54;

    #[inline]
    fn levels(self) -> u8 {
        self.levels
    }

    #[inline]
    fn va_bits(self) -> u32 {
        PAGE_SHIFT + 9 * u32::from(self.levels)
    }

    #[inline]
    fn is_canonical(self, va: VirtAddr) -> bool {
        let unused = 64 - Format::va_bits(self);
        ((va.get() << unused) as i64) >> unused == va.get() as i64
    }

    #[inline]
    fn index(self, va: VirtAddr, level: u8) -> usize {
        (va.get() >> Format::span_shift(self, level)) as usize & 511
    }

    #[inline]
    fn span_shift(self, level: u8) -> u32 {
        PAGE_SHIFT + 9 * u32::from(level)
    }

    #[inline]
    fn decode(self, raw: u64, level: u8) -> Entry {
        decode(raw, level, 2, frame_mask(52), Execute::CanBeDisabled)
    }

    #[inline]
    fn encode(self, entry: Entry, level: u8) -> u64 {
        encode(entry, level, Execute::CanBeDisabled)
    }

    #[inline]
    fn used_bits(self, access: Access) -> u64 {
        used(access)
    }

    #[inline]
    fn is_settled(self, raw: u64) -> bool {
        raw & P == 0 || (raw & A != 0 && (raw & D != 0 || raw & RW == 0))
    }
}

/// 32-bit x86 with two levels of 1024 four-byte entries; pages of 4 KiB and 4 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct X86TwoLevel;

impl HardwareFormat for X86TwoLevel {
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
        decode(raw, level, 1, frame_mask(32), Execute::Always)
    }

    fn encode(self, entry: Entry, level: u8) -> u64 {
        encode(entry, level, Execute::Always) & u64::from(u32::MAX)
    }

    fn mark_used(self, raw: u64, access: Access) -> u64 {
        raw | used(access)
    }
}

/// 32-bit x86 with physical address extension: four top entries over two levels of 512 eight-byte
/// entries; pages of 4 KiB and 2 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct X86Pae;

impl HardwareFormat for X86Pae {
    fn levels(self) -> u8 {
        3
    }

    fn va_bits(self) -> u32 {
        32
    }

    fn is_canonical(self, va: VirtAddr) -> bool {
        va.get() >> 32 == 0
    }

    fn index_bits(self, level: u8) -> u32 {
        if level == 2 { 2 } else { 9 }
    }

    fn decode(self, raw: u64, level: u8) -> Entry {
        decode(raw, level, 1, frame_mask(52), Execute::CanBeDisabled)
    }

    fn encode(self, entry: Entry, level: u8) -> u64 {
        match entry {
            // Rights and A are reserved in the four top entries.
            Entry::Table(pfn) if level == 2 => pfn.base().get() | P,
            _ => encode(entry, level, Execute::CanBeDisabled),
        }
    }

    fn mark_used(self, raw: u64, access: Access) -> u64 {
        raw | used(access)
    }
}
