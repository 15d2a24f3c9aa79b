//! Round to nearest even by the host's own instructions, where they provably give RISC-V's result and flags.
//!
//! Each function answers `None` when the result is special, subnormal, near either end of the range, or when the test for
//! exactness might itself overflow or underflow; `slow.rs` then decides. A returned result is normal (or, for sums, any
//! finite number), so the only flag it can raise is NX, and once NX is set nothing is left to find out. Exactness
//! is read off an error-free transform:
//!
//! | operation | double | single |
//! |---|---|---|
//! | add | 2Sum | 2Sum |
//! | mul | residual `fma(a, b, -r)` | the product is exact in double |
//! | div, sqrt | residual `fma(r, b, -a)`, `fma(r, r, -a)` | `r * b` and `r * r` are exact in double |
//! | madd | Boldo and Muller's ErrFma | sum in double rounded to odd, then once to single |
//!
//! `f64::mul_add` may be a call (a compiler for plain x86-64 may not assume the instruction), so it is used only where
//! nothing cheaper is exact.

use super::Fflags;

/// The exponent field of a double.
#[inline(always)]
fn field64(value: f64) -> u64 {
    value.to_bits() >> 52 & 0x7ff
}

/// The exponent field of a single.
#[inline(always)]
fn field32(value: f32) -> u32 {
    value.to_bits() >> 23 & 0xff
}

/// Whether `result` is so surely normal that rounding it raised neither OF nor UF.
///
/// Fields 0 (zero, subnormal) and 1 (where a tiny number may have been rounded up) are left out.
#[inline(always)]
fn is_safe64(result: f64) -> bool {
    field64(result).wrapping_sub(2) <= 2046 - 2
}

/// As [`is_safe64`].
#[inline(always)]
pub(super) fn is_safe32(result: f32) -> bool {
    field32(result).wrapping_sub(2) <= 254 - 2
}

/// Whether the rounding error of a product or quotient of magnitude `value` is a number far from underflow.
#[inline(always)]
pub(super) fn has_exact_residual(value: f64) -> bool {
    field64(value) >= 128
}

/// Raises NX if `inexact` says so; it is not asked when NX is already set.
#[inline(always)]
fn accrue(flags: &mut Fflags, inexact: impl FnOnce() -> bool) {
    if !flags.contains(Fflags::NX) && inexact() {
        *flags |= Fflags::NX;
    }
}

/// The error of the rounded sum `sum = a + b`: exactly `a + b - sum` (Knuth's 2Sum).
#[inline(always)]
pub(super) fn sum_error64(a: f64, b: f64, sum: f64) -> f64 {
    let b_seen = sum - a;
    let a_seen = sum - b_seen;
    (a - a_seen) + (b - b_seen)
}

/// As [`sum_error64`].
#[inline(always)]
pub(super) fn sum_error32(a: f32, b: f32, sum: f32) -> f32 {
    let b_seen = sum - a;
    let a_seen = sum - b_seen;
    (a - a_seen) + (b - b_seen)
}

#[inline(always)]
pub(super) fn f64_add(a: u64, b: u64, flags: &mut Fflags) -> Option<u64> {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let sum = a + b;
    // Sums have no underflow: what is subnormal is exact. The topmost binade could overflow inside 2Sum.
    if field64(sum) >= 2046 {
        return None;
    }
    accrue(flags, || sum_error64(a, b, sum) != 0.0);
    Some(sum.to_bits())
}

#[inline(always)]
pub(super) fn f64_mul(a: u64, b: u64, flags: &mut Fflags) -> Option<u64> {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let product = a * b;
    if !is_safe64(product) || !(flags.contains(Fflags::NX) || has_exact_residual(product)) {
        return None;
    }
    accrue(flags, || a.mul_add(b, -product) != 0.0);
    Some(product.to_bits())
}

#[inline(always)]
pub(super) fn f64_div(a: u64, b: u64, flags: &mut Fflags) -> Option<u64> {
    let (a, b) = (f64::from_bits(a), f64::from_bits(b));
    let quotient = a / b;
    if !is_safe64(quotient) || !(flags.contains(Fflags::NX) || has_exact_residual(a)) {
        return None;
    }
    accrue(flags, || quotient.mul_add(b, -a) != 0.0);
    Some(quotient.to_bits())
}

