//! The fast path answers what the slow path answers, wherever it answers at all.

use super::super::format::{F32, F64};
use super::super::{Fflags, Rm, fast, slow};
use super::{Operands, ROUNDS};

/// Runs `case` on many operands with NX clear and NX set, and demands that the fast path took part.
///
/// `case` is given the operands' source and the flags before, and answers `(operands, fast, slow)`, each result with its flags.
type Outcome = (u64, Fflags);
fn agree(seed: u64, case: impl Fn(&mut Operands, Fflags) -> ([u64; 3], Option<Outcome>, Outcome)) {
    let mut operands = Operands::new(seed);
    let mut answered = 0;
    for round in 0..ROUNDS {
        let before = if round % 2 == 0 { Fflags::empty() } else { Fflags::NX | Fflags::DZ };
        let (inputs, fast, slow) = case(&mut operands, before);
        if let Some(fast) = fast {
            answered += 1;
            assert_eq!(
                fast, slow,
                "operands {inputs:#x?}, flags before {before:?}: fast (left), slow (right)"
            );
        }
    }
    assert!(answered > ROUNDS / 8, "the fast path answered {answered} of {ROUNDS} only");
}

macro_rules! binary {
    ($test:ident, $fast:ident, $slow:ident, $format:ident, $source:ident) => {
        #[test]
        fn $test() {
            agree(0x5eed, |operands, before| {
                let (a, b) = (operands.$source(), operands.$source());
                let (mut fast_flags, mut slow_flags) = (before, before);
                let fast =
                    fast::$fast(a, b, &mut fast_flags).map(|bits| (u64::from(bits), fast_flags));
                let slow = slow::$slow::<$format>(a.into(), b.into(), Rm::Rne, &mut slow_flags);
                ([a.into(), b.into(), 0], fast, (slow, slow_flags))
            });
        }
    };
}

binary!(f32_add_is_the_same_on_both_paths, f32_add, add, F32, f32);
binary!(f64_add_is_the_same_on_both_paths, f64_add, add, F64, f64);
binary!(f32_mul_is_the_same_on_both_paths, f32_mul, mul, F32, f32);
binary!(f64_mul_is_the_same_on_both_paths, f64_mul, mul, F64, f64);
binary!(f32_div_is_the_same_on_both_paths, f32_div, div, F32, f32);
binary!(f64_div_is_the_same_on_both_paths, f64_div, div, F64, f64);

macro_rules! square_root {
    ($test:ident, $fast:ident, $format:ident, $source:ident) => {
        #[test]
        fn $test() {
            agree(0x1007, |operands, before| {
                let a = operands.$source();
                let (mut fast_flags, mut slow_flags) = (before, before);
                let fast =
                    fast::$fast(a, &mut fast_flags).map(|bits| (u64::from(bits), fast_flags));
                let slow = slow::sqrt::<$format>(a.into(), Rm::Rne, &mut slow_flags);
                ([a.into(), 0, 0], fast, (slow, slow_flags))
            });
        }
    };
}

square_root!(f32_sqrt_is_the_same_on_both_paths, f32_sqrt, F32, f32);
square_root!(f64_sqrt_is_the_same_on_both_paths, f64_sqrt, F64, f64);

macro_rules! fused {
    ($test:ident, $fast:ident, $mul:ident, $format:ident, $source:ident) => {
        #[test]
        fn $test() {
            agree(0xf0_5ed, |operands, before| {
                let (a, b, mut c) = (operands.$source(), operands.$source(), operands.$source());
                // Cancellation: an addend that all but undoes the product.
                if operands.below(3) == 0 {
                    let product =
                        slow::mul::<$format>(a.into(), b.into(), Rm::Rne, &mut Fflags::empty());
                    let sign = 1 << (8 * size_of_val(&c) - 1);
                    c = (product as u64 ^ sign).wrapping_add(operands.below(3)).wrapping_sub(1)
                        as _;
                }
                let (mut fast_flags, mut slow_flags) = (before, before);
                let fast =
                    fast::$fast(a, b, c, &mut fast_flags).map(|bits| (u64::from(bits), fast_flags));
                let slow =
                    slow::madd::<$format>(a.into(), b.into(), c.into(), Rm::Rne, &mut slow_flags);
                ([a.into(), b.into(), c.into()], fast, (slow, slow_flags))
            });
        }
    };
}

fused!(f32_madd_is_the_same_on_both_paths, f32_madd, f32_mul, F32, f32);
fused!(f64_madd_is_the_same_on_both_paths, f64_madd, f64_mul, F64, f64);
