//! Gradient entanglement against the authors' functions: gradients over a LoRA, their norms and inner
//! product, what a step does, and cosines of single tokens.

use attune_base_model::BaseModel;
use attune_train::adapter::TrainedAdapter;
use attune_train::entangle::diagnose::pull;
use attune_train::entangle::gradients::{PairGradients, Probe};
use attune_train::entangle::heat_map::HeatMap;
use attune_train::entangle::measure::{Case, Entanglement, Pull};
use attune_train::loss::Objective;
use attune_train::pack::PromptPrefix;
use attune_train::pairs::IdPair;
use attune_train::policy::Activations;
use serde_json::Value;

use crate::common::{ids_of, oracle_json, oracle_tensors};
use crate::training::Golden;

const RELATIVE: f64 = 1e-3;
const COSINE: f64 = 1e-3;
const PREDICTED: f64 = 2e-3;
const LOSSES: [(&str, &str); 3] = [
    ("dpo_b0.1", "dpo:beta=0.1"),
    ("cpo_b0.1_nllmean1", "cpo:beta=0.1,lambda=1,nll=mean"),
    ("simpo_b2_g1", "simpo:beta=2,gamma=1"),
];

/// The base with the LoRA of the authors' checkpoint, without its user model.
fn golden() -> (BaseModel, TrainedAdapter, Value) {
    let Golden {
        base, mut adapter, ..
    } = Golden::read("individual_T2");
    let tables = adapter.users.take().unwrap().tables;
    for table in tables {
        adapter.parameters[table].trained = 0..0;
    }
    (base, adapter, oracle_json("entanglement/entanglement.json"))
}

fn probe(base: &BaseModel) -> Probe<'_> {
    Probe {
        decoder: &base.decoder,
        // The prompts of this file begin with BOS.
        prefix: PromptPrefix {
            bos: None,
            n_user_tokens: 0,
        },
        activations: Activations::Keep,
    }
}

fn pair_of(record: &Value) -> IdPair {
    IdPair {
        user: 0,
        prompt: ids_of(&record["prompt_ids"]),
        chosen: ids_of(&record["chosen_ids"]),
        rejected: ids_of(&record["rejected_ids"]),
        weight: 1.0,
        reference: ["ref_chosen_logp", "ref_rejected_logp"].map(|k| record[k].as_f64().unwrap()),
        kept: None,
        gated: None,
    }
}

fn close(what: &str, got: f64, want: &Value, allowed: f64) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= allowed, "{what}: {got}, not {want}");
}

#[test]
fn gradients_norms_and_cases() {
    let (base, mut adapter, json) = golden();
    let tensors = oracle_tensors("entanglement/lora_grads.safetensors");
    let probe = probe(&base);
    for record in json["pairs"].as_array().unwrap() {
        let (name, want) = (record["name"].as_str().unwrap(), &record["lora"]);
        let pair = pair_of(record);
        let policy = probe.policy(&adapter).unwrap();
        let completions = pair.completions(None);
        let found = probe.pair(&policy, &mut adapter, &completions).unwrap();
        check_gradients(name, &adapter, &found, &tensors);

        let measured = found.measure();
        let (w, l) = (measured.norm_chosen, measured.norm_rejected);
        close(name, found.logps[0], &want["chosen_logp"], 1e-3);
        close(name, found.logps[1], &want["rejected_logp"], 1e-3);
        close(name, w, &want["norm_chosen"], RELATIVE * w);
        close(name, l, &want["norm_rejected"], RELATIVE * l);
        let allowed = RELATIVE * (w * w + l * l);
        close(
            name,
            measured.inner_product,
            &want["inner_product"],
            allowed,
        );
        close(name, measured.cosine(), &want["cosine"], COSINE);
        let relative = |v: &Value| 3.0 * RELATIVE * (1.0 + v.as_f64().unwrap().abs());
        let condition = &want["condition"];
        close(
            name,
            measured.condition(false),
            condition,
            relative(condition),
        );
        let compat = &want["condition_official_bug_min_same_norm"];
        close(name, measured.condition(true), compat, relative(compat));

        for (loss, ours) in LOSSES {
            let want = &want["losses"][loss];
            let objective: Objective = ours.parse().unwrap();
            let pull = pull(&objective, &pair, &found);
            let what = format!("{name} {loss}");
            close(&what, pull.chosen, &want["d_w"], 1e-4 + 1e-3 * pull.chosen);
            close(
                &what,
                pull.rejected,
                &want["d_l"],
                1e-4 + 1e-3 * pull.rejected,
            );
            let case = measured.case(pull);
            let rises = matches!(case, Case::Ideal | Case::BothRise);
            let falls = matches!(case, Case::Ideal | Case::BothFall);
            assert_eq!(rises, want["chosen_rises"].as_bool().unwrap(), "{what}");
            assert_eq!(falls, want["rejected_falls"].as_bool().unwrap(), "{what}");
            let step = &want["steps"][0];
            let eta = step["eta"].as_f64().unwrap();
            let predicted = measured.predicted(pull, eta);
            let realised = probe
                .realised(&mut adapter, &completions, &found, pull, eta)
                .unwrap();
            for (side, name) in ["chosen", "rejected"].into_iter().enumerate() {
                let largest = predicted[0].abs().max(predicted[1].abs());
                let want = &step[format!("predicted_{name}")];
                close(&what, predicted[side], want, PREDICTED * largest);
                let want = &step[format!("realised_{name}")];
                let allowed = PREDICTED * want.as_f64().unwrap().abs() + 2e-4;
                close(&what, realised[side], want, allowed);
            }
            if loss == "dpo_b0.1" {
                let number = record["lora"]["dpo_case"].as_u64().unwrap() as usize;
                assert_eq!(case, Case::ALL[number - 1], "{name}");
                check_normalized(name, &measured, pull, &record["lora"]);
            }
        }
    }
}

