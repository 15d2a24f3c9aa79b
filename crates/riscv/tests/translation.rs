//! Translation: A and D, flushes, spaces, modes.

mod machine;

use kilburn_addr::{Access, AddrRange, PAGE_SIZE, VirtAddr};
use kilburn_paging::walk::entry_addr;
use kilburn_paging::{Entry, Format, Leaf, LeafFlags, PhysMem, Sv};
use kilburn_riscv::{Flush, Space, Trap};
use machine::asm::*;
use machine::*;

const A: LeafFlags = LeafFlags::ACCESSED;
const D: LeafFlags = LeafFlags::DIRTY;

fn used(m: &mut Machine, va: u64) -> LeafFlags {
    m.leaf(va).flags & (A | D)
}

#[test]
fn a_and_d_are_set_exactly_by_what_uses_and_what_writes() {
    let mut m = Machine::new(&[ld(A0, A1, 0), sd(A0, A2, 0), ECALL]);
    m.set(A1, DATA);
    m.set(A2, DATA + 0x1000);
    m.call();
    assert_eq!(used(&mut m, CODE), A);
    assert_eq!(used(&mut m, CODE + 0x1000), LeafFlags::empty());
    assert_eq!(used(&mut m, DATA), A);
    assert_eq!(used(&mut m, DATA + 0x1000), A | D);
    assert_eq!(used(&mut m, DATA + 0x2000), LeafFlags::empty());
    m.set(A2, DATA);
    m.call();
    assert_eq!(used(&mut m, DATA), A | D, "written after it was read");
}

#[test]
fn what_faults_sets_neither() {
    let mut m = Machine::new(&[sd(A0, A1, 0)]);
    m.map(DATA, R);
    m.set(A1, DATA);
    assert!(matches!(m.run(1), Trap::PageFault { access: Access::Write, .. }));
    assert_eq!(used(&mut m, DATA), LeafFlags::empty());
    m.set(A1, DATA - 4);
    assert!(matches!(m.run(1), Trap::PageFault { access: Access::Write, .. }));
    assert_eq!(used(&mut m, DATA), LeafFlags::empty());
}

#[test]
fn cleared_bits_are_set_again_after_a_flush() {
    let mut m = Machine::new(&[sd(A0, A1, 0), ECALL]);
    m.set(A1, DATA);
    m.call();
    for flush in [Flush::All, Flush::Asid(1), Flush::Range { asid: 1, range: page_range(DATA) }] {
        let pfn = m.leaf(DATA).pfn;
        m.map_frame(DATA, pfn, RW);
        m.hart.flush(flush);
        m.call();
        assert_eq!(used(&mut m, DATA), A | D, "{flush:?}");
    }
}

fn page_range(va: u64) -> AddrRange {
    AddrRange::with_len(VirtAddr::new(va), PAGE_SIZE).expect("a page")
}

#[test]
fn after_a_flush_nothing_stale_is_used() {
    let flushes: [fn(u64) -> Flush; 3] =
        [|_| Flush::All, |_| Flush::Asid(1), |va| Flush::Range { asid: 1, range: page_range(va) }];
    for flush in flushes {
        let mut m = Machine::new(&[ld(A0, A1, 0), sd(A0, A1, 8), jalr(ZERO, A2, 0)]);
        let (data, code) = (DATA, CODE + 0x1000);
        m.put_code(code, &[ECALL]);
        m.set(A1, data);
        m.set(A2, code);
        m.put_u64(data, 1);
        m.call_to(code);
        let old = m.leaf(data).pfn;
        m.map(data, RW);
        m.put_u64(data, 2);
        m.hart.flush(flush(data));
        m.call_to(code);
        assert_eq!((m.x(A0), m.get_u64(data + 8)), (2, 2));
        let mut bytes = [0; 8];
        m.ram.read(old.base(), &mut bytes);
        assert_eq!(bytes[0], 1, "the old frame is left alone");

        m.map(code, RX);
        m.put_code(code, &[NOP, ECALL]);
        m.hart.flush(flush(code));
        m.call_to(code + 4);

        m.unmap(data);
        m.hart.flush(flush(data));
        m.regs.pc = CODE;
        let addr = VirtAddr::new(data);
        assert_eq!(m.run(10), Trap::PageFault { addr, access: Access::Read });
        m.unmap(code);
        m.hart.flush(flush(code));
        m.regs.pc = code;
        let addr = VirtAddr::new(code);
        assert_eq!(m.run(10), Trap::PageFault { addr, access: Access::Exec });
    }
}

#[test]
fn a_flush_of_the_second_page_of_an_instruction_is_enough() {
    let mut m = Machine::new(&[]);
    m.put_code(CODE + 0xffe, &[addi(A0, A0, 1), ECALL]);
    m.call_from(CODE + 0xffe);
    let second = CODE + 0x1000;
    m.map(second, RX);
    m.put(second, &addi(A0, A0, 2).to_le_bytes()[2..]);
    m.put_code(second + 2, &[ECALL]);
    m.hart.flush_range(1, page_range(second));
    m.call_from(CODE + 0xffe);
    assert_eq!(m.x(A0), 3);
}

