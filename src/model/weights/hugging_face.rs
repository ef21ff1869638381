//! Hugging Face directories: `config.json` and safetensors, in one file or several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::safetensors::MmapedSafetensors;
use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::safetensors_header;
use crate::model::config::{Activation, ModelConfig, RopeScaling};
use crate::model::error::ModelError;
use crate::regular::{self, Links};

/// Bytes of a JSON file that are read; the index of a large model has some hundred kilobytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The safetensors files of a directory, mapped into memory.
pub struct SafetensorsFiles {
    mapped: MmapedSafetensors,
}

impl std::fmt::Debug for SafetensorsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafetensorsFiles").finish_non_exhaustive()
    }
}

impl SafetensorsFiles {
    /// Maps the files that [`weight_files`] names.
    ///
    /// # Errors
    /// A file that is not safetensors or is truncated.
    pub fn open(files: &[PathBuf]) -> Result<Self, ModelError> {
        for path in files {
            let unreadable = |source| ModelError::Io {
                path: path.clone(),
                source,
            };
            let (mut file, length) = regular::open(path, Links::Follow).map_err(unreadable)?;
            safetensors_header::check(&mut file, length).map_err(|why| {
                ModelError::Weights(format!("{} is not safetensors: {why}", path.display()))
            })?;
        }
        // SAFETY: mapped files must not change while they are mapped. The mapping lives while the
        // decoder is built and no longer; README says that model files are not edited in place.
        #[expect(unsafe_code, reason = "memory-mapped files have no safe constructor")]
        let mapped = unsafe { MmapedSafetensors::multi(files) };
        let mapped = mapped.map_err(|e| {
            let names: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
            ModelError::Weights(format!("{} cannot be read: {e}", names.join(", ")))
        })?;
        Ok(Self { mapped })
    }

    pub(super) fn tensor_names(&self) -> BTreeSet<String> {
        self.mapped
            .tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        Ok(self.mapped.get(name)?.shape().to_vec())
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        Ok(self.mapped.load(name, &Device::Cpu)?)
    }
}

