//! Integer arithmetic.
//!
//! [`Step`] is what all of it has in common: a value for `rd` from `rs1` and the operation. So
//! [`fuse`](super::fuse) can put several into one handler and hand the value on in a host register.

use super::run;
use crate::op::{Account, Op, OpRef};
use crate::state::Core;

/// An operation that computes `rd` and can do nothing else.
pub(crate) trait Step: 'static {
    /// The value of `rd`, where `a` is `rs1` and `b` gives `rs2`.
    fn value(op: Op, a: u64, b: impl FnOnce() -> u64, pc: u64) -> u64;
}

/// Handler of one step.
pub(crate) fn step<S: Step>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let value = S::value(op, core.x(op.rs1), || core.x(op.rs2), pc);
    core.set(op.rd, value);
    run(core, at.next(), account, pc)
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = |$op:ident, $a:ident, $b:ident, $pc:ident| $value:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;
        impl Step for $name {
            #[inline(always)]
            #[allow(
                unused_variables,
                clippy::allow_attributes,
                reason = "each operation uses some of the operands"
            )]
            fn value($op: Op, $a: u64, $b: impl FnOnce() -> u64, $pc: u64) -> u64 {
                $value
            }
        }
    )*};
}

#[inline(always)]
fn imm(op: Op) -> u64 {
    i64::from(op.imm) as u64
}

#[inline(always)]
fn word(value: u64) -> u64 {
    i64::from(value as i32) as u64
}

steps! {
    /// `rd = imm`: `lui`, and `lui` with `addi`.
    Li = |op, a, b, pc| imm(op);
    /// `rd = block + imm`: `auipc`, and `auipc` with `addi`.
    PcPlus = |op, a, b, pc| pc.wrapping_add(imm(op));
    Addi = |op, a, b, pc| a.wrapping_add(imm(op));
    Slti = |op, a, b, pc| u64::from((a as i64) < i64::from(op.imm));
    Sltiu = |op, a, b, pc| u64::from(a < imm(op));
    Xori = |op, a, b, pc| a ^ imm(op);
    Ori = |op, a, b, pc| a | imm(op);
    Andi = |op, a, b, pc| a & imm(op);
    Slli = |op, a, b, pc| a << (op.imm & 63);
    Srli = |op, a, b, pc| a >> (op.imm & 63);
    Srai = |op, a, b, pc| (a as i64 >> (op.imm & 63)) as u64;
    Addiw = |op, a, b, pc| word(a.wrapping_add(imm(op)));
    Slliw = |op, a, b, pc| word(a << (op.imm & 31));
    Srliw = |op, a, b, pc| word(u64::from(a as u32 >> (op.imm & 31)));
    Sraiw = |op, a, b, pc| i64::from(a as i32 >> (op.imm & 31)) as u64;
    Add = |op, a, b, pc| a.wrapping_add(b());
    Sub = |op, a, b, pc| a.wrapping_sub(b());
    Sll = |op, a, b, pc| a << (b() & 63);
    Slt = |op, a, b, pc| u64::from((a as i64) < b() as i64);
    Sltu = |op, a, b, pc| u64::from(a < b());
    Xor = |op, a, b, pc| a ^ b();
    Srl = |op, a, b, pc| a >> (b() & 63);
    Sra = |op, a, b, pc| (a as i64 >> (b() & 63)) as u64;
    Or = |op, a, b, pc| a | b();
    And = |op, a, b, pc| a & b();
    Addw = |op, a, b, pc| word(a.wrapping_add(b()));
    Subw = |op, a, b, pc| word(a.wrapping_sub(b()));
    Sllw = |op, a, b, pc| word(a << (b() & 31));
    Srlw = |op, a, b, pc| word(u64::from(a as u32 >> (b() & 31)));
    Sraw = |op, a, b, pc| i64::from(a as i32 >> (b() & 31)) as u64;
    Mul = |op, a, b, pc| a.wrapping_mul(b());
    Mulh = |op, a, b, pc| ((i128::from(a as i64) * i128::from(b() as i64)) >> 64) as u64;
    Mulhsu = |op, a, b, pc| ((i128::from(a as i64) * i128::from(b())) >> 64) as u64;
    Mulhu = |op, a, b, pc| ((u128::from(a) * u128::from(b())) >> 64) as u64;
    Mulw = |op, a, b, pc| word(a.wrapping_mul(b()));
    Div = |op, a, b, pc| match b() as i64 {
        0 => u64::MAX,
        b => (a as i64).wrapping_div(b) as u64,
    };
    Divu = |op, a, b, pc| a.checked_div(b()).unwrap_or(u64::MAX);
    Rem = |op, a, b, pc| match b() as i64 {
        0 => a,
        b => (a as i64).wrapping_rem(b) as u64,
    };
    Remu = |op, a, b, pc| a.checked_rem(b()).unwrap_or(a);
    Divw = |op, a, b, pc| match b() as i32 {
        0 => u64::MAX,
        b => i64::from((a as i32).wrapping_div(b)) as u64,
    };
    Divuw = |op, a, b, pc| {
        (a as u32).checked_div(b() as u32).map_or(u64::MAX, |quotient| word(quotient.into()))
    };
    Remw = |op, a, b, pc| match b() as i32 {
        0 => word(a),
        b => i64::from((a as i32).wrapping_rem(b)) as u64,
    };
    Remuw = |op, a, b, pc| word((a as u32).checked_rem(b() as u32).unwrap_or(a as u32).into());
}
