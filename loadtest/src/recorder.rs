//! Latencies: recorded as they come, summed up as quantiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Distribution of a latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median (nearest rank, like all quantiles; within 0.1 %).
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest sample.
    pub max: f64,
}

/// A histogram of durations in microseconds, with an exact mean and maximum beside it.
pub struct Recorder {
    histogram: Histogram<u64>,
    sum: Duration,
    max: Duration,
}

impl Recorder {
    /// No samples yet.
    pub fn new() -> Self {
        let day = Duration::from_secs(24 * 3600).as_micros() as u64;
        #[expect(
            clippy::expect_used,
            reason = "constant bounds; every test below makes one"
        )]
        let histogram =
            Histogram::new_with_bounds(1, day, 3).expect("valid bounds. This is a bug.");
        Self {
            histogram,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }

    /// Adds one sample; above a day counts as a day.
    pub fn add(&mut self, sample: Duration) {
        self.histogram
            .saturating_record(u64::try_from(sample.as_micros()).unwrap_or(u64::MAX));
        self.sum += sample;
        self.max = self.max.max(sample);
    }

    /// `None` without samples.
    pub fn summary(&self) -> Option<Summary> {
        let count = self.histogram.len();
        if count == 0 {
            return None;
        }
        let max = self.max.as_secs_f64() * 1e3;
        // A bucket stands for its largest value, which may be just above the largest sample.
        let quantile = |q: f64| (self.histogram.value_at_quantile(q) as f64 / 1e3).min(max);
        Some(Summary {
            count,
            mean: self.sum.as_secs_f64() * 1e3 / count as f64,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max,
        })
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The smallest sample such that at least `q` of all are not above it.
    fn naive_quantile(sorted: &[f64], q: f64) -> f64 {
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted[rank.max(1) - 1]
    }

    #[test]
    fn quantiles_agree_with_sorting() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for n in [1, 2, 10, 99, 100, 101, 5000] {
            let mut recorder = Recorder::new();
            let mut samples: Vec<f64> = (0..n)
                .map(|_| {
                    // From a hundred microseconds to a hundred seconds, evenly in the logarithm.
                    let micros = 10f64.powf(rng.random_range(2.0..8.0)) as u64;
                    recorder.add(Duration::from_micros(micros));
                    micros as f64 / 1e3
                })
                .collect();
            samples.sort_by(f64::total_cmp);
            let summary = recorder.summary().unwrap();
            let mean = samples.iter().sum::<f64>() / samples.len() as f64;
            assert!((summary.mean / mean - 1.0).abs() < 1e-9);
            assert!((summary.max / samples.last().unwrap() - 1.0).abs() < 1e-9);
            for (got, q) in [(summary.p50, 0.5), (summary.p90, 0.9), (summary.p99, 0.99)] {
                let expected = naive_quantile(&samples, q);
                assert!(
                    (got / expected - 1.0).abs() <= 1.001e-3,
                    "n {n} q {q}: {got} for {expected}"
                );
            }
        }
        assert_eq!(Recorder::new().summary(), None);
    }
}
