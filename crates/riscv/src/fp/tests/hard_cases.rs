//! A table of the cases implementations get wrong, each worked out by hand from the specification.

use super::super::Rm::{Rdn, Rmm, Rne, Rtz, Rup};
use super::super::{self as fp, Fflags, Rm};

const NONE: Fflags = Fflags::empty();
const NX: Fflags = Fflags::NX;
const UF: Fflags = Fflags::UF.union(NX);
const OF: Fflags = Fflags::OF.union(NX);
const DZ: Fflags = Fflags::DZ;
const NV: Fflags = Fflags::NV;

const ONE: u64 = 0x3ff0_0000_0000_0000;
const MINUS: u64 = 1 << 63;
const MIN_SUBNORMAL: u64 = 1;
const MAX_SUBNORMAL: u64 = 0x000f_ffff_ffff_ffff;
const MIN_NORMAL: u64 = 0x0010_0000_0000_0000;
const MAX: u64 = 0x7fef_ffff_ffff_ffff;
const INF: u64 = 0x7ff0_0000_0000_0000;
const NAN: u64 = fp::F64_CANONICAL_NAN;
const QUIET: u64 = 0xfff8_dead_beef_0001;
const SIGNALING: u64 = 0x7ff0_0000_0000_0001;

type Binary = fn(u64, u64, Rm, &mut Fflags) -> u64;

#[track_caller]
fn check2(operation: Binary, a: u64, b: u64, modes: &[Rm], expect: u64, raised: Fflags) {
    for &rm in modes {
        let mut flags = NONE;
        let result = operation(a, b, rm, &mut flags);
        assert_eq!(
            (result, flags),
            (expect, raised),
            "{a:#x}, {b:#x} {rm:?}: got {result:#x}, expected {expect:#x}"
        );
    }
}

#[track_caller]
fn check3(a: u64, b: u64, c: u64, modes: &[Rm], expect: u64, raised: Fflags) {
    for &rm in modes {
        let mut flags = NONE;
        let result = fp::f64_madd(a, b, c, rm, &mut flags);
        assert_eq!(
            (result, flags),
            (expect, raised),
            "{a:#x}, {b:#x}, {c:#x} {rm:?}: got {result:#x}"
        );
    }
}

#[test]
fn a_sum_that_cancels_is_minus_zero_only_when_rounding_down() {
    check2(fp::f64_sub, ONE, ONE, &[Rne, Rtz, Rup, Rmm], 0, NONE);
    check2(fp::f64_sub, ONE, ONE, &[Rdn], MINUS, NONE);
    check2(fp::f64_add, MINUS, MINUS, &Rm::ALL, MINUS, NONE);
    check2(fp::f64_add, 0, MINUS, &[Rne, Rtz, Rup, Rmm], 0, NONE);
    check2(fp::f64_add, 0, MINUS, &[Rdn], MINUS, NONE);
    check3(ONE, ONE, ONE | MINUS, &[Rdn], MINUS, NONE);
    check3(ONE, ONE, ONE | MINUS, &[Rne, Rtz, Rup, Rmm], 0, NONE);
    check3(0, ONE | MINUS, MINUS, &Rm::ALL, MINUS, NONE);
}

#[test]
fn half_a_unit_beyond_the_largest_number_overflows_by_mode() {
    let half_unit = 0x7c90_0000_0000_0000;
    check2(fp::f64_add, MAX, half_unit, &[Rne, Rmm, Rup], INF, OF);
    // Rounded with unbounded exponent these stay at the largest number: inexact, no overflow.
    check2(fp::f64_add, MAX, half_unit, &[Rtz, Rdn], MAX, NX);
    check2(fp::f64_add, MAX, half_unit - 1, &[Rne, Rmm, Rtz, Rdn], MAX, NX);
    check2(fp::f64_add, MAX, half_unit - 1, &[Rup], INF, OF);
}

