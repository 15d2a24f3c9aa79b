//! F and D: registers, NaN boxing and rounding modes around the arithmetic of [`crate::fp`].

use super::{run, stop};
use crate::decode::RM_DYNAMIC;
use crate::fp::{self, Fflags, Rm, nan_box, unbox};
use crate::op::{Account, Op, OpRef};
use crate::state::Core;
use crate::trap::Trap;

/// Source registers of an operation, raw.
#[derive(Clone, Copy)]
pub(crate) struct Sources {
    a: u64,
    b: u64,
    c: u64,
}

/// Packs `rs3` (an index into [`Core::r`]) and the rounding mode into an operation's immediate.
pub(crate) fn operands(rs3: u8, rm: u8) -> i32 {
    i32::from(rs3) | i32::from(rm) << 8
}

#[inline(always)]
fn sources(core: &Core, op: Op) -> Sources {
    Sources { a: core.x(op.rs1), b: core.x(op.rs2), c: core.x(op.imm as u8) }
}

/// An operation that rounds.
pub(crate) trait Rounded: 'static {
    fn value(from: Sources, rm: Rm, flags: &mut Fflags) -> u64;
}

/// An operation that does not round.
pub(crate) trait Exact: 'static {
    fn value(from: Sources, flags: &mut Fflags) -> u64;
}

/// Handler of an operation that rounds: illegal when it asks for `frm` and that is reserved.
pub(crate) fn rounded<F: Rounded>(
    core: &mut Core,
    at: OpRef,
    account: Account,
    pc: u64,
) -> Account {
    let op = at.op();
    let field = (op.imm >> 8) as u8;
    let Some(rm) = Rm::from_bits(if field == RM_DYNAMIC { core.frm } else { field }) else {
        return reserved_rounding(core, at, account, pc);
    };
    let value = F::value(sources(core, op), rm, &mut core.fflags);
    core.set(op.rd, value);
    run(core, at.next(), account, pc)
}

#[cold]
#[inline(never)]
fn reserved_rounding(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let here = pc.wrapping_add(2 * u64::from(at.op().at));
    let trap = match core.fetch_bits(here) {
        Ok(bits) => Trap::Illegal { bits },
        Err(trap) => trap,
    };
    stop(core, at, account, pc, trap)
}

/// Handler of an operation that does not round.
pub(crate) fn exact<F: Exact>(core: &mut Core, at: OpRef, account: Account, pc: u64) -> Account {
    let op = at.op();
    let value = F::value(sources(core, op), &mut core.fflags);
    core.set(op.rd, value);
    run(core, at.next(), account, pc)
}

const SIGN32: u32 = 1 << 31;
const SIGN64: u64 = 1 << 63;

macro_rules! rounded {
    ($($name:ident = |$s:ident, $rm:ident, $flags:ident| $value:expr;)*) => {$(
        pub(crate) struct $name;
        impl Rounded for $name {
            #[inline(always)]
            fn value($s: Sources, $rm: Rm, $flags: &mut Fflags) -> u64 {
                $value
            }
        }
    )*};
}

macro_rules! exact {
    ($($name:ident = |$s:ident, $flags:ident| $value:expr;)*) => {$(
        pub(crate) struct $name;
        impl Exact for $name {
            #[inline(always)]
            #[allow(
                unused_variables,
                clippy::allow_attributes,
                reason = "moves raise no flags"
            )]
            fn value($s: Sources, $flags: &mut Fflags) -> u64 {
                $value
            }
        }
    )*};
}

#[inline(always)]
fn word(value: u32) -> u64 {
    i64::from(value as i32) as u64
}

