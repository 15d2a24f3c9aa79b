//! AArch64 with the 4 KiB granule: stage 1 of EL0, 48-bit addresses, the contiguous bit.
//!
//! Arm Architecture Reference Manual for A-profile (DDI 0487), chapter D8, VMSAv8-64:
//!
//! ```text
//!  58 56 55 54  53  52   51   47 ......... 12  11 10 9-8 7     6     1     0
//!  K  SP SD UXN PXN cont DBM  frame            nG AF SH  AP[2] AP[1] table valid
//! ```
//!
//! Dirty state is managed by hardware (FEAT_HAFDBS): a writable page has DBM set, and is clean
//! while AP\[2\] (read-only) is set, which the first store clears. K (kept: no rights), SP (special)
//! and SD (soft-dirty) are bits left to software. Levels count from the leaf here: level 3 of the
//! manual is level 0.

use crate::format::{Entry, Leaf, LeafFlags};
use crate::hardware::HardwareFormat;
use kilburn_addr::{Access, PAGE_SHIFT, Pfn, VirtAddr};

const VALID: u64 = 1 << 0;
/// A table at an upper level, a page at the leaf level.
const TABLE: u64 = 1 << 1;
const AP_USER: u64 = 1 << 6;
const AP_READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const AF: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const DBM: u64 = 1 << 51;
const CONTIGUOUS: u64 = 1 << 52;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const SOFT_DIRTY: u64 = 1 << 55;
const SPECIAL: u64 = 1 << 56;
const KEPT: u64 = 1 << 58;
/// Keeps the D of a page that may not be written (any more).
const SOFTWARE_DIRTY: u64 = 1 << 57;
const FRAME: u64 = ((1 << 48) - 1) & !0xfff;
const PAYLOAD_SHIFT: u32 = 2;
/// Entries that the contiguous bit puts together, as log2: 16 with this granule.
const CONTIGUOUS_SHIFT: u32 = 4;

/// AArch64, 4 KiB granule, four levels; pages of 4 KiB, 2 MiB and 1 GiB, and runs of 64 KiB and
/// 32 MiB by the contiguous bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Aarch64;

impl Aarch64 {
    /// Sets the contiguous bit of a leaf: software says that the 16 aligned neighbours map
    /// adjacent frames with equal rights.
    pub const fn make_contiguous(self, raw: u64) -> u64 {
        raw | CONTIGUOUS
    }
}

impl HardwareFormat for Aarch64 {
    fn levels(self) -> u8 {
        4
    }

    fn va_bits(self) -> u32 {
        48
    }

    fn is_canonical(self, va: VirtAddr) -> bool {
        // The lower half, translated by TTBR0, and the upper one.
        matches!(va.get() >> 48, 0 | 0xffff)
    }

    fn index_bits(self, _level: u8) -> u32 {
        9
    }

    fn decode(self, raw: u64, level: u8) -> Entry {
        if raw == 0 {
            return Entry::None;
        }
        if raw & VALID == 0 {
            return if raw & KEPT != 0 {
                Entry::Leaf(leaf(raw, LeafFlags::empty()))
            } else {
                Entry::Software(raw >> PAYLOAD_SHIFT)
            };
        }
        let is_table = raw & TABLE != 0;
        match level {
            1.. if is_table => Entry::Table(Pfn::new((raw & FRAME) >> PAGE_SHIFT)),
            0 if is_table => Entry::Leaf(leaf(raw, rights(raw))),
            1 | 2 if !is_table => Entry::Leaf(leaf(raw, rights(raw))),
            // A block where the manual has none: a translation fault.
            _ => Entry::None,
        }
    }

    fn encode(self, entry: Entry, level: u8) -> u64 {
        match entry {
            Entry::None => 0,
            Entry::Table(pfn) => pfn.base().get() | TABLE | VALID,
            Entry::Software(payload) => {
                debug_assert!(payload != 0 && payload >> 54 == 0);
                payload << PAYLOAD_SHIFT
            }
            Entry::Leaf(Leaf { pfn, flags }) => {
                let mut raw = pfn.base().get() | INNER_SHAREABLE | PXN;
                let mut set = |flag, bit| {
                    if flags.contains(flag) {
                        raw |= bit;
                    }
                };
                set(LeafFlags::USER, AP_USER);
                set(LeafFlags::ACCESSED, AF);
                set(LeafFlags::SPECIAL, SPECIAL);
                set(LeafFlags::SOFT_DIRTY, SOFT_DIRTY);
                set(LeafFlags::WRITE, DBM);
                let is_dirty = flags.contains(LeafFlags::DIRTY);
                if !flags.contains(LeafFlags::WRITE) {
                    raw |= AP_READ_ONLY | if is_dirty { SOFTWARE_DIRTY } else { 0 };
                } else if !is_dirty {
                    raw |= AP_READ_ONLY;
                }
                if !flags.contains(LeafFlags::EXEC) {
                    raw |= UXN;
                }
                if !flags.contains(LeafFlags::GLOBAL) {
                    raw |= NOT_GLOBAL;
                }
                match (flags.intersects(LeafFlags::RIGHTS), level) {
                    (false, _) => raw | KEPT,
                    (true, 0) => raw | TABLE | VALID,
                    (true, _) => raw | VALID,
                }
            }
        }
    }

    fn reach(self, raw: u64, level: u8) -> u32 {
        let further = if raw & CONTIGUOUS != 0 && level < 2 { CONTIGUOUS_SHIFT } else { 0 };
        self.span_shift(level) + further
    }

    fn mark_used(self, raw: u64, access: Access) -> u64 {
        match access {
            Access::Read | Access::Exec => raw | AF,
            Access::Write => (raw | AF) & !AP_READ_ONLY,
        }
    }
}

fn rights(raw: u64) -> LeafFlags {
    let mut rights = LeafFlags::READ;
    rights.set(LeafFlags::WRITE, raw & DBM != 0 || raw & AP_READ_ONLY == 0);
    rights.set(LeafFlags::EXEC, raw & UXN == 0);
    rights
}

fn leaf(raw: u64, rights: LeafFlags) -> Leaf {
    let mut flags = rights;
    flags.set(LeafFlags::USER, raw & AP_USER != 0);
    flags.set(LeafFlags::ACCESSED, raw & AF != 0);
    flags.set(LeafFlags::SPECIAL, raw & SPECIAL != 0);
    flags.set(LeafFlags::SOFT_DIRTY, raw & SOFT_DIRTY != 0);
    flags.set(LeafFlags::DIRTY, raw & AP_READ_ONLY == 0 || raw & SOFTWARE_DIRTY != 0);
    flags.set(LeafFlags::GLOBAL, raw & NOT_GLOBAL == 0);
    Leaf { pfn: Pfn::new((raw & FRAME) >> PAGE_SHIFT), flags }
}
