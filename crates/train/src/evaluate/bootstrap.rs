//! Intervals by resampling.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, OrderStatistics};

/// The ends of a 95 % interval.
const TAILS: (f64, f64) = (0.025, 0.975);

/// How intervals are drawn: the same numbers give the same intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Resamples drawn.
    pub resamples: usize,
    /// Of the random numbers.
    pub seed: u64,
}

/// A thousand resamples give ends that are good for two digits.
impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 1000,
            seed: 0,
        }
    }
}

/// A number of values, and their sum: what a resample adds up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    sum: f64,
    n: f64,
}

impl Bootstrap {
    /// The interval of the mean over all values, given the values of each user. Users are resampled;
    /// values, if there is one user only. `stream` keeps the draws of different statistics apart. The
    /// order of a user's values does not matter. No values, no interval: (NaN, NaN).
    pub(crate) fn interval(&self, users: &[Vec<f64>], stream: u64) -> [f64; 2] {
        let parts: Vec<Part> = match users {
            [only] => {
                let mut values = only.clone();
                values.sort_by(f64::total_cmp);
                let part = |value: f64| Part { sum: value, n: 1.0 };
                values.into_iter().map(part).collect()
            }
            several => several.iter().map(|values| Part::of(values)).collect(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        let means = (0..self.resamples.max(1)).map(|_| resampled_mean(&parts, &mut rng));
        let mut means = Data::new(means.collect::<Vec<f64>>());
        [means.quantile(TAILS.0), means.quantile(TAILS.1)]
    }
}

impl Part {
    /// Sorted before it is summed: the last bit does not depend on the order of the pairs either.
    fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        Self {
            sum: values.iter().sum(),
            n: values.len() as f64,
        }
    }
}

fn resampled_mean(parts: &[Part], rng: &mut ChaCha8Rng) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for _ in 0..parts.len() {
        let part = parts[rng.random_range(0..parts.len())];
        sum += part.sum;
        n += part.n;
    }
    sum / n
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        resamples: 2000,
        seed: 7,
    };

    /// `right` of `n` pairs.
    fn user(right: usize, n: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(u8::from(i < right))).collect()
    }

    #[test]
    fn within_one_user_it_is_that_of_the_binomial() {
        // Mean 0.7 of 100: the normal interval is 0.7 -+ 1.96 sqrt(0.21 / 100) = 0.7 -+ 0.0898.
        let [lo, hi] = BOOTSTRAP.interval(&[user(70, 100)], 0);
        assert!((lo - 0.610).abs() < 0.02, "{lo}");
        assert!((hi - 0.790).abs() < 0.02, "{hi}");
    }

    /// Two users of 100 pairs, one all right, one all wrong: a resample of users is 0, 0.5 or 1, with
    /// 1/4 each at the ends. Over 200 independent pairs the interval would be 0.43 to 0.57.
    #[test]
    fn over_users_it_is_that_of_users() {
        let interval = BOOTSTRAP.interval(&[user(100, 100), user(0, 100)], 0);
        assert_eq!(interval, [0.0, 1.0]);
    }

    #[test]
    fn users_with_more_pairs_weigh_more() {
        // 90 pairs right, 10 wrong, in ten users of 9 + 1: every resample is 0.9.
        let users: Vec<Vec<f64>> = (0..10).map(|_| user(9, 10)).collect();
        for end in BOOTSTRAP.interval(&users, 0) {
            assert!((end - 0.9).abs() < 1e-12, "{end}");
        }
    }

    #[test]
    fn the_same_numbers_give_the_same_interval() {
        let users = [user(3, 10), user(5, 7), user(1, 20)];
        let interval = BOOTSTRAP.interval(&users, 3);
        assert_eq!(interval, BOOTSTRAP.interval(&users, 3));
        let mut turned = users.clone();
        turned.iter_mut().for_each(|values| values.reverse());
        assert_eq!(interval, BOOTSTRAP.interval(&turned, 3));
        let other = Bootstrap {
            seed: 8,
            ..BOOTSTRAP
        };
        let one = |values: Vec<f64>| BOOTSTRAP.interval(&[values], 3);
        let values: Vec<f64> = (0..30).map(|i| f64::sin(f64::from(i))).collect();
        let turned = values.iter().rev().copied().collect();
        assert_eq!(one(values), one(turned));
        let few = [user(37, 100)];
        let draws = |b: Bootstrap, stream| b.interval(&few, stream);
        assert!(
            draws(BOOTSTRAP, 3) != draws(other, 3) || draws(BOOTSTRAP, 4) != draws(other, 4),
            "the seed does nothing"
        );
    }

    #[test]
    fn no_values_have_no_interval() {
        assert!(BOOTSTRAP.interval(&[], 0).iter().all(|end| end.is_nan()));
        assert!(BOOTSTRAP.interval(&[vec![]], 0)[0].is_nan());
    }
}