/// The weight files of a directory: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// # Errors
/// Neither is there, the index is malformed or names a file outside the directory.
pub fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = directory.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index_path = directory.join("model.safetensors.index.json");
    if !index_path.is_file() {
        return Err(ModelError::Weights(format!(
            "{} has neither model.safetensors nor model.safetensors.index.json (pickles such as pytorch_model.bin are not read)",
            directory.display()
        )));
    }
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = read_json(&index_path)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let plain = |name: &String| Path::new(name).components().count() == 1 && !name.contains("..");
    if let Some(name) = names.iter().find(|n| !plain(n)) {
        return Err(ModelError::Weights(format!(
            "{}: bad file name {name:?}",
            index_path.display()
        )));
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// `config.json`, the fields that decide what the decoder computes.
#[derive(Debug, Deserialize)]
struct ConfigJson {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeJson>,
    rope_local_base_freq: Option<f64>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f64>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    tie_word_embeddings: Option<bool>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct RopeJson {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

/// Reads `config.json`.
///
/// # Errors
/// A family or a feature that the decoder does not have, by name.
pub fn read_config(directory: &Path) -> Result<ModelConfig, ModelError> {
    let path = directory.join("config.json");
    let json: ConfigJson = read_json(&path)?;
    let unsupported = |what: String| Err(ModelError::Config(format!("{}: {what}", path.display())));
    let family = match json.model_type.as_str() {
        known @ ("llama" | "qwen2" | "qwen3" | "mistral") => known,
        "gemma3_text" => "gemma3",
        other => {
            return unsupported(format!(
                "model_type {other:?} is not supported (llama, qwen2, qwen3, mistral and gemma3_text are)"
            ))
        }
    };
    if json.attn_logit_softcapping.is_some() || json.final_logit_softcapping.is_some() {
        return unsupported("logit soft-capping is not supported".into());
    }
    if json.mlp_bias == Some(true) || (json.attention_bias == Some(true) && family != "qwen2") {
        return unsupported("attention_bias and mlp_bias are not supported".into());
    }
    let gemma = family == "gemma3";
    let n_heads = json.num_attention_heads;
    let head_dim = json.head_dim.unwrap_or(json.hidden_size / n_heads.max(1));
    let scalar = json.query_pre_attn_scalar.unwrap_or(head_dim as f64);
    let config = ModelConfig {
        family: family.to_owned(),
        hidden_size: json.hidden_size,
        intermediate_size: json.intermediate_size,
        n_layers: json.num_hidden_layers,
        n_heads,
        n_kv_heads: json.num_key_value_heads.unwrap_or(n_heads),
        head_dim,
        vocab_size: json.vocab_size,
        max_positions: json.max_position_embeddings,
        norm_eps: json.rms_norm_eps,
        rope_base: json.rope_theta.unwrap_or(if gemma { 1e6 } else { 1e4 }),
        rope_scaling: rope_scaling(json.rope_scaling.as_ref())?,
        local_rope_base: gemma.then(|| json.rope_local_base_freq.unwrap_or(1e4)),
        sliding_window: sliding_windows(&json, gemma),
        attention_scale: 1.0 / scalar.sqrt(),
        qkv_bias: family == "qwen2",
        qk_norm: matches!(family, "qwen3" | "gemma3"),
        norm_plus_one: gemma,
        sandwich_norm: gemma,
        embedding_scale: gemma.then(|| (json.hidden_size as f64).sqrt()),
        activation: activation(&json)?,
        tied_embeddings: json.tie_word_embeddings.unwrap_or(gemma),
    };
    config.validate()?;
    Ok(config)
}

fn activation(json: &ConfigJson) -> Result<Activation, ModelError> {
    match json
        .hidden_activation
        .as_deref()
        .or(json.hidden_act.as_deref())
    {
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        other => Err(ModelError::Config(format!(
            "activation {other:?} is not supported"
        ))),
    }
}

fn sliding_windows(json: &ConfigJson, gemma: bool) -> Vec<Option<usize>> {
    let layers = 0..json.num_hidden_layers.min(1 << 12);
    let Some(window) = json
        .sliding_window
        .filter(|_| json.use_sliding_window != Some(false))
    else {
        return layers.map(|_| None).collect();
    };
    let pattern = json.sliding_window_pattern.unwrap_or(6).max(1);
    // Qwen counts the layers that see everything from the bottom.
    let first = if json.use_sliding_window.is_some() {
        json.max_window_layers.unwrap_or(0)
    } else {
        0
    };
    let windowed = |layer: usize| match &json.layer_types {
        Some(types) => types.get(layer).is_some_and(|t| t == "sliding_attention"),
        None if gemma => !(layer + 1).is_multiple_of(pattern),
        None => layer >= first,
    };
    layers
        .map(|layer| windowed(layer).then_some(window))
        .collect()
}

fn rope_scaling(json: Option<&RopeJson>) -> Result<RopeScaling, ModelError> {
    let Some(json) = json else {
        return Ok(RopeScaling::None);
    };
    let need = |value: Option<f64>, name: &str| {
        value.ok_or_else(|| ModelError::Config(format!("rope_scaling.{name} is missing")))
    };
    match json.rope_type.as_deref() {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: need(json.factor, "factor")?,
        }),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: need(json.factor, "factor")?,
            low_freq_factor: need(json.low_freq_factor, "low_freq_factor")?,
            high_freq_factor: need(json.high_freq_factor, "high_freq_factor")?,
            original_max_positions: json.original_max_position_embeddings.unwrap_or(8192),
        }),
        Some(other) => Err(ModelError::Config(format!(
            "rope_scaling type {other:?} is not supported"
        ))),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let read = regular::read(path, MAX_JSON_BYTES, Links::Follow);
    let text = read.map_err(|source| ModelError::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text)
        .map_err(|e| ModelError::Config(format!("{} is malformed: {e}", path.display())))
}
