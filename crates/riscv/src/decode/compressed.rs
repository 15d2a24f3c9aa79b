//! The 16-bit instructions of RV64 with D (RISC-V Unprivileged 20240411, chapter 28).

use super::insn::{Insn, Kind};

/// The fields of a compressed instruction.
#[derive(Clone, Copy)]
struct Half(u32);

impl Half {
    /// `to - from + 1` bits starting at `from`, put at bit `at`.
    const fn bits(self, from: u32, to: u32, at: u32) -> i32 {
        ((self.0 >> from & ((1 << (to - from + 1)) - 1)) << at) as i32
    }

    /// The full register field in bits 7 to 11.
    const fn rd(self) -> u8 {
        self.bits(7, 11, 0) as u8
    }
    /// The full register field in bits 2 to 6.
    const fn rs2(self) -> u8 {
        self.bits(2, 6, 0) as u8
    }
    /// x8 to x15 from bits 2 to 4.
    const fn low(self) -> u8 {
        8 + self.bits(2, 4, 0) as u8
    }
    /// x8 to x15 from bits 7 to 9.
    const fn high(self) -> u8 {
        8 + self.bits(7, 9, 0) as u8
    }
    /// The 6-bit immediate, sign-extended.
    const fn imm(self) -> i32 {
        self.shamt() << 26 >> 26
    }
    /// The 6-bit immediate.
    const fn shamt(self) -> i32 {
        self.bits(12, 12, 5) | self.bits(2, 6, 0)
    }
    /// Offset of a word: `uimm[5:3] .. uimm[2|6]`.
    const fn word(self) -> i32 {
        self.bits(10, 12, 3) | self.bits(6, 6, 2) | self.bits(5, 5, 6)
    }
    /// Offset of a doubleword: `uimm[5:3] .. uimm[7:6]`.
    const fn double(self) -> i32 {
        self.bits(10, 12, 3) | self.bits(5, 6, 6)
    }
    const fn word_from_sp(self) -> i32 {
        self.bits(12, 12, 5) | self.bits(4, 6, 2) | self.bits(2, 3, 6)
    }
    const fn double_from_sp(self) -> i32 {
        self.bits(12, 12, 5) | self.bits(5, 6, 3) | self.bits(2, 4, 6)
    }
    const fn word_to_sp(self) -> i32 {
        self.bits(9, 12, 2) | self.bits(7, 8, 6)
    }
    const fn double_to_sp(self) -> i32 {
        self.bits(10, 12, 3) | self.bits(7, 9, 6)
    }
    const fn jump(self) -> i32 {
        let raw = self.bits(12, 12, 11)
            | self.bits(11, 11, 4)
            | self.bits(9, 10, 8)
            | self.bits(8, 8, 10)
            | self.bits(7, 7, 6)
            | self.bits(6, 6, 7)
            | self.bits(3, 5, 1)
            | self.bits(2, 2, 5);
        raw << 20 >> 20
    }
    const fn branch(self) -> i32 {
        let raw = self.bits(12, 12, 8)
            | self.bits(10, 11, 3)
            | self.bits(5, 6, 6)
            | self.bits(3, 4, 1)
            | self.bits(2, 2, 5);
        raw << 23 >> 23
    }
}

/// Decodes a compressed instruction; `None` when it is reserved.
pub(super) fn decode(half: u16) -> Option<Insn> {
    let h = Half(u32::from(half));
    match half & 3 {
        0 => quadrant_0(h),
        1 => quadrant_1(h),
        _ => quadrant_2(h),
    }
}

const SP: u8 = 2;

