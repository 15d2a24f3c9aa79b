//! Conversions between the two formats and to and from integers.
//!
//! Integers are reached through the host's roundings to integral values, which are exact in every mode; the formats
//! through a checked host cast when rounding to nearest even, else through `slow.rs`.

use super::format::{F32, F64, Format};
use super::slow::{self, Operation};
use super::{F32_CANONICAL_NAN, F64_CANONICAL_NAN, Fflags, Rm};

/// Widens a single; exact, and only a signaling NaN raises NV.
#[must_use]
#[inline]
pub fn f32_to_f64(a: u32, flags: &mut Fflags) -> u64 {
    if F32::is_nan(a.into()) {
        if F32::is_signaling_nan(a.into()) {
            *flags |= Fflags::NV;
        }
        return F64_CANONICAL_NAN;
    }
    f64::from(f32::from_bits(a)).to_bits()
}

/// Narrows a double.
#[must_use]
#[inline]
pub fn f64_to_f32(a: u64, rm: Rm, flags: &mut Fflags) -> u32 {
    let value = f64::from_bits(a);
    let narrowed = value as f32;
    // Exponent fields 0, 1 and 255 may be or have been special, tiny or overflowed.
    let field = narrowed.to_bits() >> 23 & 0xff;
    if rm == Rm::Rne && (2..255).contains(&field) {
        if f64::from(narrowed) != value {
            *flags |= Fflags::NX;
        }
        return narrowed.to_bits();
    }
    narrow_slow(a, rm, flags)
}

#[cold]
#[inline(never)]
fn narrow_slow(a: u64, rm: Rm, flags: &mut Fflags) -> u32 {
    if slow::propagate_nan::<F64>(&[a], flags).is_some() {
        return F32_CANONICAL_NAN;
    }
    let sign = if F64::is_negative(a) { F32::SIGN } else { 0 };
    let bits = if F64::is_zero(a) {
        sign
    } else if F64::is_infinite(a) {
        sign | F32::INFINITY
    } else {
        slow::round::<F32>(Operation::Narrow(f64::from_bits(a)), rm, flags)
    };
    bits as u32
}

/// `value` rounded to an integral value, not yet to an integer type.
#[inline]
fn round_to_integral(value: f64, rm: Rm) -> f64 {
    match rm {
        Rm::Rne => value.round_ties_even(),
        Rm::Rtz => value.trunc(),
        Rm::Rdn => value.floor(),
        Rm::Rup => value.ceil(),
        Rm::Rmm => value.round(),
    }
}

/// `value` without its fraction, if below 2^63 in magnitude: what nearly all conversions ask for, with no call.
#[inline(always)]
fn truncate(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (-LIMIT < value && value < LIMIT).then_some(value as i64)
}

macro_rules! to_integer {
    ($from32:ident, $from64:ident, $integer:ident, $min:expr, $above:expr) => {
        /// Converts a single to an integer, saturating; out of range and NaN (as plus infinity) raise NV.
        #[must_use]
        #[inline]
        pub fn $from32(a: u32, rm: Rm, flags: &mut Fflags) -> $integer {
            // Widening keeps the value and keeps a NaN a NaN.
            $from64(f64::from(f32::from_bits(a)).to_bits(), rm, flags)
        }

        /// Converts a double to an integer, saturating; out of range and NaN (as plus infinity) raise NV.
        #[must_use]
        #[inline]
        pub fn $from64(a: u64, rm: Rm, flags: &mut Fflags) -> $integer {
            /// The least value in range, and the least integral value beyond it; a double holds both.
            const MIN: f64 = $min;
            const ABOVE: f64 = $above;
            let value = f64::from_bits(a);
            if rm == Rm::Rtz
                && let Some(whole) = truncate(value)
                && let Ok(result) = $integer::try_from(whole)
            {
                if whole as f64 != value {
                    *flags |= Fflags::NX;
                }
                return result;
            }
            let integral = round_to_integral(value, rm);
            if (MIN..ABOVE).contains(&integral) {
                if integral != value {
                    *flags |= Fflags::NX;
                }
                return integral as $integer;
            }
            *flags |= Fflags::NV;
            if integral < MIN { $integer::MIN } else { $integer::MAX }
        }
    };
}

to_integer!(f32_to_i32, f64_to_i32, i32, -2_147_483_648.0, 2_147_483_648.0);
to_integer!(f32_to_u32, f64_to_u32, u32, 0.0, 4_294_967_296.0);
to_integer!(f32_to_i64, f64_to_i64, i64, -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0);
to_integer!(f32_to_u64, f64_to_u64, u64, 0.0, 18_446_744_073_709_551_616.0);

/// The integer of magnitude `magnitude` rounded to `precision` significant bits by `rm`; the sign only steers the rounding.
///
/// The result can be 2^64. Raises NX when bits were lost.
fn round_magnitude(
    magnitude: u64,
    negative: bool,
    precision: u32,
    rm: Rm,
    flags: &mut Fflags,
) -> u128 {
    let length = u64::BITS - magnitude.leading_zeros();
    let dropped = length.saturating_sub(precision);
    let tail = magnitude & ((1 << dropped) - 1);
    if tail == 0 {
        return magnitude.into();
    }
    *flags |= Fflags::NX;
    let kept = magnitude >> dropped;
    let half = 1 << (dropped - 1);
    let up = match rm {
        Rm::Rne => tail > half || (tail == half && kept & 1 == 1),
        Rm::Rtz => false,
        Rm::Rdn => negative,
        Rm::Rup => !negative,
        Rm::Rmm => tail >= half,
    };
    u128::from(kept + u64::from(up)) << dropped
}

macro_rules! from_integer {
    ($name:ident, $integer:ident, $float:ident, $bits:ident) => {
        /// Converts an integer; raises NX when it has more significant bits than the format.
        #[must_use]
        #[inline]
        pub fn $name(value: $integer, rm: Rm, flags: &mut Fflags) -> $bits {
            let nearest = value as $float;
            // A saturating cast back can only hide a difference at the type's maximum, which no format holds.
            if nearest as $integer == value && value != $integer::MAX {
                return nearest.to_bits();
            }
            if rm == Rm::Rne {
                *flags |= Fflags::NX;
                return nearest.to_bits();
            }
            let wide = i128::from(value);
            let negative = wide < 0;
            let magnitude = wide.unsigned_abs() as u64;
            let rounded =
                round_magnitude(magnitude, negative, $float::MANTISSA_DIGITS, rm, flags) as $float;
            if negative { -rounded } else { rounded }.to_bits()
        }
    };
}

from_integer!(i32_to_f32, i32, f32, u32);
from_integer!(u32_to_f32, u32, f32, u32);
from_integer!(i64_to_f32, i64, f32, u32);
from_integer!(u64_to_f32, u64, f32, u32);
from_integer!(i64_to_f64, i64, f64, u64);
from_integer!(u64_to_f64, u64, f64, u64);

/// Converts an integer; every 32-bit integer is a double, so nothing is rounded.
#[must_use]
#[inline]
pub fn i32_to_f64(value: i32) -> u64 {
    f64::from(value).to_bits()
}

/// Converts an integer; every 32-bit integer is a double, so nothing is rounded.
#[must_use]
#[inline]
pub fn u32_to_f64(value: u32) -> u64 {
    f64::from(value).to_bits()
}
