//! RV64GC user-level instructions as data: a table of encodings, and an assembler for one instruction.
//!
//! [`OPS`] names every instruction with its [`Form`] (which operands it has and where their bits go) and its fixed bits.
//! [`Insn`] is one with operands: [`Insn::encode`] gives its bytes, `Display` its text.

use std::fmt;

/// Which operands an instruction has, and how they are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// `rd, rs1, rs2`
    R,
    /// `rd, rs1, imm`
    I,
    /// `rd, rs1, shamt` of 6 bits
    Shift,
    /// `rd, rs1, shamt` of 5 bits
    ShiftW,
    /// `rd, imm`, the upper 20 bits
    U,
    /// `rd, imm(rs1)`
    Load,
    /// `rs2, imm(rs1)`
    Store,
    /// `rs1, rs2, offset`
    Branch,
    /// `rd, offset`
    Jal,
    /// `rd, imm(rs1)`, a jump
    Jalr,
    /// No operands
    Plain,
    /// `rd, rs2, (rs1)` with aq and rl in `rm`
    Amo,
    /// `rd, (rs1)` with aq and rl in `rm`
    Lr,
    /// `rd, csr, rs1`
    Csr,
    /// `rd, csr, imm`; `imm` is in `rs1`
    CsrImm,
    /// `fd, imm(rs1)`
    FLoad,
    /// `fs2, imm(rs1)`
    FStore,
    /// `fd, fs1, fs2`, rounded
    FRounded,
    /// `fd, fs1, fs2`
    FExact,
    /// `fd, fs1`, rounded
    FUnary,
    /// `rd, fs1`, rounded
    FToX,
    /// `rd, fs1`
    FToXExact,
    /// `fd, rs1`, rounded
    XToF,
    /// `fd, rs1`
    XToFExact,
    /// `rd, fs1, fs2`
    FCompare,
    /// `fd, fs1, fs2, fs3`, rounded
    Fused,
    /// `c.addi4spn rd', imm`
    CAddi4spn,
    /// `rd', imm(rs1')`, the width in bytes
    CLoad(u8),
    /// `rs2', imm(rs1')`, the width in bytes
    CStore(u8),
    /// `fd', imm(rs1')`
    CFLoad,
    /// `fs2', imm(rs1')`
    CFStore,
    /// `rd, imm` of 6 bits, signed
    CI,
    /// `rd, imm`, a multiple of 4096
    CLui,
    /// `c.addi16sp imm`
    CAddi16sp,
    /// `rd, shamt`
    CShift,
    /// `rd', shamt`
    CShiftPrime,
    /// `c.andi rd', imm`
    CAndi,
    /// `rd', rs2'`
    CA,
    /// `rd, rs2`
    CR,
    /// `rs1`, a jump
    CJumpReg,
    /// `c.j offset`
    CJ,
    /// `rs1', offset`
    CBranch,
    /// `rd, imm(sp)`, the width in bytes
    CLoadSp(u8),
    /// `rs2, imm(sp)`, the width in bytes
    CStoreSp(u8),
    /// `fd, imm(sp)`
    CFLoadSp,
    /// `fs2, imm(sp)`
    CFStoreSp,
}

/// An instruction without operands.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Op {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// The fixed bits; a compressed instruction's in the lower half.
    base: u32,
}

/// `funct7 << 25 | funct3 << 12 | opcode`.
const fn fixed(funct7: u32, funct3: u32, opcode: u32) -> u32 {
    funct7 << 25 | funct3 << 12 | opcode
}

impl Op {
    /// Whether the rounding mode is an operand.
    pub(crate) fn has_rounding_mode(&self) -> bool {
        use Form::{FRounded, FToX, FUnary, Fused, XToF};
        matches!(self.form, FRounded | FToX | FUnary | Fused | XToF)
    }
}

const fn op(name: &'static str, form: Form, base: u32) -> Op {
    Op { name, form, base }
}

/// An operation of the F (`double` 0) or D (1) extension: `funct5`, and `rs2` or `rm` where they are fixed.
const fn float(name: &'static str, form: Form, funct5: u32, double: u32, rs2: u32, rm: u32) -> Op {
    op(name, form, fixed(funct5 << 2 | double, rm, 0x53) | rs2 << 20)
}

const fn amo(name: &'static str, form: Form, funct5: u32, width: u32) -> Op {
    op(name, form, fixed(funct5 << 2, width, 0x2f))
}

