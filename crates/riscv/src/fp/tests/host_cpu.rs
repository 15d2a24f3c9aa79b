//! The arithmetic against the SSE unit of the processor the tests run on, in its four rounding modes, flags included.
//!
//! SSE detects tininess after rounding, as RISC-V does; NaN payloads and integer overflow results differ and are mapped.
#![expect(
    unsafe_code,
    reason = "the host's floating-point unit is asked through its own instructions"
)]

use core::arch::asm;

use super::super::format::{F32, F64, Format};
use super::super::{self as fp, Fflags, Rm};
use super::{Operands, ROUNDS};

/// The rounding modes SSE has, with the value of `MXCSR.RC`.
const HOST_MODES: [(Rm, u32); 4] = [(Rm::Rne, 0), (Rm::Rdn, 1), (Rm::Rup, 2), (Rm::Rtz, 3)];

/// `MXCSR` with every exception masked, all flags clear and rounding control `rc`.
fn mxcsr(rc: u32) -> u32 {
    0x1f80 | rc << 13
}

/// The flags `MXCSR` accrued, as RISC-V orders them.
fn flags_of(mxcsr: u32) -> Fflags {
    let mut flags = Fflags::empty();
    for (bit, flag) in
        [(0, Fflags::NV), (2, Fflags::DZ), (3, Fflags::OF), (4, Fflags::UF), (5, Fflags::NX)]
    {
        flags.set(flag, mxcsr & 1 << bit != 0);
    }
    flags
}

/// Defines a function that executes one SSE instruction under rounding control `rc`: its result, and the flags it raised.
macro_rules! host {
    ($name:ident, ($($operand:ident),*), $float:ident -> $result:ident, $instruction:literal) => {
        fn $name($($operand: $float,)* rc: u32) -> ($result, Fflags) {
            let (new, mut after, mut saved) = (mxcsr(rc), 0u32, 0u32);
            let mut out: $result = Default::default();
            // SAFETY: the block reads and writes only its operands; MXCSR, which it changes, is restored before it ends.
            unsafe {
                asm!(
                    "stmxcsr [{saved}]",
                    "ldmxcsr [{new}]",
                    $instruction,
                    "stmxcsr [{after}]",
                    "ldmxcsr [{saved}]",
                    saved = in(reg) &raw mut saved,
                    new = in(reg) &raw const new,
                    after = in(reg) &raw mut after,
                    out = inout(xmm_reg) out,
                    $($operand = inout(xmm_reg) $operand => _,)*
                );
            }
            (out, flags_of(after))
        }
    };
}

/// As `host!`, for an instruction with an integer register as its result.
macro_rules! host_to_integer {
    ($name:ident, $float:ident -> $integer:ident, $instruction:literal) => {
        fn $name(a: $float, rc: u32) -> ($integer, Fflags) {
            let (new, mut after, mut saved) = (mxcsr(rc), 0u32, 0u32);
            let out: $integer;
            // SAFETY: the block reads and writes only its operands; MXCSR, which it changes, is restored before it ends.
            unsafe {
                asm!(
                    "stmxcsr [{saved}]",
                    "ldmxcsr [{new}]",
                    $instruction,
                    "stmxcsr [{after}]",
                    "ldmxcsr [{saved}]",
                    saved = in(reg) &raw mut saved,
                    new = in(reg) &raw const new,
                    after = in(reg) &raw mut after,
                    out = out(reg) out,
                    a = in(xmm_reg) a,
                );
            }
            (out, flags_of(after))
        }
    };
}

/// As `host!`, for an instruction with an integer operand.
macro_rules! host_from_integer {
    ($name:ident, $integer:ident -> $float:ident, $instruction:literal) => {
        fn $name(a: $integer, rc: u32) -> ($float, Fflags) {
            let (new, mut after, mut saved) = (mxcsr(rc), 0u32, 0u32);
            let mut out: $float = 0.0;
            // SAFETY: the block reads and writes only its operands; MXCSR, which it changes, is restored before it ends.
            unsafe {
                asm!(
                    "stmxcsr [{saved}]",
                    "ldmxcsr [{new}]",
                    $instruction,
                    "stmxcsr [{after}]",
                    "ldmxcsr [{saved}]",
                    saved = in(reg) &raw mut saved,
                    new = in(reg) &raw const new,
                    after = in(reg) &raw mut after,
                    out = inout(xmm_reg) out,
                    a = in(reg) a,
                );
            }
            (out, flags_of(after))
        }
    };
}

