//! From instruction bits to [`Insn`].
//!
//! Exactly the user-level RV64GC encodings decode (RISC-V Unprivileged 20240411, chapter 36, and
//! 28 for compressed ones); whatever is reserved is [`Kind::Illegal`], hints do nothing.
//! [`compressed`] has the 16-bit forms. Neighbour: `block` turns the result into operations.

pub(crate) mod compressed;
pub(crate) mod insn;

pub(crate) use insn::{Insn, Kind, RM_DYNAMIC};

/// Length in bytes of the instruction whose first half is `low`. Longer formats than 32 bits have
/// no instruction here; they count as 4 bytes of something illegal.
#[inline]
pub(crate) const fn length(low: u16) -> u8 {
    if low & 3 == 3 { 4 } else { 2 }
}

/// Decodes `bits`, of which only the lower half counts when that is a compressed instruction.
pub(crate) fn decode(bits: u32) -> Insn {
    if length(bits as u16) == 2 {
        let half = bits as u16;
        match compressed::decode(half) {
            Some(insn) => Insn { len: 2, ..insn },
            None => Insn { len: 2, ..illegal(u32::from(half)) },
        }
    } else {
        decode_word(bits).unwrap_or(illegal(bits))
    }
}

const fn illegal(bits: u32) -> Insn {
    Insn::new(Kind::Illegal, 0, 0, 0, bits as i32)
}

/// The fields of a 32-bit instruction.
#[derive(Clone, Copy)]
struct Word(u32);

impl Word {
    const fn rd(self) -> u8 {
        (self.0 >> 7 & 31) as u8
    }
    const fn rs1(self) -> u8 {
        (self.0 >> 15 & 31) as u8
    }
    const fn rs2(self) -> u8 {
        (self.0 >> 20 & 31) as u8
    }
    const fn rs3(self) -> u8 {
        (self.0 >> 27) as u8
    }
    const fn funct3(self) -> u32 {
        self.0 >> 12 & 7
    }
    const fn funct7(self) -> u32 {
        self.0 >> 25
    }
    const fn imm_i(self) -> i32 {
        self.0 as i32 >> 20
    }
    const fn imm_s(self) -> i32 {
        (self.0 as i32 >> 25) << 5 | (self.0 >> 7 & 31) as i32
    }
    const fn imm_b(self) -> i32 {
        (self.0 as i32 >> 31) << 12
            | ((self.0 >> 7 & 1) << 11 | (self.0 >> 25 & 63) << 5 | (self.0 >> 8 & 15) << 1) as i32
    }
    const fn imm_u(self) -> i32 {
        (self.0 & 0xffff_f000) as i32
    }
    const fn imm_j(self) -> i32 {
        (self.0 as i32 >> 31) << 20
            | ((self.0 >> 12 & 255) << 12 | (self.0 >> 20 & 1) << 11 | (self.0 >> 21 & 1023) << 1)
                as i32
    }

    const fn r(self, kind: Kind) -> Insn {
        Insn::new(kind, self.rd(), self.rs1(), self.rs2(), 0)
    }
    const fn i(self, kind: Kind) -> Insn {
        Insn::new(kind, self.rd(), self.rs1(), 0, self.imm_i())
    }
    const fn s(self, kind: Kind) -> Insn {
        Insn::new(kind, 0, self.rs1(), self.rs2(), self.imm_s())
    }
    const fn b(self, kind: Kind) -> Insn {
        Insn::new(kind, 0, self.rs1(), self.rs2(), self.imm_b())
    }
    /// An immediate shift: `shamt` low bits of the immediate.
    const fn shift(self, kind: Kind, shamt: u32) -> Insn {
        Insn::new(kind, self.rd(), self.rs1(), 0, (self.0 >> 20 & shamt) as i32)
    }
}

