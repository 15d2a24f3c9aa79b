//! Integer computation: register with register, register with immediate, upper immediates.

use super::{Bench, CODE_AT};
use crate::encoding::Insn;

/// `name, rs1, rs2, rd`
#[rustfmt::skip]
const REGISTERS: &[(&str, u64, u64, u64)] = &[
    ("add", 0xfffffffffffffff9, 0x0, 0xfffffffffffffff9),
    ("add", 0xffffffff80000000, 0xfedcba9876543210, 0xfedcba97f6543210),
    ("add", 0xdeadbeefcafef00d, 0x5f, 0xdeadbeefcafef06c),
    ("add", 0xffffffff80000000, 0x7fffffff, 0xffffffffffffffff),
    ("add", 0x8000000000000000, 0xffffffff, 0x80000000ffffffff),
    ("add", 0x7fffffff, 0x5f, 0x8000005e),
    ("add", 0xffffffffffffffff, 0x80000000, 0x7fffffff),
    ("sub", 0x8000000000000000, 0x21, 0x7fffffffffffffdf),
    ("sub", 0x5f, 0x21, 0x3e),
    ("sub", 0x100000000, 0x7, 0xfffffff9),
    ("sub", 0x7, 0x5f, 0xffffffffffffffa8),
    ("sub", 0x80000000, 0xfffffffffffffff9, 0x80000007),
    ("sub", 0x0, 0x80000000, 0xffffffff80000000),
    ("sub", 0x100000000, 0x8000000000000000, 0x8000000100000000),
    ("sll", 0x0, 0x100000000, 0x0),
    ("sll", 0x1, 0x80000000, 0x1),
    ("sll", 0xdeadbeefcafef00d, 0xffffffff80000000, 0xdeadbeefcafef00d),
    ("sll", 0xffffffff, 0xdeadbeefcafef00d, 0x1fffffffe000),
    ("sll", 0x1, 0xfedcba9876543210, 0x10000),
    ("sll", 0x7fffffffffffffff, 0xfffffffffffffff9, 0xfe00000000000000),
    ("sll", 0xfffffffffffffff9, 0x5f, 0xfffffffc80000000),
    ("slt", 0x0, 0x8000000000000000, 0x0),
    ("slt", 0xfffffffffffffff9, 0x80000000, 0x1),
    ("slt", 0x100000000, 0x123456789abcdef, 0x1),
    ("slt", 0x1, 0xdeadbeefcafef00d, 0x0),
    ("slt", 0x5f, 0x21, 0x0),
    ("slt", 0x0, 0x123456789abcdef, 0x1),
    ("slt", 0x8000000000000000, 0x80000000, 0x1),
    ("sltu", 0x21, 0xffffffff, 0x1),
    ("sltu", 0x0, 0xffffffff, 0x1),
    ("sltu", 0x7fffffffffffffff, 0x100000000, 0x0),
    ("sltu", 0xffffffff80000000, 0x1, 0x0),
    ("sltu", 0x123456789abcdef, 0x0, 0x0),
    ("sltu", 0x0, 0x8000000000000000, 0x1),
    ("sltu", 0xffffffffffffffff, 0xfffffffffffffff9, 0x0),
    ("xor", 0xfffffffffffffff9, 0xfedcba9876543210, 0x123456789abcde9),
    ("xor", 0x123456789abcdef, 0xfedcba9876543210, 0xffffffffffffffff),
    ("xor", 0x5f, 0xdeadbeefcafef00d, 0xdeadbeefcafef052),
    ("xor", 0x123456789abcdef, 0xdeadbeefcafef00d, 0xdf8efb8843553de2),
    ("xor", 0x0, 0xffffffff80000000, 0xffffffff80000000),
    ("xor", 0x7fffffffffffffff, 0xffffffff, 0x7fffffff00000000),
    ("xor", 0x7fffffffffffffff, 0x7fffffff, 0x7fffffff80000000),
    ("srl", 0x80000000, 0x21, 0x0),
    ("srl", 0x5f, 0x8000000000000000, 0x5f),
    ("srl", 0xffffffffffffffff, 0xdeadbeefcafef00d, 0x7ffffffffffff),
    ("srl", 0x123456789abcdef, 0x7, 0x2468acf13579b),
    ("srl", 0x80000000, 0xffffffffffffffff, 0x0),
    ("srl", 0xfffffffffffffff9, 0x80000000, 0xfffffffffffffff9),
    ("srl", 0x123456789abcdef, 0x5f, 0x2468acf),
    ("sra", 0x7fffffffffffffff, 0xdeadbeefcafef00d, 0x3ffffffffffff),
    ("sra", 0x80000000, 0x0, 0x80000000),
    ("sra", 0x7, 0x100000000, 0x7),
    ("sra", 0x21, 0x7, 0x0),
    ("sra", 0xffffffffffffffff, 0x7, 0xffffffffffffffff),
    ("sra", 0xffffffffffffffff, 0x0, 0xffffffffffffffff),
    ("sra", 0xffffffffffffffff, 0xfffffffffffffff9, 0xffffffffffffffff),
    ("or", 0x123456789abcdef, 0x7fffffff, 0x1234567ffffffff),
    ("or", 0xffffffff80000000, 0x7fffffffffffffff, 0xffffffffffffffff),
    ("or", 0x8000000000000000, 0xffffffff, 0x80000000ffffffff),
    ("or", 0x1, 0x1, 0x1),
    ("or", 0x80000000, 0xdeadbeefcafef00d, 0xdeadbeefcafef00d),
    ("or", 0x8000000000000000, 0x21, 0x8000000000000021),
    ("or", 0x0, 0x5f, 0x5f),
    ("and", 0x7, 0xdeadbeefcafef00d, 0x5),
    ("and", 0xfedcba9876543210, 0xffffffffffffffff, 0xfedcba9876543210),
    ("and", 0xfffffffffffffff9, 0x5f, 0x59),
    ("and", 0xffffffff, 0x0, 0x0),
    ("and", 0xdeadbeefcafef00d, 0x0, 0x0),
    ("and", 0x100000000, 0x21, 0x0),
    ("and", 0x0, 0x7fffffff, 0x0),
    ("addw", 0x21, 0x5f, 0x80),
    ("addw", 0x8000000000000000, 0x7fffffff, 0x7fffffff),
    ("addw", 0xfedcba9876543210, 0x123456789abcdef, 0xffffffffffffffff),
    ("addw", 0xfffffffffffffff9, 0xfffffffffffffff9, 0xfffffffffffffff2),
    ("addw", 0x100000000, 0xfffffffffffffff9, 0xfffffffffffffff9),
    ("addw", 0x123456789abcdef, 0x100000000, 0xffffffff89abcdef),
    ("addw", 0xdeadbeefcafef00d, 0x5f, 0xffffffffcafef06c),
    ("subw", 0x7fffffff, 0x100000000, 0x7fffffff),
    ("subw", 0x7fffffffffffffff, 0x1, 0xfffffffffffffffe),
    ("subw", 0x0, 0x0, 0x0),
    ("subw", 0xffffffff80000000, 0xfffffffffffffff9, 0xffffffff80000007),
    ("subw", 0x100000000, 0x0, 0x0),
    ("subw", 0x0, 0x80000000, 0xffffffff80000000),
    ("subw", 0x21, 0x21, 0x0),
    ("sllw", 0x21, 0xfffffffffffffff9, 0x42000000),
    ("sllw", 0xdeadbeefcafef00d, 0x123456789abcdef, 0x78068000),
    ("sllw", 0xfffffffffffffff9, 0x5f, 0xffffffff80000000),
    ("sllw", 0x80000000, 0xffffffff, 0x0),
    ("sllw", 0x0, 0x100000000, 0x0),
    ("sllw", 0xfffffffffffffff9, 0x8000000000000000, 0xfffffffffffffff9),
    ("sllw", 0x21, 0x123456789abcdef, 0x108000),
    ("srlw", 0x123456789abcdef, 0xffffffff80000000, 0xffffffff89abcdef),
    ("srlw", 0xfedcba9876543210, 0x7, 0xeca864),
    ("srlw", 0xffffffffffffffff, 0xfedcba9876543210, 0xffff),
    ("srlw", 0x5f, 0x80000000, 0x5f),
    ("srlw", 0x21, 0x5f, 0x0),
    ("srlw", 0x0, 0x7fffffff, 0x0),
    ("srlw", 0xffffffff, 0x8000000000000000, 0xffffffffffffffff),
    ("sraw", 0x7fffffffffffffff, 0xdeadbeefcafef00d, 0xffffffffffffffff),
    ("sraw", 0x5f, 0x123456789abcdef, 0x0),
    ("sraw", 0xfffffffffffffff9, 0x100000000, 0xfffffffffffffff9),
    ("sraw", 0x0, 0x1, 0x0),
    ("sraw", 0x123456789abcdef, 0x7, 0xffffffffff13579b),
    ("sraw", 0x123456789abcdef, 0x5f, 0xffffffffffffffff),
    ("sraw", 0xffffffff80000000, 0x0, 0xffffffff80000000),
    ("mul", 0x8000000000000000, 0xffffffff80000000, 0x0),
    ("mul", 0x123456789abcdef, 0x100000000, 0x89abcdef00000000),
    ("mul", 0x1, 0x7, 0x7),
    ("mul", 0xfffffffffffffff9, 0x80000000, 0xfffffffc80000000),
    ("mul", 0xffffffffffffffff, 0xfedcba9876543210, 0x123456789abcdf0),
    ("mul", 0xfedcba9876543210, 0x8000000000000000, 0x0),
    ("mul", 0xfedcba9876543210, 0xdeadbeefcafef00d, 0xfb5adca73d158ad0),
    ("mulh", 0x0, 0x21, 0x0),
    ("mulh", 0x8000000000000000, 0xdeadbeefcafef00d, 0x10a920881a8087f9),
    ("mulh", 0x1, 0x5f, 0x0),
    ("mulh", 0xffffffffffffffff, 0x0, 0x0),
    ("mulh", 0x8000000000000000, 0xffffffffffffffff, 0x0),
    ("mulh", 0xdeadbeefcafef00d, 0xffffffff80000000, 0x10a92088),
    ("mulh", 0xdeadbeefcafef00d, 0x5f, 0xfffffffffffffff3),
    ("mulhsu", 0x123456789abcdef, 0x123456789abcdef, 0x14b66dc33f6ac),
    ("mulhsu", 0x100000000, 0x7fffffff, 0x0),
    ("mulhsu", 0x8000000000000000, 0x1, 0xffffffffffffffff),
    ("mulhsu", 0x7, 0xfedcba9876543210, 0x6),
    ("mulhsu", 0xfedcba9876543210, 0x1, 0xffffffffffffffff),
    ("mulhsu", 0x7fffffffffffffff, 0xffffffff80000000, 0x7fffffffbfffffff),
    ("mulhsu", 0x80000000, 0x7fffffffffffffff, 0x3fffffff),
    ("mulhu", 0x7fffffff, 0x80000000, 0x0),
    ("mulhu", 0x21, 0xffffffff80000000, 0x20),
    ("mulhu", 0xfffffffffffffff9, 0xfffffffffffffff9, 0xfffffffffffffff2),
    ("mulhu", 0xdeadbeefcafef00d, 0x100000000, 0xdeadbeef),
    ("mulhu", 0x7fffffffffffffff, 0x5f, 0x2f),
    ("mulhu", 0x8000000000000000, 0x0, 0x0),
    ("mulhu", 0x0, 0x5f, 0x0),
    ("div", 0x8000000000000000, 0xffffffffffffffff, 0x8000000000000000),
    ("div", 0x5, 0x0, 0xffffffffffffffff),
    ("div", 0x0, 0xffffffff80000000, 0x0),
    ("div", 0xffffffff, 0xffffffffffffffff, 0xffffffff00000001),
    ("div", 0xffffffffffffffff, 0xffffffff80000000, 0x0),
    ("div", 0x7fffffff, 0x1, 0x7fffffff),
    ("div", 0xffffffff, 0x8000000000000000, 0x0),
    ("divu", 0x5, 0x0, 0xffffffffffffffff),
    ("divu", 0x21, 0xfedcba9876543210, 0x0),
    ("divu", 0x21, 0x1, 0x21),
    ("divu", 0xdeadbeefcafef00d, 0x21, 0x6bf72645b7c16ca),
    ("divu", 0xdeadbeefcafef00d, 0x7fffffff, 0x1bd5b7de3),
    ("divu", 0x7fffffff, 0x7fffffffffffffff, 0x0),
    ("divu", 0xffffffff80000000, 0xffffffffffffffff, 0x0),
    ("rem", 0x8000000000000000, 0xffffffffffffffff, 0x0),
    ("rem", 0x5, 0x0, 0x5),
    ("rem", 0xffffffff, 0x0, 0xffffffff),
    ("rem", 0xfedcba9876543210, 0x7fffffff, 0xfffffffff40da741),
    ("rem", 0x21, 0x80000000, 0x21),
    ("rem", 0xfedcba9876543210, 0xfffffffffffffff9, 0x0),
    ("rem", 0xfedcba9876543210, 0x1, 0x0),
    ("remu", 0xffffffffffffffff, 0x0, 0xffffffffffffffff),
    ("remu", 0x5f, 0x21, 0x1d),
    ("remu", 0xffffffff80000000, 0x7fffffff, 0x3),
    ("remu", 0x21, 0xdeadbeefcafef00d, 0x21),
    ("remu", 0xfedcba9876543210, 0xffffffffffffffff, 0xfedcba9876543210),
    ("remu", 0x7fffffffffffffff, 0x7fffffffffffffff, 0x0),
    ("remu", 0xffffffffffffffff, 0xfffffffffffffff9, 0x6),
    ("mulw", 0x5f, 0xdeadbeefcafef00d, 0x549b14d3),
    ("mulw", 0x8000000000000000, 0xfffffffffffffff9, 0x0),
    ("mulw", 0x5f, 0xfffffffffffffff9, 0xfffffffffffffd67),
    ("mulw", 0xffffffff, 0x21, 0xffffffffffffffdf),
    ("mulw", 0x8000000000000000, 0x80000000, 0x0),
    ("mulw", 0x1, 0x8000000000000000, 0x0),
    ("mulw", 0xffffffff, 0x1, 0xffffffffffffffff),
    ("divw", 0x80000000, 0xffffffffffffffff, 0xffffffff80000000),
    ("divw", 0x123456789, 0x0, 0xffffffffffffffff),
    ("divw", 0x123456789abcdef, 0x21, 0xfffffffffc6a0e00),
    ("divw", 0x0, 0x7fffffffffffffff, 0x0),
    ("divw", 0x5f, 0xdeadbeefcafef00d, 0x0),
    ("divw", 0x0, 0x0, 0xffffffffffffffff),
    ("divw", 0x7fffffffffffffff, 0x5f, 0x0),
    ("divuw", 0x5, 0x100000000, 0xffffffffffffffff),
    ("divuw", 0xffffffff80000000, 0xfedcba9876543210, 0x1),
    ("divuw", 0xffffffff, 0x5f, 0x2b1da46),
    ("divuw", 0x7fffffff, 0x8000000000000000, 0xffffffffffffffff),
    ("divuw", 0x21, 0x0, 0xffffffffffffffff),
    ("divuw", 0x0, 0x1, 0x0),
    ("divuw", 0xffffffffffffffff, 0x7fffffff, 0x2),
    ("remw", 0x80000000, 0xffffffffffffffff, 0x0),
    ("remw", 0xf80000005, 0x0, 0xffffffff80000005),
    ("remw", 0x7fffffff, 0x123456789abcdef, 0x9abcdee),
    ("remw", 0x123456789abcdef, 0x1, 0x0),
    ("remw", 0x1, 0xffffffff80000000, 0x1),
    ("remw", 0xfedcba9876543210, 0x100000000, 0x76543210),
    ("remw", 0xdeadbeefcafef00d, 0x123456789abcdef, 0xffffffffcafef00d),
    ("remuw", 0xf80000005, 0x0, 0xffffffff80000005),
    ("remuw", 0xffffffff, 0x1, 0x0),
    ("remuw", 0xfffffffffffffff9, 0x0, 0xfffffffffffffff9),
    ("remuw", 0x5f, 0x80000000, 0x5f),
    ("remuw", 0x21, 0xffffffff80000000, 0x21),
    ("remuw", 0xffffffff80000000, 0x7fffffff, 0x1),
    ("remuw", 0x8000000000000000, 0x7fffffff, 0x0),
];

