//! Whether a candidate answers from now on: a pure function of its evaluation.

use serde_json::{json, Value};

use crate::train::evaluate::{Comparison, Evaluation};
use crate::train::rival::REFERENCE;

/// What a candidate has to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// By how much it must be right more often than what answers now, in accuracy.
    pub margin: f64,
    /// Whether the lower end of the difference's 95 % interval must be above zero, too.
    pub sure: bool,
    /// Pairs below which nothing is promoted.
    pub min_test_pairs: usize,
}

/// What becomes of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether it is to answer.
    pub promote: bool,
    /// Why, for people.
    pub reason: String,
    /// The numbers.
    pub numbers: Value,
}

/// Compares the candidate with `rival`, a name among `evaluation.against`.
pub fn verdict(evaluation: Option<&Evaluation>, rival: &str, rule: &Rule) -> Verdict {
    let comparison = |e: &'_ Evaluation| e.against.iter().position(|c| c.name == rival);
    let Some((evaluation, at)) = evaluation.and_then(|e| Some((e, comparison(e)?))) else {
        return Verdict {
            promote: false,
            reason:
                "kept: no pair was set aside to compare on; collect more, or set more aside by \
                     --test"
                    .into(),
            numbers: json!({}),
        };
    };
    let comparison = &evaluation.against[at];
    let (promote, why) = rule.met(comparison);
    Verdict {
        promote,
        reason: format!("{why}: {}", words(evaluation, comparison)),
        numbers: numbers(evaluation, comparison, rule),
    }
}

impl Rule {
    /// Whether a comparison meets it, and the beginning of a sentence about that.
    fn met(&self, comparison: &Comparison) -> (bool, String) {
        let difference = &comparison.difference;
        let (pairs, wanted) = (difference.pairs, self.min_test_pairs);
        if pairs < wanted {
            let text =
                format!("kept, as {pairs} pairs are too few to compare on, {wanted} is least");
            return (false, text);
        }
        // No number here is NaN: evaluations refuse them.
        if difference.accuracy < self.margin {
            let text = format!("kept, as it is not better by {:.3}", self.margin);
            return (false, text);
        }
        if self.sure && difference.interval[0] <= 0.0 {
            return (false, "kept, as it may be chance".into());
        }
        (true, format!("better by {:.3} or more", self.margin))
    }
}

fn words(evaluation: &Evaluation, comparison: &Comparison) -> String {
    let [low, high] = comparison.difference.interval;
    format!(
        "on {} pairs that were set aside the new version is right about {:.3} of them, {} about \
         {:.3}; the difference is {:+.3} [{low:+.3}, {high:+.3}]",
        evaluation.overall.pairs,
        evaluation.overall.accuracy,
        match comparison.name.as_str() {
            REFERENCE => "the bare model",
            _ => "the current one",
        },
        comparison.evaluation.overall.accuracy,
        comparison.difference.accuracy,
    )
}

/// What a decision keeps: nobody's name is in it.
fn numbers(evaluation: &Evaluation, comparison: &Comparison, rule: &Rule) -> Value {
    json!({
        "candidate": evaluation.overall,
        "current": comparison.evaluation.overall,
        "difference": comparison.difference,
        "seen": comparison.seen,
        "unseen": comparison.unseen,
        "margin": rule.margin,
        "sure": rule.sure,
        "min_test_pairs": rule.min_test_pairs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::evaluate::{compare, evaluate, Bootstrap, Group, ScoredPair};

    const RULE: Rule = Rule {
        margin: 0.1,
        sure: false,
        min_test_pairs: 4,
    };

    /// A pair of each `right`, of ten users in turn.
    fn pairs(right: impl Iterator<Item = bool>) -> Vec<ScoredPair> {
        let pair = |(i, right): (usize, bool)| ScoredPair {
            user: format!("u{}", i % 10),
            group: Group::Seen,
            chosen_reward: f64::from(u8::from(right)),
            rejected_reward: 0.5,
            logp_chosen: -1.0,
            logp_rejected: -2.0,
        };
        right.enumerate().map(pair).collect()
    }

    /// An evaluation of `n` pairs in which the candidate is right about `ours` of them.
    fn evaluation(n: usize, ours: usize, theirs: usize) -> Evaluation {
        let (ours, theirs) = (
            pairs((0..n).map(|i| i < ours)),
            pairs((0..n).map(|i| i < theirs)),
        );
        let mut evaluation = evaluate(&ours, Bootstrap::default()).unwrap();
        for name in [REFERENCE, "abc"] {
            let comparison = compare(&ours, name, &theirs, Bootstrap::default());
            evaluation.against.push(comparison.unwrap());
        }
        evaluation
    }

    #[test]
    fn the_margin_decides() {
        for (ours, theirs, promote) in [
            (60, 50, true),
            (59, 50, false),
            (50, 60, false),
            (50, 50, false),
        ] {
            let verdict = verdict(Some(&evaluation(100, ours, theirs)), "abc", &RULE);
            assert_eq!(verdict.promote, promote, "{}", verdict.reason);
            assert_eq!(verdict.numbers["difference"]["pairs"], 100);
            let says = if promote {
                "better by 0.100"
            } else {
                "kept, as it is not better"
            };
            assert!(verdict.reason.starts_with(says), "{}", verdict.reason);
            assert!(
                verdict.reason.contains("the current one"),
                "{}",
                verdict.reason
            );
        }
        let even = Rule {
            margin: 0.0,
            ..RULE
        };
        assert!(verdict(Some(&evaluation(9, 5, 5)), REFERENCE, &even).promote);
    }

    #[test]
    fn few_pairs_decide_nothing() {
        let few = verdict(Some(&evaluation(3, 3, 0)), REFERENCE, &RULE);
        assert!(!few.promote);
        assert!(
            few.reason.starts_with("kept, as 3 pairs are too few"),
            "{}",
            few.reason
        );
        for none in [None, Some(&evaluation(9, 9, 0))] {
            let none = verdict(none, "not there", &RULE);
            assert!(
                !none.promote && none.reason.contains("--test"),
                "{}",
                none.reason
            );
        }
    }

    #[test]
    fn who_wants_to_be_sure_is() {
        let sure = Rule { sure: true, ..RULE };
        // Ten users, one pair each, one gained: that may be chance.
        assert!(verdict(Some(&evaluation(10, 6, 5)), REFERENCE, &RULE).promote);
        let chance = verdict(Some(&evaluation(10, 6, 5)), REFERENCE, &sure);
        assert!(
            !chance.promote && chance.reason.contains("chance"),
            "{}",
            chance.reason
        );
        assert!(verdict(Some(&evaluation(100, 90, 20)), REFERENCE, &sure).promote);
    }
}