/// A compressed instruction of quadrant `quadrant` with `funct3` in its top bits.
const fn short(name: &'static str, form: Form, funct3: u32, quadrant: u32, more: u32) -> Op {
    op(name, form, funct3 << 13 | quadrant | more)
}

/// Every user-level instruction of RV64GC but `ecall`, `ebreak` and `c.nop`.
pub(crate) static OPS: &[Op] = &[
    op("add", Form::R, fixed(0, 0, 0x33)),
    op("sub", Form::R, fixed(0x20, 0, 0x33)),
    op("sll", Form::R, fixed(0, 1, 0x33)),
    op("slt", Form::R, fixed(0, 2, 0x33)),
    op("sltu", Form::R, fixed(0, 3, 0x33)),
    op("xor", Form::R, fixed(0, 4, 0x33)),
    op("srl", Form::R, fixed(0, 5, 0x33)),
    op("sra", Form::R, fixed(0x20, 5, 0x33)),
    op("or", Form::R, fixed(0, 6, 0x33)),
    op("and", Form::R, fixed(0, 7, 0x33)),
    op("addw", Form::R, fixed(0, 0, 0x3b)),
    op("subw", Form::R, fixed(0x20, 0, 0x3b)),
    op("sllw", Form::R, fixed(0, 1, 0x3b)),
    op("srlw", Form::R, fixed(0, 5, 0x3b)),
    op("sraw", Form::R, fixed(0x20, 5, 0x3b)),
    op("mul", Form::R, fixed(1, 0, 0x33)),
    op("mulh", Form::R, fixed(1, 1, 0x33)),
    op("mulhsu", Form::R, fixed(1, 2, 0x33)),
    op("mulhu", Form::R, fixed(1, 3, 0x33)),
    op("div", Form::R, fixed(1, 4, 0x33)),
    op("divu", Form::R, fixed(1, 5, 0x33)),
    op("rem", Form::R, fixed(1, 6, 0x33)),
    op("remu", Form::R, fixed(1, 7, 0x33)),
    op("mulw", Form::R, fixed(1, 0, 0x3b)),
    op("divw", Form::R, fixed(1, 4, 0x3b)),
    op("divuw", Form::R, fixed(1, 5, 0x3b)),
    op("remw", Form::R, fixed(1, 6, 0x3b)),
    op("remuw", Form::R, fixed(1, 7, 0x3b)),
    op("addi", Form::I, fixed(0, 0, 0x13)),
    op("slti", Form::I, fixed(0, 2, 0x13)),
    op("sltiu", Form::I, fixed(0, 3, 0x13)),
    op("xori", Form::I, fixed(0, 4, 0x13)),
    op("ori", Form::I, fixed(0, 6, 0x13)),
    op("andi", Form::I, fixed(0, 7, 0x13)),
    op("addiw", Form::I, fixed(0, 0, 0x1b)),
    op("slli", Form::Shift, fixed(0, 1, 0x13)),
    op("srli", Form::Shift, fixed(0, 5, 0x13)),
    op("srai", Form::Shift, fixed(0x20, 5, 0x13)),
    op("slliw", Form::ShiftW, fixed(0, 1, 0x1b)),
    op("srliw", Form::ShiftW, fixed(0, 5, 0x1b)),
    op("sraiw", Form::ShiftW, fixed(0x20, 5, 0x1b)),
    op("lui", Form::U, 0x37),
    op("auipc", Form::U, 0x17),
    op("lb", Form::Load, fixed(0, 0, 0x03)),
    op("lh", Form::Load, fixed(0, 1, 0x03)),
    op("lw", Form::Load, fixed(0, 2, 0x03)),
    op("ld", Form::Load, fixed(0, 3, 0x03)),
    op("lbu", Form::Load, fixed(0, 4, 0x03)),
    op("lhu", Form::Load, fixed(0, 5, 0x03)),
    op("lwu", Form::Load, fixed(0, 6, 0x03)),
    op("sb", Form::Store, fixed(0, 0, 0x23)),
    op("sh", Form::Store, fixed(0, 1, 0x23)),
    op("sw", Form::Store, fixed(0, 2, 0x23)),
    op("sd", Form::Store, fixed(0, 3, 0x23)),
    op("beq", Form::Branch, fixed(0, 0, 0x63)),
    op("bne", Form::Branch, fixed(0, 1, 0x63)),
    op("blt", Form::Branch, fixed(0, 4, 0x63)),
    op("bge", Form::Branch, fixed(0, 5, 0x63)),
    op("bltu", Form::Branch, fixed(0, 6, 0x63)),
    op("bgeu", Form::Branch, fixed(0, 7, 0x63)),
    op("jal", Form::Jal, 0x6f),
    op("jalr", Form::Jalr, 0x67),
    op("fence", Form::Plain, 0x0ff0_000f),
    op("fence.tso", Form::Plain, 0x8330_000f),
    op("pause", Form::Plain, 0x0100_000f),
    op("fence.i", Form::Plain, 0x0000_100f),
    amo("lr.w", Form::Lr, 2, 2),
    amo("sc.w", Form::Amo, 3, 2),
    amo("amoswap.w", Form::Amo, 1, 2),
    amo("amoadd.w", Form::Amo, 0, 2),
    amo("amoxor.w", Form::Amo, 4, 2),
    amo("amoand.w", Form::Amo, 12, 2),
    amo("amoor.w", Form::Amo, 8, 2),
    amo("amomin.w", Form::Amo, 16, 2),
    amo("amomax.w", Form::Amo, 20, 2),
    amo("amominu.w", Form::Amo, 24, 2),
    amo("amomaxu.w", Form::Amo, 28, 2),
    amo("lr.d", Form::Lr, 2, 3),
    amo("sc.d", Form::Amo, 3, 3),
    amo("amoswap.d", Form::Amo, 1, 3),
    amo("amoadd.d", Form::Amo, 0, 3),
    amo("amoxor.d", Form::Amo, 4, 3),
    amo("amoand.d", Form::Amo, 12, 3),
    amo("amoor.d", Form::Amo, 8, 3),
    amo("amomin.d", Form::Amo, 16, 3),
    amo("amomax.d", Form::Amo, 20, 3),
    amo("amominu.d", Form::Amo, 24, 3),
    amo("amomaxu.d", Form::Amo, 28, 3),
    op("csrrw", Form::Csr, fixed(0, 1, 0x73)),
    op("csrrs", Form::Csr, fixed(0, 2, 0x73)),
    op("csrrc", Form::Csr, fixed(0, 3, 0x73)),
    op("csrrwi", Form::CsrImm, fixed(0, 5, 0x73)),
    op("csrrsi", Form::CsrImm, fixed(0, 6, 0x73)),
    op("csrrci", Form::CsrImm, fixed(0, 7, 0x73)),
    op("flw", Form::FLoad, fixed(0, 2, 0x07)),
    op("fld", Form::FLoad, fixed(0, 3, 0x07)),
    op("fsw", Form::FStore, fixed(0, 2, 0x27)),
    op("fsd", Form::FStore, fixed(0, 3, 0x27)),
    op("fmadd.s", Form::Fused, 0x43),
    op("fmsub.s", Form::Fused, 0x47),
    op("fnmsub.s", Form::Fused, 0x4b),
    op("fnmadd.s", Form::Fused, 0x4f),
    op("fmadd.d", Form::Fused, 1 << 25 | 0x43),
    op("fmsub.d", Form::Fused, 1 << 25 | 0x47),
    op("fnmsub.d", Form::Fused, 1 << 25 | 0x4b),
    op("fnmadd.d", Form::Fused, 1 << 25 | 0x4f),
    float("fadd.s", Form::FRounded, 0, 0, 0, 0),
    float("fsub.s", Form::FRounded, 1, 0, 0, 0),
    float("fmul.s", Form::FRounded, 2, 0, 0, 0),
    float("fdiv.s", Form::FRounded, 3, 0, 0, 0),
    float("fsqrt.s", Form::FUnary, 11, 0, 0, 0),
    float("fsgnj.s", Form::FExact, 4, 0, 0, 0),
    float("fsgnjn.s", Form::FExact, 4, 0, 0, 1),
    float("fsgnjx.s", Form::FExact, 4, 0, 0, 2),
    float("fmin.s", Form::FExact, 5, 0, 0, 0),
    float("fmax.s", Form::FExact, 5, 0, 0, 1),
    float("fle.s", Form::FCompare, 20, 0, 0, 0),
    float("flt.s", Form::FCompare, 20, 0, 0, 1),
    float("feq.s", Form::FCompare, 20, 0, 0, 2),
    float("fclass.s", Form::FToXExact, 28, 0, 0, 1),
    float("fmv.x.w", Form::FToXExact, 28, 0, 0, 0),
    float("fmv.w.x", Form::XToFExact, 30, 0, 0, 0),
    float("fcvt.w.s", Form::FToX, 24, 0, 0, 0),
    float("fcvt.wu.s", Form::FToX, 24, 0, 1, 0),
    float("fcvt.l.s", Form::FToX, 24, 0, 2, 0),
    float("fcvt.lu.s", Form::FToX, 24, 0, 3, 0),
    float("fcvt.s.w", Form::XToF, 26, 0, 0, 0),
    float("fcvt.s.wu", Form::XToF, 26, 0, 1, 0),
    float("fcvt.s.l", Form::XToF, 26, 0, 2, 0),
    float("fcvt.s.lu", Form::XToF, 26, 0, 3, 0),
    float("fadd.d", Form::FRounded, 0, 1, 0, 0),
    float("fsub.d", Form::FRounded, 1, 1, 0, 0),
    float("fmul.d", Form::FRounded, 2, 1, 0, 0),
    float("fdiv.d", Form::FRounded, 3, 1, 0, 0),
    float("fsqrt.d", Form::FUnary, 11, 1, 0, 0),
    float("fsgnj.d", Form::FExact, 4, 1, 0, 0),
    float("fsgnjn.d", Form::FExact, 4, 1, 0, 1),
    float("fsgnjx.d", Form::FExact, 4, 1, 0, 2),
    float("fmin.d", Form::FExact, 5, 1, 0, 0),
    float("fmax.d", Form::FExact, 5, 1, 0, 1),
    float("fle.d", Form::FCompare, 20, 1, 0, 0),
    float("flt.d", Form::FCompare, 20, 1, 0, 1),
    float("feq.d", Form::FCompare, 20, 1, 0, 2),
    float("fclass.d", Form::FToXExact, 28, 1, 0, 1),
    float("fmv.x.d", Form::FToXExact, 28, 1, 0, 0),
    float("fmv.d.x", Form::XToFExact, 30, 1, 0, 0),
    float("fcvt.w.d", Form::FToX, 24, 1, 0, 0),
    float("fcvt.wu.d", Form::FToX, 24, 1, 1, 0),
    float("fcvt.l.d", Form::FToX, 24, 1, 2, 0),
    float("fcvt.lu.d", Form::FToX, 24, 1, 3, 0),
    float("fcvt.d.w", Form::XToF, 26, 1, 0, 0),
    float("fcvt.d.wu", Form::XToF, 26, 1, 1, 0),
    float("fcvt.d.l", Form::XToF, 26, 1, 2, 0),
    float("fcvt.d.lu", Form::XToF, 26, 1, 3, 0),
    float("fcvt.s.d", Form::FUnary, 8, 0, 1, 0),
    float("fcvt.d.s", Form::FUnary, 8, 1, 0, 0),
    short("c.addi4spn", Form::CAddi4spn, 0, 0, 0),
    short("c.fld", Form::CFLoad, 1, 0, 0),
    short("c.lw", Form::CLoad(4), 2, 0, 0),
    short("c.ld", Form::CLoad(8), 3, 0, 0),
    short("c.fsd", Form::CFStore, 5, 0, 0),
    short("c.sw", Form::CStore(4), 6, 0, 0),
    short("c.sd", Form::CStore(8), 7, 0, 0),
    short("c.addi", Form::CI, 0, 1, 0),
    short("c.addiw", Form::CI, 1, 1, 0),
    short("c.li", Form::CI, 2, 1, 0),
    short("c.addi16sp", Form::CAddi16sp, 3, 1, 0),
    short("c.lui", Form::CLui, 3, 1, 0),
    short("c.srli", Form::CShiftPrime, 4, 1, 0),
    short("c.srai", Form::CShiftPrime, 4, 1, 1 << 10),
    short("c.andi", Form::CAndi, 4, 1, 2 << 10),
    short("c.sub", Form::CA, 4, 1, 3 << 10),
    short("c.xor", Form::CA, 4, 1, 3 << 10 | 1 << 5),
    short("c.or", Form::CA, 4, 1, 3 << 10 | 2 << 5),
    short("c.and", Form::CA, 4, 1, 3 << 10 | 3 << 5),
    short("c.subw", Form::CA, 4, 1, 7 << 10),
    short("c.addw", Form::CA, 4, 1, 7 << 10 | 1 << 5),
    short("c.j", Form::CJ, 5, 1, 0),
    short("c.beqz", Form::CBranch, 6, 1, 0),
    short("c.bnez", Form::CBranch, 7, 1, 0),
    short("c.slli", Form::CShift, 0, 2, 0),
    short("c.fldsp", Form::CFLoadSp, 1, 2, 0),
    short("c.lwsp", Form::CLoadSp(4), 2, 2, 0),
    short("c.ldsp", Form::CLoadSp(8), 3, 2, 0),
    short("c.jr", Form::CJumpReg, 4, 2, 0),
    short("c.mv", Form::CR, 4, 2, 0),
    short("c.jalr", Form::CJumpReg, 4, 2, 1 << 12),
    short("c.add", Form::CR, 4, 2, 1 << 12),
    short("c.fsdsp", Form::CFStoreSp, 5, 2, 0),
    short("c.swsp", Form::CStoreSp(4), 6, 2, 0),
    short("c.sdsp", Form::CStoreSp(8), 7, 2, 0),
];