/// `name, rs1, immediate, rd`
#[rustfmt::skip]
const IMMEDIATES: &[(&str, u64, i64, u64)] = &[
    ("addi", 0x0, -2048, 0xfffffffffffff800),
    ("addi", 0xfedcba9876543210, -683, 0xfedcba9876542f65),
    ("addi", 0xfffffffffffffff9, 2047, 0x7f8),
    ("addi", 0x7fffffffffffffff, 1365, 0x8000000000000554),
    ("addi", 0x7fffffffffffffff, 0, 0x7fffffffffffffff),
    ("slti", 0x21, 1, 0x0),
    ("slti", 0xffffffffffffffff, 0, 0x1),
    ("slti", 0x1, -2048, 0x0),
    ("slti", 0x8000000000000000, 1365, 0x1),
    ("slti", 0x7fffffffffffffff, -1, 0x0),
    ("sltiu", 0x1, 2047, 0x1),
    ("sltiu", 0xffffffff80000000, -2048, 0x1),
    ("sltiu", 0x7fffffffffffffff, -1, 0x1),
    ("sltiu", 0xfffffffffffffff9, 1365, 0x0),
    ("sltiu", 0x7fffffff, 1, 0x0),
    ("xori", 0x123456789abcdef, -1, 0xfedcba9876543210),
    ("xori", 0x1, 1365, 0x554),
    ("xori", 0x21, 2047, 0x7de),
    ("xori", 0xfffffffffffffff9, -683, 0x2ac),
    ("xori", 0x7fffffff, -2048, 0xffffffff800007ff),
    ("ori", 0x7fffffff, -2048, 0xffffffffffffffff),
    ("ori", 0xfedcba9876543210, 1, 0xfedcba9876543211),
    ("ori", 0x7, -683, 0xfffffffffffffd57),
    ("ori", 0xdeadbeefcafef00d, -1, 0xffffffffffffffff),
    ("ori", 0x1, 2047, 0x7ff),
    ("andi", 0x7fffffffffffffff, 1, 0x1),
    ("andi", 0x0, -2048, 0x0),
    ("andi", 0x7fffffffffffffff, -683, 0x7ffffffffffffd55),
    ("andi", 0xffffffff80000000, 1365, 0x0),
    ("andi", 0x123456789abcdef, 2047, 0x5ef),
    ("addiw", 0x8000000000000000, 1365, 0x555),
    ("addiw", 0x21, -2048, 0xfffffffffffff821),
    ("addiw", 0x5f, -683, 0xfffffffffffffdb4),
    ("addiw", 0x7fffffff, 1, 0xffffffff80000000),
    ("addiw", 0x21, 0, 0x21),
    ("slli", 0xffffffffffffffff, 0, 0xffffffffffffffff),
    ("slli", 0x123456789abcdef, 1, 0x2468acf13579bde),
    ("slli", 0x123456789abcdef, 31, 0xc4d5e6f780000000),
    ("slli", 0xffffffffffffffff, 32, 0xffffffff00000000),
    ("slli", 0xffffffffffffffff, 63, 0x8000000000000000),
    ("srli", 0x80000000, 0, 0x80000000),
    ("srli", 0x80000000, 1, 0x40000000),
    ("srli", 0xffffffffffffffff, 31, 0x1ffffffff),
    ("srli", 0xdeadbeefcafef00d, 32, 0xdeadbeef),
    ("srli", 0x80000000, 63, 0x0),
    ("srai", 0xffffffffffffffff, 0, 0xffffffffffffffff),
    ("srai", 0x123456789abcdef, 1, 0x91a2b3c4d5e6f7),
    ("srai", 0xdeadbeefcafef00d, 31, 0xffffffffbd5b7ddf),
    ("srai", 0xffffffffffffffff, 32, 0xffffffffffffffff),
    ("srai", 0xffffffffffffffff, 63, 0xffffffffffffffff),
    ("slliw", 0x123456789abcdef, 0, 0xffffffff89abcdef),
    ("slliw", 0xffffffffffffffff, 1, 0xfffffffffffffffe),
    ("slliw", 0x123456789abcdef, 16, 0xffffffffcdef0000),
    ("slliw", 0x123456789abcdef, 31, 0xffffffff80000000),
    ("srliw", 0x123456789abcdef, 0, 0xffffffff89abcdef),
    ("srliw", 0x80000000, 1, 0x40000000),
    ("srliw", 0xffffffffffffffff, 16, 0xffff),
    ("srliw", 0x8000000180000001, 31, 0x1),
    ("sraiw", 0x8000000180000001, 0, 0xffffffff80000001),
    ("sraiw", 0xffffffffffffffff, 1, 0xffffffffffffffff),
    ("sraiw", 0xffffffffffffffff, 16, 0xffffffffffffffff),
    ("sraiw", 0x8000000180000001, 31, 0xffffffffffffffff),
];

