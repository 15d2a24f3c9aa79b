//! What a user program may not execute, and what only looks like it.

use kilburn_riscv::Trap;

use super::Bench;
use crate::encoding::Insn;

/// Four-byte encodings that are reserved, privileged, or of extensions that this hart has not.
const LONG: &[(u32, &str)] = &[
    (0xffff_ffff, "all ones"),
    (0x3020_0073, "mret"),
    (0x1020_0073, "sret"),
    (0x1050_0073, "wfi"),
    (0x1200_0073, "sfence.vma"),
    (0x0020_0073, "uret"),
    (0x0000_00f3, "ecall with a destination"),
    (0x3000_2373, "csrr mstatus"),
    (0x1000_2373, "csrr sstatus"),
    (0xf140_2373, "csrr mhartid"),
    (0x0040_2373, "csrr uie, which no longer exists"),
    (0x0150_2373, "csrr seed"),
    (0xc000_2373, "rdcycle, closed as by Linux 6.12"),
    (0xc020_2373, "rdinstret, closed as by Linux 6.12"),
    (0xc030_2373, "hpmcounter3"),
    (0xc013_1073, "csrrw to time, read-only"),
    (0xc010_e373, "csrrsi to time with a bit to set"),
    (0x0010_4073, "a system instruction with funct3 4"),
    (0x2000_0033, "add with a stray funct7 bit"),
    (0x4000_7033, "andn, of Zbb"),
    (0x2020_a0b3, "sh1add, of Zba"),
    (0x0e00_5033, "czero.eqz, of Zicond"),
    (0x4000_1033, "sll with the bit of sub"),
    (0x0200_103b, "mulhw, which does not exist"),
    (0x0400_0013 | 1 << 12 | 1 << 31, "slli with a stray bit"),
    (0x0200_101b, "slliw by 32"),
    (0x4200_501b, "sraiw by 32"),
    (0x0000_201b, "slliw's opcode with funct3 2"),
    (0x0000_7003, "a load of width 7"),
    (0x0000_4023, "a store of width 4"),
    (0x0000_2063, "a branch with funct3 2"),
    (0x0000_1067, "jalr with funct3 1"),
    (0x0000_200f, "cbo.inval"),
    (0x0040_200f, "cbo.zero"),
    (0x0000_002f, "amoadd.b"),
    (0x0000_402f, "amoadd.q"),
    (0x1010_202f, "lr.w with a source"),
    (0x2800_202f, "amocas.w, of Zacas"),
    (0x0000_1007, "flh"),
    (0x0000_4007, "flq"),
    (0x0200_7007, "vle64.v"),
    (0x0000_0057, "vadd.vv"),
    (0x0000_5053, "fadd.s with rounding mode 5"),
    (0x0000_6053, "fadd.s with rounding mode 6"),
    (0x0000_5043, "fmadd.s with rounding mode 5"),
    (0x0400_0053, "fadd.h"),
    (0x0600_0053, "fadd.q"),
    (0x0400_0043, "fmadd.h"),
    (0x2000_3053, "fsgnj.s with funct3 3"),
    (0x2800_2053, "fmin.s with funct3 2, of Zfa"),
    (0xa000_4053, "fcmp with funct3 4, of Zfa"),
    (0x5810_0053, "fsqrt.s with a second source"),
    (0xc040_0053, "fcvt.w.s to a width that does not exist"),
    (0x4000_0053, "fcvt.s.s"),
    (0xe010_0053, "fmv.x.w with a second source"),
    (0xf010_0053, "fli.s, of Zfa"),
    (0x0000_000b, "custom-0"),
    (0x0000_006b, "a reserved major opcode"),
    (0x6000_1013, "clz, of Zbb"),
    (0x6000_c073, "hypervisor load"),
];

/// Two-byte encodings that are reserved.
const SHORT: &[(u16, &str)] = &[
    (0x0000, "the defined illegal instruction"),
    (0x0004, "c.addi4spn by zero"),
    (0x8000, "reserved, or of Zcb"),
    (0x2001, "c.addiw to x0"),
    (0x6081, "c.lui of zero"),
    (0x6101, "c.addi16sp by zero"),
    (0x9c41, "reserved beside c.addw"),
    (0x9c61, "reserved beside c.addw"),
    (0x4002, "c.lwsp to x0"),
    (0x6002, "c.ldsp to x0"),
    (0x8002, "c.jr to x0"),
];

