//! Files as people have them, and what becomes of each.

use serde_json::{json, Value};

use super::read_config;
use crate::config::ModelConfig;

mod rope;
mod windows;

/// The smallest file of a family, with `changes` to it; `"-"` takes a key away.
fn file(model_type: &str, changes: &Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "vocab_size": 128, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    });
    for (key, value) in changes.as_object().unwrap() {
        match value.as_str() {
            Some("-") => drop(config.as_object_mut().unwrap().remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    config
}

fn read(model_type: &str, changes: Value) -> Result<ModelConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    let config = file(model_type, &changes);
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    read_config(directory.path()).map_err(|e| e.to_string())
}

fn llama(changes: Value) -> ModelConfig {
    read("llama", changes).unwrap()
}

/// Each pair: changes that are refused, and words that the message must have.
fn all_refused(model_type: &str, cases: &[(Value, &[&str])]) {
    for (changes, words) in cases {
        let problem = match read(model_type, changes.clone()) {
            Ok(_) => panic!("{changes} was read"),
            Err(problem) => problem,
        };
        for word in *words {
            assert!(
                problem.contains(word),
                "{changes}: {word} is not in {problem}"
            );
        }
        assert!(
            problem.contains("config.json") || problem.contains("is out of range"),
            "{problem}"
        );
    }
}

#[test]
fn what_is_not_said_is_what_transformers_takes() {
    let bare = json!({"head_dim": "-", "rms_norm_eps": "-", "max_position_embeddings": "-", "num_key_value_heads": "-"});
    let llama = llama(bare.clone());
    assert_eq!(
        (llama.n_kv_heads, llama.head_dim, llama.max_positions),
        (4, 16, 2048)
    );
    assert_eq!(
        (llama.norm_eps, llama.rope_base, llama.tied_embeddings),
        (1e-6, 1e4, false)
    );
    let gemma = read("gemma3_text", bare).unwrap();
    assert_eq!((gemma.n_kv_heads, gemma.head_dim), (4, 256));
    assert_eq!((gemma.rope_base, gemma.local_rope_base), (1e6, Some(1e4)));
    assert_eq!(
        (gemma.attention_scale, gemma.tied_embeddings),
        (1.0 / 16.0, true)
    );
    let qwen = read("qwen3", json!({"head_dim": "-"})).unwrap();
    assert_eq!(qwen.head_dim, 128);
    let null = read(
        "mistral",
        json!({"head_dim": null, "num_key_value_heads": null}),
    )
    .unwrap();
    assert_eq!((null.head_dim, null.n_kv_heads), (16, 4));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn features_that_the_decoder_does_not_have_are_named() {
    for model_type in ["llama", "qwen2", "qwen3", "mistral", "gemma3_text"] {
        let cases: Vec<(Value, &[&str])> = vec![
            (
                json!({"attn_logit_softcapping": 50.0}),
                &["attn_logit_softcapping"],
            ),
            (
                json!({"final_logit_softcapping": 30.0}),
                &["final_logit_softcapping"],
            ),
            (json!({"mlp_bias": true}), &["mlp_bias"]),
            (json!({"attention_out_bias": true}), &["attention_out_bias"]),
            (
                json!({"use_bidirectional_attention": true}),
                &["use_bidirectional_attention"],
            ),
            (json!({"is_causal": false}), &["is_causal"]),
            (json!({"logit_scale": 0.0625}), &["logit_scale"]),
            (json!({"logits_scaling": 8.0}), &["logits_scaling"]),
            (
                json!({"residual_multiplier": 0.22}),
                &["residual_multiplier"],
            ),
            (
                json!({"embedding_multiplier": 12.0}),
                &["embedding_multiplier"],
            ),
            (
                json!({"attention_multiplier": 1.0}),
                &["attention_multiplier"],
            ),
            (json!({"clip_qkv": 8.0}), &["clip_qkv"]),
            (json!({"no_rope_layers": [1, 1, 1, 0]}), &["no_rope_layers"]),
            (
                json!({"no_rope_layer_interval": 4}),
                &["no_rope_layer_interval"],
            ),
            (json!({"num_experts": 8}), &["num_experts"]),
            (json!({"num_local_experts": 8}), &["num_local_experts"]),
            (
                json!({"attention_chunk_size": 8192}),
                &["attention_chunk_size"],
            ),
            (json!({"use_rope": false}), &["use_rope"]),
            (json!({"rotary_pct": 0.25}), &["rotary_pct"]),
            (json!({"norm_eps": 1e-3}), &["norm_eps", "rms_norm_eps"]),
            (json!({"my_attention_trick": "on"}), &["my_attention_trick"]),
            (
                json!({"intermediate_size": [96, 96, 64, 64]}),
                &["intermediate_size", "per layer"],
            ),
            (
                json!({"num_key_value_heads": [2, 1, 2, 1]}),
                &["num_key_value_heads", "per layer"],
            ),
            (json!({"rms_norm_eps": 0}), &["rms_norm_eps"]),
            (json!({"hidden_size": "64"}), &["hidden_size"]),
            (json!({"hidden_size": "-"}), &["hidden_size is missing"]),
            (
                json!({"num_hidden_layers": 4_000_000}),
                &["num_hidden_layers"],
            ),
            (
                json!({"tie_word_embeddings": "yes"}),
                &["tie_word_embeddings"],
            ),
        ];
        all_refused(model_type, &cases);
    }
    all_refused(
        "llama",
        &[
            (json!({"attention_bias": true}), &["attention_bias"]),
            (json!({"hidden_act": "relu2"}), &["hidden_act", "relu2"]),
            (
                json!({"query_pre_attn_scalar": 12}),
                &["query_pre_attn_scalar"],
            ),
            (json!({"model_type": "-"}), &["model_type is missing"]),
            (json!({"model_type": "rwkv"}), &["rwkv", "llama, qwen2"]),
            (
                json!({"architectures": ["LlamaForSequenceClassification"]}),
                &["LlamaForSequenceClassification"],
            ),
        ],
    );
}

#[test]
fn quantized_and_multimodal_models_are_called_by_their_name() {
    all_refused(
        "llama",
        &[
            (
                json!({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}),
                &["quantization_config", "gptq, 4 bits", "GGUF"],
            ),
            (
                json!({"quantization_config": {"quant_method": "awq", "bits": 4}}),
                &["quantization_config", "awq"],
            ),
            (
                json!({"quantization_config": {"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}}),
                &["quantization_config", "bitsandbytes"],
            ),
            (
                json!({"quantization_config": {"quant_method": "fp8"}}),
                &["quantization_config", "fp8"],
            ),
            (
                json!({"quantization_config": {"bits": 4}}),
                &["quantization_config", "4 bits"],
            ),
            (
                json!({"quantization": {"group_size": 64, "bits": 4}}),
                &["quantization", "mlx"],
            ),
            (
                json!({"compression_config": {"quant_method": "compressed-tensors"}}),
                &["compression_config", "compressed-tensors"],
            ),
        ],
    );
    let gemma = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"model_type": "gemma3_text"},
        "vision_config": {"hidden_size": 1152}, "hidden_size": "-", "vocab_size": "-",
    });
    all_refused(
        "gemma3",
        &[(
            gemma,
            &["gemma3", "multimodal", "Gemma3ForCausalLM", "GGUF"],
        )],
    );
    all_refused(
        "qwen2_5_vl",
        &[(
            json!({"vision_config": {"depth": 32}}),
            &["qwen2_5_vl", "multimodal", "vision_config"],
        )],
    );
    all_refused(
        "llava",
        &[(
            json!({"text_config": {"model_type": "llama"}}),
            &["llava", "multimodal"],
        )],
    );
    llama(json!({"quantization_config": null, "vision_config": null}));
}

/// Keys as trainers, converters and old versions leave them.
#[test]
fn what_cannot_change_logits_is_accepted() {
    let plain = llama(json!({}));
    let clutter = json!({
        "architectures": ["LlamaForCausalLM"], "_name_or_path": "x", "torch_dtype": "bfloat16", "dtype": "bfloat16",
        "transformers_version": "5.24.0", "use_cache": true, "pretraining_tp": 1, "initializer_range": 0.02,
        "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": null, "unk_token_id": 0, "attention_dropout": 0.1, "hidden_dropout_prob": 0.1,
        "attention_bias": false, "mlp_bias": false, "rope_interleaved": false, "is_llama_config": true,
        "unsloth_version": "2025.1", "unsloth_fixed": true, "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
        "auto_map": {"AutoModelForCausalLM": "modeling.LlamaForCausalLM"}, "neftune_noise_alpha": 5,
        "output_attentions": false, "chunk_size_feed_forward": 0, "pruned_heads": {}, "tie_encoder_decoder": false,
        "is_encoder_decoder": false, "cross_attention_hidden_size": null, "id2label": {"0": "LABEL_0"},
        "_attn_implementation_autoset": true, "logit_scale": 1.0, "partial_rotary_factor": 1.0, "num_experts": 0,
        "attn_logit_softcapping": null, "final_logit_softcapping": null, "position_embedding_type": "rope",
        "layer_norm_eps": 1e-6, "max_sequence_length": 4096, "my_note": "made on a Tuesday", "my_run": 17,
    });
    assert_eq!(llama(clutter), plain);
    let falcon = json!({"activation": "swiglu", "hidden_act": "silu"});
    assert_eq!(llama(falcon), plain);
    let qwen = read("qwen2", json!({})).unwrap();
    assert_eq!(
        read(
            "qwen2",
            json!({"attention_bias": false, "hidden_act": "silu"})
        )
        .unwrap(),
        qwen
    );
}

/// They are in the log: what is not known, and what transformers does not read in this kind of model.
#[test]
fn what_is_passed_over_is_told() {
    let told = |model_type: &str, changes: Value| {
        let file = file(model_type, &changes);
        let (_, told) = super::read::config(file.as_object().unwrap().clone()).unwrap();
        told
    };
    assert!(told(
        "llama",
        json!({"unsloth_version": "1", "sliding_window": null})
    )
    .is_empty());
    let window = json!({"sliding_window": 8, "use_sliding_window": true, "my_note": 1});
    assert_eq!(
        told("llama", window.clone()),
        ["sliding_window", "use_sliding_window", "my_note"]
    );
    assert_eq!(told("qwen2", window), ["my_note"]);
    let chunks = json!({"dual_chunk_attention_config": {"chunk_size": 8}});
    assert_eq!(told("qwen2", chunks), ["dual_chunk_attention_config"]);
    assert_eq!(
        told("gemma3_text", json!({"hidden_act": "silu"})),
        ["hidden_act"]
    );
}

#[test]
fn a_byte_order_mark_is_not_malformed() {
    let directory = tempfile::tempdir().unwrap();
    let text = "\u{feff}{\"model_type\": \"rwkv\"}";
    std::fs::write(directory.path().join("config.json"), text).unwrap();
    let problem = read_config(directory.path()).unwrap_err().to_string();
    assert!(problem.contains("rwkv"), "{problem}");
}
