//! Jumps and branches: conditions, distances, links, alignment of targets.

use super::{Bench, CODE_AT};
use crate::encoding::Insn;

/// `name, rs1, rs2, whether it is taken`
const CONDITIONS: &[(&str, u64, u64, bool)] = &[
    ("beq", 5, 5, true),
    ("beq", 5, 5 | 1 << 63, false),
    ("bne", 1 << 32, 0, true),
    ("bne", u64::MAX, u64::MAX, false),
    ("blt", u64::MAX, 0, true),
    ("blt", 0, u64::MAX, false),
    ("blt", 3, 3, false),
    ("blt", 1 << 63, i64::MAX as u64, true),
    ("bge", 0, u64::MAX, true),
    ("bge", 3, 3, true),
    ("bge", 1 << 63, 0, false),
    ("bltu", 0, u64::MAX, true),
    ("bltu", u64::MAX, 0, false),
    ("bltu", 7, 7, false),
    ("bgeu", u64::MAX, 0, true),
    ("bgeu", 7, 7, true),
    ("bgeu", i64::MAX as u64, 1 << 63, false),
];

#[test]
fn branches_go_where_their_condition_says() {
    let mut bench = Bench::new();
    for &(name, a, b, taken) in CONDITIONS {
        for distance in [8, -8, 2, 4094, -4096, 4] {
            (bench.regs.x[6], bench.regs.x[7]) = (a, b);
            bench.run(&[Insn::new(name).rs1(6).rs2(7).imm(distance)]);
            let expect = CODE_AT.wrapping_add_signed(if taken { distance } else { 4 });
            assert_eq!(bench.regs.pc, expect, "{name} {a:#x}, {b:#x}");
        }
    }
}

#[test]
fn branches_against_zero_read_zero() {
    let mut bench = Bench::new();
    bench.regs.x[0] = 0xbad;
    for (name, value, taken) in
        [("beq", 0, true), ("bne", 1, true), ("blt", 1, false), ("bltu", 0, false)]
    {
        bench.regs.x[6] = value;
        bench.run(&[Insn::new(name).rs1(6).rs2(0).imm(64)]);
        assert_eq!(bench.regs.pc, CODE_AT + if taken { 64 } else { 4 }, "{name} {value}, x0");
    }
    bench.regs.x[6] = 1;
    bench.run(&[Insn::new("bltu").rs1(0).rs2(6).imm(64)]);
    assert_eq!(bench.regs.pc, CODE_AT + 64);
}

#[test]
fn jumps_link_the_next_instruction() {
    let mut bench = Bench::new();
    for distance in [6, -2, 0xf_fffe, -0x10_0000] {
        bench.run(&[Insn::new("jal").rd(1).imm(distance)]);
        assert_eq!(
            (bench.regs.pc, bench.regs.x[1]),
            (CODE_AT.wrapping_add_signed(distance), CODE_AT + 4)
        );
        bench.run(&[Insn::new("jal").rd(0).imm(distance)]);
        assert_eq!(bench.regs.pc, CODE_AT.wrapping_add_signed(distance));
    }
}

#[test]
fn indirect_jumps_clear_the_lowest_bit_and_may_link_over_their_base() {
    let mut bench = Bench::new();
    bench.regs.x[6] = 0x2_0001;
    bench.run(&[Insn::new("jalr").rd(6).rs1(6).imm(-2048)]);
    assert_eq!((bench.regs.pc, bench.regs.x[6]), (0x2_0000 - 2048, CODE_AT + 4));
    bench.regs.x[6] = u64::MAX;
    bench.run(&[Insn::new("jalr").rd(0).rs1(6).imm(3)]);
    assert_eq!(bench.regs.pc, 2, "addresses wrap");
}

#[test]
fn short_jumps_link_two_bytes_on() {
    let mut bench = Bench::new();
    bench.regs.x[6] = 0x2_0003;
    bench.run(&[Insn::new("c.jalr").rs1(6)]);
    assert_eq!((bench.regs.pc, bench.regs.x[1]), (0x2_0002, CODE_AT + 2));
    bench.regs.x[1] = 0x2_0004;
    bench.run(&[Insn::new("c.jalr").rs1(1)]);
    assert_eq!((bench.regs.pc, bench.regs.x[1]), (0x2_0004, CODE_AT + 2), "the base is the link");
    bench.run(&[Insn::new("c.jr").rs1(6)]);
    assert_eq!((bench.regs.pc, bench.regs.x[1]), (0x2_0002, CODE_AT + 2));
    for distance in [2, -2, 2046, -2048, 0x554, -0x556] {
        bench.run(&[Insn::new("c.j").imm(distance)]);
        assert_eq!(bench.regs.pc, CODE_AT.wrapping_add_signed(distance));
    }
    for (value, distance) in [(0, 254), (0, -256), (1 << 40, 2), (0, 0xaa), (0, -0xaa)] {
        bench.regs.x[9] = value;
        bench.run(&[Insn::new("c.beqz").rs1(9).imm(distance)]);
        assert_eq!(
            bench.regs.pc,
            CODE_AT.wrapping_add_signed(if value == 0 { distance } else { 2 })
        );
        bench.run(&[Insn::new("c.bnez").rs1(9).imm(distance)]);
        assert_eq!(
            bench.regs.pc,
            CODE_AT.wrapping_add_signed(if value == 0 { 2 } else { distance })
        );
    }
}

#[test]
fn an_instruction_may_straddle_two_pages() {
    let mut bench = Bench::new();
    bench.machine.map(CODE_AT + 0x1000, 0x1000, crate::bare::CODE);
    let at = CODE_AT + 0x1000 - 2;
    bench.machine.write(at, &Insn::new("addi").rd(5).imm(77).encode().to_le_bytes());
    bench.regs.pc = at;
    assert_eq!(bench.machine.run(&mut bench.regs, 1), kilburn_riscv::Trap::Quantum);
    assert_eq!((bench.regs.x[5], bench.regs.pc), (77, at + 4));
}

#[test]
fn a_straddling_instruction_whose_second_half_is_missing_faults_there() {
    use kilburn_addr::{Access, VirtAddr};
    let mut bench = Bench::new();
    let (at, missing) = (CODE_AT + 0x1000 - 2, CODE_AT + 0x1000);
    let half = &Insn::new("addi").rd(5).imm(77).encode().to_le_bytes()[..2];
    bench.machine.write(at, half);
    bench.regs.pc = at;
    let expect =
        kilburn_riscv::Trap::PageFault { addr: VirtAddr::new(missing), access: Access::Exec };
    assert_eq!(bench.machine.run(&mut bench.regs, 1), expect);
    assert_eq!(bench.regs.pc, at);
    // A short instruction in the same place needs no second half.
    bench.machine.write(at, &Insn::new("c.li").rd(5).imm(7).encode().to_le_bytes()[..2]);
    assert_eq!(bench.machine.run(&mut bench.regs, 1), kilburn_riscv::Trap::Quantum);
    assert_eq!((bench.regs.x[5], bench.regs.pc), (7, missing));
}
