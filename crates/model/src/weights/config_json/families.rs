//! What transformers takes where a family's `config.json` says nothing.

use crate::config::Activation;

/// Which families there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma3,
}

/// A family and its defaults.
#[derive(Debug)]
pub(super) struct Family {
    pub kind: Kind,
    /// For people.
    pub name: &'static str,
    /// Where its files name the activation, and which it is if they do not.
    pub activation: (&'static str, Activation),
    /// `None`: as many as query heads.
    pub n_kv_heads: Option<usize>,
    /// `None`: hidden_size / num_attention_heads.
    pub head_dim: Option<usize>,
    pub max_positions: usize,
    pub rope_base: f64,
    pub tied_embeddings: bool,
}

/// The families by `model_type`.
pub(super) fn family(model_type: &str) -> Option<&'static Family> {
    let (_, family) = FAMILIES.iter().find(|(name, _)| *name == model_type)?;
    Some(family)
}

/// The `model_type`s that are read, for people.
pub(super) const MODEL_TYPES: &str = "llama, qwen2, qwen3, mistral and gemma3_text";

const LLAMA: Family = Family {
    kind: Kind::Llama,
    name: "llama",
    activation: ("hidden_act", Activation::Silu),
    n_kv_heads: None,
    head_dim: None,
    max_positions: 2048,
    rope_base: 1e4,
    tied_embeddings: false,
};

/// Class defaults of `configuration_*.py`, the same in transformers 4.57 and 5.24.
const FAMILIES: [(&str, Family); 5] = [
    ("llama", LLAMA),
    (
        "mistral",
        Family {
            kind: Kind::Mistral,
            name: "mistral",
            n_kv_heads: Some(8),
            max_positions: 131_072,
            ..LLAMA
        },
    ),
    (
        "qwen2",
        Family {
            kind: Kind::Qwen2,
            name: "qwen2",
            n_kv_heads: Some(32),
            max_positions: 32_768,
            ..LLAMA
        },
    ),
    (
        "qwen3",
        Family {
            kind: Kind::Qwen3,
            name: "qwen3",
            n_kv_heads: Some(32),
            head_dim: Some(128),
            max_positions: 32_768,
            ..LLAMA
        },
    ),
    (
        "gemma3_text",
        Family {
            kind: Kind::Gemma3,
            name: "gemma3",
            activation: ("hidden_activation", Activation::GeluTanh),
            n_kv_heads: Some(4),
            head_dim: Some(256),
            max_positions: 131_072,
            rope_base: 1e6,
            tied_embeddings: true,
        },
    ),
];
