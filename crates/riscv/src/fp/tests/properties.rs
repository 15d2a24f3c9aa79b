//! Laws of the arithmetic that need no reference, and references that are exact integers.

use proptest::prelude::*;

use super::super::format::{F32, F64, Format};
use super::super::{self as fp, Fflags, Rm};
use super::Operands;

/// Operands of all kinds, drawn by a seed so that proptest can repeat them.
fn double() -> impl Strategy<Value = u64> {
    any::<u64>().prop_map(|seed| Operands::new(seed).f64())
}

fn single() -> impl Strategy<Value = u32> {
    any::<u64>().prop_map(|seed| Operands::new(seed).f32())
}

fn mode() -> impl Strategy<Value = Rm> {
    prop::sample::select(Rm::ALL.to_vec())
}

const SIGN: u64 = F64::SIGN;

/// The mode that rounds `-x` as `rm` rounds `x`.
fn mirrored(rm: Rm) -> Rm {
    match rm {
        Rm::Rdn => Rm::Rup,
        Rm::Rup => Rm::Rdn,
        other => other,
    }
}

/// `bits` with the sign flipped, unless it is a NaN.
fn negated(bits: u64) -> u64 {
    if F64::is_nan(bits) { bits } else { bits ^ SIGN }
}

/// A result with the flags raised from none.
fn flagged<T>(operation: impl FnOnce(&mut Fflags) -> T) -> (T, Fflags) {
    let mut flags = Fflags::empty();
    let result = operation(&mut flags);
    (result, flags)
}

