//! Every preference loss against TRL, the MarginPO code and the papers' formulas, in f64.
//!
//! `kto_pair` of the file, which needs the means of a whole batch, is not implemented.

use attune_train::loss::{Objective, PairLogps};
use serde_json::Value;

use crate::common::oracle_json;

const RELATIVE: f64 = 1e-9;

/// Our words for a loss of the file. Parameters stand here once more, on purpose: what they mean is
/// part of what is checked.
fn ours(name: &str) -> Option<&'static str> {
    Some(match name {
        "dpo" => "dpo:beta=0.1",
        "dpo_b0.5" => "dpo:beta=0.5",
        "cdpo" => "dpo:beta=0.1,label_smoothing=0.1",
        "robust" => "robust:beta=0.1,label_smoothing=0.1",
        "rdpo" => "rdpo:beta=0.1,alpha=0.2",
        "ipo_sum" => "ipo:beta=0.1",
        "ipo_avg" => "ipo-avg:beta=0.1",
        "hinge" => "hinge:beta=0.1",
        "exo_pair" => "exo-pair:beta=0.1,label_smoothing=0.001",
        "nca_pair" => "nca-pair:beta=0.1",
        "apo_zero" => "apo-zero:beta=0.1",
        "apo_down" => "apo-down:beta=0.1",
        "sppo_hard" => "sppo-hard:beta=0.1",
        "sppo" => "sppo:beta=0.1",
        "dpop" => "dpop:beta=0.1,lambda=50",
        "dpop_l5" => "dpop:beta=0.1,lambda=5",
        "simpo" => "simpo:beta=2,gamma=1",
        "simpo_trl_defaults" => "simpo:beta=0.1,gamma=0.5",
        "cpo_pref_only" => "cpo:beta=0.1,lambda=0",
        "cpo_nll_mean" => "cpo:beta=0.1,lambda=1,nll=mean",
        "cpo_nll_sum" => "cpo:beta=0.1,lambda=1,nll=sum",
        "cpo_hinge" => "cpo-hinge:beta=0.1,lambda=0",
        "slic_hf" => "slic-hf:delta=1,lambda=0.1",
        "rrhf" => "rrhf:lambda=0",
        "rrhf_nll_mean" => "rrhf:lambda=1,nll=mean",
        "rrhf_nll_sum" => "rrhf:lambda=1,nll=sum",
        "orpo" => "orpo:lambda=0.1",
        _ => return None,
    })
}

/// The recorded length term, alpha (n_w - n_l), is an f32: torch takes a tensor of integers times a
/// number to that, whatever the log-probabilities are. This alpha makes our f64 product the same number.
fn rdpo_as_recorded(pair: &PairLogps) -> String {
    let longer = pair.n_chosen as f32 - pair.n_rejected as f32;
    let alpha = match longer {
        0.0 => 0.2,
        _ => f64::from(0.2 * longer) / f64::from(longer),
    };
    assert!((alpha - 0.2).abs() < 1e-7);
    format!("rdpo:beta=0.1,alpha={alpha}")
}

fn pair(input: &Value) -> PairLogps {
    let number = |key: &str| input[key].as_f64().unwrap();
    let count = |key: &str| input[key].as_u64().unwrap() as usize;
    PairLogps {
        chosen: number("a_w"),
        rejected: number("a_l"),
        ref_chosen: number("ref_w"),
        ref_rejected: number("ref_l"),
        n_chosen: count("n_w"),
        n_rejected: count("n_l"),
    }
}

#[test]
fn losses_are_those_of_the_reference_code() {
    let golden = oracle_json("losses/losses.json");
    let mut checked = 0;
    for case in golden["cases"].as_array().unwrap() {
        let pair = pair(&case["input"]);
        for (name, want) in case["expected"].as_object().unwrap() {
            let text = ours(name).unwrap_or_else(|| panic!("no loss for {name} of the file"));
            let text = match name.as_str() {
                "rdpo" => rdpo_as_recorded(&pair),
                _ => text.to_owned(),
            };
            let objective: Objective = text.parse().unwrap();
            let got = objective.loss(&pair);
            for (what, got) in [
                ("value", got.value),
                ("dL_da_w", got.d_chosen),
                ("dL_da_l", got.d_rejected),
            ] {
                let want = want[what].as_f64().unwrap();
                let close = (got - want).abs() <= RELATIVE * want.abs();
                assert!(close, "{name} {what}: {got}, not {want} ({pair:?})");
            }
            checked += 1;
        }
    }
    let n_losses = golden["losses"].as_object().unwrap().len();
    assert!(n_losses >= 27, "the file lost losses");
    assert_eq!(checked, 8 * n_losses, "a case lost losses");
}

/// Names that no case of the file would check.
#[test]
fn every_loss_but_sft_is_in_the_file() {
    let golden = oracle_json("losses/losses.json");
    let names = golden["losses"].as_object().unwrap().keys();
    let checked: Vec<&str> = names.filter_map(|name| ours(name)).collect();
    for name in Objective::NAMES {
        let found = checked
            .iter()
            .any(|text| text.split(':').next() == Some(name));
        assert!(found || *name == "sft", "{name} has no golden numbers");
    }
}
