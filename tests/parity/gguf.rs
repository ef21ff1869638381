//! Every kind of GGUF block against the same values as safetensors: the very same logits.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::GgmlDType;
use serde_json::json;

use crate::common::gguf::{
    random_llama, write_gguf, write_gguf_with, write_safetensors, write_safetensors_with,
};
use crate::common::{load, tokens, Solo};

const KINDS: [GgmlDType; 11] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

#[test]
fn every_kind_of_block_gives_the_logits_of_its_values() {
    let tensors = random_llama(1);
    let prompt = tokens(&[3, 94, 0, 17, 17, 60, 2, 93, 31]);
    let mut seen = Vec::new();
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.gguf");
        write_gguf(&file, &tensors, kind);
        write_safetensors(directory.path(), &tensors, kind);
        let logits = |path| {
            let decoder = load(path);
            let logits = Solo::new(&decoder, 64, None).feed(&prompt);
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (of_file, of_values) = (logits(&file), logits(directory.path()));
        assert_eq!(of_file, of_values, "{kind:?}");
        // Each kind rounds in its own way: a kind that was not used would repeat another's.
        assert!(!seen.contains(&of_file), "{kind:?} changes nothing");
        seen.push(of_file);
    }
}

/// Positions that are scaled: by the names of llama.cpp and of Hugging Face. That llama.cpp scales linearly where no
/// type is said, and reads the older name of the factor, is in `llama_model::load_hparams`.
#[test]
fn scaled_positions_are_the_same_in_both_formats() {
    let tensors = random_llama(2);
    let prompt = tokens(&(0..40).map(|i| i * 7 % 90).collect::<Vec<u32>>());
    let logits = |path: &Path| {
        let decoder = load(path);
        let logits = Solo::new(&decoder, 64, None).feed(&prompt);
        logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("model.gguf");
    write_gguf(&file, &tensors, GgmlDType::F32);
    let plain = logits(&file);
    let (factor, older) = ("llama.rope.scaling.factor", "llama.rope.scale_linear");
    let linear = json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}});
    let yarn = json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}});
    let kind = |kind: &str| ("llama.rope.scaling.type", Value::String(kind.into()));
    for (metadata, config) in [
        (vec![(older, Value::F32(2.0))], &linear),
        (vec![(factor, Value::F32(2.0))], &linear),
        (vec![kind("linear"), (factor, Value::F32(2.0))], &linear),
        (
            vec![
                kind("yarn"),
                (factor, Value::F32(2.0)),
                ("llama.rope.scaling.original_context_length", Value::U32(32)),
            ],
            &yarn,
        ),
    ] {
        write_gguf_with(&file, &tensors, GgmlDType::F32, &metadata);
        write_safetensors_with(directory.path(), &tensors, GgmlDType::F32, config);
        let of_file = logits(&file);
        assert_eq!(of_file, logits(directory.path()), "{metadata:?}");
        assert_ne!(of_file, plain, "{metadata:?}");
    }
}