/// Checks the laws that tie one operation's results in the five modes together.
fn modes_are_consistent(results: impl Fn(Rm) -> (u64, Fflags)) -> Result<(), TestCaseError> {
    let [rne, rtz, rdn, rup, rmm] = Rm::ALL.map(&results);
    if F64::is_nan(rne.0) {
        for other in [rtz, rdn, rup, rmm] {
            prop_assert_eq!(other, rne);
        }
        return Ok(());
    }
    let value = |result: (u64, Fflags)| f64::from_bits(result.0);
    prop_assert!(value(rdn) <= value(rup));
    let inexact = rne.1.contains(Fflags::NX);
    for other in [rtz, rdn, rup, rmm] {
        prop_assert_eq!(
            other.1.contains(Fflags::NX),
            inexact,
            "inexactness does not depend on the mode"
        );
    }
    if inexact {
        prop_assert_ne!(rdn.0, rup.0);
        prop_assert!(rne.0 == rdn.0 || rne.0 == rup.0);
        prop_assert!(rmm.0 == rdn.0 || rmm.0 == rup.0);
        prop_assert_eq!(rtz.0, if value(rup) > 0.0 { rdn.0 } else { rup.0 });
        if rmm.0 != rne.0 {
            // A tie: away from zero is the larger magnitude and, even being nearest, the odd one.
            prop_assert!(F64::magnitude(rmm.0) > F64::magnitude(rne.0));
            prop_assert_eq!(rne.0 & 1, 0);
        }
    } else {
        prop_assert_eq!(value(rdn), value(rup));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_five_modes_bracket_the_exact_result(a in double(), b in double(), c in double()) {
        modes_are_consistent(|rm| flagged(|flags| fp::f64_add(a, b, rm, flags)))?;
        modes_are_consistent(|rm| flagged(|flags| fp::f64_mul(a, b, rm, flags)))?;
        modes_are_consistent(|rm| flagged(|flags| fp::f64_div(a, b, rm, flags)))?;
        modes_are_consistent(|rm| flagged(|flags| fp::f64_sqrt(a, rm, flags)))?;
        modes_are_consistent(|rm| flagged(|flags| fp::f64_madd(a, b, c, rm, flags)))?;
    }

    #[test]
    fn singles_follow_the_same_laws(a in single(), b in single(), c in single()) {
        let widened = |(bits, flags): (u32, Fflags)| {
            let wide = fp::f32_to_f64(bits, &mut Fflags::empty());
            // Keep the lowest bit's parity where the law looks for it.
            (wide | u64::from(bits & 1), flags)
        };
        modes_are_consistent(|rm| widened(flagged(|flags| fp::f32_add(a, b, rm, flags))))?;
        modes_are_consistent(|rm| widened(flagged(|flags| fp::f32_mul(a, b, rm, flags))))?;
        modes_are_consistent(|rm| widened(flagged(|flags| fp::f32_div(a, b, rm, flags))))?;
        modes_are_consistent(|rm| widened(flagged(|flags| fp::f32_sqrt(a, rm, flags))))?;
        modes_are_consistent(|rm| widened(flagged(|flags| fp::f32_madd(a, b, c, rm, flags))))?;
    }

    #[test]
    fn addition_and_multiplication_commute(a in double(), b in double(), rm in mode()) {
        prop_assert_eq!(flagged(|f| fp::f64_add(a, b, rm, f)), flagged(|f| fp::f64_add(b, a, rm, f)));
        prop_assert_eq!(flagged(|f| fp::f64_mul(a, b, rm, f)), flagged(|f| fp::f64_mul(b, a, rm, f)));
    }

    #[test]
    fn negating_operands_mirrors_the_result(a in double(), b in double(), c in double(), rm in mode()) {
        let mirror = |(bits, flags): (u64, Fflags)| (negated(bits), flags);
        let (na, nb, nc, back) = (a ^ SIGN, b ^ SIGN, c ^ SIGN, mirrored(rm));
        prop_assert_eq!(flagged(|f| fp::f64_mul(na, b, rm, f)), mirror(flagged(|f| fp::f64_mul(a, b, back, f))));
        prop_assert_eq!(flagged(|f| fp::f64_div(a, nb, rm, f)), mirror(flagged(|f| fp::f64_div(a, b, back, f))));
        // A sum that cancels takes its zero's sign from the mode, mirrored with it.
        prop_assert_eq!(flagged(|f| fp::f64_add(na, nb, rm, f)).1, flagged(|f| fp::f64_add(a, b, back, f)).1);
        let fused = flagged(|f| fp::f64_madd(na, b, nc, rm, f));
        let mirrored = mirror(flagged(|f| fp::f64_madd(a, b, c, back, f)));
        prop_assert_eq!(fused.1, mirrored.1);
        if !F64::is_zero(fused.0) {
            prop_assert_eq!(fused, mirrored);
        }
    }

    #[test]
    fn a_fused_one_or_zero_is_a_sum_or_a_product(a in double(), b in double(), rm in mode()) {
        let one = 1.0f64.to_bits();
        prop_assert_eq!(flagged(|f| fp::f64_madd(a, one, b, rm, f)), flagged(|f| fp::f64_add(a, b, rm, f)));
        let product = flagged(|f| fp::f64_mul(a, b, rm, f));
        if !F64::is_zero(product.0) {
            prop_assert_eq!(flagged(|f| fp::f64_madd(a, b, 0, rm, f)), product);
        }
    }

    #[test]
    fn accrued_flags_stay_and_do_not_change_results(a in double(), b in double(), c in double(), rm in mode(), raw in 0u8..32) {
        let before = Fflags::from_bits_retain(raw);
        type Operation = fn(u64, u64, u64, Rm, &mut Fflags) -> u64;
        let operations: [Operation; 5] = [
            |a, b, _, rm, f| fp::f64_add(a, b, rm, f),
            |a, b, _, rm, f| fp::f64_mul(a, b, rm, f),
            |a, b, _, rm, f| fp::f64_div(a, b, rm, f),
            |a, _, _, rm, f| fp::f64_sqrt(a, rm, f),
            fp::f64_madd,
        ];
        for operation in operations {
            let (fresh, raised) = flagged(|f| operation(a, b, c, rm, f));
            let mut flags = before;
            prop_assert_eq!(operation(a, b, c, rm, &mut flags), fresh);
            prop_assert_eq!(flags, before | raised);
        }
    }

    #[test]
    fn integers_round_as_exact_arithmetic_says(seed: u64, rm in mode()) {
        let mut operands = Operands::new(seed);
        let length = operands.below(64);
        let value = operands.next() >> length;
        let value = if operands.below(2) == 0 { value } else { value & !(value >> operands.below(64) >> 1) };
        let (bits, flags) = flagged(|f| fp::u64_to_f64(value, rm, f));
        rounds_to(i128::from(value), bits, flags, 53, rm)?;
        let (bits, flags) = flagged(|f| fp::i64_to_f64(value as i64, rm, f));
        rounds_to(i128::from(value as i64), bits, flags, 53, rm)?;
        let widened = |(bits, flags): (u32, Fflags)| (fp::f32_to_f64(bits, &mut Fflags::empty()), flags);
        let (bits, flags) = widened(flagged(|f| fp::u64_to_f32(value, rm, f)));
        rounds_to(i128::from(value), bits, flags, 24, rm)?;
        let (bits, flags) = widened(flagged(|f| fp::i64_to_f32(value as i64, rm, f)));
        rounds_to(i128::from(value as i64), bits, flags, 24, rm)?;
        let (bits, flags) = widened(flagged(|f| fp::u32_to_f32(value as u32, rm, f)));
        rounds_to(i128::from(value as u32), bits, flags, 24, rm)?;
        let (bits, flags) = widened(flagged(|f| fp::i32_to_f32(value as i32, rm, f)));
        rounds_to(i128::from(value as i32), bits, flags, 24, rm)?;
        prop_assert_eq!(fp::i32_to_f64(value as i32), f64::from(value as i32).to_bits());
        prop_assert_eq!(fp::u32_to_f64(value as u32), f64::from(value as u32).to_bits());
    }

    #[test]
    fn conversion_to_integers_saturates_as_the_table_says(a in double(), rm in mode()) {
        let (i64s, u64s) = (flagged(|f| fp::f64_to_i64(a, rm, f)), flagged(|f| fp::f64_to_u64(a, rm, f)));
        let (i32s, u32s) = (flagged(|f| fp::f64_to_i32(a, rm, f)), flagged(|f| fp::f64_to_u32(a, rm, f)));
        converts_to(a, rm, i128::from(i64s.0), i64s.1, i64::MIN.into(), i64::MAX.into())?;
        converts_to(a, rm, i128::from(u64s.0), u64s.1, u64::MIN.into(), u64::MAX.into())?;
        converts_to(a, rm, i128::from(i32s.0), i32s.1, i32::MIN.into(), i32::MAX.into())?;
        converts_to(a, rm, i128::from(u32s.0), u32s.1, u32::MIN.into(), u32::MAX.into())?;
    }

    #[test]
    fn singles_convert_to_integers_as_their_doubles_do(a in single(), rm in mode()) {
        let wide = if F32::is_nan(a.into()) { fp::F64_CANONICAL_NAN } else { fp::f32_to_f64(a, &mut Fflags::empty()) };
        prop_assert_eq!(flagged(|f| fp::f32_to_i64(a, rm, f)), flagged(|f| fp::f64_to_i64(wide, rm, f)));
        prop_assert_eq!(flagged(|f| fp::f32_to_u64(a, rm, f)), flagged(|f| fp::f64_to_u64(wide, rm, f)));
        prop_assert_eq!(flagged(|f| fp::f32_to_i32(a, rm, f)), flagged(|f| fp::f64_to_i32(wide, rm, f)));
        prop_assert_eq!(flagged(|f| fp::f32_to_u32(a, rm, f)), flagged(|f| fp::f64_to_u32(wide, rm, f)));
    }

    #[test]
    fn single_products_are_their_exact_double_products_narrowed(a in single(), b in single(), rm in mode()) {
        let (wide_a, wide_b) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
        if !wide_a.is_finite() || !wide_b.is_finite() {
            return Ok(());
        }
        let exact = (wide_a * wide_b).to_bits();
        prop_assert_eq!(flagged(|f| fp::f32_mul(a, b, rm, f)), flagged(|f| fp::f64_to_f32(exact, rm, f)));
    }

    #[test]
    fn comparisons_agree_with_each_other(a in double(), b in double()) {
        let (eq, eq_flags) = flagged(|f| fp::f64_eq(a, b, f));
        let (lt, lt_flags) = flagged(|f| fp::f64_lt(a, b, f));
        let (le, le_flags) = flagged(|f| fp::f64_le(a, b, f));
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        prop_assert_eq!((eq, lt, le), (x == y, x < y, x <= y));
        let any_nan = x.is_nan() || y.is_nan();
        let signaling = F64::is_signaling_nan(a) || F64::is_signaling_nan(b);
        prop_assert_eq!(lt_flags, if any_nan { Fflags::NV } else { Fflags::empty() });
        prop_assert_eq!(le_flags, lt_flags);
        prop_assert_eq!(eq_flags, if signaling { Fflags::NV } else { Fflags::empty() });
        let ((min, min_flags), (max, max_flags)) = (flagged(|f| fp::f64_min(a, b, f)), flagged(|f| fp::f64_max(a, b, f)));
        prop_assert_eq!((min_flags, max_flags), (eq_flags, eq_flags));
        if !any_nan {
            prop_assert_eq!((min.min(max), min.max(max)), (a.min(b), a.max(b)), "the two are the two operands");
            prop_assert!(f64::from_bits(min) <= f64::from_bits(max));
        }
    }
}

/// Checks that `bits`, a double, is `value` rounded to `precision` bits by `rm`, by the definition of each mode.
fn rounds_to(
    value: i128,
    bits: u64,
    flags: Fflags,
    precision: u32,
    rm: Rm,
) -> Result<(), TestCaseError> {
    let result = f64::from_bits(bits) as i128;
    prop_assert_eq!(result as f64, f64::from_bits(bits));
    let length = u128::BITS - value.unsigned_abs().leading_zeros();
    let unit = 1i128 << length.saturating_sub(precision);
    prop_assert_eq!(flags, if value % unit == 0 { Fflags::empty() } else { Fflags::NX });
    let (down, half) = (value.div_euclid(unit) * unit, value.rem_euclid(unit) * 2);
    let up = if half == 0 { down } else { down + unit };
    let even = if (down / unit) % 2 == 0 { down } else { up };
    let expected = match rm {
        Rm::Rdn => down,
        Rm::Rup => up,
        Rm::Rtz => {
            if value < 0 {
                up
            } else {
                down
            }
        }
        _ if half < unit => down,
        _ if half > unit => up,
        Rm::Rne => even,
        Rm::Rmm => {
            if value < 0 {
                down
            } else {
                up
            }
        }
    };
    prop_assert_eq!(result, expected, "{} by {:?} to {} bits", value, rm, precision);
    Ok(())
}

/// Checks a conversion to an integer type of range `min..=max`, from the double's own bits.
fn converts_to(
    a: u64,
    rm: Rm,
    result: i128,
    flags: Fflags,
    min: i128,
    max: i128,
) -> Result<(), TestCaseError> {
    let field = (a >> 52 & 0x7ff) as i32;
    let significand = i128::from(a & ((1 << 52) - 1) | if field == 0 { 0 } else { 1 << 52 });
    let magnitude = if F64::is_nan(a) || field > 1023 + 70 {
        prop_assert_eq!(flags, Fflags::NV);
        prop_assert_eq!(result, if F64::is_negative(a) && !F64::is_nan(a) { min } else { max });
        return Ok(());
    } else if field < 1023 - 3 {
        // Less than an eighth: any such number rounds alike.
        (i128::from(significand != 0), 3)
    } else {
        (significand, 1075 - field)
    };
    let (numerator, shift) = magnitude;
    let numerator = if F64::is_negative(a) { -numerator } else { numerator };
    let (numerator, unit) =
        if shift <= 0 { (numerator << -shift, 1) } else { (numerator, 1i128 << shift) };
    let (down, half) = (numerator.div_euclid(unit), numerator.rem_euclid(unit) * 2);
    let up = down + i128::from(half != 0);
    let nearest_away = if numerator < 0 { down } else { up };
    let rounded = match rm {
        Rm::Rdn => down,
        Rm::Rup => up,
        Rm::Rtz => {
            if numerator < 0 {
                up
            } else {
                down
            }
        }
        _ if half < unit => down,
        _ if half > unit => up,
        Rm::Rne => {
            if down % 2 == 0 {
                down
            } else {
                up
            }
        }
        Rm::Rmm => nearest_away,
    };
    let expected = rounded.clamp(min, max);
    let raised = if expected != rounded {
        Fflags::NV
    } else if half != 0 {
        Fflags::NX
    } else {
        Fflags::empty()
    };
    prop_assert_eq!(
        (result, flags),
        (expected, raised),
        "{:#x} by {:?} into {}..={}",
        a,
        rm,
        min,
        max
    );
    Ok(())
}