#[test]
fn reserved_and_privileged_encodings_are_illegal() {
    let mut bench = Bench::new();
    for &(bits, what) in LONG {
        assert_eq!(bench.trap_bytes(&bits.to_le_bytes()), Trap::Illegal { bits }, "{what}");
    }
    for &(bits, what) in SHORT {
        // What follows is no part of the instruction.
        let code = [bits.to_le_bytes(), [0x01, 0x00]].concat();
        assert_eq!(bench.trap_bytes(&code), Trap::Illegal { bits: bits.into() }, "{what}");
    }
}

#[test]
fn longer_encodings_are_illegal() {
    let mut bench = Bench::new();
    for low in [0x001f, 0x003f, 0x007f, 0xffff_u32] {
        let trap = bench.trap_bytes(&[low.to_le_bytes(), [0; 4]].concat());
        assert!(
            matches!(trap, Trap::Illegal { bits } if bits & 0xffff == low),
            "{low:#x}: {trap:x?}"
        );
    }
}

#[test]
fn environment_calls_and_breakpoints_stop_at_themselves() {
    let mut bench = Bench::new();
    assert_eq!(bench.trap_bytes(&0x0000_0073u32.to_le_bytes()), Trap::Syscall);
    assert_eq!(bench.trap_bytes(&0x0010_0073u32.to_le_bytes()), Trap::Breakpoint);
    assert_eq!(bench.trap_bytes(&0x9002u16.to_le_bytes()), Trap::Breakpoint);
}

#[test]
fn reserved_fields_that_must_be_ignored_are_ignored() {
    let mut bench = Bench::new();
    let encodings = [
        (0x0ff0_000f, "fence"),
        (0x8330_000f, "fence.tso"),
        (0x0100_000f, "pause"),
        (0x1230_850f, "a fence with registers"),
        (0xfff0_900f, "fence.i with an immediate and a source"),
        (0x0000_6013, "ori to x0, a prefetch hint"),
        (0x0000_7033, "and to x0, a hint"),
        (0xc010_2373, "rdtime"),
    ];
    for (bits, what) in encodings {
        bench.regs.x = [0; 32];
        let trap = bench.run_bytes(&u32::to_le_bytes(bits), 1);
        assert_eq!(trap, Trap::Quantum, "{what}");
        bench.regs.x[6] = 0;
        assert_eq!(bench.regs.x, [0; 32], "{what}");
    }
}

#[test]
fn a_trap_in_a_row_of_instructions_is_precise() {
    let mut bench = Bench::new();
    let mut code = Vec::new();
    for _ in 0..3 {
        Insn::new("addi").rd(5).rs1(5).imm(1).assemble(&mut code);
        Insn::new("c.addi").rd(5).imm(1).assemble(&mut code);
    }
    code.extend(0x0000_0073u32.to_le_bytes());
    Insn::new("addi").rd(5).imm(-1).assemble(&mut code);
    assert_eq!(bench.run_bytes(&code, 100), Trap::Syscall);
    assert_eq!((bench.regs.x[5], bench.regs.pc), (6, super::CODE_AT + 18));
    assert_eq!(bench.machine.hart.stats().instructions, 6, "the trapping one has not retired");
}

/// Whether the specification (unprivileged 20240411, tables 34 to 36) gives `bits` a meaning, hints included, on RV64 with F and D.
fn is_defined(bits: u16) -> bool {
    let (quadrant, funct3) = (bits & 3, bits >> 13);
    let rd = bits >> 7 & 31;
    // The six immediate bits that most forms share.
    let imm6 = bits >> 7 & 32 | bits >> 2 & 31;
    match (quadrant, funct3) {
        (0, 0) => bits >> 5 != 0,
        (0, 4) => false,
        (1, 1) => rd != 0,
        // With a zero immediate, both c.lui and c.addi16sp are reserved.
        (1, 3) => imm6 != 0,
        // c.subw, c.addw; the other two beside them are reserved.
        (1, 4) => bits >> 10 & 7 != 7 || bits >> 6 & 1 == 0,
        (2, 2 | 3) => rd != 0,
        // c.jr x0.
        (2, 4) => bits != 0x8002,
        _ => true,
    }
}

#[test]
fn every_short_encoding_is_legal_exactly_where_the_specification_defines_it() {
    let mut bench = Bench::new();
    for bits in (0..=u16::MAX).filter(|bits| bits & 3 != 3) {
        bench.regs.x = [super::DATA_AT + 512; 32];
        let trap = bench.run_bytes(&bits.to_le_bytes(), 1);
        let is_illegal = trap == Trap::Illegal { bits: bits.into() };
        assert_eq!(is_illegal, !is_defined(bits), "{bits:#06x}: {trap:x?}");
    }
}
