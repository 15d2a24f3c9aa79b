//! The quick paths answer what the slow path answers, wherever they answer at all.

use super::super::format::{F32, F64};
use super::super::{Fflags, Rm, directed, fast, slow};
use super::{Operands, ROUNDS};

/// The modes that have a quick path.
const QUICK_MODES: [Rm; 4] = [Rm::Rne, Rm::Rtz, Rm::Rdn, Rm::Rup];

/// A result with the flags after it.
type Outcome = (u64, Fflags);

/// Runs `case` on many operands, in each mode, with NX clear and NX set; demands that each quick path takes part.
///
/// `case` is given the operands' source, the mode and the flags before, and answers `(operands, quick, slow)`.
fn agree(
    seed: u64,
    case: impl Fn(&mut Operands, Rm, Fflags) -> ([u64; 3], Option<Outcome>, Outcome),
) {
    let mut operands = Operands::new(seed);
    for mode in QUICK_MODES {
        let mut answered = 0;
        for round in 0..ROUNDS {
            let before = if round % 2 == 0 { Fflags::empty() } else { Fflags::NX | Fflags::DZ };
            let (inputs, quick, slow) = case(&mut operands, mode, before);
            if let Some(quick) = quick {
                answered += 1;
                assert_eq!(
                    quick, slow,
                    "{mode:?} of {inputs:#x?}, flags before {before:?}: quick (left), slow (right)"
                );
            }
        }
        assert!(answered > ROUNDS / 8, "{mode:?}: answered {answered} of {ROUNDS} only");
    }
}

macro_rules! binary {
    ($test:ident, $quick:ident, $slow:ident, $format:ident, $source:ident) => {
        #[test]
        fn $test() {
            agree(0x5eed, |operands, rm, before| {
                let (a, b) = (operands.$source(), operands.$source());
                let (mut quick_flags, mut slow_flags) = (before, before);
                let quick = match rm {
                    Rm::Rne => fast::$quick(a, b, &mut quick_flags),
                    _ => directed::$quick(a, b, rm, &mut quick_flags),
                };
                let slow = slow::$slow::<$format>(a.into(), b.into(), rm, &mut slow_flags);
                let quick = quick.map(|bits| (u64::from(bits), quick_flags));
                ([a.into(), b.into(), 0], quick, (slow, slow_flags))
            });
        }
    };
}

binary!(f32_add_is_the_same_on_all_paths, f32_add, add, F32, f32);
binary!(f64_add_is_the_same_on_all_paths, f64_add, add, F64, f64);
binary!(f32_mul_is_the_same_on_all_paths, f32_mul, mul, F32, f32);
binary!(f64_mul_is_the_same_on_all_paths, f64_mul, mul, F64, f64);
binary!(f32_div_is_the_same_on_all_paths, f32_div, div, F32, f32);
binary!(f64_div_is_the_same_on_all_paths, f64_div, div, F64, f64);

macro_rules! square_root {
    ($test:ident, $quick:ident, $format:ident, $source:ident) => {
        #[test]
        fn $test() {
            agree(0x1007, |operands, rm, before| {
                let a = operands.$source();
                let (mut quick_flags, mut slow_flags) = (before, before);
                let quick = match rm {
                    Rm::Rne => fast::$quick(a, &mut quick_flags),
                    _ => directed::$quick(a, rm, &mut quick_flags),
                };
                let slow = slow::sqrt::<$format>(a.into(), rm, &mut slow_flags);
                let quick = quick.map(|bits| (u64::from(bits), quick_flags));
                ([a.into(), 0, 0], quick, (slow, slow_flags))
            });
        }
    };
}

square_root!(f32_sqrt_is_the_same_on_all_paths, f32_sqrt, F32, f32);
square_root!(f64_sqrt_is_the_same_on_all_paths, f64_sqrt, F64, f64);

macro_rules! fused {
    ($test:ident, $quick:ident, $format:ident, $source:ident) => {
        #[test]
        fn $test() {
            agree(0xf0_5ed, |operands, rm, before| {
                let (a, b, mut c) = (operands.$source(), operands.$source(), operands.$source());
                // Cancellation: an addend that all but undoes the product.
                if operands.below(3) == 0 {
                    let (a, b) = (a.into(), b.into());
                    let product = slow::mul::<$format>(a, b, Rm::Rne, &mut Fflags::empty());
                    let sign = 1 << (8 * size_of_val(&c) - 1);
                    c = (product ^ sign).wrapping_add(operands.below(3)).wrapping_sub(1) as _;
                }
                let (mut quick_flags, mut slow_flags) = (before, before);
                let quick = match rm {
                    Rm::Rne => fast::$quick(a, b, c, &mut quick_flags),
                    _ => directed::$quick(a, b, c, rm, &mut quick_flags),
                };
                let inputs: [u64; 3] = [a.into(), b.into(), c.into()];
                let [a, b, c] = inputs;
                let slow = slow::madd::<$format>(a, b, c, rm, &mut slow_flags);
                (inputs, quick.map(|bits| (u64::from(bits), quick_flags)), (slow, slow_flags))
            });
        }
    };
}

fused!(f32_madd_is_the_same_on_all_paths, f32_madd, F32, f32);
fused!(f64_madd_is_the_same_on_all_paths, f64_madd, F64, f64);
