//! What people say about a difference between two policies: one person, one vote.
//!
//! A person's gain is the mean over their pairs, so that who has many pairs is not heard more. How much people
//! gain is a trimmed mean over them. Whether it may be chance is asked of the signs alone: of the people for
//! whom anything changed, how many gained? That interval is exact however few people there are and however
//! far out its end is, which an interval of means is not, and what one person says cannot move it by more than
//! one vote.
//!
//! A share of the votes may be bought. So many are trimmed at each end of the mean, and so many of those who
//! gained do not count: what is left is at most what the others would have said alone.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF};

/// What one person gained. Nobody's name is in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PersonGain {
    /// Their pairs, or votes.
    pub pairs: usize,
    /// Sum of the differences, each from -1 to 1.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
}

impl PersonGain {
    /// Of a person's differences; at least one, each from -1 to 1.
    pub fn of(differences: &[f64]) -> Self {
        Self {
            pairs: differences.len(),
            sum: differences.iter().sum(),
            squares: differences.iter().map(|d| d * d).sum(),
        }
    }

    /// The mean difference.
    pub fn mean(&self) -> f64 {
        self.sum / self.pairs as f64
    }

    /// Whether the person lost by more than chance explains: if each difference had come out one way or the
    /// other by a coin, `sum` would have a standard deviation of the root of `squares`. A difference of one
    /// pair is never more.
    pub fn lost(&self) -> bool {
        self.sum < 0.0 && self.sum * self.sum > self.squares * (1.0 + 1e-9)
    }
}

/// What people gained together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PeopleGain {
    /// People.
    pub people: usize,
    /// Pairs, or votes, of all of them.
    pub pairs: usize,
    /// The mean over people of their means.
    pub mean: f64,
    /// The same without the most extreme ones.
    pub trimmed_mean: f64,
    /// People who may be bought: so many are trimmed at each end, and so many of those who gained do not count
    /// in what follows.
    pub bought: usize,
    /// People who gained.
    pub gained: usize,
    /// People who lost.
    pub lost: usize,
    /// Of these, people who lost by more than chance explains.
    pub losers: usize,
}

impl PeopleGain {
    /// `coalition`: the share of people, from 0 to below one half, whose votes may be bought. `None`: nobody
    /// is there.
    pub fn of(people: &[PersonGain], coalition: f64) -> Option<Self> {
        let mut means: Vec<f64> = people.iter().map(PersonGain::mean).collect();
        // In order, so that the last bit does not depend on the order of people either.
        means.sort_by(f64::total_cmp);
        // 0.1 of 30 must be 3, though the product is below it.
        let bought = (means.len() as f64 * coalition + 1e-9) as usize;
        let kept = means.get(bought..means.len().checked_sub(bought)?)?;
        if kept.is_empty() {
            return None;
        }
        let count = |is: fn(&PersonGain) -> bool| people.iter().filter(|p| is(p)).count();
        Some(Self {
            people: people.len(),
            pairs: people.iter().map(|person| person.pairs).sum(),
            mean: mean(&means),
            trimmed_mean: mean(kept),
            bought,
            gained: count(|person| person.sum > 0.0),
            lost: count(|person| person.sum < 0.0),
            losers: count(PersonGain::lost),
        })
    }

    /// The probability of so many gains, or more, if those for whom anything changed gained or lost by a coin.
    pub fn by_chance(&self) -> f64 {
        let (gained, changed) = self.votes();
        match (gained, Binomial::new(0.5, changed)) {
            (0, _) | (_, Err(_)) => 1.0,
            (gained, Ok(coins)) => coins.sf(gained - 1),
        }
    }

    /// By how much more people gain than lose, of those for whom anything changes: from -1, all lose, to 1. It
    /// is the exact interval of Clopper and Pearson; each end is missed with probability `tail` at most. Its
    /// lower end is above 0 where [`by_chance`](Self::by_chance) is below `tail`.
    pub fn interval(&self, tail: f64) -> [f64; 2] {
        let (gained, changed) = self.votes();
        let (k, n) = (gained as f64, changed as f64);
        let low = match Beta::new(k, n - k + 1.0) {
            Ok(beta) => beta.inverse_cdf(tail),
            Err(_) => 0.0,
        };
        let high = match Beta::new(k + 1.0, n - k) {
            Ok(beta) => beta.inverse_cdf(1.0 - tail),
            Err(_) => 1.0,
        };
        [low, high].map(|share| 2.0 * share - 1.0)
    }