#[test]
fn operations_on_two_registers_give_the_tables_results() {
    let mut bench = Bench::new();
    for &(name, a, b, expect) in REGISTERS {
        // Different registers, the result over an operand, both operands in one register, no destination.
        for (rd, rs1, rs2) in [(5, 6, 7), (31, 31, 30), (9, 8, 9), (0, 6, 7)] {
            bench.regs.x[usize::from(rs1)] = a;
            bench.regs.x[usize::from(rs2)] = b;
            bench.step(&Insn::new(name).rd(rd).rs1(rs1).rs2(rs2));
            let expect = if rd == 0 { 0 } else { expect };
            assert_eq!(bench.regs.x[usize::from(rd)], expect, "{name} x{rd}, {a:#x}, {b:#x}");
        }
        if a == b {
            bench.regs.x[6] = a;
            bench.step(&Insn::new(name).rd(6).rs1(6).rs2(6));
            assert_eq!(bench.regs.x[6], expect, "{name} of {a:#x} with itself");
        }
    }
}

#[test]
fn operations_with_the_zero_register_read_zero() {
    let mut bench = Bench::new();
    for &(name, a, b, expect) in REGISTERS {
        bench.regs.x[0] = 0xbad;
        (bench.regs.x[6], bench.regs.x[7]) = (a, b);
        if a == 0 {
            bench.step(&Insn::new(name).rd(5).rs1(0).rs2(7));
            assert_eq!(bench.regs.x[5], expect, "{name} x0, {b:#x}");
        }
        if b == 0 {
            bench.step(&Insn::new(name).rd(5).rs1(6).rs2(0));
            assert_eq!(bench.regs.x[5], expect, "{name} {a:#x}, x0");
        }
    }
}