/// An instruction with operands; those its form does not have are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Insn {
    pub(crate) op: &'static Op,
    pub(crate) rd: u8,
    pub(crate) rs1: u8,
    pub(crate) rs2: u8,
    pub(crate) rs3: u8,
    pub(crate) imm: i64,
    /// Rounding mode; of an atomic: aq and rl.
    pub(crate) rm: u8,
}

/// Places bits `high..=low` of `value` at `at`.
fn place(value: i64, high: u32, low: u32, at: u32) -> u32 {
    ((value >> low) as u32 & ((1 << (high - low + 1)) - 1)) << at
}

impl Insn {
    /// The instruction `name` with all operands 0.
    ///
    /// # Panics
    /// When [`OPS`] has no such name.
    pub(crate) fn new(name: &str) -> Self {
        let op = OPS
            .iter()
            .find(|op| op.name == name)
            .unwrap_or_else(|| panic!("no instruction {name}"));
        Self::of(op)
    }

    pub(crate) fn of(op: &'static Op) -> Self {
        Self { op, rd: 0, rs1: 0, rs2: 0, rs3: 0, imm: 0, rm: 0 }
    }

    pub(crate) fn rd(self, rd: u8) -> Self {
        Self { rd, ..self }
    }

    pub(crate) fn rs1(self, rs1: u8) -> Self {
        Self { rs1, ..self }
    }