#[rustfmt::skip]
fn decode_word(bits: u32) -> Option<Insn> {
    use Kind::*;
    let w = Word(bits);
    let f3 = w.funct3();
    Some(match bits & 0x7f {
        0x37 => Insn::new(Lui, w.rd(), 0, 0, w.imm_u()),
        0x17 => Insn::new(Auipc, w.rd(), 0, 0, w.imm_u()),
        0x6f => Insn::new(Jal, w.rd(), 0, 0, w.imm_j()),
        0x67 if f3 == 0 => w.i(Jalr),
        0x63 => w.b(match f3 {
            0 => Beq, 1 => Bne, 4 => Blt, 5 => Bge, 6 => Bltu, 7 => Bgeu, _ => return None,
        }),
        0x03 => w.i(match f3 {
            0 => Lb, 1 => Lh, 2 => Lw, 3 => Ld, 4 => Lbu, 5 => Lhu, 6 => Lwu, _ => return None,
        }),
        0x23 => w.s(match f3 { 0 => Sb, 1 => Sh, 2 => Sw, 3 => Sd, _ => return None }),
        0x13 => match f3 {
            0 => w.i(Addi), 2 => w.i(Slti), 3 => w.i(Sltiu),
            4 => w.i(Xori), 6 => w.i(Ori), 7 => w.i(Andi),
            1 if bits >> 26 == 0 => w.shift(Slli, 63),
            5 if bits >> 26 == 0 => w.shift(Srli, 63),
            5 if bits >> 26 == 0x10 => w.shift(Srai, 63),
            _ => return None,
        },
        0x1b => match (f3, w.funct7()) {
            (0, _) => w.i(Addiw),
            (1, 0) => w.shift(Slliw, 31),
            (5, 0) => w.shift(Srliw, 31),
            (5, 0x20) => w.shift(Sraiw, 31),
            _ => return None,
        },
        0x33 => w.r(match (w.funct7(), f3) {
            (0, 0) => Add, (0x20, 0) => Sub, (0, 1) => Sll, (0, 2) => Slt, (0, 3) => Sltu,
            (0, 4) => Xor, (0, 5) => Srl, (0x20, 5) => Sra, (0, 6) => Or, (0, 7) => And,
            (1, 0) => Mul, (1, 1) => Mulh, (1, 2) => Mulhsu, (1, 3) => Mulhu,
            (1, 4) => Div, (1, 5) => Divu, (1, 6) => Rem, (1, 7) => Remu,
            _ => return None,
        }),
        0x3b => w.r(match (w.funct7(), f3) {
            (0, 0) => Addw, (0x20, 0) => Subw, (0, 1) => Sllw, (0, 5) => Srlw, (0x20, 5) => Sraw,
            (1, 0) => Mulw, (1, 4) => Divw, (1, 5) => Divuw, (1, 6) => Remw, (1, 7) => Remuw,
            _ => return None,
        }),
        // The other fields of fences are reserved for finer ones, and to be ignored.
        0x0f if f3 <= 1 => Insn::new(Fence, 0, 0, 0, 0),
        0x73 => return decode_system(w),
        0x2f => return decode_atomic(w),
        0x07 => w.i(match f3 { 2 => Flw, 3 => Fld, _ => return None }),
        0x27 => w.s(match f3 { 2 => Fsw, 3 => Fsd, _ => return None }),
        0x43 => return decode_fused(w, FmaddS, FmaddD),
        0x47 => return decode_fused(w, FmsubS, FmsubD),
        0x4b => return decode_fused(w, FnmsubS, FnmsubD),
        0x4f => return decode_fused(w, FnmaddS, FnmaddD),
        0x53 => return decode_float(w),
        _ => return None,
    })
}

#[rustfmt::skip]
fn decode_system(w: Word) -> Option<Insn> {
    use Kind::*;
    let kind = match w.funct3() {
        0 if w.0 == 0x0000_0073 => Ecall,
        0 if w.0 == 0x0010_0073 => Ebreak,
        1 => Csrrw, 2 => Csrrs, 3 => Csrrc, 5 => Csrrwi, 6 => Csrrsi, 7 => Csrrci,
        _ => return None,
    };
    if matches!(kind, Ecall | Ebreak) {
        return Some(Insn::new(kind, 0, 0, 0, 0));
    }
    let csr = w.0 >> 20;
    let is_read_only = csr >> 10 == 3;
    let writes = matches!(kind, Csrrw | Csrrwi) || w.rs1() != 0;
    let exists = matches!(csr, 1..=3 | 0xc00..=0xc02);
    (exists && !(writes && is_read_only))
        .then_some(Insn::new(kind, w.rd(), w.rs1(), 0, csr as i32))
}