/// The authors' normalized step is not scaled by the smaller norm.
fn check_normalized(name: &str, measured: &Entanglement, pull: Pull, want: &Value) {
    let want = &want["normalized_update_dpo_b0.1"];
    let smaller = measured.norm_chosen.min(measured.norm_rejected);
    let eta = want["eta"].as_f64().unwrap() / smaller;
    let predicted = measured.predicted(pull.times(measured.normalizing()), eta);
    for (side, of_side) in ["chosen", "rejected"].into_iter().enumerate() {
        let want = &want[format!("predicted_{of_side}")];
        close(
            name,
            predicted[side],
            want,
            PREDICTED * predicted[side].abs(),
        );
    }
}

/// Relative L2 distance over all tensors.
fn check_gradients(
    name: &str,
    adapter: &TrainedAdapter,
    found: &PairGradients,
    tensors: &std::collections::HashMap<String, candle_core::Tensor>,
) {
    for (side, of_side) in ["chosen", "rejected"].into_iter().zip(&found.gradients) {
        let mut ours = of_side.iter();
        let (mut error, mut size) = (0f64, 0f64);
        for parameter in adapter.parameters.iter().filter(|p| !p.trained.is_empty()) {
            let want = &tensors[&format!("{name}/{side}/{}", parameter.name)];
            let want = want.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for want in want {
                let got = ours.next().unwrap();
                error += f64::from(got - want).powi(2);
                size += f64::from(want).powi(2);
            }
        }
        assert!(ours.next().is_none());
        assert!(
            error.sqrt() <= RELATIVE * size.sqrt(),
            "{name} {side}: {error} of {size}"
        );
    }
}

#[test]
fn cosines_of_single_tokens() {
    let (base, mut adapter, json) = golden();
    let probe = probe(&base);
    for record in json["pairs"].as_array().unwrap() {
        let pair = pair_of(record);
        let policy = probe.policy(&adapter).unwrap();
        let [chosen, rejected] = pair.completions(None);
        let of_chosen = probe.tokens(&policy, &mut adapter, chosen).unwrap();
        let of_rejected = probe.tokens(&policy, &mut adapter, rejected).unwrap();
        let map = HeatMap::new([vec![], vec![]], [&of_chosen, &of_rejected]);
        let want = record["lora"]["token_cosine_chosen_x_rejected"]
            .as_array()
            .unwrap();
        assert_eq!(map.cosines.len(), want.len());
        for (row, want) in map.cosines.iter().zip(want) {
            for (cosine, want) in row.iter().zip(want.as_array().unwrap()) {
                close(
                    record["name"].as_str().unwrap(),
                    *cosine,
                    want,
                    2.0 * COSINE,
                );
            }
        }
        // The gradient of the sum is the sum of the gradients.
        let whole = probe
            .pair(&policy, &mut adapter, &pair.completions(None))
            .unwrap();
        let sum: Vec<f32> = (0..whole.gradients[0].len())
            .map(|i| of_chosen.iter().map(|token| token[i]).sum())
            .collect();
        let size: f32 = sum.iter().map(|v| v.abs()).fold(0.0, f32::max);
        let far = sum
            .iter()
            .zip(&whole.gradients[0])
            .map(|(a, b)| (a - b).abs());
        assert!(far.fold(0.0, f32::max) <= 1e-4 * size);
    }
}

/// First order: the smaller the step, the better the prediction.
#[test]
fn predictions_get_better_as_the_step_shrinks() {
    let (base, mut adapter, json) = golden();
    let probe = probe(&base);
    let objective: Objective = "dpo:beta=0.1".parse().unwrap();
    for record in json["pairs"].as_array().unwrap() {
        let pair = pair_of(record);
        let completions = pair.completions(None);
        let policy = probe.policy(&adapter).unwrap();
        let found = probe.pair(&policy, &mut adapter, &completions).unwrap();
        let before = adapter.clone();
        let pull = pull(&objective, &pair, &found);
        let mut error = |eta: f64| {
            let predicted = found.measure().predicted(pull, eta);
            let realised = probe
                .realised(&mut adapter, &completions, &found, pull, eta)
                .unwrap();
            let largest = predicted[0].abs().max(predicted[1].abs());
            (predicted[0] - realised[0])
                .abs()
                .max((predicted[1] - realised[1]).abs())
                / largest
        };
        let (large, small) = (error(1e-2), error(5e-4));
        assert!(
            small < large && small < 0.05,
            "{}: {large}, then {small}",
            record["name"]
        );
        assert_eq!(adapter.parameters.len(), before.parameters.len());
        let values = |a: &TrainedAdapter| -> Vec<Vec<f32>> {
            a.parameters.iter().map(|p| p.values.clone()).collect()
        };
        assert_eq!(
            values(&adapter),
            values(&before),
            "a probe leaves nothing behind"
        );
    }
}
