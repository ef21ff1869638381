//! How often chance may be right: one probability, spent over all turns that try to replace what answers.
//!
//! Every turn compares a new candidate, so a version that is no better gets a new chance each night. The first
//! test since the last promotion may be passed by chance with probability 6/pi^2 of `chance`, the k-th with
//! 1/k^2 of that; these shares add up to `chance`, however many turns there are and whatever they have in
//! common. So a version that answers is replaced by one that is no better with probability `chance` at most,
//! in its whole life. A promotion begins anew: the version that answers now had a test of its own.
//!
//! That the same pairs judge turn after turn does no harm beside that: what was promoted looks better on them
//! than it is, which makes the next candidate's test harder, never easier.

use std::f64::consts::PI;

use serde_json::Value;

use attune_ids::Alias;
use attune_store::DecisionRecord;

/// The probability with which test `number`, counted from 1, may be passed by chance.
pub fn tail(chance: f64, number: usize) -> f64 {
    let number = number.max(1) as f64;
    (chance * 6.0 / (PI * number).powi(2)).min(0.5)
}

/// The number of the next test of `alias`: one more than there were since a test promoted.
pub fn next_test(decisions: &[DecisionRecord], alias: &Alias) -> usize {
    let of_alias = decisions.iter().filter(|d| d.alias == *alias);
    let tests = of_alias.filter(|decision| had_test(decision));
    1 + tests.rev().take_while(|test| !test.promoted).count()
}

/// Whether a decision compared a candidate. Too few pairs were none, and neither are fits of new people; what
/// was decided before shares were spent had one.
fn had_test(decision: &DecisionRecord) -> bool {
    let numbers = decision.evaluation.as_deref();
    let numbers: Option<Value> = numbers.and_then(|text| serde_json::from_str(text).ok());
    numbers.is_some_and(|numbers| match numbers.get("gate") {
        Some(gate) => gate["test"].is_u64(),
        None => numbers["difference"].is_object(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use attune_ids::{AdapterVersion, RecordId};

    #[test]
    fn shares_add_up_to_what_is_allowed() {
        assert!((tail(0.05, 1) - 0.030396).abs() < 1e-6);
        assert!((tail(0.05, 10) - 0.00030396).abs() < 1e-8);
        let spent: f64 = (1..100_000).map(|number| tail(0.05, number)).sum();
        assert!(spent < 0.05 && spent > 0.0499, "{spent}");
        assert_eq!(tail(1.0, 1), 0.5);
    }

    fn decision(alias: &str, promoted: bool, numbers: Value) -> DecisionRecord {
        DecisionRecord {
            id: RecordId::generate("dec_", 1),
            created_unix_ms: 1,
            alias: Alias::new(alias).unwrap(),
            current: None,
            candidate: Some(AdapterVersion::new("ab".repeat(32)).unwrap()),
            promoted,
            reason: String::new(),
            snapshot: None,
            evaluation: Some(numbers.to_string()),
        }
    }

    #[test]
    fn tests_are_counted_since_one_promoted() {
        let test = json!({"gate": {"test": 7}});
        let number =
            |decisions: &[DecisionRecord]| next_test(decisions, &Alias::new("attune").unwrap());
        let kept = || decision("attune", false, test.clone());
        assert_eq!(number(&[]), 1);
        assert_eq!(number(&[kept(), kept()]), 3);
        let promoted = decision("attune", true, test.clone());
        assert_eq!(number(&[kept(), promoted.clone()]), 1);
        assert_eq!(number(&[kept(), promoted.clone(), kept()]), 2);
        // What compared nothing spends nothing, and a fit of new people begins nothing anew.
        let few = decision("attune", false, json!({"gate": {"test": null}}));
        let fit = decision("attune", true, json!({"fit": {"people": 3}}));
        let nothing = decision("attune", false, json!({"pairs": {}}));
        let other = decision("other", false, test.clone());
        assert_eq!(number(&[kept(), few, fit, nothing, other, kept()]), 3);
        let old = decision("attune", false, json!({"difference": {"accuracy": 0.1}}));
        let mut bare = kept();
        bare.evaluation = None;
        assert_eq!(number(&[old, bare]), 2);
    }
}
