//! Traps are precise: what faults has had no effect, and can be done again.

mod machine;

use kilburn_addr::{Access, Pfn, VirtAddr};
use kilburn_riscv::Trap;
use machine::asm::*;
use machine::*;

const fn fault(addr: u64, access: Access) -> Trap {
    Trap::PageFault { addr: VirtAddr::new(addr), access }
}

/// The page after the last one of data.
const HOLE: u64 = DATA + 0x4000;

#[test]
fn a_load_that_faults_restarts_where_it_was() {
    let mut m = Machine::new(&[addi(A0, A0, 1), ld(A0, A1, 8), addi(A0, A0, 1), ECALL]);
    m.set(A1, HOLE);
    m.set(A0, 5);
    assert_eq!(m.run(10), fault(HOLE + 8, Access::Read));
    assert_eq!((m.regs.pc, m.x(A0)), (CODE + 4, 6));
    assert_eq!(m.hart.stats().instructions, 1);
    m.map(HOLE, R);
    m.put_u64(HOLE + 8, 41);
    assert_eq!(m.run(10), Trap::Syscall);
    assert_eq!(m.x(A0), 42);
}

#[test]
fn a_store_faults_on_what_may_only_be_read() {
    let mut m = Machine::new(&[sd(A0, A1, 0), ECALL]);
    m.map(HOLE, R);
    m.set(A1, HOLE);
    m.set(A0, 7);
    assert_eq!(m.run(10), fault(HOLE, Access::Write));
    assert_eq!(m.get_u64(HOLE), 0);
    let pfn = m.leaf(HOLE).pfn;
    m.map_frame(HOLE, pfn, RW);
    assert_eq!(m.run(10), Trap::Syscall, "a right that was added needs no flush");
    assert_eq!(m.get_u64(HOLE), 7);
}

#[test]
fn pages_without_a_right_refuse_it() {
    for (flags, access, code) in [
        (X, Access::Read, lb(A0, A1, 0)),
        (RX, Access::Write, sb(A0, A1, 0)),
        (RW, Access::Exec, jalr(ZERO, A1, 0)),
        (kilburn_paging::LeafFlags::RIGHTS, Access::Read, lb(A0, A1, 0)),
    ] {
        let mut m = Machine::new(&[code]);
        m.map(HOLE, flags);
        m.set(A1, HOLE);
        assert_eq!(m.run(10), fault(HOLE, access), "{flags:?}");
        assert_eq!(m.regs.pc, if access == Access::Exec { HOLE } else { CODE });
    }
}

#[test]
fn misaligned_accesses_just_work_also_across_pages() {
    let mut m = Machine::new(&[sd(A0, A1, 0), ld(A2, A1, 0), lw(A3, A1, 2), sh(A0, A1, 9), ECALL]);
    m.set(A0, 0x1122_3344_5566_7788);
    for at in (DATA + 1..DATA + 8).chain(DATA + 0xff0..DATA + 0x1001) {
        for round in 0..2 {
            m.put(at - 1, &[0; 20]);
            m.set(A1, at);
            m.call();
            assert_eq!(m.get_u64(at), 0x1122_3344_5566_7788, "{at:#x} {round}");
            assert_eq!(m.x(A2), 0x1122_3344_5566_7788);
            assert_eq!(m.x(A3), 0x3344_5566);
            assert_eq!(m.get(at + 8), [0, 0x88, 0x77, 0]);
            assert_eq!(m.get(at - 1), [0]);
        }
    }
}