#[test]
fn overflow_gives_infinity_or_the_largest_number_by_mode_and_sign() {
    let two = 2.0f64.to_bits();
    check2(fp::f64_mul, MAX, two, &[Rne, Rmm, Rup], INF, OF);
    check2(fp::f64_mul, MAX, two, &[Rtz, Rdn], MAX, OF);
    check2(fp::f64_mul, MAX | MINUS, two, &[Rne, Rmm, Rdn], INF | MINUS, OF);
    check2(fp::f64_mul, MAX | MINUS, two, &[Rtz, Rup], MAX | MINUS, OF);
    check2(fp::f64_div, MAX, MIN_SUBNORMAL, &[Rne, Rmm, Rup], INF, OF);
    check2(fp::f64_div, MAX, MIN_SUBNORMAL, &[Rtz, Rdn], MAX, OF);
    check3(MAX, MAX, MAX | MINUS, &[Rtz, Rdn], MAX, OF);
}

#[test]
fn tininess_is_judged_after_rounding() {
    // (1 + 2^-52) (1 - 2^-52) = 1 - 2^-104 times the smallest normal number: to nearest and up it is not tiny.
    let (above, below) = (MIN_NORMAL + 1, ONE - 2);
    check2(fp::f64_mul, above, below, &[Rne, Rmm, Rup], MIN_NORMAL, NX);
    check2(fp::f64_mul, above, below, &[Rtz, Rdn], MAX_SUBNORMAL, UF);
    // 1 - 2^-53 has 53 bits, so it is tiny in every mode, also where the subnormal result rounds up to normal.
    check2(fp::f64_mul, MIN_NORMAL, ONE - 1, &[Rne, Rmm, Rup], MIN_NORMAL, UF);
    check2(fp::f64_mul, MIN_NORMAL, ONE - 1, &[Rtz, Rdn], MAX_SUBNORMAL, UF);
}

#[test]
fn exact_subnormal_results_do_not_underflow() {
    check2(fp::f64_sub, MIN_NORMAL, MIN_SUBNORMAL, &Rm::ALL, MAX_SUBNORMAL, NONE);
    check2(fp::f64_mul, MIN_NORMAL, 0.5f64.to_bits(), &Rm::ALL, MIN_NORMAL >> 1, NONE);
    check2(fp::f64_div, MIN_NORMAL, 4.0f64.to_bits(), &Rm::ALL, MIN_NORMAL >> 2, NONE);
    check3(MIN_SUBNORMAL, ONE, MIN_SUBNORMAL, &Rm::ALL, 2, NONE);
}

#[test]
fn results_below_the_smallest_subnormal_round_to_it_or_to_zero() {
    check2(fp::f64_mul, MIN_SUBNORMAL, MIN_SUBNORMAL, &[Rne, Rmm, Rtz, Rdn], 0, UF);
    check2(fp::f64_mul, MIN_SUBNORMAL, MIN_SUBNORMAL, &[Rup], MIN_SUBNORMAL, UF);
    check2(fp::f64_mul, MIN_SUBNORMAL | MINUS, MIN_SUBNORMAL, &[Rdn], MIN_SUBNORMAL | MINUS, UF);
    check2(fp::f64_mul, MIN_SUBNORMAL | MINUS, MIN_SUBNORMAL, &[Rup, Rtz, Rne], MINUS, UF);
    // Half the smallest subnormal is a tie: even is zero, away is not.
    check2(fp::f64_mul, MIN_SUBNORMAL, 0.5f64.to_bits(), &[Rne], 0, UF);
    check2(fp::f64_mul, MIN_SUBNORMAL, 0.5f64.to_bits(), &[Rmm], MIN_SUBNORMAL, UF);
}

#[test]
fn ties_go_to_even_or_away() {
    let half_unit = 0x3ca0_0000_0000_0000;
    check2(fp::f64_add, ONE, half_unit, &[Rne, Rtz, Rdn], ONE, NX);
    check2(fp::f64_add, ONE, half_unit, &[Rmm, Rup], ONE + 1, NX);
    check2(fp::f64_add, ONE + 1, half_unit, &[Rne, Rmm, Rup], ONE + 2, NX);
    check2(fp::f64_sub, ONE | MINUS, half_unit, &[Rmm, Rdn], (ONE + 1) | MINUS, NX);
    check2(fp::f64_sub, ONE | MINUS, half_unit, &[Rne, Rtz, Rup], ONE | MINUS, NX);
}

