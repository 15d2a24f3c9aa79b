//! What entries of tables mean to the memory manager: rights of areas, markers.

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
///
/// ```text
///   payload   57 ........ 4  3 .. 0
///             0              kind
/// ```
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