#[test]
fn a_store_into_two_pages_writes_both_or_nothing() {
    let mut m = Machine::new(&[sd(A0, A1, 0), ECALL]);
    m.set(A0, u64::MAX);
    m.set(A1, HOLE - 4);
    for _ in 0..2 {
        assert_eq!(m.run(10), fault(HOLE, Access::Write), "the page that is missing");
        assert_eq!(m.get_u64(HOLE - 8), 0);
        assert_eq!(m.regs.pc, CODE);
    }
    m.map(HOLE, RW);
    assert_eq!(m.run(10), Trap::Syscall);
    assert_eq!(m.get(HOLE - 5), [0, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
}

#[test]
fn a_load_from_two_pages_names_the_missing_one() {
    let mut m = Machine::new(&[ld(A0, A1, 0), ECALL]);
    m.set(A1, HOLE - 1);
    assert_eq!(m.run(10), fault(HOLE, Access::Read));
    m.set(A1, DATA - 1);
    assert_eq!(m.run(10), fault(DATA - 1, Access::Read));
    assert_eq!(m.x(A0), 0);
}

#[test]
fn an_address_that_wraps_or_is_not_canonical_faults() {
    for addr in [u64::MAX, u64::MAX - 3, 1 << 38, 1 << 63, 0x40_0000_0000, 0x00ff_ffff_ffff_f000] {
        let mut m = Machine::new(&[ld(A0, A1, 0)]);
        m.set(A1, addr);
        assert_eq!(m.run(10), fault(addr, Access::Read));
        let mut m = Machine::new(&[jalr(ZERO, A1, 0)]);
        m.set(A1, addr);
        assert_eq!(m.run(10), fault(addr & !1, Access::Exec));
        assert_eq!(m.regs.pc, addr & !1);
    }
}

#[test]
fn the_first_page_faults_at_every_address() {
    for addr in 0..64 {
        for funct3 in 0..7 {
            let mut m = Machine::new(&[i(0x03, funct3, A0, A1, 0), s(0x23, funct3 & 3, A0, A1, 0)]);
            m.set(A1, addr);
            assert_eq!(m.run(10), fault(addr, Access::Read));
            m.regs.pc += 4;
            assert_eq!(m.run(10), fault(addr, Access::Write));
        }
    }
}

#[test]
fn a_fetch_into_a_missing_page_names_that_page() {
    let mut m = Machine::new(&[]);
    m.unmap(CODE + 0x1000);
    m.put(CODE + 0xffc, &addi(A0, A0, 1).to_le_bytes());
    m.regs.pc = CODE + 0xffc;
    assert_eq!(m.run(10), fault(CODE + 0x1000, Access::Exec));
    assert_eq!((m.regs.pc, m.x(A0)), (CODE + 0x1000, 1));

    let mut m = Machine::new(&[]);
    m.unmap(CODE + 0x1000);
    m.put(CODE + 0xffa, &addi(A0, A0, 1).to_le_bytes());
    m.put(CODE + 0xffe, &addi(A0, A0, 2).to_le_bytes()[..2]);
    m.regs.pc = CODE + 0xffa;
    for _ in 0..2 {
        assert_eq!(m.run(10), fault(CODE + 0x1000, Access::Exec), "its second half is missing");
        assert_eq!((m.regs.pc, m.x(A0)), (CODE + 0xffe, 1), "but pc is where it begins");
    }
    m.map(CODE + 0x1000, RX);
    m.put(CODE + 0x1000, &addi(A0, A0, 2).to_le_bytes()[2..]);
    m.put_code(CODE + 0x1002, &[ECALL]);
    assert_eq!(m.run(10), Trap::Syscall);
    assert_eq!(m.x(A0), 3);
}

#[test]
fn a_compressed_instruction_at_the_end_of_a_page_needs_no_other() {
    let mut m = Machine::new(&[]);
    m.unmap(CODE + 0x1000);
    m.put_code(CODE + 0xffe, &[0x0505]); // c.addi a0, 1
    m.regs.pc = CODE + 0xffe;
    assert_eq!(m.run(1), Trap::Quantum);
    assert_eq!((m.regs.pc, m.x(A0)), (CODE + 0x1000, 1));
    assert_eq!(m.run(0), Trap::Quantum, "nothing is asked for, nothing faults");
}

#[test]
fn an_atomic_that_faults_does_nothing_and_faults_as_a_store() {
    for funct5 in [0, 1, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c] {
        for width in [2, 3] {
            let mut m = Machine::new(&[amo(funct5, width, A0, A1, A2), ECALL]);
            m.map(HOLE, R);
            m.put_u64(HOLE, 5);
            for (at, trap) in [
                (HOLE, fault(HOLE, Access::Write)),
                (HOLE + 0x1000, fault(HOLE + 0x1000, Access::Write)),
                (
                    DATA + 2,
                    Trap::Misaligned { addr: VirtAddr::new(DATA + 2), access: Access::Write },
                ),
            ] {
                m.set(A0, 99);
                m.set(A1, at);
                m.set(A2, 7);
                assert_eq!(m.run(10), trap);
                assert_eq!((m.x(A0), m.regs.pc), (99, CODE));
            }
            assert_eq!((m.get_u64(HOLE), m.get_u64(DATA)), (5, 0));
        }
    }
}

#[test]
fn reservations_load_and_store_with_the_faults_of_their_kind() {
    let mut m = Machine::new(&[amo(2, 3, A0, A1, ZERO), amo(3, 3, A0, A1, A2), ECALL]);
    m.map(HOLE, R);
    m.set(A1, HOLE + 0x1000);
    assert_eq!(m.run(10), fault(HOLE + 0x1000, Access::Read));
    m.set(A1, HOLE + 4);
    let misaligned = |access| Trap::Misaligned { addr: VirtAddr::new(HOLE + 4), access };
    assert_eq!(m.run(10), misaligned(Access::Read));
    m.regs.pc = CODE + 4;
    assert_eq!(m.run(10), misaligned(Access::Write));
    m.regs.pc = CODE;
    m.set(A1, HOLE);
    assert_eq!(m.run(10), fault(HOLE, Access::Write), "the page may only be read");
    assert_eq!(m.regs.pc, CODE + 4);
}

#[test]
fn a_frame_that_does_not_exist_is_an_access_fault() {
    let mut m = Machine::new(&[ld(A0, A1, 0)]);
    m.map_frame(HOLE, Pfn::new(1), RWX);
    m.set(A1, HOLE);
    let trap = |access| Trap::AccessFault { addr: VirtAddr::new(HOLE), access };
    assert_eq!(m.run(1), trap(Access::Read));
    m.regs.pc = HOLE;
    assert_eq!(m.run(1), trap(Access::Exec));
}

#[test]
fn what_is_no_instruction_stops_with_its_bits() {
    for bits in [0, 0xffff_ffff, 0x1050_0073, 0x1020_0073, 0x0045_200f, 0x9c41, 0x8000] {
        let mut m = Machine::new(&[NOP, bits]);
        assert_eq!(m.run(10), Trap::Illegal { bits });
        assert_eq!(m.regs.pc, CODE + 4);
        assert_eq!(m.hart.stats().instructions, 1);
    }
    let mut m = Machine::new(&[NOP, EBREAK]);
    assert_eq!(m.run(10), Trap::Breakpoint);
    assert_eq!(m.regs.pc, CODE + 4);
    let mut m = Machine::new(&[C_NOP, 0x9002]);
    assert_eq!(m.run(10), Trap::Breakpoint);
    assert_eq!(m.regs.pc, CODE + 2);
}

#[test]
fn an_illegal_instruction_may_lie_across_two_pages() {
    let mut m = Machine::new(&[]);
    m.put(CODE + 0xffe, &0x1234_56ff_u32.to_le_bytes());
    m.regs.pc = CODE + 0xffe;
    assert_eq!(m.run(10), Trap::Illegal { bits: 0x1234_56ff });
    assert_eq!(m.regs.pc, CODE + 0xffe);
}

#[test]
fn a_reserved_rounding_mode_in_frm_is_illegal_when_it_is_used() {
    let fadd = r(0x53, 7, 1, 3, 1, 2);
    let fcvt_d_s = r(0x53, 7, 0x21, 3, 1, 0);
    let fadd_rne = r(0x53, 0, 1, 3, 1, 2);
    for at in [CODE + 4, CODE + 0xffe] {
        for (bits, is_dynamic) in [(fadd, true), (fcvt_d_s, true), (fadd_rne, false)] {
            let mut m = Machine::new(&[]);
            m.put_code(at, &[bits, ECALL]);
            m.regs.pc = at;
            m.regs.fcsr = 5 << 5;
            let trap = m.run(10);
            if is_dynamic {
                assert_eq!((trap, m.regs.pc), (Trap::Illegal { bits }, at));
                m.regs.fcsr = 0;
                assert_eq!(m.run(10), Trap::Syscall);
            } else {
                assert_eq!(trap, Trap::Syscall);
            }
        }
    }
}
