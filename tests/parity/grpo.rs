//! GRPO and ExP-GRPO against TRL's trainer: advantages, losses, and gradients over a LoRA.

use attune_train::expo::group::{Batch, Group, GroupLearner, TokenLogps};
use attune_train::loss::grpo::{advantages, Grpo, Weigh};
use attune_train::policy::Activations;
use serde_json::Value;

use crate::common::{ids_of, oracle_json, oracle_tensors};
use crate::training::Golden;

const ADVANTAGE: f64 = 1e-5;
const LOSS: f64 = 1e-4;
const LOGP: f32 = 2e-3;
const GRADIENT: f64 = 2e-3;

fn logps(of: &Value) -> TokenLogps {
    let floats = |row: &Value| -> Vec<f32> {
        let row = row.as_array().unwrap().iter();
        row.map(|v| v.as_f64().unwrap() as f32).collect()
    };
    of.as_array().unwrap().iter().map(floats).collect()
}

fn groups(json: &Value, run: &Value) -> Vec<Group> {
    let of_run = run["groups"].as_array().unwrap().iter();
    let rewards = run["rewards"].as_array().unwrap();
    of_run
        .zip(rewards)
        .map(|(number, rewards)| {
            let group = &json["groups"][number.as_u64().unwrap() as usize];
            let answers = group["completions"].as_array().unwrap();
            let rewards = rewards.as_array().unwrap().iter();
            Group {
                prompt: ids_of(&group["prompt_ids"]),
                answers: answers.iter().map(ids_of).collect(),
                rewards: rewards.map(|r| r.as_f64().unwrap()).collect(),
                positive: Some(ids_of(&group["explanation_ids"])),
            }
        })
        .collect()
}

#[test]
fn losses_and_gradients_of_all_runs() {
    // The oracle has the LoRA of the authors' checkpoint without its user model.
    let Golden {
        base, mut adapter, ..
    } = Golden::read("individual_T2");
    adapter.users = None;
    let json = oracle_json("grpo/grpo.json");
    let tensors = oracle_tensors("grpo/grads.safetensors");
    let exp_beta = json["exp_beta"].as_f64().unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    for run in json["runs"].as_array().unwrap() {
        let name = run["name"].as_str().unwrap();
        let groups = groups(&json, run);
        let got: Vec<f64> = groups.iter().flat_map(|g| advantages(&g.rewards)).collect();
        for (got, want) in got.iter().zip(run["advantages"].as_array().unwrap()) {
            assert!((got - number(want)).abs() < ADVANTAGE, "{name}: {got}");
        }
        let learner = GroupLearner {
            decoder: &base.decoder,
            // The prompts of this file begin with BOS.
            bos: None,
            grpo: Grpo {
                clip: number(&run["epsilon"]),
                kl: number(&run["kl_beta"]),
                weigh: Weigh::Tokens,
            },
            positive_sum: false,
            temperature: number(&run["temperature"]),
            pack_rows: 64,
            activations: Activations::Keep,
        };
        let mut batch = Batch {
            reference: learner.reference(&groups).unwrap(),
            old: None,
            groups,
        };
        if let Some(reference) = &batch.reference {
            close(name, reference, &logps(&run["ref_token_logps"]));
        }
        let known = run["old_token_logps"].is_array();
        batch.old = known.then(|| logps(&run["old_token_logps"]));
        for (beta, want) in [(0.0, "grpo_loss"), (exp_beta, "exp_grpo_loss")] {
            let found = learner.learn(&mut adapter, &batch, beta).unwrap();
            let want = number(&run[want]);
            assert!((found.loss - want).abs() < LOSS, "{name}: {found:?}");
            if batch.reference.is_some() {
                close(name, &found.logps, &logps(&run["policy_token_logps"]));
            }
            if let (Some(clipped), Some(_)) = (run["clipped_tokens"].as_u64(), &batch.old) {
                assert_eq!(found.clipped as u64, clipped, "{name}");
            }
            let (mut error, mut size) = (0f64, 0f64);
            let prefix = run["grads_prefix"].as_str().unwrap();
            for parameter in adapter.parameters.iter().filter(|p| is_lora(&p.name)) {
                let read = |prefix: &str| -> Vec<f32> {
                    let tensor = &tensors[&format!("{prefix}/{}", parameter.name)];
                    tensor.flatten_all().unwrap().to_vec1().unwrap()
                };
                let mut want = read(prefix);
                for group in run["groups"].as_array().unwrap() {
                    let share = beta as f32 / batch.groups.len() as f32;
                    let more = read(&format!("exp_nll_mean.g{group}"));
                    want.iter_mut().zip(more).for_each(|(w, m)| *w += share * m);
                }
                for (got, want) in parameter.gradient.iter().zip(want) {
                    error += f64::from(got - want).powi(2);
                    size += f64::from(want).powi(2);
                }
            }
            let (error, size) = (error.sqrt(), size.sqrt());
            let allowed = if size < 1e-3 { 1e-6 } else { GRADIENT * size };
            assert!(error <= allowed, "{name} beta {beta}: {error} of {size}");
            let all_wrong = batch.groups.iter().all(Group::is_unsolved);
            if all_wrong && batch.reference.is_none() {
                // GRPO learns nothing from groups without a right answer, exactly; ExP-GRPO does.
                assert_eq!(size == 0.0, beta == 0.0, "{name}");
                let none = adapter
                    .parameters
                    .iter()
                    .all(|p| p.gradient.iter().all(|g| *g == 0.0));
                assert_eq!(none, beta == 0.0, "{name}");
            }
        }
    }
}

fn is_lora(name: &str) -> bool {
    name.contains("lora_")
}

fn close(name: &str, got: &TokenLogps, want: &TokenLogps) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() < LOGP, "{name}: {got}, not {want}");
    }
}