#[test]
fn other_spaces_and_pages_keep_their_translations() {
    let mut m = Machine::new(&[ld(A0, A1, 0), ECALL]);
    m.set(A1, DATA);
    m.call();
    let walks = m.hart.stats().mmu.walks;
    m.hart.flush_asid(2);
    m.hart.flush_range(1, page_range(DATA + 0x1000));
    m.hart.flush_range(2, page_range(DATA));
    m.hart.flush_range(1, AddrRange::default());
    m.call();
    assert_eq!(m.hart.stats().mmu.walks, walks, "nothing had to be walked again");
    let stats = m.hart.stats().mmu;
    assert_eq!((stats.flushes_all, stats.flushes_asid, stats.flushes_range), (0, 1, 3));
}

#[test]
fn spaces_with_different_identifiers_share_the_tlb_without_flushes() {
    let mut m = Machine::new(&[ld(A0, A1, 0), ECALL]);
    m.put_u64(DATA, 1);
    m.set(A1, DATA);
    let first = m.space;
    let second = Space { root: m.new_frame(), asid: 2, ..first };
    let code = m.leaf(CODE).pfn;
    m.space = second;
    m.map_frame(CODE, code, RX);
    m.map(DATA, RW);
    m.put_u64(DATA, 2);
    for round in 0..3 {
        for (space, value) in [(first, 1), (second, 2)] {
            m.space = space;
            m.call();
            assert_eq!(m.x(A0), value);
        }
        if round == 0 {
            assert_eq!(m.hart.stats().mmu.walks, 4);
        }
    }
    let stats = m.hart.stats();
    assert_eq!(stats.mmu.walks, 4, "each page of each space once");
    assert_eq!(stats.blocks_decoded, 1, "the code is in one frame");
}

#[test]
fn a_space_whose_root_changed_is_another_one_after_a_flush() {
    let mut m = Machine::new(&[ld(A0, A1, 0), ECALL]);
    m.set(A1, DATA);
    m.call();
    let code = m.leaf(CODE).pfn;
    m.space.root = m.new_frame();
    m.map_frame(CODE, code, RX);
    m.map(DATA, R);
    m.put_u64(DATA, 9);
    m.hart.flush_asid(1);
    m.call();
    assert_eq!(m.x(A0), 9);
}

#[test]
fn every_mode_walks_its_levels() {
    for (format, levels) in [(Sv::SV39, 3), (Sv::SV48, 4), (Sv::SV57, 5)] {
        let mut m = Machine::with_format(format, &[ld(A0, A1, 0), ECALL]);
        let top = (1 << (format.va_bits() - 1)) - PAGE_SIZE;
        m.map(top, RW);
        m.put_u64(top, 77);
        m.set(A1, top);
        m.call();
        assert_eq!(m.x(A0), 77);
        assert_eq!(m.hart.stats().mmu.walk_reads, 2 * levels);
        m.set(A1, top + PAGE_SIZE);
        m.regs.pc = CODE;
        assert!(matches!(m.run(1), Trap::PageFault { .. }), "not canonical");
    }
}

#[test]
fn a_larger_page_is_one_translation() {
    let mut m = Machine::new(&[ld(A0, A1, 0), add(A1, A1, A2), bne(A1, A3, -8), ECALL]);
    let va = 0x4000_0000;
    m.map(va, RW);
    // Replace the table over the page by a 2 MiB leaf over RAM's second 2 MiB.
    let format = m.space.format;
    let mut table = m.space.root;
    let at = entry_addr(table, format.index(VirtAddr::new(va), 2));
    let Entry::Table(next) = format.decode(m.ram.load(at), 2) else { panic!("a table") };
    table = next;
    let at = entry_addr(table, format.index(VirtAddr::new(va), 1));
    let pfn = kilburn_addr::Pfn::new(m.ram.base_pfn().get() + 512);
    m.ram.store(at, format.encode(Entry::Leaf(Leaf { pfn, flags: RW }), 1));
    m.ram.store(kilburn_addr::PhysAddr::new(pfn.base().get() + 0x5000), 5);
    m.set(A1, va);
    m.set(A2, PAGE_SIZE);
    m.set(A3, va + (2 << 20));
    let before = m.hart.stats().mmu.walks;
    m.call();
    assert_eq!(m.hart.stats().mmu.walks - before, 2, "code and data");
    m.set(A1, va + 0x5000);
    m.set(A3, va + 0x6000);
    m.call();
    assert_eq!(m.x(A0), 5);
    m.hart.flush_range(1, page_range(va + 0x1f_f000));
    m.ram.store(at, 0);
    m.set(A1, va);
    m.regs.pc = CODE;
    assert!(matches!(m.run(1), Trap::PageFault { .. }), "any page of it flushes all of it");
}

#[test]
fn the_check_finds_what_was_not_flushed() {
    let mut m = Machine::new(&[ld(A0, A1, 0), ECALL]);
    m.set(A1, DATA);
    m.call();
    m.unmap(DATA);
    let stale = m.hart.check_tlb(m.space).expect_err("the page is gone");
    assert_eq!((stale.va, stale.tables), (VirtAddr::new(DATA), None));
    m.hart.flush_range(1, page_range(DATA));
    m.hart.check_tlb(m.space).expect("flushed");
    m.unmap(CODE);
    assert_eq!(m.hart.check_tlb(m.space).expect_err("gone").va, VirtAddr::new(CODE));
}
