//! What a hardware walker needs of a page-table format, and the walk itself, step by step.
//!
//! [`HardwareFormat`] is wider than [`Format`]: entries of 4 or 8 bytes, pages and tables of any
//! size, levels of different widths, entries that translate more than they cover (Svnapot, the
//! contiguous bit). Every [`Format`] is one. [`descend`] reads tables entry by entry and shows each
//! to the caller, so that walk caches, cost models and explanations see what hardware sees.
//!
//! ```text
//!   va = [ index of level n-1 | .. | index of level 0 | offset in the page ]
//!   table at n-1 [ . . T . ]
//!                      +--> table at n-2 [ . L . . ]     Step, Step, then a leaf
//! ```
//!
//! Neighbours: [`crate::walk`] is the machine's own walk, over 4 KiB tables of 8-byte entries.

use crate::format::{Entry, Format, Leaf, LeafFlags};
use crate::phys_mem::PhysMem;
use crate::walk::WalkFault;
use kilburn_addr::{Access, PAGE_SHIFT, Pfn, PhysAddr, VirtAddr};

/// A page-table format as hardware sees it. Levels count from the leaf, which is level 0.
///
/// A [`Pfn`] in an [`Entry`] numbers frames of `1 << page_shift()` bytes.
pub trait HardwareFormat: Copy {
    /// Number of levels.
    fn levels(self) -> u8;

    /// Width of a virtual address in bits.
    fn va_bits(self) -> u32;

    /// Whether hardware accepts `va` at all.
    fn is_canonical(self, va: VirtAddr) -> bool;

    /// log2 of the bytes of the smallest page.
    fn page_shift(self) -> u32 {
        PAGE_SHIFT
    }

    /// log2 of the bytes of an entry: 2 or 3.
    fn entry_shift(self) -> u32 {
        3
    }

    /// Address bits that index a table at `level`.
    fn index_bits(self, level: u8) -> u32;

    /// log2 of the bytes that one entry at `level` covers.
    fn span_shift(self, level: u8) -> u32 {
        (0..level).map(|below| self.index_bits(below)).sum::<u32>() + self.page_shift()
    }

    /// Index into the table at `level` for `va`.
    fn index(self, va: VirtAddr, level: u8) -> usize {
        (va.get() >> self.span_shift(level) & ((1 << self.index_bits(level)) - 1)) as usize
    }

    /// Reads a raw entry found at `level`.
    fn decode(self, raw: u64, level: u8) -> Entry;

    /// Makes a raw entry for `level`. `Entry::None` is always 0.
    fn encode(self, entry: Entry, level: u8) -> u64;

    /// log2 of the bytes that a TLB may keep as one translation for the leaf `raw` at `level`:
    /// more than [`Self::span_shift`] where the entry says that its neighbours go on.
    fn reach(self, raw: u64, level: u8) -> u32 {
        let _ = raw;
        self.span_shift(level)
    }

    /// The leaf `raw` as hardware leaves it after `access`: accessed, and dirty by a store.
    fn mark_used(self, raw: u64, access: Access) -> u64;
}

impl<F: Format> HardwareFormat for F {
    #[inline]
    fn levels(self) -> u8 {
        Format::levels(self)
    }

    #[inline]
    fn va_bits(self) -> u32 {
        Format::va_bits(self)
    }

    #[inline]
    fn is_canonical(self, va: VirtAddr) -> bool {
        Format::is_canonical(self, va)
    }

    #[inline]
    fn index_bits(self, _level: u8) -> u32 {
        F::ENTRIES.ilog2()
    }

    #[inline]
    fn span_shift(self, level: u8) -> u32 {
        Format::span_shift(self, level)
    }

    #[inline]
    fn index(self, va: VirtAddr, level: u8) -> usize {
        Format::index(self, va, level)
    }

    #[inline]
    fn decode(self, raw: u64, level: u8) -> Entry {
        Format::decode(self, raw, level)
    }

    #[inline]
    fn encode(self, entry: Entry, level: u8) -> u64 {
        Format::encode(self, entry, level)
    }

    #[inline]
    fn mark_used(self, raw: u64, access: Access) -> u64 {
        raw | self.used_bits(access)
    }
}

/// One entry read by [`descend`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Level of the table, 0 for leaf tables.
    pub level: u8,
    /// Index of the entry in its table.
    pub index: usize,
    /// Where the entry lies.
    pub entry_at: PhysAddr,
    /// The entry as it lies in memory.
    pub raw: u64,
    /// What it says.
    pub entry: Entry,
}

