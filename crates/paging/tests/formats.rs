//! Every format: entries come back from their encoding, walks find what was mapped.

use core::cell::RefCell;
use kilburn_addr::{Access, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kilburn_paging::hardware::{WalkStart, descend, entry_address, store_entry};
use kilburn_paging::walk::WalkFault;
use kilburn_paging::{
    Aarch64, Entry, HardwareFormat, Leaf, LeafFlags, PhysMem, Sv, Sv32, SvNapot, Textbook, X86_64,
    X86Pae, X86TwoLevel,
};
use proptest::prelude::*;

/// Words from address 0 on.
struct Memory(RefCell<Vec<u64>>);

impl Memory {
    fn new(bytes: u64) -> Self {
        Self(RefCell::new(vec![0; bytes as usize / 8]))
    }
}

impl PhysMem for Memory {
    fn load(&self, at: PhysAddr) -> u64 {
        self.0.borrow()[at.get() as usize / 8]
    }
    fn store(&self, at: PhysAddr, value: u64) {
        self.0.borrow_mut()[at.get() as usize / 8] = value;
    }
    fn compare_exchange(&self, at: PhysAddr, current: u64, new: u64) -> Result<(), u64> {
        let found = self.load(at);
        if found != current {
            return Err(found);
        }
        self.store(at, new);
        Ok(())
    }
    fn read(&self, _: PhysAddr, _: &mut [u8]) {
        unreachable!("walks read words")
    }
    fn write(&self, _: PhysAddr, _: &[u8]) {
        unreachable!("walks write words")
    }
    fn zero(&self, _: Pfn) {
        unreachable!("walks zero nothing")
    }
    fn copy(&self, _: Pfn, _: Pfn) {
        unreachable!("walks copy nothing")
    }
}

/// What a format can say of a leaf, from what it was asked to say.
#[derive(Clone, Copy)]
struct Can {
    frame_bits: u32,
    payload_bits: u32,
    /// Rights that come with reading.
    with_read: LeafFlags,
    /// Flags there is no room for.
    never: LeafFlags,
}

impl Can {
    fn flags(self, asked: LeafFlags) -> LeafFlags {
        let rights = asked & LeafFlags::RIGHTS;
        let mut flags = asked - self.never;
        if !rights.is_empty() {
            flags |= LeafFlags::READ | self.with_read;
        } else {
            flags -= LeafFlags::GLOBAL;
        }
        flags
    }
}

const EVERYTHING: Can = Can {
    frame_bits: 36,
    payload_bits: 54,
    with_read: LeafFlags::empty(),
    never: LeafFlags::empty(),
};

fn check_round_trip<F: HardwareFormat>(
    format: F,
    can: Can,
    (frame, bits, payload): (u64, u16, u64),
) -> Result<(), TestCaseError> {
    let pfn = Pfn::new(frame & ((1 << can.frame_bits) - 1));
    let flags = can.flags(LeafFlags::from_bits_truncate(bits));
    let leaf = Entry::Leaf(Leaf { pfn, flags });
    let software = Entry::Software((payload & ((1 << can.payload_bits) - 1)).max(1));
    for entry in [Entry::None, leaf, software] {
        let raw = format.encode(entry, 0);
        prop_assert_eq!(format.decode(raw, 0), entry, "raw {:#x}", raw);
        prop_assert!(format.entry_shift() == 3 || raw >> 32 == 0);
        prop_assert_eq!(raw == 0, entry == Entry::None);
    }
    for level in 1..format.levels() {
        let table = Entry::Table(pfn);
        prop_assert_eq!(format.decode(format.encode(table, level), level), table);
    }
    if flags.intersects(LeafFlags::RIGHTS) {
        let raw = format.encode(leaf, 0);
        for access in [Access::Read, Access::Exec, Access::Write] {
            if access == Access::Write && !flags.contains(LeafFlags::WRITE) {
                continue;
            }
            let used = match access {
                Access::Write => LeafFlags::ACCESSED | LeafFlags::DIRTY,
                Access::Read | Access::Exec => LeafFlags::ACCESSED,
            };
            let after = Entry::Leaf(Leaf { pfn, flags: flags | used });
            prop_assert_eq!(format.decode(format.mark_used(raw, access), 0), after);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn entries_survive_encoding_in_every_format(any in any::<(u64, u16, u64)>()) {
        let rwx = Can { with_read: LeafFlags::empty(), ..EVERYTHING };
        // A RISC-V writable page is readable as well; `Can::flags` grants that to all.
        check_round_trip(Sv::SV39, rwx, any)?;
        check_round_trip(Sv::SV57, rwx, any)?;
        check_round_trip(SvNapot(Sv::SV48), rwx, any)?;
        check_round_trip(Sv32, Can { frame_bits: 22, payload_bits: 26, ..rwx }, any)?;
        check_round_trip(X86_64::FOUR_LEVEL, EVERYTHING, any)?;
        check_round_trip(X86_64::FIVE_LEVEL, EVERYTHING, any)?;
        check_round_trip(X86Pae, EVERYTHING, any)?;
        let narrow = Can {
            frame_bits: 20,
            payload_bits: 23,
            with_read: LeafFlags::EXEC,
            ..EVERYTHING
        };
        check_round_trip(X86TwoLevel, narrow, any)?;
        check_round_trip(Aarch64, EVERYTHING, any)?;
    }

    #[test]
    fn entries_survive_encoding_in_any_textbook_system(
        any in any::<(u64, u16, u64)>(), va in 8_u32..=64, pa in 8_u32..=52, page in 3_u32..16,
        levels in 1_u8..=6,
    ) {
        let Ok(format) = Textbook::new(va, pa, page, levels) else { return Ok(()) };
        let can = Can {
            frame_bits: pa - page,
            payload_bits: (pa - page).min(40),
            with_read: LeafFlags::EXEC,
            never: LeafFlags::GLOBAL | LeafFlags::SPECIAL | LeafFlags::SOFT_DIRTY,
        };
        let (frame, bits, payload) = any;
        // A page without rights cannot be told from one that nobody may use.
        check_round_trip(format, can, (frame, bits | LeafFlags::READ.bits(), payload))?;
        prop_assert_eq!((0..levels).map(|level| format.index_bits(level)).sum::<u32>(), va - page);
    }

    #[test]
    fn an_address_is_its_indices_and_its_offset(raw in any::<u64>()) {
        fn check<F: HardwareFormat>(format: F, raw: u64) -> Result<(), TestCaseError> {
            let va = raw & (u64::MAX >> (64 - format.va_bits()));
            let mut sum = va & ((1 << format.page_shift()) - 1);
            for level in 0..format.levels() {
                sum += (format.index(VirtAddr::new(va), level) as u64) << format.span_shift(level);
            }
            prop_assert_eq!(sum, va);
            Ok(())
        }
        check(Sv::SV39, raw)?;
        check(Sv32, raw)?;
        check(X86Pae, raw)?;
        check(X86TwoLevel, raw)?;
        check(X86_64::FIVE_LEVEL, raw)?;
        check(Aarch64, raw)?;
        check(Textbook::new(14, 12, 6, 1).expect("a system"), raw)?;
        check(Textbook::new(41, 30, 10, 3).expect("a system"), raw)?;
    }
}

/// Maps `va` to `leaf` at `level` with tables in frames from 1 on, and walks.
fn map_and_walk<F: HardwareFormat>(
    format: F,
    va: u64,
    level: u8,
    leaf: Leaf,
    change: impl Fn(u64) -> u64,
) -> (Result<(u64, u32), WalkFault>, usize) {
    let mem = Memory::new(64 << format.page_shift().max(13));
    // Tables may be larger than a page: eight frames each.
    let frame = |level: u8| Pfn::new(8 + 8 * u64::from(level));
    let va = VirtAddr::new(va);
    for at in (level + 1..format.levels()).rev() {
        let entry_at = entry_address(format, frame(at), format.index(va, at));
        store_entry(&mem, format, entry_at, format.encode(Entry::Table(frame(at - 1)), at));
    }
    let entry_at = entry_address(format, frame(level), format.index(va, level));
    store_entry(&mem, format, entry_at, change(format.encode(Entry::Leaf(leaf), level)));
    let mut steps = 0;
    let root = WalkStart::root(format, frame(format.levels() - 1));
    let found = descend(&mem, format, root, va, |_| steps += 1);
    (found.map(|found| (found.leaf.pfn.get(), found.span_shift)), steps)
}

fn page(pfn: u64) -> Leaf {
    Leaf { pfn: Pfn::new(pfn), flags: LeafFlags::READ | LeafFlags::EXEC | LeafFlags::USER }
}

#[test]
fn walks_find_pages_of_every_size() {
    let same = |raw| raw;
    assert_eq!(map_and_walk(Sv32, 0xc040_3000, 0, page(0x123), same), (Ok((0x123, 12)), 2));
    assert_eq!(map_and_walk(Sv32, 0xc040_3000, 1, page(0x400), same), (Ok((0x400, 22)), 1));
    assert_eq!(map_and_walk(X86TwoLevel, 0xbfff_f000, 0, page(7), same), (Ok((7, 12)), 2));
    assert_eq!(map_and_walk(X86TwoLevel, 0xbfff_f000, 1, page(1 << 10), same).0, Ok((1 << 10, 22)));
    assert_eq!(map_and_walk(X86Pae, 0xbfff_f000, 0, page(1 << 25), same), (Ok((1 << 25, 12)), 3));
    assert_eq!(map_and_walk(X86Pae, 0xbfff_f000, 1, page(1 << 9), same).0, Ok((1 << 9, 21)));
    let four = X86_64::FOUR_LEVEL;
    assert_eq!(map_and_walk(four, 0x7fff_dead_b000, 0, page(99), same), (Ok((99, 12)), 4));
    assert_eq!(map_and_walk(four, 0x7fff_dead_b000, 2, page(1 << 18), same).0, Ok((1 << 18, 30)));
    let five = X86_64::FIVE_LEVEL;
    assert_eq!(map_and_walk(five, 0xff_7fff_dead_b000, 0, page(99), same), (Ok((99, 12)), 5));
    assert_eq!(map_and_walk(Aarch64, 0xffff_dead_b000, 1, page(512), same), (Ok((512, 21)), 3));
    let book = Textbook::new(14, 12, 6, 1).expect("a system");
    assert_eq!(map_and_walk(book, 0x3d4, 0, page(0xd), same), (Ok((0xd, 6)), 1));
}

#[test]
fn pages_where_a_format_has_none_are_faults() {
    let same = |raw| raw;
    let fault = Err(WalkFault::NotPresent);
    assert_eq!(map_and_walk(X86_64::FOUR_LEVEL, 0, 3, page(0), same).0, fault);
    assert_eq!(map_and_walk(Aarch64, 0, 3, page(0), same).0, fault);
    assert_eq!(map_and_walk(X86TwoLevel, 0, 1, page(1), same).0, fault, "misaligned");
}

#[test]
fn sixteen_entries_are_one_translation_where_they_say_so() {
    let napot = SvNapot(Sv::SV39);
    let found = map_and_walk(napot, 0x4_5000, 0, page(0x340), |raw| napot.make_napot(raw));
    assert_eq!(found.0, Ok((0x340, 16)));
    let other_size = map_and_walk(napot, 0x4_5000, 0, page(0x344), |raw| raw | 1 << 63);
    assert_eq!(other_size.0, Err(WalkFault::NotPresent), "only 64 KiB is defined");
    // Entry 5 of the run names its own frame.
    let run = |raw| Aarch64.make_contiguous(raw);
    assert_eq!(map_and_walk(Aarch64, 0x4_5000, 0, page(0x345), run).0, Ok((0x340, 16)));
    assert_eq!(map_and_walk(Aarch64, 0xa0_0000, 1, page(5 << 9), run).0, Ok((0, 25)));
}

#[test]
fn four_byte_entries_leave_their_neighbour_alone() {
    let mem = Memory::new(PAGE_SIZE);
    store_entry(&mem, Sv32, PhysAddr::new(0), 0x1111_1111);
    store_entry(&mem, Sv32, PhysAddr::new(4), 0x2222_2222);
    store_entry(&mem, Sv32, PhysAddr::new(0), 0x3333_3333);
    assert_eq!(mem.load(PhysAddr::new(0)), 0x2222_2222_3333_3333);
}
