//! Tests of the arithmetic: seeded operands, and what they are put through.
//!
//! `paths.rs` holds the fast path to the slow one, `host_cpu.rs` both to the processor the tests run on, `hard_cases.rs`
//! to a table worked out by hand, `properties.rs` to laws that need no reference.

mod hard_cases;
#[cfg(target_arch = "x86_64")]
mod host_cpu;
mod paths;
mod properties;

use super::format::{F32, F64, Format};

/// Random operands per test loop; a release build can afford more.
const ROUNDS: u32 = if cfg!(debug_assertions) { 60_000 } else { 4_000_000 };

/// A seeded source of operands that lean towards where arithmetic goes wrong.
struct Operands {
    state: u64,
}

impl Operands {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A fraction of random, few, or almost all bits, so that exact results, ties and near ties are common.
    fn fraction<F: Format>(&mut self) -> u64 {
        let ones = F::MIN_NORMAL - 1;
        let bit = 1 << self.below(F::FRACTION_BITS.into());
        match self.below(8) {
            0 => 0,
            1 => ones,
            2 => bit,
            3 => ones ^ bit,
            4 => self.next() & ones & !(bit - 1),
            5 => self.below(8),
            6 => ones - self.below(8),
            _ => self.next() & ones,
        }
    }

    /// An exponent field: any, near one, or near either end.
    fn exponent<F: Format>(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => F::EXPONENT_MAX - self.below(4),
            2 => self.below(2 * u64::from(F::FRACTION_BITS)),
            3..=5 => F::BIAS + self.below(16) - 8,
            6 => {
                F::BIAS + self.below(2 * u64::from(F::FRACTION_BITS) + 8)
                    - u64::from(F::FRACTION_BITS)
            }
            _ => self.next() & F::EXPONENT_MAX,
        }
    }

    fn operand<F: Format>(&mut self) -> u64 {
        if self.below(8) == 0 {
            return self.next() & (F::SIGN | (F::SIGN - 1));
        }
        let sign = if self.below(2) == 0 { 0 } else { F::SIGN };
        sign | self.exponent::<F>() << F::FRACTION_BITS | self.fraction::<F>()
    }

    fn f32(&mut self) -> u32 {
        self.operand::<F32>() as u32
    }

    fn f64(&mut self) -> u64 {
        self.operand::<F64>()
    }

    /// A double near the range, the precision or a tie of single, so that narrowing it is not always trivial.
    fn f64_near_f32(&mut self) -> u64 {
        let single = f64::from(f32::from_bits(self.f32())).to_bits();
        match self.below(4) {
            0 => single,
            1 => single ^ 1 << 28,
            2 => (single ^ 1 << 28).wrapping_add(self.below(3)).wrapping_sub(1),
            _ => single ^ (self.next() & 0x3fff_ffff),
        }
    }
}