#[rustfmt::skip]
fn decode_atomic(w: Word) -> Option<Insn> {
    use Kind::*;
    let (word, double) = match w.0 >> 27 {
        2 if w.rs2() == 0 => (LrW, LrD),
        3 => (ScW, ScD), 1 => (AmoswapW, AmoswapD), 0 => (AmoaddW, AmoaddD),
        4 => (AmoxorW, AmoxorD), 0xc => (AmoandW, AmoandD), 8 => (AmoorW, AmoorD),
        0x10 => (AmominW, AmominD), 0x14 => (AmomaxW, AmomaxD),
        0x18 => (AmominuW, AmominuD), 0x1c => (AmomaxuW, AmomaxuD),
        _ => return None,
    };
    match w.funct3() { 2 => Some(w.r(word)), 3 => Some(w.r(double)), _ => None }
}

/// The rounding mode of `w`; `None` when reserved.
fn rounding(w: Word) -> Option<u8> {
    let rm = w.funct3() as u8;
    (rm <= 4 || rm == RM_DYNAMIC).then_some(rm)
}

fn decode_fused(w: Word, single: Kind, double: Kind) -> Option<Insn> {
    let kind = match w.0 >> 25 & 3 {
        0 => single,
        1 => double,
        _ => return None,
    };
    Some(Insn { rs3: w.rs3(), rm: rounding(w)?, ..w.r(kind) })
}

#[rustfmt::skip]
fn decode_float(w: Word) -> Option<Insn> {
    use Kind::*;
    let f3 = w.funct3();
    let rounded = |kind| Some(Insn { rm: rounding(w)?, ..w.r(kind) });
    let exact = |kind| Some(w.r(kind));
    let by_rs2 = |kinds: [Kind; 4]| rounded(*kinds.get(usize::from(w.rs2()))?);
    match w.funct7() {
        0x00 => rounded(FaddS), 0x01 => rounded(FaddD),
        0x04 => rounded(FsubS), 0x05 => rounded(FsubD),
        0x08 => rounded(FmulS), 0x09 => rounded(FmulD),
        0x0c => rounded(FdivS), 0x0d => rounded(FdivD),
        0x2c if w.rs2() == 0 => rounded(FsqrtS),
        0x2d if w.rs2() == 0 => rounded(FsqrtD),
        0x10 => exact(*[FsgnjS, FsgnjnS, FsgnjxS].get(f3 as usize)?),
        0x11 => exact(*[FsgnjD, FsgnjnD, FsgnjxD].get(f3 as usize)?),
        0x14 => exact(*[FminS, FmaxS].get(f3 as usize)?),
        0x15 => exact(*[FminD, FmaxD].get(f3 as usize)?),
        0x20 if w.rs2() == 1 => rounded(FcvtSD),
        0x21 if w.rs2() == 0 => rounded(FcvtDS),
        0x50 => exact(*[FleS, FltS, FeqS].get(f3 as usize)?),
        0x51 => exact(*[FleD, FltD, FeqD].get(f3 as usize)?),
        0x60 => by_rs2([FcvtWS, FcvtWuS, FcvtLS, FcvtLuS]),
        0x61 => by_rs2([FcvtWD, FcvtWuD, FcvtLD, FcvtLuD]),
        0x68 => by_rs2([FcvtSW, FcvtSWu, FcvtSL, FcvtSLu]),
        0x69 => by_rs2([FcvtDW, FcvtDWu, FcvtDL, FcvtDLu]),
        0x70 if w.rs2() == 0 => exact(*[FmvXW, FclassS].get(f3 as usize)?),
        0x71 if w.rs2() == 0 => exact(*[FmvXD, FclassD].get(f3 as usize)?),
        0x78 if w.rs2() == 0 && f3 == 0 => exact(FmvWX),
        0x79 if w.rs2() == 0 && f3 == 0 => exact(FmvDX),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
