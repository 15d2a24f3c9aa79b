//! Which encodings are instructions, and a few whose fields are easy to get wrong.
//!
//! The numbers and lists were asked of GNU objdump 2.44 (all compressed encodings, 400,000 words) and of
//! Linux 6.12 on riscv64 (the reserved ones, and fences with reserved fields).

use super::*;

fn kind(bits: u32) -> Kind {
    decode(bits).kind
}

#[test]
fn as_many_compressed_encodings_are_legal_as_there_should_be() {
    let legal = |quadrant: u32| {
        (0..=0xffff).filter(|half| half & 3 == quadrant && kind(*half) != Kind::Illegal).count()
    };
    let all = 1 << 14;
    // Reserved: funct3 4; c.addi4spn 0.
    assert_eq!(legal(0), all - (1 << 11) - 8);
    // Reserved: c.addiw x0; c.lui 0 and c.addi16sp 0; two arithmetic functions.
    assert_eq!(legal(1), all - 64 - 32 - 2 * 64);
    // Reserved: c.lwsp x0; c.ldsp x0; c.jr x0.
    assert_eq!(legal(2), all - 64 - 64 - 1);
}

#[test]
fn reserved_encodings_are_illegal() {
    for bits in [
        0x0000,                          // defined illegal
        0x2005,                          // c.addiw x0
        0x4002,                          // c.lwsp x0
        0x6002,                          // c.ldsp x0
        0x6281,                          // c.lui, immediate 0
        0x6101,                          // c.addi16sp 0
        0x8002,                          // c.jr x0
        0x8000,                          // quadrant 0, funct3 4
        0x9c41,                          // arithmetic, 1 1 10
        0x9c61,                          // arithmetic, 1 1 11
        0x0200_d053,                     // fadd.d, rounding mode 5
        0x4200_5053,                     // fcvt.d.s, rounding mode 5
        0x0200_6053,                     // fadd.d, rounding mode 6
        0x0400_0053 | 2 << 25,           // half precision
        0x1015_202f,                     // lr.w with rs2
        0x0045_200f,                     // cbo.zero
        0x1050_0073,                     // wfi
        0x1020_0073,                     // sret
        0x0000_00f3,                     // ecall with rd
        0xc000_1073,                     // csrw cycle
        0xc00f_e073,                     // csrsi cycle, 31
        0x0000_4073,                     // system, funct3 4
        0x0000_1067,                     // jalr, funct3 1
        0x0200_1013 | 1 << 31,           // slli with a high bit
        0x0200_101b,                     // slliw by 32
        0x0000_7003,                     // load, funct3 7
        0x0000_4023,                     // store, funct3 4
        0x0000_2063,                     // branch, funct3 2
        0x4000_1033,                     // sll with funct7 0x20
        0x6000_0053 | 3 << 25 | 4 << 20, // conversion to no type
        0x0000_007f,                     // longer than 32 bits
        0xffff_ffff,
    ] {
        assert_eq!(kind(bits), Kind::Illegal, "{bits:#x}");
    }
}

#[test]
fn hints_and_reserved_fences_are_instructions() {
    for bits in [
        0x0001,                // c.nop
        0x0005,                // c.nop with an immediate
        0x6005,                // c.lui x0
        0x0282,                // c.slli by 0
        0x8006,                // c.mv x0
        0x9006,                // c.add x0
        0x0100_000f,           // pause
        0xfff0_028f | 6 << 15, // fence with reserved fields
        0x8330_000f,           // fence.tso
        0x0030_128f,           // fence.i with fields
        0xc010_6073,           // csrrsi time, 0: reads
    ] {
        assert_ne!(kind(bits), Kind::Illegal, "{bits:#x}");
    }
}

#[test]
fn immediates_keep_their_signs_and_bit_order() {
    let imm = |bits| decode(bits).imm;
    assert_eq!(imm(0xfff0_0513), -1); // li a0, -1
    assert_eq!(imm(0xfea4_2e23), -4); // sw a0, -4(s0)
    assert_eq!(imm(0xfe05_1ee3), -4); // bnez a0, .-4
    assert_eq!(imm(0x8000_006f), -0x10_0000); // j .-1M
    assert_eq!(imm(0x7fff_f0ef), 0xf_fffe); // jal .+1M-2
    assert_eq!(imm(0x8000_0537), i32::MIN); // lui a0, 0x80000
    assert_eq!(imm(0x43f5_5513), 63); // srai a0, a0, 63
    assert_eq!(imm(0xbfdd), -10); // c.j .-10
    assert_eq!(imm(0x717d), -16); // c.addi16sp sp, -16
    assert_eq!(imm(0x7139), -64); // c.addi16sp sp, -64
    assert_eq!(imm(0x0028), 8); // c.addi4spn a0, sp, 8
    assert_eq!(imm(0x757d), -0x1000); // c.lui a0, 0xfffff
    assert_eq!(imm(0xfd75), -4); // c.bnez a0, .-4
    assert_eq!(imm(0x7402), 32); // c.ldsp s0, 32(sp)
    assert_eq!(imm(0xf022), 32); // c.sdsp s0, 32(sp)
}

#[test]
fn accesses_are_counted_by_kind() {
    let counts = |bits| (kind(bits).loads(), kind(bits).stores());
    assert_eq!(counts(0x0005_3503), (1, 0)); // ld
    assert_eq!(counts(0x0005_3507), (1, 0)); // fld
    assert_eq!(counts(0x00a5_3023), (0, 1)); // sd
    assert_eq!(counts(0x1005_352f), (1, 0)); // lr.d
    assert_eq!(counts(0x18a5_352f), (0, 1)); // sc.d
    assert_eq!(counts(0x00a5_352f), (1, 1)); // amoadd.d
    assert_eq!(counts(0xe0a5_252f), (1, 1)); // amomaxu.w
    assert_eq!(counts(0x00a5_0533), (0, 0)); // add
}
