//! Exact RISC-V F and D arithmetic: pure functions from raw bits, a rounding mode and the accrued flags to raw bits.
//!
//! Every operation returns what the RISC-V unprivileged specification (20240411, chapters 20 and 21) asks for, bit for bit:
//! all five rounding modes, all five exception flags, canonical NaN results, tininess detected after rounding. Three
//! paths lead there:
//!
//! ```text
//!   fast.rs      round to nearest even, result in a safe range: the host's own instruction,
//!                and an error-free transform that tells whether it was exact (skipped once NX is set)
//!   directed.rs  round towards zero, down, up: the same, then a step to the neighbour if the error says so
//!   slow.rs      everything else: special values by table, the rest by `rustc_apfloat` (square root by integers)
//! ```
//!
//! They agree on every input they accept; the tests hold them to it and to the host's floating-point unit.
//! `convert.rs` changes formats, `compare.rs` orders and classifies, `format.rs` describes the two formats. The
//! neighbours know the register file: NaN boxing is [`nan_box`] and [`unbox`] here, registers belong to the hart.

mod compare;
mod convert;
mod directed;
mod fast;
mod format;
mod slow;

#[cfg(test)]
mod tests;

pub use compare::{f32_classify, f32_eq, f32_le, f32_lt, f32_max, f32_min};
pub use compare::{f64_classify, f64_eq, f64_le, f64_lt, f64_max, f64_min};
pub use convert::{f32_to_f64, f64_to_f32};
pub use convert::{f32_to_i32, f32_to_i64, f32_to_u32, f32_to_u64};
pub use convert::{f64_to_i32, f64_to_i64, f64_to_u32, f64_to_u64};
pub use convert::{i32_to_f32, i64_to_f32, u32_to_f32, u64_to_f32};
pub use convert::{i32_to_f64, i64_to_f64, u32_to_f64, u64_to_f64};

use format::{F32, F64};

/// The NaN every single-precision operation returns.
pub const F32_CANONICAL_NAN: u32 = 0x7fc0_0000;
/// The NaN every double-precision operation returns.
pub const F64_CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;

/// A rounding mode; the value is the encoding in an instruction's `rm` field and in `fcsr.frm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Rm {
    /// To nearest, ties to even.
    Rne = 0,
    /// Towards zero.
    Rtz = 1,
    /// Down, towards minus infinity.
    Rdn = 2,
    /// Up, towards plus infinity.
    Rup = 3,
    /// To nearest, ties away from zero.
    Rmm = 4,
}

impl Rm {
    /// All rounding modes, in the order of their encodings.
    pub const ALL: [Self; 5] = [Self::Rne, Self::Rtz, Self::Rdn, Self::Rup, Self::Rmm];

    /// The mode encoded by `bits`; `None` for the reserved encodings 5 and 6, for 7 (dynamic) and beyond.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Rne),
            1 => Some(Self::Rtz),
            2 => Some(Self::Rdn),
            3 => Some(Self::Rup),
            4 => Some(Self::Rmm),
            _ => None,
        }
    }
}

bitflags::bitflags! {
    /// The accrued exceptions, laid out as in `fcsr.fflags`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Fflags: u8 {
        /// Inexact.
        const NX = 1;
        /// Underflow: tiny after rounding, and inexact.
        const UF = 2;
        /// Overflow.
        const OF = 4;
        /// A finite number divided by zero.
        const DZ = 8;
        /// Invalid operation.
        const NV = 16;
    }
}

/// The 64-bit register that holds the single `value`: its upper half is all ones.
#[must_use]
#[inline]
pub const fn nan_box(value: u32) -> u64 {
    value as u64 | 0xffff_ffff_0000_0000
}

/// The single held by a 64-bit register; the canonical NaN when `register` is not properly boxed.
#[must_use]
#[inline]
pub const fn unbox(register: u64) -> u32 {
    if register >> 32 == 0xffff_ffff { register as u32 } else { F32_CANONICAL_NAN }
}

macro_rules! arithmetic {
    ($format:ident, $bits:ident, $add:ident, $sub:ident, $mul:ident, $div:ident, $sqrt:ident, $madd:ident) => {
        /// `a + b`.
        #[must_use]
        #[inline]
        pub fn $add(a: $bits, b: $bits, rm: Rm, flags: &mut Fflags) -> $bits {
            let quick = match rm {
                Rm::Rne => fast::$add(a, b, flags),
                _ => directed::$add(a, b, rm, flags),
            };
            if let Some(result) = quick {
                return result;
            }
            slow::add::<$format>(a.into(), b.into(), rm, flags) as $bits
        }

        /// `a - b`.
        #[must_use]
        #[inline]
        pub fn $sub(a: $bits, b: $bits, rm: Rm, flags: &mut Fflags) -> $bits {
            // The sign of a NaN operand reaches neither the result nor the flags.
            $add(a, b ^ (1 << ($bits::BITS - 1)), rm, flags)
        }

        /// `a * b`.
        #[must_use]
        #[inline]
        pub fn $mul(a: $bits, b: $bits, rm: Rm, flags: &mut Fflags) -> $bits {
            let quick = match rm {
                Rm::Rne => fast::$mul(a, b, flags),
                _ => directed::$mul(a, b, rm, flags),
            };
            if let Some(result) = quick {
                return result;
            }
            slow::mul::<$format>(a.into(), b.into(), rm, flags) as $bits
        }

        /// `a / b`.
        #[must_use]
        #[inline]
        pub fn $div(a: $bits, b: $bits, rm: Rm, flags: &mut Fflags) -> $bits {
            let quick = match rm {
                Rm::Rne => fast::$div(a, b, flags),
                _ => directed::$div(a, b, rm, flags),
            };
            if let Some(result) = quick {
                return result;
            }
            slow::div::<$format>(a.into(), b.into(), rm, flags) as $bits
        }

        /// The square root of `a`.
        #[must_use]
        #[inline]
        pub fn $sqrt(a: $bits, rm: Rm, flags: &mut Fflags) -> $bits {
            let quick = match rm {
                Rm::Rne => fast::$sqrt(a, flags),
                _ => directed::$sqrt(a, rm, flags),
            };
            if let Some(result) = quick {
                return result;
            }
            slow::sqrt::<$format>(a.into(), rm, flags) as $bits
        }

        /// `a * b + c` with one rounding.
        ///
        /// The other three fused instructions flip the signs of `a` and `c` first.
        #[must_use]
        #[inline]
        pub fn $madd(a: $bits, b: $bits, c: $bits, rm: Rm, flags: &mut Fflags) -> $bits {
            let quick = match rm {
                Rm::Rne => fast::$madd(a, b, c, flags),
                _ => directed::$madd(a, b, c, rm, flags),
            };
            if let Some(result) = quick {
                return result;
            }
            slow::madd::<$format>(a.into(), b.into(), c.into(), rm, flags) as $bits
        }
    };
}

arithmetic!(F32, u32, f32_add, f32_sub, f32_mul, f32_div, f32_sqrt, f32_madd);
arithmetic!(F64, u64, f64_add, f64_sub, f64_mul, f64_div, f64_sqrt, f64_madd);
