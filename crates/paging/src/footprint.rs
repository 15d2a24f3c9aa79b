//! How much memory tables take: one flat table against a tree of them.
//!
//! [`flat_bytes`] is one entry for every page of the address space; [`Footprint`] counts the tables that a
//! tree needs for the pages that are really mapped. Neighbours: [`crate::hardware`] for the formats.

use crate::hardware::HardwareFormat;
use kilburn_addr::{AddrRange, VirtAddr};

/// Bytes of one table with an entry for every page of the address space.
pub fn flat_bytes<F: HardwareFormat>(format: F) -> u128 {
    1 << (format.va_bits() - format.page_shift() + format.entry_shift())
}

/// Tables that a set of mapped ranges needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footprint {
    /// Tables of each level, the leaf's first; the root is always there.
    pub tables: [u64; crate::textbook::LEVELS_MAX],
    /// Bytes of them all.
    pub bytes: u128,
}

impl Footprint {
    /// The tables for `mapped`, which is sorted and does not overlap.
    pub fn of<F: HardwareFormat>(format: F, mapped: &[AddrRange]) -> Self {
        let mut tables = [0; crate::textbook::LEVELS_MAX];
        let mut bytes = 0;
        let root = format.levels() - 1;
        for level in 0..=root {
            let shift = format.span_shift(level) + format.index_bits(level);
            let count = if level == root { 1 } else { blocks(mapped, shift) };
            tables[usize::from(level)] = count;
            // A table smaller than a page takes a page: it is found by its frame number.
            let table_shift = format.index_bits(level) + format.entry_shift();
            bytes += u128::from(count) << table_shift.max(format.page_shift());
        }
        Self { tables, bytes }
    }
}

/// Aligned blocks of `1 << shift` bytes that `mapped` touches.
fn blocks(mapped: &[AddrRange], shift: u32) -> u64 {
    let block = |va: u64| va.checked_shr(shift).unwrap_or(0);
    let mut count = 0;
    let mut last = None;
    for range in mapped.iter().filter(|range| !range.is_empty()) {
        let first = block(range.start().get());
        let end = block(VirtAddr::get(range.end()) - 1);
        count += end - first + u64::from(last != Some(first));
        last = Some(end);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::textbook::Textbook;
    use crate::x86::{X86_64, X86TwoLevel};

    const KIB: u128 = 1 << 10;
    const MIB: u128 = 1 << 20;

    fn range(start: u64, len: u64) -> AddrRange {
        AddrRange::with_len(VirtAddr::new(start), len).expect("fits")
    }

    #[test]
    fn a_flat_table_takes_4_mib_for_32_bits_and_2_to_the_27_pages_for_48() {
        assert_eq!(flat_bytes(X86TwoLevel), 4 * MIB);
        assert_eq!(flat_bytes(X86_64::FOUR_LEVEL), (1 << 27) * 4 * KIB);
        let all_64_bits = Textbook::new(64, 52, 12, 4).expect("a system");
        assert_eq!(flat_bytes(all_64_bits), (1 << 43) * 4 * KIB);
    }

    #[test]
    fn a_table_of_4096_entries_takes_8_pages() {
        // The notes' three levels of twelve bits: 2^12 entries of 8 bytes are 8 x 4 KiB = 32 KiB.
        let notes = Textbook::new(48, 52, 12, 3).expect("a system");
        let one = Footprint::of(notes, &[range(0x40_0000, 4096)]);
        assert_eq!(one.tables[..3], [1, 1, 1]);
        assert_eq!(one.bytes, 3 * 32 * KIB);
    }

    #[test]
    fn a_tree_takes_what_is_mapped_and_its_root() {
        let format = X86_64::FOUR_LEVEL;
        assert_eq!(Footprint::of(format, &[]).bytes, 4 * KIB);
        let two = [range(0x40_0000, 4096), range(0x60_0000, 4096)];
        assert_eq!(Footprint::of(format, &two).tables[..4], [2, 1, 1, 1]);
        let far = [range(0x40_0000, 1 << 30), range(0x7fff_f000_0000, 4096)];
        assert_eq!(Footprint::of(format, &far).tables[..4], [513, 3, 2, 1]);
    }

    #[test]
    fn a_full_tree_is_larger_than_a_flat_table() {
        let all = [range(0, 1 << 32)];
        assert_eq!(Footprint::of(X86TwoLevel, &all).bytes, 4 * MIB + 4 * KIB);
    }
}
