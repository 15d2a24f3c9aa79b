//! Loads and stores: widths, extension, misalignment, faults in the middle.

use kilburn_addr::{Access, VirtAddr};
use kilburn_riscv::Trap;

use super::{Bench, CODE_AT, DATA_AT, DATA_BYTES};
use crate::encoding::Insn;

/// Right after the last mapped byte.
const END: u64 = DATA_AT + DATA_BYTES;

#[test]
fn loads_extend_as_their_names_say_at_every_alignment() {
    let bytes: [u8; 16] = std::array::from_fn(|index| (0x8f + index * 0x13) as u8);
    let mut bench = Bench::new();
    // One place within a page, one across two.
    for base in [DATA_AT + 16, DATA_AT + 0x1000 - 8] {
        bench.machine.write(base, &bytes);
        for at in 0..8 {
            let word = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            let cases = [
                ("lb", word as i8 as u64),
                ("lbu", word & 0xff),
                ("lh", word as i16 as u64),
                ("lhu", word & 0xffff),
                ("lw", word as i32 as u64),
                ("lwu", word & 0xffff_ffff),
                ("ld", word),
            ];
            for (name, expect) in cases {
                bench.regs.x[6] = base + at as u64 + 100;
                bench.step(&Insn::new(name).rd(5).rs1(6).imm(-100));
                assert_eq!(bench.regs.x[5], expect, "{name} at {at}");
                bench.step(&Insn::new(name).rd(6).rs1(6).imm(-100));
                assert_eq!(bench.regs.x[6], expect, "{name} over its own base");
            }
        }
    }
}

#[test]
fn stores_change_their_bytes_and_no_others_at_every_alignment() {
    let value = 0x0123_4567_89ab_cdef_u64;
    let mut bench = Bench::new();
    for base in [DATA_AT + 16, DATA_AT + 0x1000 - 8] {
        for (name, width) in [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8)] {
            for at in 0..8 {
                bench.machine.write(base, &[0xaa; 16]);
                (bench.regs.x[6], bench.regs.x[7]) = (base + at as u64 - 2047, value);
                bench.step(&Insn::new(name).rs1(6).rs2(7).imm(2047));
                let mut expect = [0xaa; 16];
                expect[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                assert_eq!(bench.machine.read(base, 16), expect, "{name} at {at}");
            }
        }
    }
}

#[test]
fn addresses_wrap_around_the_top() {
    let mut bench = Bench::new();
    bench.set_word(DATA_AT, 0x77);
    bench.regs.x[6] = DATA_AT.wrapping_sub(2047);
    bench.step(&Insn::new("ld").rd(5).rs1(6).imm(2047));
    assert_eq!(bench.regs.x[5], 0x77);
    bench.regs.x[6] = u64::MAX;
    let addr = VirtAddr::new(0);
    let expect = Trap::PageFault { addr, access: Access::Read };
    assert_eq!(bench.trap(&Insn::new("lbu").rd(5).rs1(6).imm(1)), expect);
}

#[test]
fn faults_name_the_address_and_leave_everything_as_it_was() {
    let mut bench = Bench::new();
    let fault = |addr, access| Trap::PageFault { addr: VirtAddr::new(addr), access };
    bench.regs.x[6] = END;
    bench.regs.x[7] = u64::MAX;
    assert_eq!(bench.trap(&Insn::new("ld").rd(6).rs1(6)), fault(END, Access::Read));
    assert_eq!(bench.trap(&Insn::new("fld").rd(6).rs1(6)), fault(END, Access::Read));
    assert_eq!(bench.trap(&Insn::new("sb").rs1(6).rs2(7)), fault(END, Access::Write));
    assert_eq!(bench.trap(&Insn::new("amoadd.d").rd(7).rs1(6).rs2(7)), fault(END, Access::Write));
    assert_eq!(bench.trap(&Insn::new("lr.w").rd(6).rs1(6)), fault(END, Access::Read));
    // Loads into nowhere fault all the same.
    assert_eq!(bench.trap(&Insn::new("lw").rd(0).rs1(6)), fault(END, Access::Read));
}

