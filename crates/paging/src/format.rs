//! What every page-table format can do: split an address, read an entry, write one.
//!
//! Levels are counted from the leaf: level 0 holds entries of 4 KiB pages, the root is at
//! `levels() - 1`.

use bitflags::bitflags;
use kilburn_addr::{Access, Pfn, VirtAddr};

bitflags! {
    /// Flags of a leaf entry, in no format's bit order.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct LeafFlags: u16 {
        /// Loads are permitted.
        const READ = 1 << 0;
        /// Stores are permitted.
        const WRITE = 1 << 1;
        /// Fetches are permitted.
        const EXEC = 1 << 2;
        /// User mode may use the page.
        const USER = 1 << 3;
        /// Valid in every address space.
        const GLOBAL = 1 << 4;
        /// Used since the bit was last cleared.
        const ACCESSED = 1 << 5;
        /// Written since the bit was last cleared.
        const DIRTY = 1 << 6;
        /// Software: no frame metadata stands behind this page (Linux `pte_special`): the zero
        /// page and device memory.
        const SPECIAL = 1 << 7;
        /// Software: written since clear_refs (Linux soft-dirty).
        const SOFT_DIRTY = 1 << 8;

        /// READ, WRITE and EXEC.
        const RIGHTS = Self::READ.bits() | Self::WRITE.bits() | Self::EXEC.bits();
    }
}

impl LeafFlags {
    /// Whether the rights permit `access` (USER is not looked at).
    #[inline]
    pub const fn permits(self, access: Access) -> bool {
        self.contains(match access {
            Access::Read => Self::READ,
            Access::Write => Self::WRITE,
            Access::Exec => Self::EXEC,
        })
    }
}

/// A leaf entry: a frame and what may be done with it. Without any right it is a page that is
/// there but that hardware refuses (Linux `PROT_NONE` mappings keep their pages).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// First frame of the page.
    pub pfn: Pfn,
    /// Rights and state.
    pub flags: LeafFlags,
}

/// A decoded table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing is mapped.
    None,
    /// The next table down.
    Table(Pfn),
    /// A page.
    Leaf(Leaf),
    /// Not present: a payload of software's (swap slot, migration, marker), at most
    /// [`Format::PAYLOAD_BITS`] wide and not 0.
    Software(u64),
}

/// A page-table format. A value of the type holds what is chosen at run time (Sv39 or Sv48).
pub trait Format: Copy + Send + Sync + 'static {
    /// Entries in a table.
    const ENTRIES: usize;
    /// Width of [`Entry::Software`] payloads, in bits.
    const PAYLOAD_BITS: u32;

    /// Number of levels.
    fn levels(self) -> u8;

    /// Width of a virtual address, in bits, sign bit included where addresses are sign-extended.
    fn va_bits(self) -> u32;

    /// Whether hardware accepts `va` at all (canonical form).
    fn is_canonical(self, va: VirtAddr) -> bool;

    /// Index into the table at `level` for `va`.
    fn index(self, va: VirtAddr, level: u8) -> usize;

    /// log2 of the bytes that one entry at `level` covers.
    fn span_shift(self, level: u8) -> u32;

    /// Reads a raw entry found at `level`.
    fn decode(self, raw: u64, level: u8) -> Entry;

    /// Makes a raw entry for `level`. `Entry::None` is always 0.
    fn encode(self, entry: Entry, level: u8) -> u64;

    /// The bits hardware sets on a load or fetch (A), or on a store (A and D), in raw form.
    fn used_bits(self, access: Access) -> u64;

    /// Whether hardware leaves the raw entry found at level 0 alone from now on: it is not valid,
    /// or no access would set a bit that is not set. Software that keeps other software out may
    /// then overwrite it without an exchange. `false` is always right.
    #[inline]
    fn is_settled(self, raw: u64) -> bool {
        let _ = raw;
        false
    }
}
