//! The path that is right for every input: special values by table, all else by arbitrary-precision arithmetic.
//!
//! A finite operation is first rounded in a format of the same precision whose exponent range is never left. That is
//! IEEE 754's own definition (7.4, 7.5) of overflow and of tininess after rounding: compare the number rounded with
//! unbounded exponent against the format's range. `rustc_apfloat` judges both in its own way (it reports no overflow
//! when rounding towards zero, and underflow only when the final result is subnormal), so its flags other than
//! "inexact" are not used. [`Operation`] is what is to be rounded; [`round`] does it.

use rustc_apfloat::ieee::{Double, IeeeFloat, Semantics};
use rustc_apfloat::{Float, FloatConvert, Round, Status};

use super::format::{Format, WIDE_EXPONENT_BITS};
use super::{Fflags, Rm};

/// A finite operation before rounding; the operands are exact, never infinite and never NaN.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Add(f64, f64),
    Mul(f64, f64),
    Div(f64, f64),
    MulAdd(f64, f64, f64),
    Narrow(f64),
}

impl Operation {
    /// The operation's result in format `S`, and whether it differs from the exact one.
    fn evaluate<S: Semantics>(self, rm: Rm) -> (IeeeFloat<S>, bool) {
        let round = apfloat_round(rm);
        let result = match self {
            Self::Add(a, b) => exact::<S>(a).add_r(exact(b), round),
            Self::Mul(a, b) => exact::<S>(a).mul_r(exact(b), round),
            Self::Div(a, b) => exact::<S>(a).div_r(exact(b), round),
            Self::MulAdd(a, b, c) => exact::<S>(a).mul_add_r(exact(b), exact(c), round),
            Self::Narrow(a) => double(a).convert_r(round, &mut false),
        };
        (result.value, result.status.contains(Status::INEXACT))
    }
}

fn double(value: f64) -> Double {
    Double::from_bits(value.to_bits().into())
}

/// `value`, which format `S` represents exactly.
fn exact<S: Semantics>(value: f64) -> IeeeFloat<S> {
    double(value).convert(&mut false).value
}

fn apfloat_round(rm: Rm) -> Round {
    match rm {
        Rm::Rne => Round::NearestTiesToEven,
        Rm::Rtz => Round::TowardZero,
        Rm::Rdn => Round::TowardNegative,
        Rm::Rup => Round::TowardPositive,
        Rm::Rmm => Round::NearestTiesToAway,
    }
}

/// Performs `operation`, rounds it into format `F` and raises what that raises.
pub(super) fn round<F: Format>(operation: Operation, rm: Rm, flags: &mut Fflags) -> u64 {
    let (unbounded, inexact) = operation.evaluate::<F::Wide>(rm);
    let bits = unbounded.to_bits();
    let sign_shift = F::FRACTION_BITS + WIDE_EXPONENT_BITS;
    let sign = if bits >> sign_shift != 0 { F::SIGN } else { 0 };
    let magnitude = bits & ((1 << sign_shift) - 1);
    if magnitude == 0 {
        return sign;
    }

    // What the two formats' exponent fields differ by, in place.
    let rebias = ((1 << (WIDE_EXPONENT_BITS - 1)) - 1 - u128::from(F::BIAS)) << F::FRACTION_BITS;
    if magnitude > rebias + u128::from(F::MAX_FINITE) {
        *flags |= Fflags::OF | Fflags::NX;
        return overflowed::<F>(sign, rm);
    }
    if magnitude < rebias + u128::from(F::MIN_NORMAL) {
        let (tiny, inexact) = operation.evaluate::<F::Native>(rm);
        if inexact {
            *flags |= Fflags::UF | Fflags::NX;
        }
        return tiny.to_bits() as u64;
    }
    if inexact {
        *flags |= Fflags::NX;
    }
    sign | (magnitude - rebias) as u64
}

/// What stands for a number too large: infinity, or the largest finite number if rounding leads towards zero.
fn overflowed<F: Format>(sign: u64, rm: Rm) -> u64 {
    let to_infinity = match rm {
        Rm::Rne | Rm::Rmm => true,
        Rm::Rtz => false,
        Rm::Rdn => sign != 0,
        Rm::Rup => sign == 0,
    };
    sign | if to_infinity { F::INFINITY } else { F::MAX_FINITE }
}

/// The canonical NaN of an operation that has no meaning.
fn invalid<F: Format>(flags: &mut Fflags) -> u64 {
    *flags |= Fflags::NV;
    F::CANONICAL_NAN
}

/// The canonical NaN of an operation with a NaN among `operands`; `None` when there is none.
pub(super) fn propagate_nan<F: Format>(operands: &[u64], flags: &mut Fflags) -> Option<u64> {
    if operands.iter().any(|&operand| F::is_signaling_nan(operand)) {
        *flags |= Fflags::NV;
    }
    operands.iter().any(|&operand| F::is_nan(operand)).then_some(F::CANONICAL_NAN)
}

#[cold]
#[inline(never)]
pub(super) fn add<F: Format>(a: u64, b: u64, rm: Rm, flags: &mut Fflags) -> u64 {
    if let Some(nan) = propagate_nan::<F>(&[a, b], flags) {
        return nan;
    }
    match (F::is_infinite(a), F::is_infinite(b)) {
        (true, true) if a != b => invalid::<F>(flags),
        (true, _) => a,
        (_, true) => b,
        _ => round::<F>(Operation::Add(F::to_f64(a), F::to_f64(b)), rm, flags),
    }
}

