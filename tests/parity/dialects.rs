//! `config.json` in the dialects of transformers 4 and 5, and as people keep it: the logits of transformers.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::Value;

use crate::common::{ids_of, load, slack, tokens, Solo};

const LOGITS: f32 = 2e-4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialects")
}

/// A model of its family's weights with the case's configuration.
fn logits(config: &Value, ids: &[u32]) -> Tensor {
    let directory = tempfile::tempdir().unwrap();
    let family = config["model_type"].as_str().unwrap();
    let weights = folder().join(format!("{family}.safetensors"));
    fs::copy(weights, directory.path().join("model.safetensors")).unwrap();
    let tied = config["tie_word_embeddings"].as_bool() == Some(true);
    if tied {
        without_head(&directory.path().join("model.safetensors"));
    }
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    Solo::new(&load(directory.path()), 64, None).feed(&tokens(ids))
}

fn without_head(file: &Path) {
    let mut tensors = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
    tensors.remove("lm_head.weight");
    fs::remove_file(file).unwrap();
    candle_core::safetensors::save(&tensors, file).unwrap();
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let apart = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    apart.to_scalar().unwrap()
}

#[test]
fn every_dialect_has_the_logits_of_transformers() {
    let cases: Value =
        serde_json::from_slice(&fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let wanted = folder().join("logits.safetensors");
    let wanted = candle_core::safetensors::load(wanted, &candle_core::Device::Cpu).unwrap();
    let ids = ids_of(&cases["ids"]);
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), wanted.len());
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let apart = distance(&logits(&case["config"], &ids), &wanted[name]);
        if apart > LOGITS * slack() as f32 {
            wrong.push(format!("{name}: {apart}"));
        }
    }
    assert!(wrong.is_empty(), "logits differ: {wrong:#?}");
}

/// The cases could not tell a reader that ignores what they are about.
#[test]
fn what_the_dialects_say_changes_logits() {
    let wanted = folder().join("logits.safetensors");
    let wanted = candle_core::safetensors::load(wanted, &candle_core::Device::Cpu).unwrap();
    for (one, other) in [
        ("llama-5", "llama-defaults"),
        ("llama-3.1-in-5", "llama-5"),
        ("llama-linear-in-5", "llama-defaults"),
        ("llama-yarn", "llama-defaults"),
        ("llama-yarn-mscale", "llama-yarn"),
        ("llama-yarn-attention-factor", "llama-yarn"),
        ("llama-tied", "llama-defaults"),
        ("mistral-window", "mistral-no-window"),
        ("mistral-5", "mistral-window"),
        ("qwen2-window-switched-on", "qwen2-window-without-switch"),
        ("qwen2-layer-types", "qwen2-window-switched-on"),
        ("qwen2-5", "qwen2-window-without-switch"),
        ("qwen3-5", "qwen3-window-without-switch"),
        ("qwen3-yarn", "qwen3-window-without-switch"),
        ("gemma3-5", "gemma3-5-other-bases"),
        ("gemma3-4", "gemma3-4-linear"),
        ("gemma3-4", "gemma3-defaults"),
    ] {
        let apart = distance(&wanted[one], &wanted[other]);
        assert!(apart > 1e-2, "{one} and {other} are {apart} apart");
    }
    assert_eq!(
        distance(&wanted["llama-left-over-window"], &wanted["llama-dynamic"]),
        0.0
    );
}