    pub(crate) fn rs2(self, rs2: u8) -> Self {
        Self { rs2, ..self }
    }

    pub(crate) fn imm(self, imm: i64) -> Self {
        Self { imm, ..self }
    }

    pub(crate) fn rm(self, rm: u8) -> Self {
        Self { rm, ..self }
    }

    /// Bytes the instruction takes.
    pub(crate) fn length(&self) -> i64 {
        if self.op.base & 3 == 3 { 4 } else { 2 }
    }

    /// The instruction's bits; a compressed one's in the lower half.
    pub(crate) fn encode(&self) -> u32 {
        let (rd, rs1, rs2) =
            (u32::from(self.rd) << 7, u32::from(self.rs1) << 15, u32::from(self.rs2) << 20);
        let (rs3, rm) = (u32::from(self.rs3) << 27, u32::from(self.rm) << 12);
        let imm = self.imm;
        self.op.base
            | match self.op.form {
                Form::R | Form::FExact | Form::FCompare => rd | rs1 | rs2,
                Form::I | Form::Load | Form::FLoad | Form::Jalr => rd | rs1 | place(imm, 11, 0, 20),
                Form::Shift => rd | rs1 | place(imm, 5, 0, 20),
                Form::ShiftW => rd | rs1 | place(imm, 4, 0, 20),
                Form::U => rd | place(imm, 31, 12, 12),
                Form::Store | Form::FStore => {
                    rs1 | rs2 | place(imm, 11, 5, 25) | place(imm, 4, 0, 7)
                }
                Form::Branch => {
                    let high = place(imm, 12, 12, 31) | place(imm, 10, 5, 25);
                    rs1 | rs2 | high | place(imm, 4, 1, 8) | place(imm, 11, 11, 7)
                }
                Form::Jal => {
                    let high = place(imm, 20, 20, 31) | place(imm, 10, 1, 21);
                    rd | high | place(imm, 11, 11, 20) | place(imm, 19, 12, 12)
                }
                Form::Plain => 0,
                Form::Amo => rd | rs1 | rs2 | u32::from(self.rm) << 25,
                Form::Lr => rd | rs1 | u32::from(self.rm) << 25,
                Form::Csr | Form::CsrImm => rd | rs1 | place(imm, 11, 0, 20),
                Form::FRounded => rd | rs1 | rs2 | rm,
                Form::FUnary | Form::FToX | Form::XToF => rd | rs1 | rm,
                Form::FToXExact | Form::XToFExact => rd | rs1,
                Form::Fused => rd | rs1 | rs2 | rs3 | rm,
                _ => self.compressed_operands(),
            }
    }