#[test]
fn a_tiny_addend_is_seen_by_directed_rounding_only() {
    check2(fp::f64_add, ONE, MIN_SUBNORMAL, &[Rne, Rtz, Rdn, Rmm], ONE, NX);
    check2(fp::f64_add, ONE, MIN_SUBNORMAL, &[Rup], ONE + 1, NX);
    check2(fp::f64_sub, ONE, MIN_SUBNORMAL, &[Rne, Rup, Rmm], ONE, NX);
    check2(fp::f64_sub, ONE, MIN_SUBNORMAL, &[Rtz, Rdn], ONE - 1, NX);
    // The product underflows by far; the sum does not.
    check3(MIN_SUBNORMAL, MIN_SUBNORMAL, ONE, &[Rne, Rtz, Rdn, Rmm], ONE, NX);
    check3(MIN_SUBNORMAL, MIN_SUBNORMAL, ONE, &[Rup], ONE + 1, NX);
}

#[test]
fn invalid_operations_give_the_canonical_nan() {
    check2(fp::f64_sub, INF, INF, &Rm::ALL, NAN, NV);
    check2(fp::f64_add, INF | MINUS, INF, &Rm::ALL, NAN, NV);
    check2(fp::f64_mul, 0, INF, &Rm::ALL, NAN, NV);
    check2(fp::f64_div, 0, MINUS, &Rm::ALL, NAN, NV);
    check2(fp::f64_div, INF, INF | MINUS, &Rm::ALL, NAN, NV);
    check3(INF, ONE, INF | MINUS, &Rm::ALL, NAN, NV);
    check3(INF, 0, ONE, &Rm::ALL, NAN, NV);
    check3(INF, MINUS, QUIET, &Rm::ALL, NAN, NV);
}

#[test]
fn nan_operands_give_the_canonical_nan_and_only_signaling_ones_are_invalid() {
    for operation in [fp::f64_add as Binary, fp::f64_sub, fp::f64_mul, fp::f64_div] {
        check2(operation, QUIET, ONE, &Rm::ALL, NAN, NONE);
        check2(operation, INF, QUIET, &Rm::ALL, NAN, NONE);
        check2(operation, SIGNALING, QUIET, &Rm::ALL, NAN, NV);
        check2(operation, ONE, SIGNALING | MINUS, &Rm::ALL, NAN, NV);
    }
    check3(ONE, QUIET, INF, &Rm::ALL, NAN, NONE);
    check3(ONE, ONE, SIGNALING, &Rm::ALL, NAN, NV);
    check3(MAX, MAX, QUIET, &Rm::ALL, NAN, NONE);
}

#[test]
fn infinities_and_division_by_zero_are_exact() {
    check2(fp::f64_add, INF, MAX | MINUS, &Rm::ALL, INF, NONE);
    check2(fp::f64_mul, INF | MINUS, MIN_SUBNORMAL, &Rm::ALL, INF | MINUS, NONE);
    check2(fp::f64_div, ONE | MINUS, 0, &Rm::ALL, INF | MINUS, DZ);
    check2(fp::f64_div, MIN_SUBNORMAL, MINUS, &Rm::ALL, INF | MINUS, DZ);
    check2(fp::f64_div, INF, 0, &Rm::ALL, INF, NONE);
    check2(fp::f64_div, MAX, INF | MINUS, &Rm::ALL, MINUS, NONE);
    check3(MAX, MAX, INF | MINUS, &Rm::ALL, INF | MINUS, NONE);
}

