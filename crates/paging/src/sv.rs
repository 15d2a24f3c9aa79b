//! RISC-V Sv39, Sv48 and Sv57 (Privileged Architecture 20240411, chapters 10.4 to 10.6).
//!
//! ```text
//!  63 62-61 60-54   53 ............ 10  9  8  7 6 5 4 3 2 1 0
//!  N  PBMT  0       physical page number SD SP D A G U X W R V
//! ```
//!
//! SP (special) and SD (soft-dirty) are the two bits left to software. A page without rights is
//! kept with V=0 and G=1, a software payload with V=0 and G=0, as Linux does
//! (arch/riscv/include/asm/pgtable-bits.h: `_PAGE_PROT_NONE`).
//!
//! ```text
//!  63 ............................. 6  5 4 3 2 1 0
//!  payload                             0 0 0 0 0 0      Entry::Software
//! ```

use crate::format::{Entry, Format, Leaf, LeafFlags};
use kilburn_addr::{Access, PAGE_SHIFT, Pfn, VirtAddr};

/// A RISC-V 64-bit paging mode, by its number of levels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sv {
    levels: u8,
}

const V: u64 = 1 << 0;
const R: u64 = 1 << 1;
const W: u64 = 1 << 2;
const X: u64 = 1 << 3;
const U: u64 = 1 << 4;
const G: u64 = 1 << 5;
const A: u64 = 1 << 6;
const D: u64 = 1 << 7;
const SPECIAL: u64 = 1 << 8;
const SOFT_DIRTY: u64 = 1 << 9;
const PPN_SHIFT: u32 = 10;
const PPN_MASK: u64 = (1 << 44) - 1;
const PAYLOAD_SHIFT: u32 = 6;

impl Sv {
    /// Three levels, 39-bit addresses.
    pub const SV39: Self = Self { levels: 3 };
    /// Four levels, 48-bit addresses.
    pub const SV48: Self = Self { levels: 4 };
    /// Five levels, 57-bit addresses.
    pub const SV57: Self = Self { levels: 5 };

    /// Linux's name of the mode, as in /proc/cpuinfo.
    pub const fn name(self) -> &'static str {
        match self.levels {
            3 => "sv39",
            4 => "sv48",
            _ => "sv57",
        }
    }
}

const FLAG_BITS: [(LeafFlags, u64); 9] = [
    (LeafFlags::READ, R),
    (LeafFlags::WRITE, W),
    (LeafFlags::EXEC, X),
    (LeafFlags::USER, U),
    (LeafFlags::GLOBAL, G),
    (LeafFlags::ACCESSED, A),
    (LeafFlags::DIRTY, D),
    (LeafFlags::SPECIAL, SPECIAL),
    (LeafFlags::SOFT_DIRTY, SOFT_DIRTY),
];

/// [`LeafFlags`] are in the order of the entry's bits: one shift moves them all.
const FLAGS_SHIFT: u32 = 1;
const FLAGS_MASK: u64 = {
    let (mut mask, mut at) = (0, 0);
    while at < FLAG_BITS.len() {
        let (flag, bit) = FLAG_BITS[at];
        assert!((flag.bits() as u64) << FLAGS_SHIFT == bit, "flags are in the entry's order");
        mask |= bit;
        at += 1;
    }
    mask
};