host!(add32, (a, b), f32 -> f32, "addss {a}, {b}\nmovaps {out}, {a}");
host!(add64, (a, b), f64 -> f64, "addsd {a}, {b}\nmovaps {out}, {a}");
host!(sub32, (a, b), f32 -> f32, "subss {a}, {b}\nmovaps {out}, {a}");
host!(sub64, (a, b), f64 -> f64, "subsd {a}, {b}\nmovaps {out}, {a}");
host!(mul32, (a, b), f32 -> f32, "mulss {a}, {b}\nmovaps {out}, {a}");
host!(mul64, (a, b), f64 -> f64, "mulsd {a}, {b}\nmovaps {out}, {a}");
host!(div32, (a, b), f32 -> f32, "divss {a}, {b}\nmovaps {out}, {a}");
host!(div64, (a, b), f64 -> f64, "divsd {a}, {b}\nmovaps {out}, {a}");
host!(sqrt32, (a), f32 -> f32, "sqrtss {out}, {a}");
host!(sqrt64, (a), f64 -> f64, "sqrtsd {out}, {a}");
host!(madd32, (a, b, c), f32 -> f32, "vfmadd213ss {a}, {b}, {c}\nmovaps {out}, {a}");
host!(madd64, (a, b, c), f64 -> f64, "vfmadd213sd {a}, {b}, {c}\nmovaps {out}, {a}");
host!(widen, (a), f32 -> f64, "cvtss2sd {out}, {a}");
host!(narrow, (a), f64 -> f32, "cvtsd2ss {out}, {a}");
host_to_integer!(to_i32_from32, f32 -> i32, "cvtss2si {out:e}, {a}");
host_to_integer!(to_i64_from32, f32 -> i64, "cvtss2si {out}, {a}");
host_to_integer!(to_i32_from64, f64 -> i32, "cvtsd2si {out:e}, {a}");
host_to_integer!(to_i64_from64, f64 -> i64, "cvtsd2si {out}, {a}");
host_from_integer!(from_i32_to32, i32 -> f32, "cvtsi2ss {out}, {a:e}");
host_from_integer!(from_i64_to32, i64 -> f32, "cvtsi2ss {out}, {a}");
host_from_integer!(from_i64_to64, i64 -> f64, "cvtsi2sd {out}, {a}");

fn canonical32(bits: u32) -> u32 {
    if F32::is_nan(bits.into()) { fp::F32_CANONICAL_NAN } else { bits }
}

fn canonical64(bits: u64) -> u64 {
    if F64::is_nan(bits) { fp::F64_CANONICAL_NAN } else { bits }
}

macro_rules! agrees {
    ($test:ident, $ours:ident, $host:ident, ($($operand:ident),*), $source:ident, $float:ident, $result:ident, $canonical:ident) => {
        #[test]
        fn $test() {
            let mut operands = Operands::new(0xc0de);
            for round in 0..ROUNDS {
                let (rm, rc) = HOST_MODES[round as usize % 4];
                $(let $operand = operands.$source();)*
                let (host, host_flags) = $host($($float::from_bits($operand),)* rc);
                let mut flags = Fflags::empty();
                let ours = fp::$ours($($operand,)* rm, &mut flags);
                assert_eq!(
                    (ours, flags),
                    ($canonical(host.to_bits()), host_flags),
                    "{} {rm:?} of {:#x?}: ours (left), the host's (right)",
                    stringify!($ours),
                    [$($operand),*],
                );
            }
        }
    };
}

agrees!(f32_add_is_what_the_host_computes, f32_add, add32, (a, b), f32, f32, u32, canonical32);
agrees!(f64_add_is_what_the_host_computes, f64_add, add64, (a, b), f64, f64, u64, canonical64);
agrees!(f32_sub_is_what_the_host_computes, f32_sub, sub32, (a, b), f32, f32, u32, canonical32);
agrees!(f64_sub_is_what_the_host_computes, f64_sub, sub64, (a, b), f64, f64, u64, canonical64);
agrees!(f32_mul_is_what_the_host_computes, f32_mul, mul32, (a, b), f32, f32, u32, canonical32);
agrees!(f64_mul_is_what_the_host_computes, f64_mul, mul64, (a, b), f64, f64, u64, canonical64);
agrees!(f32_div_is_what_the_host_computes, f32_div, div32, (a, b), f32, f32, u32, canonical32);
agrees!(f64_div_is_what_the_host_computes, f64_div, div64, (a, b), f64, f64, u64, canonical64);
agrees!(f32_sqrt_is_what_the_host_computes, f32_sqrt, sqrt32, (a), f32, f32, u32, canonical32);
agrees!(f64_sqrt_is_what_the_host_computes, f64_sqrt, sqrt64, (a), f64, f64, u64, canonical64);
agrees!(
    narrowing_is_what_the_host_computes,
    f64_to_f32,
    narrow,
    (a),
    f64_near_f32,
    f64,
    u32,
    canonical32
);