#[cold]
#[inline(never)]
pub(super) fn mul<F: Format>(a: u64, b: u64, rm: Rm, flags: &mut Fflags) -> u64 {
    if let Some(nan) = propagate_nan::<F>(&[a, b], flags) {
        return nan;
    }
    let sign = F::product_sign(a, b);
    let infinite = F::is_infinite(a) || F::is_infinite(b);
    let zero = F::is_zero(a) || F::is_zero(b);
    match (infinite, zero) {
        (true, true) => invalid::<F>(flags),
        (true, false) => sign | F::INFINITY,
        (false, true) => sign,
        (false, false) => round::<F>(Operation::Mul(F::to_f64(a), F::to_f64(b)), rm, flags),
    }
}

#[cold]
#[inline(never)]
pub(super) fn div<F: Format>(a: u64, b: u64, rm: Rm, flags: &mut Fflags) -> u64 {
    if let Some(nan) = propagate_nan::<F>(&[a, b], flags) {
        return nan;
    }
    let sign = F::product_sign(a, b);
    let both_infinite = F::is_infinite(a) && F::is_infinite(b);
    let both_zero = F::is_zero(a) && F::is_zero(b);
    if both_infinite || both_zero {
        return invalid::<F>(flags);
    }
    if F::is_infinite(a) {
        return sign | F::INFINITY;
    }
    if F::is_zero(b) {
        *flags |= Fflags::DZ;
        return sign | F::INFINITY;
    }
    if F::is_zero(a) || F::is_infinite(b) {
        return sign;
    }
    round::<F>(Operation::Div(F::to_f64(a), F::to_f64(b)), rm, flags)
}

#[cold]
#[inline(never)]
pub(super) fn madd<F: Format>(a: u64, b: u64, c: u64, rm: Rm, flags: &mut Fflags) -> u64 {
    let infinite = F::is_infinite(a) || F::is_infinite(b);
    let zero = F::is_zero(a) || F::is_zero(b);
    // Infinity times zero is invalid even when the addend is a quiet NaN (chapter 20.6); neither factor is a NaN then.
    if infinite && zero {
        return invalid::<F>(flags);
    }
    if let Some(nan) = propagate_nan::<F>(&[a, b, c], flags) {
        return nan;
    }
    if infinite {
        let product = F::product_sign(a, b) | F::INFINITY;
        return if F::is_infinite(c) && c != product { invalid::<F>(flags) } else { product };
    }
    if F::is_infinite(c) {
        return c;
    }
    round::<F>(Operation::MulAdd(F::to_f64(a), F::to_f64(b), F::to_f64(c)), rm, flags)
}

#[cold]
#[inline(never)]
pub(super) fn sqrt<F: Format>(a: u64, rm: Rm, flags: &mut Fflags) -> u64 {
    if let Some(nan) = propagate_nan::<F>(&[a], flags) {
        return nan;
    }
    if F::is_zero(a) {
        return a;
    }
    if F::is_negative(a) {
        return invalid::<F>(flags);
    }
    if F::is_infinite(a) {
        return a;
    }
    sqrt_positive::<F>(a, rm, flags)
}

/// The square root of a finite positive number, by an integer square root with two bits beyond the precision.
///
/// With `a = m * 4^h`, `m` an integer of `2 * (p + 2)` or one bit fewer, the integer root of `m` has exactly `p + 2` bits, the last two
/// of which (and whether the root was exact) decide the rounding. No root overflows or is subnormal.
fn sqrt_positive<F: Format>(a: u64, rm: Rm, flags: &mut Fflags) -> u64 {
    let precision = F::FRACTION_BITS + 1;
    let (mut significand, mut exponent) = {
        let field = (a >> F::FRACTION_BITS) as i32;
        let fraction = a & (F::MIN_NORMAL - 1);
        let lowest = 1 - F::BIAS as i32 - F::FRACTION_BITS as i32;
        if field == 0 { (fraction, lowest) } else { (fraction | F::MIN_NORMAL, lowest + field - 1) }
    };
    // Bring the significand to exactly `precision` bits, then to an even exponent.
    let up = precision - (u64::BITS - significand.leading_zeros());
    significand <<= up;
    exponent -= up as i32;
    let mut shift = precision + 3;
    if (exponent - shift as i32) % 2 != 0 {
        shift += 1;
    }
    let radicand = u128::from(significand) << shift;
    let half_exponent = (exponent - shift as i32) / 2;

    let root = radicand.isqrt();
    let sticky = root * root != radicand;
    let root_bits = u128::BITS - root.leading_zeros();
    debug_assert_eq!(root_bits, precision + 2);

    let kept = (root >> 2) as u64;
    let tail = (root as u64 & 3) << 1 | u64::from(sticky);
    let up = match rm {
        Rm::Rne => tail > 4 || (tail == 4 && kept & 1 == 1),
        Rm::Rmm => tail >= 4,
        Rm::Rup => tail != 0,
        Rm::Rtz | Rm::Rdn => false,
    };
    if tail != 0 {
        *flags |= Fflags::NX;
    }
    // The significand's leading one adds one to the exponent field, as does a carry out of the rounding.
    let field = half_exponent + 2 + F::FRACTION_BITS as i32 + F::BIAS as i32;
    ((field as u64 - 1) << F::FRACTION_BITS) + kept + u64::from(up)
}