#[test]
fn operations_with_an_immediate_give_the_tables_results() {
    let mut bench = Bench::new();
    for &(name, a, imm, expect) in IMMEDIATES {
        for (rd, rs1) in [(5, 6), (7, 7), (0, 6)] {
            bench.regs.x[usize::from(rs1)] = a;
            bench.step(&Insn::new(name).rd(rd).rs1(rs1).imm(imm));
            let expect = if rd == 0 { 0 } else { expect };
            assert_eq!(bench.regs.x[usize::from(rd)], expect, "{name} x{rd}, {a:#x}, {imm}");
        }
    }
}

#[test]
fn upper_immediates_are_sign_extended_and_added_to_the_pc() {
    let mut bench = Bench::new();
    for (imm, expect) in [
        (0, 0),
        (0x7fff_f000, 0x7fff_f000),
        (-0x8000_0000, 0xffff_ffff_8000_0000),
        (-0x1000, -0x1000i64 as u64),
    ] {
        bench.step(&Insn::new("lui").rd(5).imm(imm));
        assert_eq!(bench.regs.x[5], expect);
        bench.step(&Insn::new("auipc").rd(5).imm(imm));
        assert_eq!(bench.regs.x[5], expect.wrapping_add(CODE_AT));
    }
}

/// Sequences that a decoder may fuse into one operation still leave both results.
#[test]
fn common_pairs_leave_both_results() {
    let mut bench = Bench::new();
    bench.run(&[Insn::new("lui").rd(5).imm(0x1234_5000), Insn::new("addiw").rd(6).rs1(5).imm(-1)]);
    assert_eq!((bench.regs.x[5], bench.regs.x[6]), (0x1234_5000, 0x1234_4fff));
    bench
        .run(&[Insn::new("lui").rd(5).imm(0x7fff_f000), Insn::new("addiw").rd(5).rs1(5).imm(2047)]);
    assert_eq!(bench.regs.x[5], 0x7fff_f7ff);
    // The same in 64 bits leaves what 32 bits cannot.
    bench.run(&[Insn::new("lui").rd(5).imm(-0x8000_0000), Insn::new("addi").rd(5).rs1(5).imm(-1)]);
    assert_eq!(bench.regs.x[5], 0xffff_ffff_7fff_ffff);
    bench.run(&[Insn::new("auipc").rd(5).imm(0x1000), Insn::new("addi").rd(5).rs1(5).imm(-4)]);
    assert_eq!(bench.regs.x[5], CODE_AT + 0x0ffc);
    bench.regs.x[6] = 0xffff_ffff_0000_0001;
    bench.run(&[Insn::new("slli").rd(5).rs1(6).imm(32), Insn::new("srli").rd(5).rs1(5).imm(32)]);
    assert_eq!(bench.regs.x[5], 1);
    bench.run(&[Insn::new("slli").rd(5).rs1(6).imm(32), Insn::new("srli").rd(7).rs1(5).imm(30)]);
    assert_eq!((bench.regs.x[5], bench.regs.x[7]), (1 << 32, 4));
    (bench.regs.x[6], bench.regs.x[7]) = (100, 7);
    bench.run(&[Insn::new("div").rd(5).rs1(6).rs2(7), Insn::new("rem").rd(8).rs1(6).rs2(7)]);
    assert_eq!((bench.regs.x[5], bench.regs.x[8]), (14, 2));
    bench.run(&[Insn::new("mulhu").rd(6).rs1(6).rs2(7), Insn::new("mul").rd(5).rs1(6).rs2(7)]);
    assert_eq!((bench.regs.x[6], bench.regs.x[5]), (0, 0));
}
