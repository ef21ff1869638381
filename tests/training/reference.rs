//! What the policy is compared with.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::{never, published, Bench};

const BETA: f64 = 0.5;

/// What the reference says of the chosen answers at each evaluation of a run: the mean log-probability, less what
/// the reward says that the policy gained; and the policy's own means.
fn at_each_evaluation(bench: &Bench, out: &str) -> (Vec<f64>, BTreeSet<String>) {
    let text = fs::read_to_string(bench.path(out).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let (mut reference, mut policy) = (Vec::new(), BTreeSet::new());
    for line in lines.collect::<Vec<Value>>() {
        let number = |name: &str| line[name].as_f64();
        let (logp, reward) = (number("eval_logps/chosen"), number("eval_rewards/chosen"));
        if let Some((logp, reward)) = logp.zip(reward) {
            reference.push(logp - reward / BETA);
            policy.insert(format!("{logp:.3}"));
        }
    }
    (reference, policy)
}

#[test]
fn the_reference_never_sees_the_adapter() {
    let bench = Bench::new();
    let usual = ["--loss", "dpo", "--beta", "0.5", "--holdout", "0.25"];
    let mut all = Vec::new();
    for (out, alpha) in [("personal", "1"), ("generic", "0")] {
        published(bench.run(out, &[&usual[..], &["--alpha", alpha]].concat(), &never()));
        let (reference, policy) = at_each_evaluation(&bench, out);
        assert!(policy.len() > 1, "the policy has moved: {policy:?}");
        all.extend(reference);
    }
    // Neither what LoRA has learned nor a user's rows, which only one of the runs scores, make a difference.
    assert!(all.iter().all(|r| (r - all[0]).abs() < 1e-3), "{all:?}");
}