#[test]
fn square_roots_are_correctly_rounded_at_both_ends() {
    let check = |a: u64, modes: &[Rm], expect: u64, raised: Fflags| {
        check2(|a, _, rm, flags| fp::f64_sqrt(a, rm, flags), a, 0, modes, expect, raised);
    };
    check(MINUS, &Rm::ALL, MINUS, NONE);
    check(INF, &Rm::ALL, INF, NONE);
    check(ONE | MINUS, &Rm::ALL, NAN, NV);
    check(INF | MINUS, &Rm::ALL, NAN, NV);
    check(QUIET, &Rm::ALL, NAN, NONE);
    check(SIGNALING, &Rm::ALL, NAN, NV);
    // 2^-1074 and 4 * 2^-1074 have exact roots; twice the former has sqrt(2) * 2^-537.
    check(MIN_SUBNORMAL, &Rm::ALL, 0x1e60_0000_0000_0000, NONE);
    check(4, &Rm::ALL, 0x1e70_0000_0000_0000, NONE);
    check(2, &[Rne, Rmm, Rup], 0x1e66_a09e_667f_3bcd, NX);
    check(2, &[Rtz, Rdn], 0x1e66_a09e_667f_3bcc, NX);
    // Just below one: the root is nearly halfway, on the lower side; just above one: likewise.
    check(ONE - 1, &[Rne, Rmm, Rtz, Rdn], ONE - 1, NX);
    check(ONE - 1, &[Rup], ONE, NX);
    check(ONE + 1, &[Rne, Rmm, Rtz, Rdn], ONE, NX);
    check(ONE + 1, &[Rup], ONE + 1, NX);
    check(MAX, &[Rne, Rmm, Rtz, Rdn], 0x5fef_ffff_ffff_ffff, NX);
    check(MAX, &[Rup], 0x5ff0_0000_0000_0000, NX);
}

#[test]
fn a_fused_product_is_not_rounded_before_the_sum() {
    // (1 + 2^-52)^2 - (1 + 2^-51) = 2^-104.
    check3(ONE + 1, ONE + 1, (ONE + 2) | MINUS, &Rm::ALL, 0x3970_0000_0000_0000, NONE);
}

#[test]
fn a_fused_single_is_not_rounded_to_double_on_the_way() {
    let f = |x: f32| x.to_bits();
    let check = |a: f32, b: f32, c: f32, expect: f32| {
        let mut flags = NONE;
        let result = fp::f32_madd(f(a), f(b), f(c), Rne, &mut flags);
        assert_eq!((f32::from_bits(result), flags), (expect, NX), "{a:e} * {b:e} + {c:e}");
    };
    let (unit, tiny) = (f32::EPSILON, 2f32.powi(-100));
    let half = 2f32.powi(-12);
    // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24 is a tie with an even number below it.
    check(1.0 + half, 1.0 + half, 0.0, 1.0 + 2.0 * half);
    check(1.0 + half, 1.0 + half, tiny, 1.0 + 2.0 * half + unit);
    check(1.0 + half, 1.0 + half, -tiny, 1.0 + 2.0 * half);
    check(-1.0 - half, 1.0 + half, -tiny, -1.0 - 2.0 * half - unit);
    // (1 + 3 * 2^-12) (1 + 2^-12) = 1 + 2^-10 + 2^-23 + 2^-24 is one with an odd number below it.
    check(1.0 + 3.0 * half, 1.0 + half, 0.0, 1.0 + 4.0 * half + 2.0 * unit);
    check(1.0 + 3.0 * half, 1.0 + half, tiny, 1.0 + 4.0 * half + 2.0 * unit);
    check(1.0 + 3.0 * half, 1.0 + half, -tiny, 1.0 + 4.0 * half + unit);
}