    /// People who gained, without those who may be bought; and people for whom anything changed.
    fn votes(&self) -> (u64, u64) {
        let gained = self.gained.saturating_sub(self.bought);
        (gained as u64, (gained + self.lost) as u64)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(means: &[f64]) -> Vec<PersonGain> {
        means.iter().map(|mean| PersonGain::of(&[*mean])).collect()
    }

    fn gain(gained: usize, same: usize, lost: usize, coalition: f64) -> PeopleGain {
        let of = |n, mean| vec![PersonGain::of(&[mean; 2]); n];
        let all = [of(gained, 0.5), of(same, 0.0), of(lost, -0.5)].concat();
        PeopleGain::of(&all, coalition).unwrap()
    }

    /// 9 of 10: (10 + 1) / 2^10. The interval is that of tables: .5550 to .9975 at 95 %.
    #[test]
    fn signs_are_coins_if_nothing_changed() {
        let nine = gain(9, 5, 1, 0.0);
        assert!((nine.by_chance() - 11.0 / 1024.0).abs() < 1e-12);
        let [low, high] = nine.interval(0.025);
        assert!((low - 0.1100).abs() < 2e-4, "{low}");
        assert!((high - 0.9949).abs() < 2e-4, "{high}");
        assert_eq!(gain(0, 3, 0, 0.0).by_chance(), 1.0);
        assert_eq!(gain(0, 3, 0, 0.0).interval(0.025), [-1.0, 1.0]);
        assert_eq!(gain(5, 0, 0, 0.0).interval(0.025)[1], 1.0);
        assert_eq!(gain(0, 0, 5, 0.0).interval(0.025)[0], -1.0);
        // Far out, too: what turn 50 asks for.
        assert!((gain(20, 0, 0, 0.0).by_chance() - 2f64.powi(-20)).abs() < 1e-12);
    }

    #[test]
    fn the_interval_is_above_zero_where_chance_is_below_its_tail() {
        for gained in 0..30 {
            for lost in 0..30 - gained {
                let gain = gain(gained, 1, lost, 0.0);
                for tail in [0.03, 0.003, 1.2e-5] {
                    let above = gain.interval(tail)[0] > 0.0;
                    assert_eq!(above, gain.by_chance() < tail, "{gained} {lost} {tail}");
                }
            }
        }
    }

    /// [-0.9, .1, .2, .3, .4, .5, .6, .7, .8, 1]: a tenth of ten is one.
    #[test]
    fn means_are_trimmed() {
        let ten = people(&[0.1, -0.9, 0.2, 0.3, 1.0, 0.4, 0.5, 0.6, 0.7, 0.8]);
        let gain = PeopleGain::of(&ten, 0.1).unwrap();
        assert_eq!((gain.people, gain.pairs, gain.bought), (10, 10, 1));
        assert!((gain.mean - 0.37).abs() < 1e-12, "{gain:?}");
        assert!((gain.trimmed_mean - 0.45).abs() < 1e-12, "{gain:?}");
        assert_eq!((gain.gained, gain.lost, gain.losers), (9, 1, 0));
        let all = PeopleGain::of(&ten, 0.0).unwrap();
        assert_eq!(all.trimmed_mean, all.mean);
    }

    /// Whatever a coalition says, the rest is not surer than it would be alone.
    #[test]
    fn bought_votes_do_not_count() {
        let honest = gain(11, 1, 6, 0.0);
        let with = |[gained, same, lost]: [usize; 3]| gain(11 + gained, 1 + same, 6 + lost, 0.1);
        for bought in [[2, 0, 0], [1, 1, 0], [0, 2, 0], [1, 0, 1], [0, 0, 2]] {
            assert_eq!(with(bought).bought, 2);
            assert!(with(bought).by_chance() >= honest.by_chance(), "{bought:?}");
        }
        assert_eq!(with([2, 0, 0]).by_chance(), honest.by_chance());
    }

    #[test]
    fn a_person_has_one_vote() {
        let others = people(&[-0.1, -0.2, 0.0, 0.1, -0.3, -0.1, 0.2]);
        let with = |pairs| {
            let one = PersonGain::of(&vec![1.0; pairs]);
            let gain = PeopleGain::of(&[&others[..], &[one]].concat(), 0.0).unwrap();
            PeopleGain { pairs: 0, ..gain }
        };
        assert_eq!(with(500), with(1));
    }

    #[test]
    fn who_lost_lost_more_than_chance() {
        let lost = |differences: &[f64]| PersonGain::of(differences).lost();
        assert!(!lost(&[-1.0]));
        assert!(!lost(&[-1.0, 0.0, 0.0]));
        assert!(!lost(&[-1.0, -1.0, 1.0]));
        assert!(!lost(&[1.0, 1.0]));
        assert!(lost(&[-1.0, -1.0]));
        assert!(lost(&[-1.0, -1.0, -1.0, -1.0, 1.0]));
        // Ties count half: one pair, which a tie became, is no loss either.
        assert!(!lost(&[-0.5]));
        assert!(lost(&[-0.5, -0.5]));
    }

    #[test]
    fn nobody_says_nothing() {
        assert_eq!(PeopleGain::of(&[], 0.1), None);
        let one = PeopleGain::of(&people(&[1.0]), 0.1).unwrap();
        assert_eq!((one.people, one.bought), (1, 0));
        assert!((one.by_chance() - 0.5).abs() < 1e-9);
    }
}
