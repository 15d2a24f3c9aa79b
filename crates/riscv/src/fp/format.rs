//! What binary32 and binary64 look like: field widths and predicates shared by the generic code.
//!
//! [`Format`] works on values widened to `u64`, so that one generic function serves both formats; after inlining the
//! widening is free.
//!
//! ```text
//!   binary64   63 | 62 ........ 52 | 51 ................ 0
//!   binary32   31 | 30 ........ 23 | 22 ................ 0
//!            sign | exponent field | fraction (its top bit set: a NaN is quiet)
//! ```

use rustc_apfloat::ieee::{DoubleS, Semantics, SingleS};

/// One of the two binary floating-point formats of the F and D extensions.
pub(super) trait Format {
    /// The format for `rustc_apfloat`.
    type Native: Semantics;
    /// The same precision with an exponent range in which no single operation overflows or underflows.
    type Wide: Semantics;

    /// Bits of the stored fraction.
    const FRACTION_BITS: u32;
    /// Bits of the exponent field.
    const EXPONENT_BITS: u32;

    /// The exponent field's largest value: infinities and NaNs.
    const EXPONENT_MAX: u64 = (1 << Self::EXPONENT_BITS) - 1;
    /// The exponent field of 1.0.
    const BIAS: u64 = Self::EXPONENT_MAX >> 1;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::FRACTION_BITS + Self::EXPONENT_BITS);
    /// Plus infinity.
    const INFINITY: u64 = Self::EXPONENT_MAX << Self::FRACTION_BITS;
    /// The bit that makes a NaN quiet.
    const QUIET: u64 = 1 << (Self::FRACTION_BITS - 1);
    /// The NaN that operations return.
    const CANONICAL_NAN: u64 = Self::INFINITY | Self::QUIET;
    /// The largest finite number.
    const MAX_FINITE: u64 = Self::INFINITY - 1;
    /// The smallest positive normal number.
    const MIN_NORMAL: u64 = 1 << Self::FRACTION_BITS;

    /// The value of the finite number `bits`, which a double always holds.
    fn to_f64(bits: u64) -> f64;

    #[inline]
    fn magnitude(bits: u64) -> u64 {
        bits & (Self::SIGN - 1)
    }

    #[inline]
    fn is_negative(bits: u64) -> bool {
        bits & Self::SIGN != 0
    }

    #[inline]
    fn is_zero(bits: u64) -> bool {
        Self::magnitude(bits) == 0
    }

    #[inline]
    fn is_infinite(bits: u64) -> bool {
        Self::magnitude(bits) == Self::INFINITY
    }

    #[inline]
    fn is_nan(bits: u64) -> bool {
        Self::magnitude(bits) > Self::INFINITY
    }

    #[inline]
    fn is_signaling_nan(bits: u64) -> bool {
        Self::is_nan(bits) && bits & Self::QUIET == 0
    }

    /// The sign a product or quotient of `a` and `b` has.
    #[inline]
    fn product_sign(a: u64, b: u64) -> u64 {
        (a ^ b) & Self::SIGN
    }
}

/// Binary32.
pub(super) enum F32 {}
/// Binary64.
pub(super) enum F64 {}
/// Binary32's precision with 15 bits of exponent.
pub(super) enum WideSingle {}
/// Binary64's precision with 15 bits of exponent.
pub(super) enum WideDouble {}

/// Exponent bits of [`WideSingle`] and [`WideDouble`].
pub(super) const WIDE_EXPONENT_BITS: u32 = 15;

impl Semantics for WideSingle {
    const BITS: usize = 1 + WIDE_EXPONENT_BITS as usize + 23;
    const EXP_BITS: usize = WIDE_EXPONENT_BITS as usize;
}

impl Semantics for WideDouble {
    const BITS: usize = 1 + WIDE_EXPONENT_BITS as usize + 52;
    const EXP_BITS: usize = WIDE_EXPONENT_BITS as usize;
}

impl Format for F32 {
    type Native = SingleS;
    type Wide = WideSingle;
    const FRACTION_BITS: u32 = 23;
    const EXPONENT_BITS: u32 = 8;

    #[inline]
    fn to_f64(bits: u64) -> f64 {
        f32::from_bits(bits as u32).into()
    }
}

impl Format for F64 {
    type Native = DoubleS;
    type Wide = WideDouble;
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_BITS: u32 = 11;

    #[inline]
    fn to_f64(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
}