#[test]
fn narrowing_judges_tininess_after_rounding_too() {
    let check = |a: u64, modes: &[Rm], expect: u32, raised: Fflags| {
        for &rm in modes {
            let mut flags = NONE;
            assert_eq!(
                (fp::f64_to_f32(a, rm, &mut flags), flags),
                (expect, raised),
                "{a:#x} {rm:?}"
            );
        }
    };
    let smallest_normal = 0x0080_0000;
    // (1 - 2^-25) 2^-126 is a tie in 24 bits.
    check(0x380f_ffff_f000_0000, &[Rne, Rmm, Rup], smallest_normal, NX);
    check(0x380f_ffff_f000_0000, &[Rtz, Rdn], smallest_normal - 1, UF);
    check(0x380f_ffff_efff_ffff, &[Rne, Rmm], smallest_normal, UF);
    check(0x380f_ffff_efff_ffff, &[Rup], smallest_normal, NX);
    check(0x380f_ffff_c000_0000, &Rm::ALL, smallest_normal - 1, NONE);
    // Half a unit beyond the largest single.
    check(0x47ef_ffff_f000_0000, &[Rne, Rmm, Rup], 0x7f80_0000, OF);
    check(0x47ef_ffff_f000_0000, &[Rtz, Rdn], 0x7f7f_ffff, NX);
    check(0x47ef_ffff_efff_ffff, &[Rne, Rmm], 0x7f7f_ffff, NX);
    check(MAX, &[Rtz, Rdn], 0x7f7f_ffff, OF);
    check(MIN_SUBNORMAL | MINUS, &[Rdn], 0x8000_0001, UF);
    check(MIN_SUBNORMAL | MINUS, &[Rne, Rtz, Rup, Rmm], 0x8000_0000, UF);
    check(SIGNALING, &Rm::ALL, fp::F32_CANONICAL_NAN, NV);
    check(QUIET, &Rm::ALL, fp::F32_CANONICAL_NAN, NONE);
    check(INF | MINUS, &Rm::ALL, 0xff80_0000, NONE);
}

#[test]
fn minimum_and_maximum_prefer_numbers_and_order_zeros() {
    let check = |a: u64, b: u64, min: u64, max: u64, raised: Fflags| {
        for (a, b) in [(a, b), (b, a)] {
            let mut flags = NONE;
            assert_eq!((fp::f64_min(a, b, &mut flags), flags), (min, raised), "min {a:#x} {b:#x}");
            let mut flags = NONE;
            assert_eq!((fp::f64_max(a, b, &mut flags), flags), (max, raised), "max {a:#x} {b:#x}");
        }
    };
    check(0, MINUS, MINUS, 0, NONE);
    check(ONE, QUIET, ONE, ONE, NONE);
    check(ONE, SIGNALING, ONE, ONE, NV);
    check(QUIET, QUIET | 5, NAN, NAN, NONE);
    check(QUIET, SIGNALING, NAN, NAN, NV);
    check(INF, INF | MINUS, INF | MINUS, INF, NONE);
    check(ONE | MINUS, (ONE + 1) | MINUS, (ONE + 1) | MINUS, ONE | MINUS, NONE);
}

#[test]
fn classes_are_numbered_as_the_table_says() {
    let doubles = [INF, MAX, MIN_SUBNORMAL, 0].map(|bits| bits | MINUS);
    let classes = doubles.into_iter().chain([0, MAX_SUBNORMAL, MIN_NORMAL, INF, SIGNALING, QUIET]);
    for (class, bits) in classes.enumerate() {
        assert_eq!(fp::f64_classify(bits), 1 << class, "{bits:#x}");
    }
    let singles = [
        0xff80_0000,
        0x8080_0000,
        0x807f_ffff,
        0x8000_0000,
        0,
        1,
        0x7f7f_ffff,
        0x7f80_0000,
        0xff80_0001,
        0x7fc0_0000,
    ];
    for (class, bits) in singles.into_iter().enumerate() {
        assert_eq!(fp::f32_classify(bits), 1 << class, "{bits:#x}");
    }
}