    /// The operand bits of the compressed forms (RISC-V unprivileged 20240411, chapter 26).
    fn compressed_operands(&self) -> u32 {
        let imm = self.imm;
        let (rd, rs2) = (u32::from(self.rd) << 7, u32::from(self.rs2) << 2);
        // Three-bit register fields name x8 to x15.
        let prime = |register: u8, at: u32| u32::from(register & 7) << at;
        let (rd_low, rs1_mid, rs2_low) =
            (prime(self.rd, 2), prime(self.rs1, 7), prime(self.rs2, 2));
        let imm6 = place(imm, 5, 5, 12) | place(imm, 4, 0, 2);
        let word = place(imm, 5, 3, 10) | place(imm, 2, 2, 6) | place(imm, 6, 6, 5);
        let double = place(imm, 5, 3, 10) | place(imm, 7, 6, 5);
        match self.op.form {
            Form::CAddi4spn => {
                let imm = place(imm, 5, 4, 11)
                    | place(imm, 9, 6, 7)
                    | place(imm, 2, 2, 6)
                    | place(imm, 3, 3, 5);
                rd_low | imm
            }
            Form::CLoad(4) => rd_low | rs1_mid | word,
            Form::CLoad(_) | Form::CFLoad => rd_low | rs1_mid | double,
            Form::CStore(4) => rs2_low | rs1_mid | word,
            Form::CStore(_) | Form::CFStore => rs2_low | rs1_mid | double,
            Form::CI | Form::CShift => rd | imm6,
            Form::CLui => rd | place(imm, 17, 17, 12) | place(imm, 16, 12, 2),
            Form::CAddi16sp => {
                let middle = place(imm, 4, 4, 6)
                    | place(imm, 6, 6, 5)
                    | place(imm, 8, 7, 3)
                    | place(imm, 5, 5, 2);
                2 << 7 | place(imm, 9, 9, 12) | middle
            }
            Form::CShiftPrime | Form::CAndi => prime(self.rd, 7) | imm6,
            Form::CA => prime(self.rd, 7) | rs2_low,
            Form::CR => rd | rs2,
            Form::CJumpReg => u32::from(self.rs1) << 7,
            Form::CJ => {
                let high = place(imm, 11, 11, 12)
                    | place(imm, 4, 4, 11)
                    | place(imm, 9, 8, 9)
                    | place(imm, 10, 10, 8);
                high | place(imm, 6, 6, 7)
                    | place(imm, 7, 7, 6)
                    | place(imm, 3, 1, 3)
                    | place(imm, 5, 5, 2)
            }
            Form::CBranch => {
                let high = place(imm, 8, 8, 12) | place(imm, 4, 3, 10);
                rs1_mid | high | place(imm, 7, 6, 5) | place(imm, 2, 1, 3) | place(imm, 5, 5, 2)
            }
            Form::CLoadSp(4) => {
                rd | place(imm, 5, 5, 12) | place(imm, 4, 2, 4) | place(imm, 7, 6, 2)
            }
            Form::CLoadSp(_) | Form::CFLoadSp => {
                rd | place(imm, 5, 5, 12) | place(imm, 4, 3, 5) | place(imm, 8, 6, 2)
            }
            Form::CStoreSp(4) => rs2 | place(imm, 5, 2, 9) | place(imm, 7, 6, 7),
            Form::CStoreSp(_) | Form::CFStoreSp => rs2 | place(imm, 5, 3, 10) | place(imm, 8, 6, 7),
            other => unreachable!("{other:?} is not a compressed form"),
        }
    }

