//! Rounding towards zero, down and up by the host's own instructions.
//!
//! The host rounds to nearest; the sign of the exact error then says whether the number wanted is the one found or its
//! neighbour. The error comes from the same transforms as in `fast.rs`, of which only the sign matters here. Like
//! there, `None` leaves the matter to `slow.rs`: special values, results near either end of the range, exact zeros (whose
//! sign depends on the mode), and rounding to nearest with ties away, which would need the error's size.

use super::fast::{
    has_exact_residual, is_safe32, madd_error, product32, round_to_odd, sum_error32, sum_error64,
};
use super::{Fflags, Rm};

/// Which neighbour of the number nearest to the exact one is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Stay,
    Outward,
    Inward,
}

/// From a nearest number's sign and the sign of the exact number minus it; `None` for modes that are not directed.
#[inline(always)]
fn step(negative: bool, error: f64, rm: Rm) -> Option<Step> {
    let down = match rm {
        Rm::Rtz => !negative,
        Rm::Rdn => true,
        Rm::Rup => false,
        Rm::Rne | Rm::Rmm => return None,
    };
    let beyond = if down { error < 0.0 } else { error > 0.0 };
    Some(match beyond {
        false => Step::Stay,
        true if down == negative => Step::Outward,
        true => Step::Inward,
    })
}

/// Rounds to a double: `nearest` by the sign of `error`, given that both are safely normal.
#[inline(always)]
fn settle64(nearest: f64, error: f64, rm: Rm, flags: &mut Fflags) -> Option<u64> {
    let bits = nearest.to_bits();
    let step = step(nearest.is_sign_negative(), error, rm)?;
    if error != 0.0 {
        *flags |= Fflags::NX;
    }
    Some(match step {
        Step::Stay => bits,
        Step::Outward => bits + 1,
        Step::Inward => bits - 1,
    })
}

/// As [`settle64`], for singles.
#[inline(always)]
fn settle32(nearest: f32, error: f64, rm: Rm, flags: &mut Fflags) -> Option<u32> {
    let bits = nearest.to_bits();
    let step = step(nearest.is_sign_negative(), error, rm)?;
    if error != 0.0 {
        *flags |= Fflags::NX;
    }
    Some(match step {
        Step::Stay => bits,
        Step::Outward => bits + 1,
        Step::Inward => bits - 1,
    })
}

/// Whether `nearest` and its neighbours are normal, finite, and far from where an error of it would underflow.
#[inline(always)]
fn has_room64(nearest: f64) -> bool {
    has_exact_residual(nearest) && nearest.abs() < f64::MAX / 64.0
}

/// Whether `nearest` and its neighbours are normal and finite.
#[inline(always)]
fn has_room32(nearest: f32) -> bool {
    is_safe32(nearest) && nearest.abs() < f32::MAX / 64.0
}

#[inline(never)]
pub(super) fn f64_add(a: u64, b: u64, rm: Rm, flags: &mut Fflags) -> Option<u64> {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let sum = a + b;
    if !has_room64(sum) {
        return None;
    }
    settle64(sum, sum_error64(a, b, sum), rm, flags)
}

#[inline(never)]
pub(super) fn f64_mul(a: u64, b: u64, rm: Rm, flags: &mut Fflags) -> Option<u64> {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let product = a * b;
    if !has_room64(product) {
        return None;
    }
    settle64(product, a.mul_add(b, -product), rm, flags)
}

#[inline(never)]
pub(super) fn f64_div(a: u64, b: u64, rm: Rm, flags: &mut Fflags) -> Option<u64> {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let quotient = a / b;
    if !has_room64(quotient) || !has_exact_residual(a) {
        return None;
    }
    // a - quotient * b, which has the error's sign where b is positive.
    let remainder = (-quotient).mul_add(b, a);
    settle64(quotient, if b < 0.0 { -remainder } else { remainder }, rm, flags)
}

#[inline(never)]
pub(super) fn f64_sqrt(a: u64, rm: Rm, flags: &mut Fflags) -> Option<u64> {
    let a = f64::from_bits(a);
    let root = a.sqrt();
    if !has_room64(root) || !has_exact_residual(a) {
        return None;
    }
    settle64(root, (-root).mul_add(root, a), rm, flags)
}

#[inline(never)]
pub(super) fn f64_madd(a: u64, b: u64, c: u64, rm: Rm, flags: &mut Fflags) -> Option<u64> {
    let (a, b, c) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
    let (product, nearest) = (a * b, a.mul_add(b, c));
    if !has_room64(product) || !has_room64(nearest) {
        return None;
    }
    let (head, tail) = madd_error(a, b, c, product, nearest);
    settle64(nearest, head + tail, rm, flags)
}

#[inline(never)]
pub(super) fn f32_add(a: u32, b: u32, rm: Rm, flags: &mut Fflags) -> Option<u32> {
    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
    let sum = a + b;
    if !has_room32(sum) {
        return None;
    }
    settle32(sum, sum_error32(a, b, sum).into(), rm, flags)
}

#[inline(never)]
pub(super) fn f32_mul(a: u32, b: u32, rm: Rm, flags: &mut Fflags) -> Option<u32> {
    let product = product32(a, b);
    let nearest = product as f32;
    if !has_room32(nearest) {
        return None;
    }
    settle32(nearest, product - f64::from(nearest), rm, flags)
}

#[inline(never)]
pub(super) fn f32_div(a: u32, b: u32, rm: Rm, flags: &mut Fflags) -> Option<u32> {
    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
    let quotient = a / b;
    if !has_room32(quotient) {
        return None;
    }
    let remainder = f64::from(a) - f64::from(quotient) * f64::from(b);
    settle32(quotient, if b < 0.0 { -remainder } else { remainder }, rm, flags)
}

#[inline(never)]
pub(super) fn f32_sqrt(a: u32, rm: Rm, flags: &mut Fflags) -> Option<u32> {
    let a = f32::from_bits(a);
    let root = a.sqrt();
    if !has_room32(root) {
        return None;
    }
    settle32(root, f64::from(a) - f64::from(root) * f64::from(root), rm, flags)
}

#[inline(never)]
pub(super) fn f32_madd(a: u32, b: u32, c: u32, rm: Rm, flags: &mut Fflags) -> Option<u32> {
    let (product, c) = (product32(a, b), f64::from(f32::from_bits(c)));
    let sum = product + c;
    // Rounded to odd it lies on the exact number's side of every single.
    let odd = round_to_odd(sum, sum_error64(product, c, sum));
    let nearest = odd as f32;
    if !has_room32(nearest) {
        return None;
    }
    settle32(nearest, odd - f64::from(nearest), rm, flags)
}
