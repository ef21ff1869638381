//! What a candidate has to do: a pure function of what people gained.

use serde::Serialize;

use super::spending::tail;
use attune_train::evaluate::{PeopleGain, PersonGain};

/// What a candidate has to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rule {
    /// The least difference that is worth a promotion, as a mean over people.
    pub margin: f64,
    /// The probability with which a version that is no better may ever replace the one that answers.
    pub chance: f64,
    /// The share of people whose votes may be bought without making a difference.
    pub coalition: f64,
    /// The share of people who may lose.
    pub max_losers: f64,
    /// People below whom nothing is promoted.
    pub min_people: usize,
    /// Pairs, or votes, below which nothing is promoted.
    pub min_test_pairs: usize,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Whether the candidate is to answer.
    #[serde(skip)]
    pub promote: bool,
    /// The beginning of a sentence about that.
    #[serde(skip)]
    pub why: String,
    /// The number of the test since the last promotion; `None`: there was too little for one, and nothing was
    /// spent.
    pub test: Option<usize>,
    /// What people gained; `None`: nobody was asked.
    #[serde(flatten)]
    pub gain: Option<PeopleGain>,
    /// By how much more people gain than lose, each end missed with probability `tail`.
    pub interval: Option<[f64; 2]>,
    /// What this test may spend.
    pub tail: Option<f64>,
    /// The probability with which chance looks like this.
    pub by_chance: Option<f64>,
}

impl Rule {
    /// Whether the gains of `people` meet it, in test `number`, counted from 1.
    pub fn find(&self, people: &[PersonGain], number: usize) -> Finding {
        let gain = PeopleGain::of(people, self.coalition);
        let pairs = gain.map_or(0, |gain| gain.pairs);
        let too_few = |why| Finding {
            promote: false,
            why,
            test: None,
            gain,
            interval: None,
            tail: None,
            by_chance: None,
        };
        if pairs < self.min_test_pairs {
            let wanted = self.min_test_pairs;
            return too_few(format!(
                "kept because {pairs} comparisons are too few (at least {wanted} are needed)"
            ));
        }
        let Some(gain) = gain.filter(|gain| gain.people >= self.min_people) else {
            let (people, wanted) = (people.len(), self.min_people);
            return too_few(format!(
                "kept because {people} people are too few to compare by (at least {wanted} are needed)"
            ));
        };
        let tail = tail(self.chance, number);
        let (promote, why) = self.met(&gain, tail);
        Finding {
            promote,
            why,
            test: Some(number),
            gain: Some(gain),
            interval: Some(gain.interval(tail)),
            tail: Some(tail),
            by_chance: Some(gain.by_chance()),
        }
    }

    // No number here is NaN: evaluations refuse them.
    fn met(&self, gain: &PeopleGain, tail: f64) -> (bool, String) {
        if gain.trimmed_mean < self.margin {
            let text = format!("kept because it is not better by {:.3}", self.margin);
            return (false, text);
        }
        if gain.by_chance() > tail {
            return (false, "kept because the gain may be chance".into());
        }
        if gain.losers as f64 > self.max_losers * gain.people as f64 {
            let (losers, people) = (gain.losers, gain.people);
            let text = format!("kept because {losers} of {people} people lose by it");
            return (false, text);
        }
        (true, format!("better by {:.3} or more", self.margin))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::RULE;
    use super::*;

    /// People of ten pairs each, who gain so many of them.
    fn people(gains: &[i32]) -> Vec<PersonGain> {
        let person = |gain: &i32| {
            let step = f64::from(gain.signum());
            let differences = (0..10).map(|n| if n < gain.abs() { step } else { 0.0 });
            PersonGain::of(&differences.collect::<Vec<_>>())
        };
        gains.iter().map(person).collect()
    }

    fn finding(gains: &[i32], rule: &Rule) -> Finding {
        rule.find(&people(gains), 1)
    }

    fn keeps(finding: &Finding, why: &str) {
        assert!(!finding.promote && finding.why.contains(why), "{finding:?}");
    }

    const BETTER: [i32; 12] = [2, 3, 1, 2, 4, 3, 2, 1, 3, 2, 2, 0];

    #[test]
    fn what_people_gain_decides() {
        let better = finding(&BETTER, &RULE);
        assert!(
            better.promote && better.why == "better by 0.020 or more",
            "{better:?}"
        );
        assert!(better.interval.unwrap()[0] > 0.0);
        assert_eq!(better.test, Some(1));
        keeps(&finding(&[0; 12], &RULE), "not better by 0.020");
        let much = Rule {
            margin: 0.5,
            ..RULE
        };
        keeps(&finding(&BETTER, &much), "not better by 0.500");
        let spread = [9, -9, 8, -6, 9, -8, 9, -7, 7, 5, -5, 6];
        keeps(&finding(&spread, &RULE), "may be chance");
    }

    #[test]
    fn too_little_is_no_test() {
        let few = finding(&BETTER[..9], &RULE);
        keeps(
            &few,
            "9 people are too few to compare by (at least 10 are needed)",
        );
        assert_eq!((few.test, few.tail), (None, None));
        let one_each: Vec<PersonGain> = (0..12).map(|_| PersonGain::of(&[1.0])).collect();
        let few = RULE.find(&one_each, 1);
        keeps(&few, "12 comparisons are too few (at least 20 are needed)");
        keeps(&RULE.find(&[], 1), "0 comparisons");
        let any = Rule {
            min_test_pairs: 0,
            min_people: 0,
            ..RULE
        };
        keeps(&any.find(&[], 1), "0 people are too few");
    }

    /// The later the test, the surer it has to be.
    #[test]
    fn chance_is_spent() {
        let narrow = [2, 1, 0, 2, 1, 0, 1, 1, 0, 3, 1, 1];
        assert!(RULE.find(&people(&narrow), 1).promote);
        keeps(&RULE.find(&people(&narrow), 40), "may be chance");
    }

    /// Who wins much does not outweigh who is driven away.
    #[test]
    fn more_than_a_fifth_of_the_people_may_not_lose() {
        let with = |losers: usize| {
            let mut gains = [8; 40];
            gains[..losers].fill(-9);
            finding(&gains, &RULE)
        };
        assert!(with(8).promote, "{:?}", with(8));
        keeps(&with(9), "9 of 40 people lose by it");
        // One pair less is chance, whoever it is of.
        let mut gains = [8; 20];
        gains[..9].fill(-1);
        let slightly = finding(
            &gains,
            &Rule {
                coalition: 0.0,
                ..RULE
            },
        );
        let gain = slightly.gain.unwrap();
        assert_eq!((gain.lost, gain.losers), (9, 0));
    }

    /// One account at the cap has one vote, and a tenth of the people is no majority.
    #[test]
    fn a_tenth_of_the_people_decides_nothing() {
        let mut honest = vec![0, 1, -1, 0, 0, 1, -1, 2, -2, 0, 0, 1, -1, 0, 0, 1, -1, 0];
        keeps(&finding(&honest, &RULE), "not better");
        honest.extend([10, 10]);
        keeps(&finding(&honest, &RULE), "not better");
        let mut one = people(&[0; 12]);
        one.push(PersonGain::of(&[1.0; 500]));
        keeps(&RULE.find(&one, 1), "not better");
    }
}
