//! Win rates, and intervals that say how far other people of the same kind might be from them.

use rand::Rng;
use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, OrderStatistics};

use super::taste::Taste;

/// A mean over people with its 95 % bootstrap interval (percentiles, people drawn with
/// replacement). With one person the interval is a point, and says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Mean of the people's own rates.
    pub mean: f64,
    /// 2.5 % of the resamples are lower.
    pub low: f64,
    /// 2.5 % of the resamples are higher.
    pub high: f64,
    /// People that it is the mean of.
    pub people: usize,
}

/// The share of questions on which a person's answer beats the opponent's by their taste, ties
/// counted half. Questions without both answers are left out; `None` if none is left.
pub fn win_rate(
    taste: Taste,
    answers: &[Option<String>],
    opponents: &[Option<String>],
) -> Option<f64> {
    let pairs = answers.iter().zip(opponents);
    let both = pairs.filter_map(|(answer, opponent)| Some((answer.as_ref()?, opponent.as_ref()?)));
    mean(both.map(|(answer, opponent)| taste.judge(answer, opponent).points()))
}

/// The mean; `None` of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// Mean and interval of the people's rates; `None` of nobody.
pub fn rate(values: &[f64], resamples: usize, rng: &mut impl Rng) -> Option<Rate> {
    let people = values.len();
    let of_all = mean(values.iter().copied())?;
    let means = (0..resamples.max(1)).map(|_| {
        let draws = (0..people).map(|_| values[rng.random_range(0..people)]);
        draws.sum::<f64>() / people as f64
    });
    let mut means = Data::new(means.collect::<Vec<f64>>());
    Some(Rate {
        mean: of_all,
        low: means.quantile(0.025),
        high: means.quantile(0.975),
        people,
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn texts(texts: &[&str]) -> Vec<Option<String>> {
        let known = |text: &&str| (*text != "-").then(|| (*text).to_owned());
        texts.iter().map(known).collect()
    }

    #[test]
    fn ties_count_half_and_missing_answers_not_at_all() {
        let answers = texts(&["a", "a b", "a b c", "-", "a"]);
        let opponents = texts(&["a b", "a b", "a b", "a", "-"]);
        // Won, tied, lost; the last two have only one side.
        assert_eq!(win_rate(Taste::Short, &answers, &opponents), Some(0.5));
        assert_eq!(win_rate(Taste::List, &answers, &opponents), Some(0.5));
        assert_eq!(win_rate(Taste::Short, &answers[..1], &opponents), Some(1.0));
        assert_eq!(win_rate(Taste::Short, &answers[3..], &opponents[3..]), None);
    }

    #[test]
    fn the_interval_is_that_of_the_mean() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        // 200 people, half at 0 and half at 1: standard error 0.5 / sqrt(200) = 0.0354.
        let values: Vec<f64> = (0..200).map(|person| f64::from(person % 2)).collect();
        let rate = rate(&values, 4000, &mut rng).unwrap();
        assert_eq!((rate.mean, rate.people), (0.5, 200));
        assert!((rate.low - (0.5 - 1.96 * 0.0354)).abs() < 0.01, "{rate:?}");
        assert!((rate.high - (0.5 + 1.96 * 0.0354)).abs() < 0.01, "{rate:?}");
    }

    #[test]
    fn the_seed_decides_and_nobody_has_no_rate() {
        let values: Vec<f64> = (0..40).map(|n| f64::from(n * n % 41)).collect();
        let run = |seed| rate(&values, 200, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_eq!(rate(&[], 200, &mut ChaCha8Rng::seed_from_u64(1)), None);
        let one = rate(&[0.25], 200, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!((one.low, one.mean, one.high), (0.25, 0.25, 0.25));
    }
}