macro_rules! fused_agrees {
    ($test:ident, $ours:ident, $host:ident, $format:ident, $source:ident, $float:ident, $canonical:ident) => {
        #[test]
        fn $test() {
            if !is_x86_feature_detected!("fma") {
                eprintln!("SKIP: this processor has no fused multiply-add to compare with");
                return;
            }
            let mut operands = Operands::new(0xf3a);
            for round in 0..ROUNDS {
                let (rm, rc) = HOST_MODES[round as usize % 4];
                let (a, b, mut c) = (operands.$source(), operands.$source(), operands.$source());
                if operands.below(3) == 0 {
                    let negated = ($float::from_bits(a) * -$float::from_bits(b)).to_bits();
                    c = negated.wrapping_add(operands.below(3) as _).wrapping_sub(1);
                }
                let (host, mut host_flags) =
                    $host($float::from_bits(a), $float::from_bits(b), $float::from_bits(c), rc);
                // RISC-V calls infinity times zero invalid even when a quiet NaN is added; SSE does not.
                let factors = [a, b].map(u64::from);
                if factors.iter().any(|&x| $format::is_infinite(x))
                    && factors.iter().any(|&x| $format::is_zero(x))
                {
                    host_flags |= Fflags::NV;
                }
                let mut flags = Fflags::empty();
                let ours = fp::$ours(a, b, c, rm, &mut flags);
                assert_eq!(
                    (ours, flags),
                    ($canonical(host.to_bits()), host_flags),
                    "{} {rm:?} of {:#x?}: ours (left), the host's (right)",
                    stringify!($ours),
                    [a, b, c],
                );
            }
        }
    };
}

fused_agrees!(f32_madd_is_what_the_host_computes, f32_madd, madd32, F32, f32, f32, canonical32);
fused_agrees!(f64_madd_is_what_the_host_computes, f64_madd, madd64, F64, f64, f64, canonical64);

#[test]
fn widening_is_what_the_host_computes() {
    let mut operands = Operands::new(0x71de);
    for _ in 0..ROUNDS {
        let a = operands.f32();
        let (host, host_flags) = widen(f32::from_bits(a), 0);
        let mut flags = Fflags::empty();
        assert_eq!(
            (fp::f32_to_f64(a, &mut flags), flags),
            (canonical64(host.to_bits()), host_flags),
            "of {a:#x}"
        );
    }
}

macro_rules! to_integer_agrees {
    ($test:ident, $ours:ident, $host:ident, $source:ident, $float:ident, $integer:ident) => {
        #[test]
        fn $test() {
            let mut operands = Operands::new(0x1273);
            for round in 0..ROUNDS {
                let (rm, rc) = HOST_MODES[round as usize % 4];
                let a = operands.$source();
                let (mut host, host_flags) = $host($float::from_bits(a), rc);
                // Where SSE gives its one "indefinite" integer, RISC-V saturates.
                let value = $float::from_bits(a);
                if host_flags.contains(Fflags::NV) && (value.is_nan() || value > 0.0) {
                    host = $integer::MAX;
                }
                let mut flags = Fflags::empty();
                let ours = fp::$ours(a, rm, &mut flags);
                assert_eq!(
                    (ours, flags),
                    (host, host_flags),
                    "{rm:?} of {a:#x}: ours (left), the host's (right)"
                );
            }
        }
    };
}

to_integer_agrees!(f32_to_i32_is_what_the_host_computes, f32_to_i32, to_i32_from32, f32, f32, i32);
to_integer_agrees!(f32_to_i64_is_what_the_host_computes, f32_to_i64, to_i64_from32, f32, f32, i64);
to_integer_agrees!(f64_to_i32_is_what_the_host_computes, f64_to_i32, to_i32_from64, f64, f64, i32);
to_integer_agrees!(f64_to_i64_is_what_the_host_computes, f64_to_i64, to_i64_from64, f64, f64, i64);

macro_rules! from_integer_agrees {
    ($test:ident, $ours:ident, $host:ident, $integer:ident) => {
        #[test]
        fn $test() {
            let mut operands = Operands::new(0x1276);
            for round in 0..ROUNDS {
                let (rm, rc) = HOST_MODES[round as usize % 4];
                let length = operands.below($integer::BITS.into());
                let a = (operands.next() as $integer) >> length;
                let (host, host_flags) = $host(a, rc);
                let mut flags = Fflags::empty();
                let ours = fp::$ours(a, rm, &mut flags);
                assert_eq!(
                    (ours, flags),
                    (host.to_bits(), host_flags),
                    "{rm:?} of {a}: ours (left), the host's (right)"
                );
            }
        }
    };
}

from_integer_agrees!(i32_to_f32_is_what_the_host_computes, i32_to_f32, from_i32_to32, i32);
from_integer_agrees!(i64_to_f32_is_what_the_host_computes, i64_to_f32, from_i64_to32, i64);
from_integer_agrees!(i64_to_f64_is_what_the_host_computes, i64_to_f64, from_i64_to64, i64);