#[test]
fn conversions_to_integers_saturate_at_the_edges() {
    let check = |a: f64,
                 rm: Rm,
                 i32s: (i32, Fflags),
                 u32s: (u32, Fflags),
                 i64s: (i64, Fflags),
                 u64s: (u64, Fflags)| {
        let a = a.to_bits();
        let mut flags = [NONE; 4];
        let [f0, f1, f2, f3] = &mut flags;
        let results = (
            fp::f64_to_i32(a, rm, f0),
            fp::f64_to_u32(a, rm, f1),
            fp::f64_to_i64(a, rm, f2),
            fp::f64_to_u64(a, rm, f3),
        );
        assert_eq!(
            (results, flags),
            ((i32s.0, u32s.0, i64s.0, u64s.0), [i32s.1, u32s.1, i64s.1, u64s.1]),
            "{a:#x} {rm:?}"
        );
    };
    check(-0.9, Rtz, (0, NX), (0, NX), (0, NX), (0, NX));
    check(-0.9, Rne, (-1, NX), (0, NV), (-1, NX), (0, NV));
    check(-0.5, Rne, (0, NX), (0, NX), (0, NX), (0, NX));
    check(-0.5, Rmm, (-1, NX), (0, NV), (-1, NX), (0, NV));
    check(2.5, Rne, (2, NX), (2, NX), (2, NX), (2, NX));
    check(2.5, Rmm, (3, NX), (3, NX), (3, NX), (3, NX));
    check(-0.0, Rdn, (0, NONE), (0, NONE), (0, NONE), (0, NONE));
    check(
        2_147_483_647.5,
        Rdn,
        (i32::MAX, NX),
        (0x7fff_ffff, NX),
        (0x7fff_ffff, NX),
        (0x7fff_ffff, NX),
    );
    check(
        2_147_483_647.5,
        Rup,
        (i32::MAX, NV),
        (0x8000_0000, NX),
        (0x8000_0000, NX),
        (0x8000_0000, NX),
    );
    check(-2_147_483_648.9, Rtz, (i32::MIN, NX), (0, NV), (-0x8000_0000, NX), (0, NV));
    check(-2_147_483_648.9, Rdn, (i32::MIN, NV), (0, NV), (-0x8000_0001, NX), (0, NV));
    check(
        4_294_967_295.5,
        Rne,
        (i32::MAX, NV),
        (u32::MAX, NV),
        (0x1_0000_0000, NX),
        (0x1_0000_0000, NX),
    );
    check(2f64.powi(63), Rne, (i32::MAX, NV), (u32::MAX, NV), (i64::MAX, NV), (1 << 63, NONE));
    check(-(2f64.powi(63)), Rne, (i32::MIN, NV), (0, NV), (i64::MIN, NONE), (0, NV));
    check(2f64.powi(64), Rtz, (i32::MAX, NV), (u32::MAX, NV), (i64::MAX, NV), (u64::MAX, NV));
    check(f64::NAN, Rne, (i32::MAX, NV), (u32::MAX, NV), (i64::MAX, NV), (u64::MAX, NV));
    check(-f64::NAN, Rtz, (i32::MAX, NV), (u32::MAX, NV), (i64::MAX, NV), (u64::MAX, NV));
    check(f64::NEG_INFINITY, Rtz, (i32::MIN, NV), (0, NV), (i64::MIN, NV), (0, NV));
}

#[test]
fn the_largest_integers_round_by_mode() {
    for (rm, expect) in [
        (Rne, 2f64.powi(64)),
        (Rup, 2f64.powi(64)),
        (Rmm, 2f64.powi(64)),
        (Rtz, 18_446_744_073_709_549_568.0),
    ] {
        let mut flags = NONE;
        assert_eq!(
            (fp::u64_to_f64(u64::MAX, rm, &mut flags), flags),
            (expect.to_bits(), NX),
            "{rm:?}"
        );
    }
    for (rm, expect) in [(Rne, 2f32.powi(31)), (Rdn, 2_147_483_520.0)] {
        let mut flags = NONE;
        assert_eq!(
            (fp::i32_to_f32(i32::MAX, rm, &mut flags), flags),
            (expect.to_bits(), NX),
            "{rm:?}"
        );
        let mut flags = NONE;
        assert_eq!(
            (fp::i64_to_f64(i64::MIN, rm, &mut flags), flags),
            ((-(2f64.powi(63))).to_bits(), NONE),
            "{rm:?}"
        );
    }
}

#[test]
fn boxing_checks_the_upper_half() {
    assert_eq!(fp::unbox(fp::nan_box(0x3f80_0000)), 0x3f80_0000);
    assert_eq!(fp::unbox(0xffff_fffe_3f80_0000), fp::F32_CANONICAL_NAN);
    assert_eq!(fp::unbox(0x3f80_0000), fp::F32_CANONICAL_NAN);
}

#[test]
fn reserved_rounding_modes_do_not_decode() {
    assert_eq!((0..=255).filter_map(Rm::from_bits).collect::<Vec<_>>(), Rm::ALL);
}