#[test]
fn a_store_that_straddles_into_nothing_writes_nothing() {
    let mut bench = Bench::new();
    for (name, width) in [("sh", 2), ("sw", 4), ("sd", 8)] {
        for inside in 1..width {
            bench.set_word(END - 8, 0x1111_1111_1111_1111);
            (bench.regs.x[6], bench.regs.x[7]) = (END - inside, u64::MAX);
            let expect = Trap::PageFault { addr: VirtAddr::new(END), access: Access::Write };
            assert_eq!(
                bench.trap(&Insn::new(name).rs1(6).rs2(7)),
                expect,
                "{name}, {inside} bytes inside"
            );
            assert_eq!(bench.word(END - 8), 0x1111_1111_1111_1111, "{name}, {inside} bytes inside");
        }
    }
}

#[test]
fn a_load_that_straddles_into_nothing_loads_nothing() {
    let mut bench = Bench::new();
    for (name, inside) in [("lh", 1), ("lw", 3), ("ld", 5), ("flw", 2), ("fld", 7)] {
        bench.regs.x[6] = END - inside;
        let expect = Trap::PageFault { addr: VirtAddr::new(END), access: Access::Read };
        assert_eq!(bench.trap(&Insn::new(name).rd(6).rs1(6)), expect, "{name}");
    }
}

#[test]
fn addresses_that_no_table_covers_fault() {
    let mut bench = Bench::new();
    for addr in [0x40_0000_0000, 0x8000_0000_0000_0000, 0xffff_ffc0_0000_0000, 0x3f_ffff_f000] {
        bench.regs.x[6] = addr;
        let expect = Trap::PageFault { addr: VirtAddr::new(addr), access: Access::Read };
        assert_eq!(bench.trap(&Insn::new("ld").rd(5).rs1(6)), expect);
    }
}

#[test]
fn data_is_not_executed() {
    let mut bench = Bench::new();
    bench.regs.x[6] = DATA_AT;
    bench.run(&[Insn::new("jalr").rd(1).rs1(6)]);
    let mut regs = bench.regs.clone();
    let trap = bench.machine.run(&mut regs, 1);
    assert_eq!(trap, Trap::PageFault { addr: VirtAddr::new(DATA_AT), access: Access::Exec });
    assert_eq!(regs, bench.regs);
}

#[test]
fn code_that_is_stored_over_is_executed_anew() {
    let (one, two) = (Insn::new("addi").rd(5).imm(1), Insn::new("addi").rd(5).imm(2));
    let store = |name| Insn::new(name).rs1(6).rs2(7);
    let ways: [&[Insn]; 8] = [
        &[store("sw")],
        &[Insn::new("sb").rs1(10).rs2(9).imm(2)],
        &[Insn::new("sh").rs1(10).rs2(9).imm(2)],
        &[Insn::new("c.sw").rs1(10).rs2(11)],
        &[store("fsw")],
        &[store("amoswap.w").rd(8)],
        &[Insn::new("lr.w").rd(8).rs1(6), store("sc.w").rd(8)],
        &[store("amomaxu.w").rd(8)],
    ];
    for way in ways {
        let mut bench = Bench::new();
        // Executed before, so that it may have been kept in some other form.
        let mut insns = way.to_vec();
        insns.extend([Insn::new("fence.i"), one.clone()]);
        let target =
            CODE_AT + insns[..insns.len() - 1].iter().map(Insn::length).sum::<i64>() as u64;
        (bench.regs.x[6], bench.regs.x[10]) = (DATA_AT, DATA_AT);
        bench.run(&insns);
        assert_eq!(bench.regs.x[5], 1);
        let bits = u64::from(two.encode());
        (bench.regs.x[6], bench.regs.x[10]) = (target, target);
        (bench.regs.x[7], bench.regs.f[7], bench.regs.x[11]) = (bits, bits, bits);
        bench.regs.x[9] = bits >> 16;
        // Not put there again: what was made of the code the first time is what must go.
        bench.regs.pc = CODE_AT;
        assert_eq!(bench.machine.run(&mut bench.regs, insns.len() as u64), Trap::Quantum);
        assert_eq!(bench.regs.x[5], 2, "{}", way[0]);
    }
}