#[inline(always)]
pub(super) fn f64_sqrt(a: u64, flags: &mut Fflags) -> Option<u64> {
    let a = f64::from_bits(a);
    // A negative number's root is a NaN, which is not safe.
    let root = a.sqrt();
    if !is_safe64(root) || !(flags.contains(Fflags::NX) || has_exact_residual(a)) {
        return None;
    }
    accrue(flags, || root.mul_add(root, -a) != 0.0);
    Some(root.to_bits())
}

#[inline(always)]
pub(super) fn f64_madd(a: u64, b: u64, c: u64, flags: &mut Fflags) -> Option<u64> {
    let (a, b, c) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
    let result = a.mul_add(b, c);
    if !is_safe64(result) {
        return None;
    }
    if !flags.contains(Fflags::NX) {
        let product = a * b;
        // Room on both sides for the intermediate sums.
        if !has_exact_residual(product) || field64(product) > 2040 || field64(result) > 2040 {
            return None;
        }
        let (head, tail) = madd_error(a, b, c, product, result);
        if head != -tail {
            *flags |= Fflags::NX;
        }
    }
    Some(result.to_bits())
}

/// The error of `nearest = fma(a, b, c)` as a sum of two doubles (Boldo and Muller, "Exact and approximated error of the
/// FMA", 2011).
#[inline(always)]
pub(super) fn madd_error(a: f64, b: f64, c: f64, product: f64, nearest: f64) -> (f64, f64) {
    let product_error = a.mul_add(b, -product);
    let tail = c + product_error;
    let low = sum_error64(c, product_error, tail);
    let head = product + tail;
    let middle = sum_error64(product, tail, head);
    ((head - nearest) + middle, low)
}

/// The product of two singles, exact.
#[inline(always)]
pub(super) fn product32(a: u32, b: u32) -> f64 {
    f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b))
}

#[inline(always)]
pub(super) fn f32_add(a: u32, b: u32, flags: &mut Fflags) -> Option<u32> {
    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
    let sum = a + b;
    if field32(sum) >= 254 {
        return None;
    }
    accrue(flags, || sum_error32(a, b, sum) != 0.0);
    Some(sum.to_bits())
}

#[inline(always)]
pub(super) fn f32_mul(a: u32, b: u32, flags: &mut Fflags) -> Option<u32> {
    let product = product32(a, b);
    let rounded = product as f32;
    if !is_safe32(rounded) {
        return None;
    }
    accrue(flags, || f64::from(rounded) != product);
    Some(rounded.to_bits())
}

#[inline(always)]
pub(super) fn f32_div(a: u32, b: u32, flags: &mut Fflags) -> Option<u32> {
    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
    let quotient = a / b;
    if !is_safe32(quotient) {
        return None;
    }
    accrue(flags, || f64::from(quotient) * f64::from(b) != f64::from(a));
    Some(quotient.to_bits())
}

#[inline(always)]
pub(super) fn f32_sqrt(a: u32, flags: &mut Fflags) -> Option<u32> {
    let a = f32::from_bits(a);
    let root = a.sqrt();
    if !is_safe32(root) {
        return None;
    }
    accrue(flags, || f64::from(root) * f64::from(root) != f64::from(a));
    Some(root.to_bits())
}

#[inline(always)]
pub(super) fn f32_madd(a: u32, b: u32, c: u32, flags: &mut Fflags) -> Option<u32> {
    let product = product32(a, b);
    let c = f64::from(f32::from_bits(c));
    let sum = product + c;
    let error = sum_error64(product, c, sum);
    let odd = round_to_odd(sum, error);
    let rounded = odd as f32;
    if !is_safe32(rounded) {
        return None;
    }
    accrue(flags, || error != 0.0 || f64::from(rounded) != odd);
    Some(rounded.to_bits())
}

/// The exact `sum + error` rounded to odd: of its two neighbours, the one with an odd significand.
///
/// Rounding that to a format at least two bits narrower equals rounding the exact number once (Boldo and Melquiond, 2008).
#[inline(always)]
pub(super) fn round_to_odd(sum: f64, error: f64) -> f64 {
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 == 1 {
        return sum;
    }
    // One unit away from zero when the error has the sum's sign, else one towards it.
    let outward = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if outward { bits + 1 } else { bits - 1 })
}