/// A leaf found by [`descend`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundLeaf {
    /// The leaf as it lies in memory, A and D untouched. With an entry that reaches further
    /// than its span, the first frame of what it reaches.
    pub leaf: Leaf,
    /// Where it was found.
    pub step: Step,
    /// log2 of the bytes that one translation covers.
    pub span_shift: u32,
}

/// Where to begin a walk: at the root, or at a lower table that a walk cache knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkStart {
    /// The table.
    pub table: Pfn,
    /// Its level.
    pub level: u8,
}

impl WalkStart {
    /// The root table of `format`.
    #[inline]
    pub fn root<F: HardwareFormat>(format: F, root: Pfn) -> Self {
        Self { table: root, level: format.levels() - 1 }
    }
}

/// Where entry `index` of the table in frame `table` lies.
#[inline]
pub fn entry_address<F: HardwareFormat>(format: F, table: Pfn, index: usize) -> PhysAddr {
    let base = table.get() << format.page_shift();
    PhysAddr::new(base + ((index as u64) << format.entry_shift()))
}

/// Reads the entry at `at`, of the format's width.
#[inline]
pub fn load_entry<M: PhysMem + ?Sized, F: HardwareFormat>(mem: &M, format: F, at: PhysAddr) -> u64 {
    let word = mem.load(PhysAddr::new(at.get() & !7));
    match format.entry_shift() {
        2 => word >> (at.get() % 8 * 8) & u64::from(u32::MAX),
        _ => word,
    }
}

/// Replaces the entry at `at` by `new` when it is `current`.
///
/// # Errors
/// The entry found, when it is not `current`.
#[inline]
pub fn exchange_entry<M: PhysMem + ?Sized, F: HardwareFormat>(
    mem: &M,
    format: F,
    at: PhysAddr,
    current: u64,
    new: u64,
) -> Result<(), u64> {
    if format.entry_shift() != 2 {
        return mem.compare_exchange(at, current, new);
    }
    let (word_at, shift) = (PhysAddr::new(at.get() & !7), at.get() % 8 * 8);
    let half = u64::from(u32::MAX) << shift;
    loop {
        let word = mem.load(word_at);
        let found = (word & half) >> shift;
        if found != current {
            return Err(found);
        }
        // Only the other half can have changed: try again.
        if mem.compare_exchange(word_at, word, word & !half | new << shift).is_ok() {
            return Ok(());
        }
    }
}

/// Writes the entry at `at`, of the format's width.
pub fn store_entry<M: PhysMem + ?Sized, F: HardwareFormat>(
    mem: &M,
    format: F,
    at: PhysAddr,
    raw: u64,
) {
    loop {
        let found = load_entry(mem, format, at);
        if exchange_entry(mem, format, at, found, raw).is_ok() {
            return;
        }
    }
}

/// Reads entries from `start` down to the leaf of `va`, showing each to `visit`. Rights are not
/// looked at, and nothing is written.
///
/// # Errors
/// [`WalkFault::NotPresent`] when an entry on the way leads nowhere or is malformed.
#[inline]
pub fn descend<M: PhysMem + ?Sized, F: HardwareFormat>(
    mem: &M,
    format: F,
    start: WalkStart,
    va: VirtAddr,
    mut visit: impl FnMut(&Step),
) -> Result<FoundLeaf, WalkFault> {
    let WalkStart { mut table, mut level } = start;
    loop {
        let index = format.index(va, level);
        let entry_at = entry_address(format, table, index);
        let raw = load_entry(mem, format, entry_at);
        let entry = format.decode(raw, level);
        let step = Step { level, index, entry_at, raw, entry };
        visit(&step);
        match entry {
            Entry::Table(next) if level > 0 => {
                table = next;
                level -= 1;
            }
            Entry::Leaf(leaf) if leaf.flags.intersects(LeafFlags::RIGHTS) => {
                let span_shift = format.reach(raw, level);
                let frames = (1_u64 << (span_shift - format.page_shift())) - 1;
                // A reaching entry names its own frame or the first of all; a larger page that
                // is misaligned is malformed.
                if span_shift == format.span_shift(level) && leaf.pfn.get() & frames != 0 {
                    return Err(WalkFault::NotPresent);
                }
                let pfn = Pfn::new(leaf.pfn.get() & !frames);
                return Ok(FoundLeaf { leaf: Leaf { pfn, ..leaf }, step, span_shift });
            }
            _ => return Err(WalkFault::NotPresent),
        }
    }
}
