//! A decoded instruction: what it does ([`Kind`]) and its operands.

/// What an instruction does. Compressed instructions have the kind of what they stand for.
///
/// Ordering by class matters nowhere; names are the specification's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[rustfmt::skip]
pub(crate) enum Kind {
    // RV64I
    Lui, Auipc, Jal, Jalr,
    Beq, Bne, Blt, Bge, Bltu, Bgeu,
    Lb, Lh, Lw, Ld, Lbu, Lhu, Lwu,
    Sb, Sh, Sw, Sd,
    Addi, Slti, Sltiu, Xori, Ori, Andi, Slli, Srli, Srai,
    Addiw, Slliw, Srliw, Sraiw,
    Add, Sub, Sll, Slt, Sltu, Xor, Srl, Sra, Or, And,
    Addw, Subw, Sllw, Srlw, Sraw,
    /// `fence`, `fence.i`, `pause`: memory is sequentially consistent here, and code is dropped
    /// the moment it is written.
    Fence,
    Ecall, Ebreak,
    /// `csrr*`: register number in `imm`; rs1 names the source register.
    Csrrw, Csrrs, Csrrc,
    /// `csrr*i`: rs1 is the immediate.
    Csrrwi, Csrrsi, Csrrci,
    // M
    Mul, Mulh, Mulhsu, Mulhu, Div, Divu, Rem, Remu, Mulw, Divw, Divuw, Remw, Remuw,
    // A
    LrW, ScW, AmoswapW, AmoaddW, AmoxorW, AmoandW, AmoorW, AmominW, AmomaxW, AmominuW, AmomaxuW,
    LrD, ScD, AmoswapD, AmoaddD, AmoxorD, AmoandD, AmoorD, AmominD, AmomaxD, AmominuD, AmomaxuD,
    // F
    Flw, Fsw, FmaddS, FmsubS, FnmsubS, FnmaddS, FaddS, FsubS, FmulS, FdivS, FsqrtS,
    FsgnjS, FsgnjnS, FsgnjxS, FminS, FmaxS, FeqS, FltS, FleS, FclassS,
    FcvtWS, FcvtWuS, FcvtLS, FcvtLuS, FcvtSW, FcvtSWu, FcvtSL, FcvtSLu, FmvXW, FmvWX,
    // D
    Fld, Fsd, FmaddD, FmsubD, FnmsubD, FnmaddD, FaddD, FsubD, FmulD, FdivD, FsqrtD,
    FsgnjD, FsgnjnD, FsgnjxD, FminD, FmaxD, FeqD, FltD, FleD, FclassD,
    FcvtWD, FcvtWuD, FcvtLD, FcvtLuD, FcvtDW, FcvtDWu, FcvtDL, FcvtDLu, FmvXD, FmvDX,
    FcvtSD, FcvtDS,
    /// Reserved, of another privilege, or of an extension that is not there.
    Illegal,
}

/// The rounding-mode field that means "what `frm` says".
pub(crate) const RM_DYNAMIC: u8 = 7;

/// A decoded instruction. Fields an instruction has not are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Insn {
    pub(crate) kind: Kind,
    pub(crate) rd: u8,
    pub(crate) rs1: u8,
    pub(crate) rs2: u8,
    pub(crate) rs3: u8,
    /// Rounding mode, 0 to 4 or [`RM_DYNAMIC`].
    pub(crate) rm: u8,
    /// Length in bytes: 2 or 4.
    pub(crate) len: u8,
    /// Immediate, sign-extended as the instruction uses it; the raw bits when illegal.
    pub(crate) imm: i32,
}

impl Insn {
    /// `kind` with registers and immediate; the rest 0.
    pub(crate) const fn new(kind: Kind, rd: u8, rs1: u8, rs2: u8, imm: i32) -> Self {
        Self { kind, rd, rs1, rs2, rs3: 0, rm: 0, len: 4, imm }
    }
}

impl Kind {
    /// Loads an instruction of the kind makes: 0 or 1.
    pub(crate) fn loads(self) -> u64 {
        use Kind::*;
        u64::from(
            matches!(self, Lb | Lh | Lw | Ld | Lbu | Lhu | Lwu | Flw | Fld | LrW | LrD)
                || self.is_amo(),
        )
    }

    /// Stores an instruction of the kind makes: 0 or 1.
    pub(crate) fn stores(self) -> u64 {
        use Kind::*;
        u64::from(matches!(self, Sb | Sh | Sw | Sd | Fsw | Fsd | ScW | ScD) || self.is_amo())
    }

    fn is_amo(self) -> bool {
        let n = self as u8;
        (Kind::AmoswapW as u8..=Kind::AmomaxuW as u8).contains(&n)
            || (Kind::AmoswapD as u8..=Kind::AmomaxuD as u8).contains(&n)
    }
}
