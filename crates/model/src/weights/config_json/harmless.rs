//! Keys that cannot change logits, and how to tell the others.

use serde_json::Value;

/// Keys of transformers 4 and 5 and of the tools around it that say nothing about what is computed: where a
/// model comes from, how it was trained, how text is generated from it.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token",
    "cache_implementation",
    "chunk_size_feed_forward",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "flash_attention",
    "flash_attn",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "initializer_factor",
    // SmolLM2: where its configuration came from.
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "model_name",
    "n_ctx",
    "n_positions",
    "neftune_noise_alpha",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token",
    "prefix",
    // How a product is cut into parts, not what it is.
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "seq_length",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "tokenizer_model_max_length",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
];

/// Beginnings, ends and parts of names that are as harmless.
const HARMLESS_PREFIXES: &[&str] = &["unsloth_", "_unsloth"];
const HARMLESS_SUFFIXES: &[&str] = &["_token_id", "_token_ids", "_token_index"];
/// Of training; nothing is dropped when an answer is computed.
const DROPOUT: &[&str] = &["dropout", "pdrop", "layerdrop"];

/// What is in the name of a key that has a say in what is computed.
const COMPUTING: &[&str] = &[
    "act_fn",
    "activation",
    "adapter",
    "alibi",
    "attention",
    "attn",
    "bias",
    "bidirectional",
    "bits",
    "causal",
    "chunk",
    "clip",
    "conv",
    "depth",
    "dim",
    "embed",
    "eps",
    "expert",
    "factor",
    "ffn",
    "freq",
    "gate",
    "head",
    "hidden",
    "intermediate",
    "kv",
    "layer",
    "logit",
    "lora",
    "mask",
    "mlp",
    "moe",
    "mtp",
    "mult",
    "nextn",
    "norm",
    "position",
    "qk",
    "quant",
    "residual",
    "rope",
    "rotary",
    "router",
    "scal",
    "shared",
    "sink",
    "skip",
    "slid",
    "softcap",
    "softmax",
    "sparse",
    "ssm",
    "theta",
    "tied",
    "tie_",
    "tying",
    "window",
];

/// Flags that are on where nothing is said: off is what changes something.
const ON_BY_DEFAULT: &[&str] = &[
    "causal",
    "is_causal",
    "rope",
    "scale_attn_weights",
    "use_causal_mask",
    "use_rope",
    "use_rotary",
    "use_rotary_embeddings",
];

/// Numbers that multiply something, and are not 1 / sqrt(head_dim) by another name.
const FACTORS: &[&str] = &[
    "embedding_multiplier",
    "embedding_scale",
    "lm_head_multiplier",
    "logit_scale",
    "logits_scaling",
    "partial_rotary_factor",
    "residual_multiplier",
    "residual_scale",
    "rope_scaling_factor",
    "rotary_percent",
    "rotary_pct",
    "scale_emb",
];

/// Whether a key has no say, whatever its value.
pub(super) fn is_harmless(key: &str) -> bool {
    HARMLESS.contains(&key)
        || HARMLESS_PREFIXES.iter().any(|p| key.starts_with(p))
        || HARMLESS_SUFFIXES.iter().any(|s| key.ends_with(s))
        || DROPOUT.iter().any(|part| key.contains(part))
}

/// Whether a value is what a model without this key has: null, off, empty, none of something, times 1.
pub(super) fn asks_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => *on == ON_BY_DEFAULT.contains(&key),
        Value::Number(n) => match n.as_f64() {
            Some(1.0) => FACTORS.contains(&key),
            Some(0.0) => key.starts_with("num_") || key.starts_with("n_") || key.ends_with("_size"),
            _ => false,
        },
        Value::String(text) => {
            text.is_empty()
                || (key == "position_embedding_type" && matches!(text.as_str(), "rope" | "rotary"))
                // Falcon 3: the shape of its layers, whose hidden_act is beside it.
                || (key == "activation" && text == "swiglu")
        }
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// Whether a key that nobody knows could change logits, by its name.
pub(super) fn speaks_of_computing(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    COMPUTING.iter().any(|word| key.contains(word))
}

/// A value for a message.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