impl Format for Sv {
    const ENTRIES: usize = 512;
    const PAYLOAD_BITS: u32 = 64 - PAYLOAD_SHIFT;

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
        let unused = 64 - self.va_bits();
        ((va.get() << unused) as i64) >> unused == va.get() as i64
    }

    #[inline]
    fn index(self, va: VirtAddr, level: u8) -> usize {
        (va.get() >> self.span_shift(level)) as usize & (Self::ENTRIES - 1)
    }

    #[inline]
    fn span_shift(self, level: u8) -> u32 {
        PAGE_SHIFT + 9 * u32::from(level)
    }

    #[inline]
    fn decode(self, raw: u64, _level: u8) -> Entry {
        if raw & V != 0 {
            let pfn = Pfn::new(raw >> PPN_SHIFT & PPN_MASK);
            if raw & (R | W | X) == 0 { Entry::Table(pfn) } else { Entry::Leaf(leaf(raw)) }
        } else if raw == 0 {
            Entry::None
        } else if raw & G != 0 {
            let Leaf { pfn, flags } = leaf(raw);
            Entry::Leaf(Leaf { pfn, flags: flags - LeafFlags::GLOBAL })
        } else {
            Entry::Software(raw >> PAYLOAD_SHIFT)
        }
    }

    #[inline]
    fn encode(self, entry: Entry, _level: u8) -> u64 {
        match entry {
            Entry::None => 0,
            Entry::Table(pfn) => pfn.get() << PPN_SHIFT | V,
            Entry::Software(payload) => {
                debug_assert!(payload != 0 && payload >> Self::PAYLOAD_BITS == 0);
                payload << PAYLOAD_SHIFT
            }
            Entry::Leaf(Leaf { pfn, flags }) => {
                let bits = u64::from(flags.bits()) << FLAGS_SHIFT & FLAGS_MASK;
                let raw = pfn.get() << PPN_SHIFT | bits;
                if flags.intersects(LeafFlags::RIGHTS) { raw | V } else { raw | G }
            }
        }
    }

    #[inline]
    fn used_bits(self, access: Access) -> u64 {
        match access {
            Access::Read | Access::Exec => A,
            Access::Write => A | D,
        }
    }

    #[inline]
    fn is_settled(self, raw: u64) -> bool {
        raw & V == 0 || (raw & A != 0 && (raw & D != 0 || raw & W == 0))
    }
}

#[inline]
fn leaf(raw: u64) -> Leaf {
    let flags = LeafFlags::from_bits_retain(((raw & FLAGS_MASK) >> FLAGS_SHIFT) as u16);
    Leaf { pfn: Pfn::new(raw >> PPN_SHIFT & PPN_MASK), flags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_encoding() {
        let page = |flags| Entry::Leaf(Leaf { pfn: Pfn::new(0x8_0123), flags });
        for entry in [
            Entry::None,
            Entry::Table(Pfn::new(0x8_0000)),
            Entry::Software(0x1234),
            Entry::Software((1 << Sv::PAYLOAD_BITS) - 1),
            page(LeafFlags::READ | LeafFlags::USER | LeafFlags::ACCESSED),
            page(LeafFlags::RIGHTS | LeafFlags::USER | LeafFlags::DIRTY | LeafFlags::SOFT_DIRTY),
            page(LeafFlags::USER),
            page(LeafFlags::EXEC | LeafFlags::SPECIAL),
        ] {
            assert_eq!(Sv::SV39.decode(Sv::SV39.encode(entry, 0), 0), entry);
        }
    }

    #[test]
    fn an_entry_is_settled_when_no_access_sets_a_bit_of_it() {
        let rights = [LeafFlags::READ, LeafFlags::READ | LeafFlags::WRITE, LeafFlags::empty()];
        let used =
            [LeafFlags::empty(), LeafFlags::ACCESSED, LeafFlags::ACCESSED | LeafFlags::DIRTY];
        for (flags, state) in rights.into_iter().flat_map(|r| used.map(|u| (r, u))) {
            let leaf = Leaf { pfn: Pfn::new(5), flags: flags | state | LeafFlags::USER };
            let raw = Sv::SV39.encode(Entry::Leaf(leaf), 0);
            let changes = [Access::Read, Access::Write, Access::Exec]
                .into_iter()
                .any(|access| flags.permits(access) && raw | Sv::SV39.used_bits(access) != raw);
            assert_eq!(Sv::SV39.is_settled(raw), !changes, "{leaf:?}");
        }
    }

    #[test]
    fn a_page_without_rights_is_invalid_to_hardware() {
        let kept = Entry::Leaf(Leaf { pfn: Pfn::new(1), flags: LeafFlags::USER });
        assert_eq!(Sv::SV48.encode(kept, 0) & V, 0);
    }

    #[test]
    fn addresses_split_as_the_specification_draws_them() {
        let va = VirtAddr::new(0x7f_8040_3abc);
        assert_eq!(Sv::SV39.index(va, 2), (va.get() >> 30) as usize & 511);
        assert_eq!(Sv::SV39.index(va, 0), 3);
        assert_eq!(Sv::SV57.va_bits(), 57);
        assert!(Sv::SV39.is_canonical(VirtAddr::new(0x3f_ffff_ffff)));
        assert!(!Sv::SV39.is_canonical(VirtAddr::new(0x40_0000_0000)));
        assert!(Sv::SV39.is_canonical(VirtAddr::new(0xffff_ffc0_0000_0000)));
    }
}
