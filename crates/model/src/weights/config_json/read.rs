//! `config.json` becomes a [`ModelConfig`].

use std::path::Path;

use serde_json::{Map, Value};

use super::families::{family, Family, Kind, MODEL_TYPES};
use super::keys::Keys;
use super::{kinds, rope, windows};
use crate::config::{Activation, ModelConfig};
use crate::error::ModelError;
use crate::weights::hugging_face::read_json;

/// Layers that are read at most; the largest models have some hundred.
const MAX_LAYERS: usize = 1 << 12;

/// Reads `config.json` of a directory.
///
/// # Errors
/// A family or a feature that the decoder does not have, by name, or values that contradict each other.
pub fn read_config(directory: &Path) -> Result<ModelConfig, ModelError> {
    let path = directory.join("config.json");
    let json: Map<String, Value> = read_json(&path)?;
    let refused = |what: String| ModelError::Config(format!("{}: {what}", path.display()));
    let (config, unknown) = config(json).map_err(refused)?;
    config.validate()?;
    if !unknown.is_empty() {
        tracing::warn!(
            file = %path.display(),
            keys = unknown.join(", "),
            "keys that this kind of model does not read are ignored"
        );
    }
    Ok(config)
}

/// The configuration, and the keys that were passed over.
pub(super) fn config(json: Map<String, Value>) -> Result<(ModelConfig, Vec<String>), String> {
    let model_type = json.get("model_type").and_then(Value::as_str);
    let model_type = model_type
        .ok_or("model_type is missing: it says which kind of model this is")?
        .to_owned();
    kinds::check(&json, &model_type)?;
    let family = family(&model_type)
        .ok_or_else(|| format!("model_type {model_type:?} is not supported ({MODEL_TYPES} are)"))?;
    let mut keys = Keys::new(json);
    keys.drop("model_type");
    refuse_what_is_missing_here(&mut keys, family)?;
    let config = shape(&mut keys, family)?;
    let unknown = keys.finish()?;
    Ok((config, unknown))
}

/// Features with a name of their own that the decoder does not have.
fn refuse_what_is_missing_here(keys: &mut Keys, family: &Family) -> Result<(), String> {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if keys.number(key)?.is_some_and(|cap| cap != 0.0) {
            return Err(format!("{key}: logit soft-capping is not supported"));
        }
    }
    // Qwen2 has biases on q, k and v whatever its file says.
    let biases: &[&str] = match family.kind {
        Kind::Qwen2 => &["mlp_bias"],
        _ => &["attention_bias", "mlp_bias"],
    };
    if family.kind == Kind::Qwen2 {
        keys.unread("attention_bias");
    }
    for key in biases {
        if keys.flag(key)? == Some(true) {
            return Err(format!("{key}: biases of these layers are not supported"));
        }
    }
    if keys.flag("use_bidirectional_attention")? == Some(true) {
        return Err(
            "use_bidirectional_attention: the model sees what follows, as embedding models do; it cannot answer".into(),
        );
    }
    Ok(())
}

fn shape(keys: &mut Keys, family: &Family) -> Result<ModelConfig, String> {
    let hidden_size = needed(keys, "hidden_size")?;
    let n_layers = needed(keys, "num_hidden_layers")?;
    if n_layers > MAX_LAYERS {
        return Err(format!("num_hidden_layers = {n_layers} is out of range"));
    }
    let n_heads = needed(keys, "num_attention_heads")?;
    // A null is "as many as": the default of transformers is for what is not there.
    let n_kv_heads = match keys.has("num_key_value_heads") {
        true => keys.count("num_key_value_heads")?.unwrap_or(n_heads),
        false => family.n_kv_heads.unwrap_or(n_heads),
    };
    let default_width = family.head_dim.filter(|_| !keys.has("head_dim"));
    let head_dim = keys
        .count("head_dim")?
        .or(default_width)
        .unwrap_or(hidden_size / n_heads.max(1));
    let max_positions = keys
        .count("max_position_embeddings")?
        .unwrap_or(family.max_positions);
    let gemma = family.kind == Kind::Gemma3;
    let ropes = rope::read(keys, family, max_positions)?;
    let reached = match family.kind {
        Kind::Gemma3 => max_positions,
        _ => max_positions.max(rope::reach(&ropes.scaling, max_positions)),
    };
    let max_positions = reached.min(unchunked(keys, family)?);
    Ok(ModelConfig {
        family: family.name.to_owned(),
        hidden_size,
        intermediate_size: needed(keys, "intermediate_size")?,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim,
        vocab_size: needed(keys, "vocab_size")?,
        max_positions,
        norm_eps: norm_eps(keys)?,
        rope_base: ropes.base,
        rope_scaling: ropes.scaling,
        local_rope_base: ropes.local_base,
        sliding_window: windows::read(keys, family, n_layers)?,
        attention_scale: 1.0 / query_scalar(keys, family, head_dim)?.sqrt(),
        qkv_bias: family.kind == Kind::Qwen2,
        qk_norm: matches!(family.kind, Kind::Qwen3 | Kind::Gemma3),
        norm_plus_one: gemma,
        sandwich_norm: gemma,
        embedding_scale: gemma.then(|| (hidden_size as f64).sqrt()),
        activation: activation(keys, family)?,
        tied_embeddings: keys
            .flag("tie_word_embeddings")?
            .unwrap_or(family.tied_embeddings),
    })
}

/// The positions up to which Qwen's files for a million tokens do without chunks of attention, which transformers does not
/// have.
fn unchunked(keys: &mut Keys, family: &Family) -> Result<usize, String> {
    const KEY: &str = "dual_chunk_attention_config";
    if !matches!(family.kind, Kind::Qwen2 | Kind::Qwen3) {
        return Ok(usize::MAX);
    }
    let chunks = keys.unread_object(KEY)?;
    let original = chunks.map(|mut chunks| chunks.count("original_max_position_embeddings"));
    Ok(original.transpose()?.flatten().unwrap_or(usize::MAX))
}

/// RMSNorm's epsilon; other names of it may stand beside it with the same value.
fn norm_eps(keys: &mut Keys) -> Result<f64, String> {
    let eps = keys.positive("rms_norm_eps")?.unwrap_or(1e-6);
    for key in [
        "layer_norm_eps",
        "layer_norm_epsilon",
        "norm_eps",
        "norm_epsilon",
        "rms_norm_epsilon",
    ] {
        if let Some(other) = keys.number(key)?.filter(|other| *other != eps) {
            return Err(format!("{key} = {other} and rms_norm_eps ({eps}) disagree: keep the one that the model was trained with"));
        }
    }
    Ok(eps)
}

/// What scores are divided by the root of.
fn query_scalar(keys: &mut Keys, family: &Family, head_dim: usize) -> Result<f64, String> {
    match family.kind {
        Kind::Gemma3 => Ok(keys.positive("query_pre_attn_scalar")?.unwrap_or(256.0)),
        _ => Ok(head_dim as f64),
    }
}

fn activation(keys: &mut Keys, family: &Family) -> Result<Activation, String> {
    let (key, default) = family.activation;
    // Gemma 3 was first published with the names of both.
    if key == "hidden_activation" {
        keys.unread("hidden_act");
    }
    match keys.text(key)?.as_deref() {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some(other) => Err(format!(
            "{key} {other:?} is not supported (silu and gelu_pytorch_tanh are)"
        )),
    }
}

fn needed(keys: &mut Keys, key: &str) -> Result<usize, String> {
    keys.count(key)?.ok_or_else(|| format!("{key} is missing"))
}