    /// Appends the instruction's bytes.
    pub(crate) fn assemble(&self, code: &mut Vec<u8>) {
        code.extend_from_slice(&self.encode().to_le_bytes()[..self.length() as usize]);
    }
}

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, rd, rs1, rs2, rs3, imm, rm } = self;
        let mode = ["rne", "rtz", "rdn", "rup", "rmm", "rm5", "rm6", "dyn"][usize::from(*rm) % 8];
        write!(f, "{:<10} ", op.name)?;
        match op.form {
            Form::R => write!(f, "x{rd}, x{rs1}, x{rs2}"),
            Form::I | Form::Shift | Form::ShiftW => write!(f, "x{rd}, x{rs1}, {imm}"),
            Form::U => write!(f, "x{rd}, {:#x}", imm >> 12 & 0xf_ffff),
            Form::Load | Form::Jalr | Form::CLoad(_) => write!(f, "x{rd}, {imm}(x{rs1})"),
            Form::Store | Form::CStore(_) => write!(f, "x{rs2}, {imm}(x{rs1})"),
            Form::Branch => write!(f, "x{rs1}, x{rs2}, .{imm:+}"),
            Form::Jal => write!(f, "x{rd}, .{imm:+}"),
            Form::Plain => Ok(()),
            Form::Amo => write!(f, "x{rd}, x{rs2}, (x{rs1})"),
            Form::Lr => write!(f, "x{rd}, (x{rs1})"),
            Form::Csr => write!(f, "x{rd}, {imm:#x}, x{rs1}"),
            Form::CsrImm => write!(f, "x{rd}, {imm:#x}, {rs1}"),
            Form::FLoad | Form::CFLoad => write!(f, "f{rd}, {imm}(x{rs1})"),
            Form::FStore | Form::CFStore => write!(f, "f{rs2}, {imm}(x{rs1})"),
            Form::FRounded => write!(f, "f{rd}, f{rs1}, f{rs2}, {mode}"),
            Form::FExact => write!(f, "f{rd}, f{rs1}, f{rs2}"),
            Form::FUnary => write!(f, "f{rd}, f{rs1}, {mode}"),
            Form::FToX => write!(f, "x{rd}, f{rs1}, {mode}"),
            Form::FToXExact => write!(f, "x{rd}, f{rs1}"),
            Form::XToF => write!(f, "f{rd}, x{rs1}, {mode}"),
            Form::XToFExact => write!(f, "f{rd}, x{rs1}"),
            Form::FCompare => write!(f, "x{rd}, f{rs1}, f{rs2}"),
            Form::Fused => write!(f, "f{rd}, f{rs1}, f{rs2}, f{rs3}, {mode}"),
            Form::CAddi4spn => write!(f, "x{rd}, sp, {imm}"),
            Form::CI | Form::CLui | Form::CShift | Form::CShiftPrime | Form::CAndi => {
                write!(f, "x{rd}, {imm}")
            }
            Form::CAddi16sp => write!(f, "sp, {imm}"),
            Form::CA | Form::CR => write!(f, "x{rd}, x{rs2}"),
            Form::CJumpReg => write!(f, "x{rs1}"),
            Form::CJ => write!(f, ".{imm:+}"),
            Form::CBranch => write!(f, "x{rs1}, .{imm:+}"),
            Form::CLoadSp(_) => write!(f, "x{rd}, {imm}(sp)"),
            Form::CStoreSp(_) => write!(f, "x{rs2}, {imm}(sp)"),
            Form::CFLoadSp => write!(f, "f{rd}, {imm}(sp)"),
            Form::CFStoreSp => write!(f, "f{rs2}, {imm}(sp)"),
        }
    }
}

