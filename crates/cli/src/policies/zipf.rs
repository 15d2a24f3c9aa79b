//! Requests from a Zipf distribution.
//!
//! Exact: object k (from 0) has the weight 1 / (k + 1)^s, sampled by an alias table. Weights are computed by `libm`, not by
//! the host's, so a seed gives the same requests everywhere.

use rand_distr::Distribution as _;
use rand_distr::weighted::WeightedAliasIndex;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng as _;

/// Requests between two reports of progress.
const PORTION: usize = 1 << 18;

/// Draws `requests` objects of `0..objects`; `progress` hears how many are done.
pub(super) fn draw(
    s: f64,
    objects: u32,
    requests: u32,
    seed: u64,
    mut progress: impl FnMut(u64),
) -> Vec<u32> {
    let weights = (1..=objects).map(|rank| libm::pow(f64::from(rank), -s)).collect();
    let table =
        WeightedAliasIndex::new(weights).expect("at least one object, and the first has weight 1");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut drawn = Vec::with_capacity(requests as usize);
    while drawn.len() < requests as usize {
        let portion = PORTION.min(requests as usize - drawn.len());
        drawn.extend((0..portion).map(|_| table.sample(&mut random) as u32));
        progress(drawn.len() as u64);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's chi-square of `requests` draws against the distribution, per degree of freedom: near 1 if it fits.
    fn chi_square(s: f64, objects: u32, requests: u32) -> f64 {
        let mut counts = vec![0u32; objects as usize];
        draw(s, objects, requests, 42, |_| {})
            .iter()
            .for_each(|&object| counts[object as usize] += 1);
        let total: f64 = (1..=objects).map(|rank| f64::from(rank).powf(-s)).sum();
        let terms = (1..=objects).zip(&counts).map(|(rank, &count)| {
            let expected = f64::from(requests) * f64::from(rank).powf(-s) / total;
            (f64::from(count) - expected).powi(2) / expected
        });
        terms.sum::<f64>() / f64::from(objects - 1)
    }

    #[test]
    fn frequencies_follow_the_law() {
        // 999 degrees of freedom: the statistic's standard deviation is 0.045.
        for s in [0.0, 0.6, 1.0, 1.3] {
            let fit = chi_square(s, 1000, 1_000_000);
            assert!((0.82..1.18).contains(&fit), "s = {s}: {fit}");
        }
    }

    #[test]
    fn a_wrong_exponent_would_be_seen() {
        let mut counts = [0u32; 1000];
        draw(1.0, 1000, 1_000_000, 42, |_| {})
            .iter()
            .for_each(|&object| counts[object as usize] += 1);
        let total: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-1.01)).sum();
        let expected = 1_000_000.0 / total;
        assert!((f64::from(counts[0]) - expected).abs() > 5.0 * expected.sqrt());
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| draw(0.9, 100, 50, seed, |_| {});
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
