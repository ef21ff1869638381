//! Normalized and masked training, and the diagnosis of gradients.

use std::fs;

use attune_model::user_model::model::UserModelKind;
use attune_train::entangle::gradients::Probe;
use attune_train::entangle::measure::Case;
use attune_train::learner::{Learner, Row};
use attune_train::mixture::Mixture;
use attune_train::pack::PromptPrefix;
use attune_train::pairs::IdPair;
use attune_train::policy::Activations;
use serde_json::Value;

use crate::common::oracles;
use crate::personal::{base, fresh};
use crate::{never, published, Bench};

const PREFIX: PromptPrefix = PromptPrefix {
    bos: Some(1),
    n_user_tokens: 2,
};

/// A pair that differs in one token, the first or the last, and shares so many others.
fn pair(seed: u32, n_shared: u32, first: bool) -> IdPair {
    let shared: Vec<u32> = (0..n_shared).map(|i| 10 + (i * 7 + seed) % 60).collect();
    let response = |own: u32| match first {
        true => [&[own], &shared[..]].concat(),
        false => [&shared[..], &[own]].concat(),
    };
    IdPair {
        user: 1 + seed as usize % 3,
        prompt: vec![5 + seed % 80, 9, 30 + seed % 7],
        chosen: response(4 + seed % 40),
        rejected: response(50 + seed % 40),
        weight: 1.0,
        reference: [-9.0 - f64::from(n_shared), -8.0 - f64::from(n_shared)],
        kept: None,
        gated: None,
    }
}

/// One SGD step of the learner on one row: what it does to chosen and rejected.
fn changes(pair: &IdPair, normalized: bool) -> [f64; 2] {
    let base = base();
    let mut adapter = fresh(&base, UserModelKind::Individual);
    let learner = Learner {
        decoder: &base.decoder,
        prefix: PREFIX,
        objective: "dpo:beta=0.3".parse().unwrap(),
        mixture: Mixture::INDIVIDUAL,
        normalized,
        mask_cost: 0.0,
        pack_rows: 64,
        activations: Activations::Keep,
    };
    let probe = Probe {
        decoder: &base.decoder,
        prefix: PREFIX,
        activations: Activations::Keep,
    };
    let user = Some(pair.user);
    let logps = |adapter: &_| {
        let policy = probe.policy(adapter).unwrap();
        policy.log_probs(&pair.completions(user)).unwrap()
    };
    let before = logps(&adapter);
    learner
        .learn_rows(&mut adapter, &[Row { pair, user }], None)
        .unwrap();
    let size: f64 = adapter
        .parameters
        .iter()
        .flat_map(|p| &p.gradient)
        .map(|g| f64::from(*g).powi(2))
        .sum();
    for parameter in &mut adapter.parameters {
        let gradient = std::mem::take(&mut parameter.gradient);
        for (value, g) in parameter.values.iter_mut().zip(gradient) {
            // A step of one length, whatever the gradient: small, but above rounding.
            *value -= (0.01 / size.sqrt()) as f32 * g;
        }
    }
    let after = logps(&adapter);
    [after[0] - before[0], after[1] - before[1]]
}

/// What both say pulls chosen down with rejected, or rejected up with chosen; normalized steps move
/// every pair as it is wanted.
#[test]
fn normalized_steps_never_move_a_side_the_wrong_way() {
    let mut entangled = 0;
    for seed in 0..24 {
        let pair = pair(seed, 2 + seed % 9, seed % 2 == 0);
        let [chosen, rejected] = changes(&pair, false);
        entangled += usize::from(chosen < 0.0 || rejected > 0.0);
        let [chosen, rejected] = changes(&pair, true);
        assert!(
            chosen > 0.0 && rejected < 0.0,
            "pair {seed}: {chosen} and {rejected}"
        );
    }
    assert!(
        entangled >= 3,
        "{entangled} plain steps went wrong: nothing is tested"
    );
}

/// What the mask leaves of pairs that differ in one token is that token.
#[test]
fn masked_pairs_are_single_tokens() {
    use attune_train::entangle::mask::Mask;
    for seed in 0..6 {
        let mut pair = pair(seed, 8, true);
        pair.kept = Mask::Lcs.kept(&pair.chosen, &pair.rejected);
        assert_eq!(pair.lengths(), [1, 1]);
        let base = base();
        let mut adapter = fresh(&base, UserModelKind::Individual);
        let probe = Probe {
            decoder: &base.decoder,
            prefix: PREFIX,
            activations: Activations::Recompute,
        };
        let policy = probe.policy(&adapter).unwrap();
        let user = Some(pair.user);
        let masked = probe
            .pair(&policy, &mut adapter, &pair.completions(user))
            .unwrap();
        let short = IdPair {
            chosen: pair.chosen[..1].to_vec(),
            rejected: pair.rejected[..1].to_vec(),
            kept: None,
            ..pair.clone()
        };
        let short = probe
            .pair(&policy, &mut adapter, &short.completions(user))
            .unwrap();
        for side in 0..2 {
            assert!((masked.logps[side] - short.logps[side]).abs() < 1e-5);
            let far = masked.gradients[side].iter().zip(&short.gradients[side]);
            let far = far.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "side {side}: {far}");
        }
    }
}

