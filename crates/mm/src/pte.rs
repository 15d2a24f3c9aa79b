//! What entries of tables mean to the memory manager: rights of areas, markers, swap entries.
//!
//! ```text
//!   payload   43 ........ 12  11  10        9     8 .. 4  3 .. 0
//!             0                                             1      Marker::Guard
//!             slot            0   soft-     exclu-  area    15     SwapPte
//!                                 dirty     sive
//! ```

use crate::swap::SwapEntry;
use bitflags::bitflags;
use kilburn_addr::VmFlags;
use kilburn_paging::LeafFlags;

/// Rights of a page in an area with `flags`, before writes are withheld for copy-on-write or
/// dirty tracking (Linux `vm_get_page_prot`; arch/riscv/mm/init.c: `protection_map`).
///
/// A writable page is readable; a page may be executable only.
#[inline]
pub(crate) fn rights(flags: VmFlags) -> LeafFlags {
    let mut rights = LeafFlags::USER;
    if flags.contains(VmFlags::READ) {
        rights |= LeafFlags::READ;
    }
    if flags.contains(VmFlags::WRITE) {
        rights |= LeafFlags::READ | LeafFlags::WRITE;
    }
    if flags.contains(VmFlags::EXEC) {
        rights |= LeafFlags::EXEC;
    }
    rights
}

/// Flags of a page just mapped: accessed, not writable.
#[inline]
pub(crate) fn read_only(flags: VmFlags) -> LeafFlags {
    (rights(flags) | LeafFlags::ACCESSED) - LeafFlags::WRITE
}

/// Flags of a page just mapped for a write: accessed, dirty, writable if the area is
/// (Linux `maybe_mkwrite(pte_mkdirty())`).
#[inline]
pub(crate) fn written(flags: VmFlags) -> LeafFlags {
    rights(flags) | LeafFlags::ACCESSED | LeafFlags::DIRTY
}

/// What an entry without a page says about it (Linux `pte_marker`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marker {
    /// Every access is refused (MADV_GUARD_INSTALL).
    Guard,
    /// Every access is a bus error, as if the memory had failed (UFFDIO_POISON).
    Poisoned,
}

impl Marker {
    const GUARD: u64 = 1;
    const POISONED: u64 = 2;

    /// The payload that stands for it.
    pub(crate) fn payload(self) -> u64 {
        match self {
            Self::Guard => Self::GUARD,
            Self::Poisoned => Self::POISONED,
        }
    }

    /// What a payload stands for.
    pub(crate) fn from_payload(payload: u64) -> Option<Self> {
        match payload {
            Self::GUARD => Some(Self::Guard),
            Self::POISONED => Some(Self::Poisoned),
            _ => None,
        }
    }
}

bitflags! {
    /// What an entry remembers of a page that is in swap.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct SwapFlags: u64 {
        /// The page was this table's alone (Linux `pte_swp_exclusive`).
        const EXCLUSIVE = 1 << 9;
        /// Written since clear_refs.
        const SOFT_DIRTY = 1 << 10;
    }
}

/// An entry whose page is in swap (Linux `swp_entry_t` in a PTE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SwapPte {
    pub(crate) entry: SwapEntry,
    pub(crate) flags: SwapFlags,
}

impl SwapPte {
    const KIND: u64 = 0xf;
    const KIND_MASK: u64 = 0xf;
    const AREA_SHIFT: u32 = 4;
    const AREA_MASK: u64 = 0x1f;
    const SLOT_SHIFT: u32 = 12;

    /// Most slots an area may have, for payloads of `bits` bits.
    pub(crate) const fn slots_max(bits: u32) -> u32 {
        let bits = bits.saturating_sub(Self::SLOT_SHIFT);
        if bits >= 32 { u32::MAX } else { (1 << bits) - 1 }
    }

    /// The payload that stands for it.
    pub(crate) fn payload(self) -> u64 {
        u64::from(self.entry.slot) << Self::SLOT_SHIFT
            | self.flags.bits()
            | u64::from(self.entry.area) << Self::AREA_SHIFT
            | Self::KIND
    }

    /// What a payload stands for.
    pub(crate) fn from_payload(payload: u64) -> Option<Self> {
        (payload & Self::KIND_MASK == Self::KIND).then(|| Self {
            entry: SwapEntry {
                area: (payload >> Self::AREA_SHIFT & Self::AREA_MASK) as u8,
                slot: (payload >> Self::SLOT_SHIFT) as u32,
            },
            flags: SwapFlags::from_bits_truncate(payload),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_entries_survive_encoding_and_are_no_markers() {
        for (area, slot) in [(0, 0), (31, u32::MAX), (5, 12345)] {
            for flags in [SwapFlags::empty(), SwapFlags::EXCLUSIVE, SwapFlags::all()] {
                let pte = SwapPte { entry: SwapEntry { area, slot }, flags };
                assert_eq!(SwapPte::from_payload(pte.payload()), Some(pte));
                assert_eq!(Marker::from_payload(pte.payload()), None);
            }
        }
        assert_eq!(SwapPte::from_payload(Marker::Guard.payload()), None);
    }
}
