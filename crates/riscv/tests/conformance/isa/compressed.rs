//! C: each short instruction against the long one it stands for.

use super::{Bench, DATA_AT};
use crate::encoding::Insn;

/// `short, long`: the same registers and immediate in both.
fn pairs() -> Vec<(Insn, Insn)> {
    let op = |name, rd, rs1, rs2, imm| Insn::new(name).rd(rd).rs1(rs1).rs2(rs2).imm(imm);
    vec![
        (op("c.addi4spn", 8, 0, 0, 4), op("addi", 8, 2, 0, 4)),
        (op("c.addi4spn", 15, 0, 0, 1020), op("addi", 15, 2, 0, 1020)),
        (op("c.addi16sp", 0, 0, 0, -512), op("addi", 2, 2, 0, -512)),
        (op("c.addi16sp", 0, 0, 0, 496), op("addi", 2, 2, 0, 496)),
        (op("c.addi", 31, 0, 0, -32), op("addi", 31, 31, 0, -32)),
        (op("c.addi", 1, 0, 0, 31), op("addi", 1, 1, 0, 31)),
        (op("c.addiw", 11, 0, 0, 0), op("addiw", 11, 11, 0, 0)),
        (op("c.addiw", 11, 0, 0, -1), op("addiw", 11, 11, 0, -1)),
        (op("c.li", 17, 0, 0, -32), op("addi", 17, 0, 0, -32)),
        (op("c.lui", 17, 0, 0, -32 * 4096), op("lui", 17, 0, 0, -32 * 4096)),
        (op("c.lui", 17, 0, 0, 31 * 4096), op("lui", 17, 0, 0, 31 * 4096)),
        (op("c.srli", 9, 0, 0, 63), op("srli", 9, 9, 0, 63)),
        (op("c.srai", 9, 0, 0, 33), op("srai", 9, 9, 0, 33)),
        (op("c.slli", 30, 0, 0, 63), op("slli", 30, 30, 0, 63)),
        (op("c.andi", 14, 0, 0, -18), op("andi", 14, 14, 0, -18)),
        (op("c.sub", 8, 0, 15, 0), op("sub", 8, 8, 15, 0)),
        (op("c.xor", 8, 0, 15, 0), op("xor", 8, 8, 15, 0)),
        (op("c.or", 9, 0, 14, 0), op("or", 9, 9, 14, 0)),
        (op("c.and", 10, 0, 13, 0), op("and", 10, 10, 13, 0)),
        (op("c.subw", 11, 0, 12, 0), op("subw", 11, 11, 12, 0)),
        (op("c.addw", 12, 0, 12, 0), op("addw", 12, 12, 12, 0)),
        (op("c.mv", 31, 0, 1, 0), op("add", 31, 0, 1, 0)),
        (op("c.add", 31, 0, 31, 0), op("add", 31, 31, 31, 0)),
        (op("c.lw", 9, 10, 0, 124), op("lw", 9, 10, 0, 124)),
        (op("c.ld", 10, 10, 0, 248), op("ld", 10, 10, 0, 248)),
        (op("c.fld", 15, 10, 0, 88), op("fld", 15, 10, 0, 88)),
        (op("c.sw", 0, 10, 8, 64), op("sw", 0, 10, 8, 64)),
        (op("c.sd", 0, 10, 10, 136), op("sd", 0, 10, 10, 136)),
        (op("c.fsd", 0, 10, 9, 192), op("fsd", 0, 10, 9, 192)),
        (op("c.lwsp", 31, 0, 0, 252), op("lw", 31, 2, 0, 252)),
        (op("c.ldsp", 2, 0, 0, 504), op("ld", 2, 2, 0, 504)),
        (op("c.fldsp", 0, 0, 0, 264), op("fld", 0, 2, 0, 264)),
        (op("c.swsp", 0, 0, 2, 196), op("sw", 0, 2, 2, 196)),
        (op("c.sdsp", 0, 0, 0, 312), op("sd", 0, 2, 0, 312)),
        (op("c.fsdsp", 0, 0, 31, 448), op("fsd", 0, 2, 31, 448)),
    ]
}

/// A machine with distinct values in all registers and in memory.
fn prepared() -> Bench {
    let mut bench = Bench::new();
    for register in 1..32 {
        bench.regs.x[register] = (register as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bench.regs.f[register] = (register as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    }
    bench.regs.f[0] = 0x4009_21fb_5444_2d18;
    bench.regs.x[2] = DATA_AT + 512;
    bench.regs.x[10] = DATA_AT + 64;
    for offset in (0..2048).step_by(8) {
        bench.set_word(DATA_AT + offset, (offset + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    }
    bench
}

#[test]
fn short_instructions_do_what_the_long_ones_do() {
    for (short, long) in pairs() {
        let (mut of_short, mut of_long) = (prepared(), prepared());
        of_short.step(&short);
        of_long.step(&long);
        of_short.regs.pc = of_long.regs.pc;
        assert_eq!(of_short.regs, of_long.regs, "{short} and {long}");
        assert_eq!(
            of_short.machine.read(DATA_AT, 2048),
            of_long.machine.read(DATA_AT, 2048),
            "{short} and {long}"
        );
    }
}

/// Encodings set aside as hints: they do nothing and go on.
#[test]
fn hints_do_nothing() {
    let shorts: [(u16, &str); 9] = [
        (0x0001, "c.nop"),
        (0x1075, "c.nop -3"),
        (0x0281, "c.addi x5, 0"),
        (0x4015, "c.li x0, 5"),
        (0x6015, "c.lui x0, 5"),
        (0x8016, "c.mv x0, x5"),
        (0x9016, "c.add x0, x5"),
        (0x0016, "c.slli x0, 5"),
        (0x8001, "c.srli x8, 0"),
    ];
    for (bits, what) in shorts {
        let mut bench = prepared();
        let before = bench.regs.clone();
        let trap = bench.run_bytes(&bits.to_le_bytes(), 1);
        assert_eq!(trap, kilburn_riscv::Trap::Quantum, "{what}");
        assert_eq!((bench.regs.x, bench.regs.pc), (before.x, super::CODE_AT + 2), "{what}");
    }
}
