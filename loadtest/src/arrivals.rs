//! When requests of an open loop start.

use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution, Exp1};
use serde::Serialize;

/// The gaps between requests of a given mean rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrivalProcess {
    /// Exponential gaps: many independent users.
    Poisson,
    /// Equal gaps.
    Constant,
}

/// Start times from 0, in order: at most `requests` of them, all before `duration`.
pub fn schedule(
    process: ArrivalProcess,
    rate: f64,
    requests: usize,
    duration: Duration,
    rng: &mut impl Rng,
) -> Vec<Duration> {
    let mut starts = Vec::new();
    let mut now = 0.0;
    while starts.len() < requests && now < duration.as_secs_f64() {
        starts.push(Duration::from_secs_f64(now));
        let gap: f64 = match process {
            ArrivalProcess::Poisson => Exp1.sample(rng),
            ArrivalProcess::Constant => 1.0,
        };
        now += gap / rate;
    }
    starts
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const LONG: Duration = Duration::from_secs(1_000_000);

    #[test]
    fn constant_gaps_and_both_bounds() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let millis = |starts: Vec<Duration>| -> Vec<u128> {
            starts.iter().map(Duration::as_millis).collect()
        };
        let by_count = schedule(ArrivalProcess::Constant, 4.0, 3, LONG, &mut rng);
        assert_eq!(millis(by_count), [0, 250, 500]);
        let second = Duration::from_secs(1);
        let by_time = schedule(ArrivalProcess::Constant, 4.0, 100, second, &mut rng);
        assert_eq!(millis(by_time), [0, 250, 500, 750]);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_spread_of_an_exponential() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let starts = schedule(ArrivalProcess::Poisson, 5.0, 50_001, LONG, &mut rng);
        let gaps: Vec<f64> = starts
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        // Mean 1/rate; standard deviation equal to the mean. 50,000 gaps: s.e. of the mean 0.45 %.
        assert!((mean * 5.0 - 1.0).abs() < 0.02, "mean {mean}");
        assert!(
            (variance.sqrt() * 5.0 - 1.0).abs() < 0.03,
            "deviation {}",
            variance.sqrt()
        );
    }
}