rounded! {
    AddS = |s, rm, f| nan_box(fp::f32_add(unbox(s.a), unbox(s.b), rm, f));
    SubS = |s, rm, f| nan_box(fp::f32_sub(unbox(s.a), unbox(s.b), rm, f));
    MulS = |s, rm, f| nan_box(fp::f32_mul(unbox(s.a), unbox(s.b), rm, f));
    DivS = |s, rm, f| nan_box(fp::f32_div(unbox(s.a), unbox(s.b), rm, f));
    SqrtS = |s, rm, f| nan_box(fp::f32_sqrt(unbox(s.a), rm, f));
    MaddS = |s, rm, f| nan_box(fp::f32_madd(unbox(s.a), unbox(s.b), unbox(s.c), rm, f));
    MsubS = |s, rm, f| nan_box(fp::f32_madd(unbox(s.a), unbox(s.b), unbox(s.c) ^ SIGN32, rm, f));
    NmsubS = |s, rm, f| nan_box(fp::f32_madd(unbox(s.a) ^ SIGN32, unbox(s.b), unbox(s.c), rm, f));
    NmaddS = |s, rm, f| {
        nan_box(fp::f32_madd(unbox(s.a) ^ SIGN32, unbox(s.b), unbox(s.c) ^ SIGN32, rm, f))
    };
    AddD = |s, rm, f| fp::f64_add(s.a, s.b, rm, f);
    SubD = |s, rm, f| fp::f64_sub(s.a, s.b, rm, f);
    MulD = |s, rm, f| fp::f64_mul(s.a, s.b, rm, f);
    DivD = |s, rm, f| fp::f64_div(s.a, s.b, rm, f);
    SqrtD = |s, rm, f| fp::f64_sqrt(s.a, rm, f);
    MaddD = |s, rm, f| fp::f64_madd(s.a, s.b, s.c, rm, f);
    MsubD = |s, rm, f| fp::f64_madd(s.a, s.b, s.c ^ SIGN64, rm, f);
    NmsubD = |s, rm, f| fp::f64_madd(s.a ^ SIGN64, s.b, s.c, rm, f);
    NmaddD = |s, rm, f| fp::f64_madd(s.a ^ SIGN64, s.b, s.c ^ SIGN64, rm, f);
    CvtWS = |s, rm, f| word(fp::f32_to_i32(unbox(s.a), rm, f) as u32);
    CvtWuS = |s, rm, f| word(fp::f32_to_u32(unbox(s.a), rm, f));
    CvtLS = |s, rm, f| fp::f32_to_i64(unbox(s.a), rm, f) as u64;
    CvtLuS = |s, rm, f| fp::f32_to_u64(unbox(s.a), rm, f);
    CvtWD = |s, rm, f| word(fp::f64_to_i32(s.a, rm, f) as u32);
    CvtWuD = |s, rm, f| word(fp::f64_to_u32(s.a, rm, f));
    CvtLD = |s, rm, f| fp::f64_to_i64(s.a, rm, f) as u64;
    CvtLuD = |s, rm, f| fp::f64_to_u64(s.a, rm, f);
    CvtSW = |s, rm, f| nan_box(fp::i32_to_f32(s.a as i32, rm, f));
    CvtSWu = |s, rm, f| nan_box(fp::u32_to_f32(s.a as u32, rm, f));
    CvtSL = |s, rm, f| nan_box(fp::i64_to_f32(s.a as i64, rm, f));
    CvtSLu = |s, rm, f| nan_box(fp::u64_to_f32(s.a, rm, f));
    CvtDL = |s, rm, f| fp::i64_to_f64(s.a as i64, rm, f);
    CvtDLu = |s, rm, f| fp::u64_to_f64(s.a, rm, f);
    CvtSD = |s, rm, f| nan_box(fp::f64_to_f32(s.a, rm, f));
    // These three are exact, but a reserved rounding mode makes them illegal all the same.
    CvtDW = |s, _rm, _f| fp::i32_to_f64(s.a as i32);
    CvtDWu = |s, _rm, _f| fp::u32_to_f64(s.a as u32);
    CvtDS = |s, _rm, f| fp::f32_to_f64(unbox(s.a), f);
}

exact! {
    SgnjS = |s, f| nan_box(unbox(s.a) & !SIGN32 | unbox(s.b) & SIGN32);
    SgnjnS = |s, f| nan_box(unbox(s.a) & !SIGN32 | !unbox(s.b) & SIGN32);
    SgnjxS = |s, f| nan_box(unbox(s.a) ^ unbox(s.b) & SIGN32);
    MinS = |s, f| nan_box(fp::f32_min(unbox(s.a), unbox(s.b), f));
    MaxS = |s, f| nan_box(fp::f32_max(unbox(s.a), unbox(s.b), f));
    EqS = |s, f| u64::from(fp::f32_eq(unbox(s.a), unbox(s.b), f));
    LtS = |s, f| u64::from(fp::f32_lt(unbox(s.a), unbox(s.b), f));
    LeS = |s, f| u64::from(fp::f32_le(unbox(s.a), unbox(s.b), f));
    ClassS = |s, f| fp::f32_classify(unbox(s.a));
    MvXW = |s, f| word(s.a as u32);
    MvWX = |s, f| nan_box(s.a as u32);
    SgnjD = |s, f| s.a & !SIGN64 | s.b & SIGN64;
    SgnjnD = |s, f| s.a & !SIGN64 | !s.b & SIGN64;
    SgnjxD = |s, f| s.a ^ s.b & SIGN64;
    MinD = |s, f| fp::f64_min(s.a, s.b, f);
    MaxD = |s, f| fp::f64_max(s.a, s.b, f);
    EqD = |s, f| u64::from(fp::f64_eq(s.a, s.b, f));
    LtD = |s, f| u64::from(fp::f64_lt(s.a, s.b, f));
    LeD = |s, f| u64::from(fp::f64_le(s.a, s.b, f));
    ClassD = |s, f| fp::f64_classify(s.a);
    Mv = |s, f| s.a;
}
