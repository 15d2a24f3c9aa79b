//! Minimum, maximum, comparisons and classification: nothing is rounded, NV is the only flag.

use super::Fflags;
use super::format::{F32, F64, Format};

/// A key that orders non-NaN numbers as integers; -0 sorts before +0.
#[inline]
fn order_key<F: Format>(bits: u64) -> i64 {
    let magnitude = F::magnitude(bits) as i64;
    if F::is_negative(bits) { !magnitude } else { magnitude }
}

/// IEEE 754-2019's minimumNumber and maximumNumber: `prefer_a` says whether `a` wins, given the two keys.
#[inline]
fn select<F: Format>(
    a: u64,
    b: u64,
    flags: &mut Fflags,
    prefer_a: impl FnOnce(i64, i64) -> bool,
) -> u64 {
    if F::is_signaling_nan(a) || F::is_signaling_nan(b) {
        *flags |= Fflags::NV;
    }
    match (F::is_nan(a), F::is_nan(b)) {
        (true, true) => F::CANONICAL_NAN,
        (true, false) => b,
        (false, true) => a,
        (false, false) if prefer_a(order_key::<F>(a), order_key::<F>(b)) => a,
        (false, false) => b,
    }
}

/// Equality; only a signaling NaN is invalid.
#[inline]
fn eq<F: Format>(a: u64, b: u64, flags: &mut Fflags) -> bool {
    if F::is_nan(a) || F::is_nan(b) {
        if F::is_signaling_nan(a) || F::is_signaling_nan(b) {
            *flags |= Fflags::NV;
        }
        return false;
    }
    a == b || (F::is_zero(a) && F::is_zero(b))
}

/// An ordering comparison by `holds` on the keys; any NaN is invalid and compares false.
#[inline]
fn ordered<F: Format>(
    a: u64,
    b: u64,
    flags: &mut Fflags,
    holds: impl FnOnce(i64, i64) -> bool,
) -> bool {
    if F::is_nan(a) || F::is_nan(b) {
        *flags |= Fflags::NV;
        return false;
    }
    // The two zeros compare equal.
    let key = |bits| if F::is_zero(bits) { 0 } else { order_key::<F>(bits) };
    holds(key(a), key(b))
}

/// The bit of the FCLASS result that `bits` sets.
#[inline]
fn class_bit<F: Format>(bits: u64) -> u32 {
    let negative = F::is_negative(bits);
    let magnitude = F::magnitude(bits);
    let (if_negative, if_positive) = if F::is_nan(bits) {
        return if F::is_signaling_nan(bits) { 8 } else { 9 };
    } else if magnitude == F::INFINITY {
        (0, 7)
    } else if magnitude >= F::MIN_NORMAL {
        (1, 6)
    } else if magnitude != 0 {
        (2, 5)
    } else {
        (3, 4)
    };
    if negative { if_negative } else { if_positive }
}

macro_rules! comparisons {
    ($format:ident, $bits:ident, $min:ident, $max:ident, $eq:ident, $lt:ident, $le:ident, $classify:ident) => {
        /// The smaller number; a NaN loses against a number, and -0 is smaller than +0.
        #[must_use]
        #[inline]
        pub fn $min(a: $bits, b: $bits, flags: &mut Fflags) -> $bits {
            select::<$format>(a.into(), b.into(), flags, |a, b| a <= b) as $bits
        }

        /// The larger number; a NaN loses against a number, and +0 is larger than -0.
        #[must_use]
        #[inline]
        pub fn $max(a: $bits, b: $bits, flags: &mut Fflags) -> $bits {
            select::<$format>(a.into(), b.into(), flags, |a, b| a >= b) as $bits
        }

        /// `a == b`, quiet: only a signaling NaN raises NV.
        #[must_use]
        #[inline]
        pub fn $eq(a: $bits, b: $bits, flags: &mut Fflags) -> bool {
            eq::<$format>(a.into(), b.into(), flags)
        }

        /// `a < b`, signaling: any NaN raises NV.
        #[must_use]
        #[inline]
        pub fn $lt(a: $bits, b: $bits, flags: &mut Fflags) -> bool {
            ordered::<$format>(a.into(), b.into(), flags, |a, b| a < b)
        }

        /// `a <= b`, signaling: any NaN raises NV.
        #[must_use]
        #[inline]
        pub fn $le(a: $bits, b: $bits, flags: &mut Fflags) -> bool {
            ordered::<$format>(a.into(), b.into(), flags, |a, b| a <= b)
        }

        /// The FCLASS mask: one bit set, from 0 (minus infinity) to 9 (quiet NaN).
        #[must_use]
        #[inline]
        pub fn $classify(a: $bits) -> u64 {
            1 << class_bit::<$format>(a.into())
        }
    };
}

comparisons!(F32, u32, f32_min, f32_max, f32_eq, f32_lt, f32_le, f32_classify);
comparisons!(F64, u64, f64_min, f64_max, f64_eq, f64_lt, f64_le, f64_classify);