/// What GNU as makes of each of [`OPS`], in order, with the operands of [`sample`].
const SAMPLES: [u32; 191] = [
    0x00e506b3, 0x40e506b3, 0x00e516b3, 0x00e526b3, 0x00e536b3, 0x00e546b3, 0x00e556b3, 0x40e556b3,
    0x00e566b3, 0x00e576b3, 0x00e506bb, 0x40e506bb, 0x00e516bb, 0x00e556bb, 0x40e556bb, 0x02e506b3,
    0x02e516b3, 0x02e526b3, 0x02e536b3, 0x02e546b3, 0x02e556b3, 0x02e566b3, 0x02e576b3, 0x02e506bb,
    0x02e546bb, 0x02e556bb, 0x02e566bb, 0x02e576bb, 0xaaa50693, 0xaaa52693, 0xaaa53693, 0xaaa54693,
    0xaaa56693, 0xaaa57693, 0xaaa5069b, 0x02b51693, 0x02b55693, 0x42b55693, 0x0155169b, 0x0155569b,
    0x4155569b, 0x9abcd6b7, 0x9abcd697, 0xaaa50683, 0xaaa51683, 0xaaa52683, 0xaaa53683, 0xaaa54683,
    0xaaa55683, 0xaaa56683, 0xaae50523, 0xaae51523, 0xaae52523, 0xaae53523, 0xaae505e3, 0xaae515e3,
    0xaae545e3, 0xaae555e3, 0xaae565e3, 0xaae575e3, 0xaabaa6ef, 0xaaa506e7, 0x0ff0000f, 0x8330000f,
    0x0100000f, 0x0000100f, 0x160526af, 0x1ee526af, 0x0ee526af, 0x06e526af, 0x26e526af, 0x66e526af,
    0x46e526af, 0x86e526af, 0xa6e526af, 0xc6e526af, 0xe6e526af, 0x160536af, 0x1ee536af, 0x0ee536af,
    0x06e536af, 0x26e536af, 0x66e536af, 0x46e536af, 0x86e536af, 0xa6e536af, 0xc6e536af, 0xe6e536af,
    0x003516f3, 0x003526f3, 0x003536f3, 0x003556f3, 0x003566f3, 0x003576f3, 0xaaa52687, 0xaaa53687,
    0xaae52527, 0xaae53527, 0xd8e536c3, 0xd8e536c7, 0xd8e536cb, 0xd8e536cf, 0xdae536c3, 0xdae536c7,
    0xdae536cb, 0xdae536cf, 0x00e536d3, 0x08e536d3, 0x10e536d3, 0x18e536d3, 0x580536d3, 0x20e506d3,
    0x20e516d3, 0x20e526d3, 0x28e506d3, 0x28e516d3, 0xa0e506d3, 0xa0e516d3, 0xa0e526d3, 0xe00516d3,
    0xe00506d3, 0xf00506d3, 0xc00536d3, 0xc01536d3, 0xc02536d3, 0xc03536d3, 0xd00536d3, 0xd01536d3,
    0xd02536d3, 0xd03536d3, 0x02e536d3, 0x0ae536d3, 0x12e536d3, 0x1ae536d3, 0x5a0536d3, 0x22e506d3,
    0x22e516d3, 0x22e526d3, 0x2ae506d3, 0x2ae516d3, 0xa2e506d3, 0xa2e516d3, 0xa2e526d3, 0xe20516d3,
    0xe20506d3, 0xf20506d3, 0xc20536d3, 0xc21536d3, 0xc22536d3, 0xc23536d3, 0xd20506d3, 0xd21506d3,
    0xd22536d3, 0xd23536d3, 0x401536d3, 0x420506d3, 0x1574, 0x3554, 0x4974, 0x7554, 0xb558, 0xc978,
    0xf558, 0x16d5, 0x36d5, 0x56d5, 0x710d, 0x76d5, 0x92ad, 0x96ad, 0x9ad5, 0x8e99, 0x8eb9, 0x8ed9,
    0x8ef9, 0x9e99, 0x9eb9, 0xb46d, 0xd54d, 0xf54d, 0x16ae, 0x26f6, 0x56ba, 0x66f6, 0x8502, 0x86ba,
    0x9502, 0x96ba, 0xaeba, 0xd73a, 0xeeba,
];