#[test]
fn a_diagnosed_run_is_the_run_itself_with_more_lines() {
    let bench = Bench::new();
    published(bench.run("plain", &[], &never()));
    published(bench.run("seen", &["--diagnose-gradients", "3"], &never()));
    assert_eq!(
        bench.contents("plain").tensors,
        bench.contents("seen").tensors
    );
    let text = fs::read_to_string(bench.path("seen").join("gradients.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    // Before the first step and with each evaluation, three pairs.
    assert!(
        lines.len() >= 9 && lines.len().is_multiple_of(3),
        "{}",
        lines.len()
    );
    assert_eq!(lines[0]["step"], 0);
    for line in &lines {
        let number = |name: &str, i: usize| line[name][i].as_f64().unwrap();
        let near = |side| (number("predicted", side) - number("realised", side)).abs();
        assert!(near(0) < 2e-3 && near(1) < 2e-3, "{line}");
        assert!(Case::ALL
            .iter()
            .any(|c| serde_json::to_value(c).unwrap() == line["case"]));
    }
    let metrics = fs::read_to_string(bench.path("seen").join("metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"gradients/case_ideal\""));
    let report = fs::read_to_string(bench.path("seen").join("report.html")).unwrap();
    assert!(report.contains("Share of measured pairs"));
    assert!(!bench.path("plain").join("gradients.jsonl").exists());
}

#[test]
fn runs_that_are_normalized_or_masked_are_runs_of_their_own_and_resume() {
    use std::sync::atomic::AtomicBool;
    let bench = Bench::new();
    published(bench.run("plain", &[], &never()));
    for (name, flags) in [
        ("normalized", &["--normalized"][..]),
        ("masked", &["--mask", "lcs"]),
    ] {
        published(bench.run(name, flags, &never()));
        assert_ne!(
            bench.contents(name).tensors,
            bench.contents("plain").tensors,
            "{name}"
        );
        let cut = format!("{name}-cut");
        bench.run(&cut, flags, &AtomicBool::new(true)).unwrap();
        published(bench.run(&cut, &[flags, &["--resume"]].concat(), &never()));
        assert_eq!(
            bench.contents(name).tensors,
            bench.contents(&cut).tensors,
            "{name}"
        );
    }
}

#[test]
fn the_command_says_what_each_loss_does() {
    let bench = Bench::new();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let arguments: Vec<String> = [
        "entangle".to_owned(),
        "--base".to_owned(),
        text(oracles().join("tiny/llama")),
        "--data".to_owned(),
        text(bench.path("pairs.jsonl")),
        "--pairs".to_owned(),
        "6".to_owned(),
        "--heat-maps".to_owned(),
        "2".to_owned(),
        "--out".to_owned(),
        text(bench.path("entangled")),
    ]
    .into();
    let output = bench.command(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", crate::stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("6 pairs;")
            && said.contains("dpo:beta=0.1,label_smoothing=0.0, normalized"),
        "{said}"
    );
    let json = fs::read(bench.path("entangled").join("entangle.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let losses = json.as_array().unwrap();
    assert_eq!(losses.len(), 10);
    for loss in losses {
        let shares = loss["shares"].as_array().unwrap();
        let sum: f64 = shares.iter().map(|s| s[1].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{shares:?}");
        let dpo = loss["loss"].as_str().unwrap().starts_with("dpo:");
        if dpo && loss["normalized"] == true {
            assert_eq!(shares[0][1], 1.0, "normalized DPO is always ideal");
        }
    }
    let map = fs::read_to_string(bench.path("entangled").join("heat-map-1.svg")).unwrap();
    assert!(map.starts_with("<svg"));
    assert!(!bench.path("entangled").join("heat-map-2.svg").exists());
}

#[test]
fn a_learned_mask_is_trained_along_and_not_published() {
    let bench = Bench::new();
    let learned = ["--mask", "learned", "--mask-cost", "0.02"];
    published(bench.run("learned", &learned, &never()));
    published(bench.run("again", &learned, &never()));
    published(bench.run("plain", &[], &never()));
    let tensors = |out: &str| bench.contents(out).tensors;
    assert_eq!(tensors("learned"), tensors("again"));
    assert_ne!(tensors("learned"), tensors("plain"));
    let names = |out: &str| tensors(out).into_keys().collect::<Vec<_>>();
    assert_eq!(names("learned"), names("plain"));
    let mut state = numbers(&bench.path("learned").join("checkpoint.safetensors"));
    let gate = state.remove("value/mask.gate").unwrap();
    assert!(*gate.last().unwrap() < 2.0, "the cost closes it: {gate:?}");
    assert!(gate[..gate.len() - 1].iter().any(|w| *w != 0.0));
    let dear = ["--mask", "learned", "--mask-cost", "5"];
    published(bench.run("dear", &dear, &never()));
    let mut state = numbers(&bench.path("dear").join("checkpoint.safetensors"));
    assert!(state.remove("value/mask.gate").unwrap().last() < gate.last());
}

#[test]
fn a_run_that_measures_gradients_shows_pictures_of_tokens() {
    let bench = Bench::new();
    published(bench.run("run", &["--diagnose-gradients", "2"], &never()));
    assert!(bench.path("run").join("heat-map-0.svg").exists());
    let page = fs::read_to_string(bench.path("run").join("report.html")).unwrap();
    assert!(page.contains("Gradients of single tokens"));
}

/// The tensors of a checkpoint.
fn numbers(path: &std::path::Path) -> std::collections::BTreeMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let values = |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    tensors
        .into_iter()
        .map(|(name, t)| (name, values(t)))
        .collect()
}