fn quadrant_0(h: Half) -> Option<Insn> {
    use Kind::*;
    let load = |kind, imm| Some(Insn::new(kind, h.low(), h.high(), 0, imm));
    let store = |kind, imm| Some(Insn::new(kind, 0, h.high(), h.low(), imm));
    match h.0 >> 13 {
        0 => {
            let imm = h.bits(11, 12, 4) | h.bits(7, 10, 6) | h.bits(6, 6, 2) | h.bits(5, 5, 3);
            // Zero is reserved, and with all other bits zero too the defined illegal one.
            (imm != 0).then_some(Insn::new(Addi, h.low(), SP, 0, imm))
        }
        1 => load(Fld, h.double()),
        2 => load(Lw, h.word()),
        3 => load(Ld, h.double()),
        5 => store(Fsd, h.double()),
        6 => store(Sw, h.word()),
        7 => store(Sd, h.double()),
        _ => None,
    }
}

fn quadrant_1(h: Half) -> Option<Insn> {
    use Kind::*;
    let rd = h.rd();
    Some(match h.0 >> 13 {
        0 => Insn::new(Addi, rd, rd, 0, h.imm()),
        1 if rd != 0 => Insn::new(Addiw, rd, rd, 0, h.imm()),
        2 => Insn::new(Addi, rd, 0, 0, h.imm()),
        3 if rd == SP => {
            let raw = h.bits(12, 12, 9)
                | h.bits(6, 6, 4)
                | h.bits(5, 5, 6)
                | h.bits(3, 4, 7)
                | h.bits(2, 2, 5);
            if raw == 0 {
                return None;
            }
            Insn::new(Addi, SP, SP, 0, raw << 22 >> 22)
        }
        3 if h.imm() != 0 => Insn::new(Lui, rd, 0, 0, h.imm() << 12),
        4 => return arithmetic(h),
        5 => Insn::new(Jal, 0, 0, 0, h.jump()),
        6 => Insn::new(Beq, 0, h.high(), 0, h.branch()),
        7 => Insn::new(Bne, 0, h.high(), 0, h.branch()),
        _ => return None,
    })
}

fn arithmetic(h: Half) -> Option<Insn> {
    use Kind::*;
    let rd = h.high();
    let kind = match (h.bits(10, 11, 0), h.bits(12, 12, 0), h.bits(5, 6, 0)) {
        (0, _, _) => return Some(Insn::new(Srli, rd, rd, 0, h.shamt())),
        (1, _, _) => return Some(Insn::new(Srai, rd, rd, 0, h.shamt())),
        (2, _, _) => return Some(Insn::new(Andi, rd, rd, 0, h.imm())),
        (_, 0, 0) => Sub,
        (_, 0, 1) => Xor,
        (_, 0, 2) => Or,
        (_, 0, _) => And,
        (_, _, 0) => Subw,
        (_, _, 1) => Addw,
        _ => return None,
    };
    Some(Insn::new(kind, rd, rd, h.low(), 0))
}

fn quadrant_2(h: Half) -> Option<Insn> {
    use Kind::*;
    let (rd, rs2) = (h.rd(), h.rs2());
    Some(match h.0 >> 13 {
        0 => Insn::new(Slli, rd, rd, 0, h.shamt()),
        1 => Insn::new(Fld, rd, SP, 0, h.double_from_sp()),
        2 if rd != 0 => Insn::new(Lw, rd, SP, 0, h.word_from_sp()),
        3 if rd != 0 => Insn::new(Ld, rd, SP, 0, h.double_from_sp()),
        4 => match (h.bits(12, 12, 0), rd, rs2) {
            (0, 0, 0) => return None,
            (0, _, 0) => Insn::new(Jalr, 0, rd, 0, 0),
            (0, _, _) => Insn::new(Add, rd, 0, rs2, 0),
            (_, 0, 0) => Insn::new(Ebreak, 0, 0, 0, 0),
            (_, _, 0) => Insn::new(Jalr, 1, rd, 0, 0),
            _ => Insn::new(Add, rd, rd, rs2, 0),
        },
        5 => Insn::new(Fsd, 0, SP, rs2, h.double_to_sp()),
        6 => Insn::new(Sw, 0, SP, rs2, h.word_to_sp()),
        7 => Insn::new(Sd, 0, SP, rs2, h.double_to_sp()),
        _ => return None,
    })
}