/// `op` with operands that fill every field: `x13`, `x10`, `x14`, `f27`, round up, aq and rl, and an immediate.
fn sample(op: &'static Op) -> Insn {
    let imm = match op.form {
        Form::Shift | Form::CShift | Form::CShiftPrime => 43,
        Form::ShiftW => 21,
        Form::U => 0x9abc_d000,
        Form::Jal => -349_526,
        Form::Csr | Form::CsrImm => 3,
        Form::CAddi4spn => 684,
        Form::CLoad(4) | Form::CStore(4) => 84,
        Form::CLoad(_) | Form::CStore(_) | Form::CFLoad | Form::CFStore => 168,
        Form::CLoadSp(4) | Form::CStoreSp(4) => 172,
        Form::CLoadSp(_) | Form::CStoreSp(_) | Form::CFLoadSp | Form::CFStoreSp => 344,
        Form::CI | Form::CAndi => -11,
        Form::CLui => -11 * 4096,
        Form::CAddi16sp => -352,
        Form::CBranch => -86,
        _ => -1366,
    };
    // GNU as 2.40 takes no rounding mode where the result is always exact.
    let rm = if op.name.starts_with("fcvt.d.") && !op.name.contains(".l") { 0 } else { 3 };
    Insn { op, rd: 13, rs1: 10, rs2: 14, rs3: 27, imm, rm }
}

#[test]
fn encodings_are_those_of_gnu_as() {
    assert_eq!(OPS.len(), SAMPLES.len());
    for (op, expect) in OPS.iter().zip(SAMPLES) {
        let insn = sample(op);
        assert_eq!(insn.encode(), expect, "{insn}: {:#x}, expected {expect:#x}", insn.encode());
    }
}
