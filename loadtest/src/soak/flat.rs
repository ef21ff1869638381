//! Whether a row of samples stays where it is: the mean of its last quarter against that of the first, after a
//! tenth of the run in which caches fill.

use serde::{Deserialize, Serialize};

use super::sample::Sample;

/// Samples below which quarters say nothing.
pub const FEWEST: usize = 12;

/// How far something may grow between the quarters: by a share of what it was, or by so much, whichever is
/// more.
struct Allowance {
    name: &'static str,
    of: fn(&Sample) -> f64,
    share: f64,
    more: f64,
}

const ALLOWED: [Allowance; 4] = [
    Allowance {
        name: "memory MiB",
        of: |s| s.rss_mib,
        share: 0.1,
        // The store's cache of pages, which fills at its own pace.
        more: 64.0,
    },
    Allowance {
        name: "descriptors",
        of: |s| s.descriptors,
        share: 0.1,
        more: 8.0,
    },
    Allowance {
        name: "threads",
        of: |s| s.threads,
        share: 0.1,
        more: 4.0,
    },
    Allowance {
        name: "KV blocks",
        of: |s| s.kv_blocks,
        share: 0.5,
        more: 32.0,
    },
];

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// What was looked at.
    pub name: String,
    /// Mean of the first quarter.
    pub first: f64,
    /// Mean of the last quarter.
    pub last: f64,
    /// Greatest sample of all.
    pub most: f64,
    /// Whether the last quarter is no higher than it may be.
    pub flat: bool,
}

/// The trends of all rows; none if there are too few samples.
pub fn trends(samples: &[Sample]) -> Vec<Trend> {
    let samples = &samples[samples.len() / 10..];
    if samples.len() < FEWEST {
        return Vec::new();
    }
    let quarter = samples.len() / 4;
    let (first, last) = (&samples[..quarter], &samples[samples.len() - quarter..]);
    let trend = |allowed: &Allowance| {
        let mean = |part: &[Sample]| part.iter().map(allowed.of).sum::<f64>() / quarter as f64;
        let (first, last) = (mean(first), mean(last));
        Trend {
            name: allowed.name.to_owned(),
            first,
            last,
            most: samples.iter().map(allowed.of).fold(0.0, f64::max),
            flat: last <= first + (first * allowed.share).max(allowed.more),
        }
    };
    ALLOWED.iter().map(trend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 samples whose memory and threads are functions of their number.
    fn samples(rss: impl Fn(f64) -> f64, threads: impl Fn(f64) -> f64) -> Vec<Sample> {
        let sample = |n| Sample {
            rss_mib: rss(f64::from(n)),
            threads: threads(f64::from(n)),
            descriptors: 50.0,
            ..Sample::default()
        };
        (0..40).map(sample).collect()
    }

    fn flat(samples: &[Sample]) -> Vec<bool> {
        trends(samples).iter().map(|t| t.flat).collect()
    }

    #[test]
    fn growth_is_seen_and_noise_and_warming_up_are_not() {
        let wobble = |n: f64| 400.0 + 20.0 * (n % 3.0);
        assert_eq!(flat(&samples(wobble, |_| 12.0)), [true; 4]);
        let warming = |n: f64| if n < 4.0 { 100.0 * n } else { 400.0 };
        assert_eq!(flat(&samples(warming, |_| 12.0)), [true; 4]);
        // 3 MiB per sample: some 80 MiB between the quarters.
        let leak = |n: f64| 400.0 + 3.0 * n;
        assert_eq!(flat(&samples(leak, |_| 12.0)), [false, true, true, true]);
        let threads = |n: f64| 12.0 + n / 4.0;
        assert_eq!(flat(&samples(wobble, threads)), [true, true, false, true]);
    }

    #[test]
    fn quarters_are_means_of_what_is_left_after_a_tenth() {
        let trend = &trends(&samples(|n| n, |_| 1.0))[0];
        // 36 samples from 4 on: 4 to 12 and 31 to 39.
        assert_eq!((trend.first, trend.last, trend.most), (8.0, 35.0, 39.0));
        assert!(trends(&samples(|n| n, |_| 1.0)[..FEWEST]).is_empty());
    }
}
