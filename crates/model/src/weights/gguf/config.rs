//! Metadata becomes a [`ModelConfig`].

use candle_core::quantized::gguf_file::Value;

use super::file::GgufFile;
use super::keys::Keys;
use super::names::ROPE_FACTORS;
use super::rope;
use crate::config::{Activation, ModelConfig, RopeScaling};
use crate::error::ModelError;

const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma3", "mistral"];
/// Blocks that are read at most; the largest models have some hundred.
const MAX_BLOCKS: usize = 1 << 12;
/// Gemma 3: each layer of this number sees everything.
const GEMMA_PATTERN: usize = 6;
/// Blocks of Gemma 3 27B, which llama.cpp knows by them: its scores have a scale of their own.
const GEMMA_27B_BLOCKS: usize = 62;

impl GgufFile {
    /// The configuration that the metadata describes.
    ///
    /// # Errors
    /// A family that the decoder does not know, a key that is missing, ill-typed or asks for what the decoder
    /// does not have, by name.
    pub fn config(&mut self) -> Result<ModelConfig, ModelError> {
        let factors = match self.has(ROPE_FACTORS) {
            true => Some(self.tensor(ROPE_FACTORS)?.flatten_all()?.to_vec1::<f32>()?),
            false => None,
        };
        let (config, unread) = self.described(factors).map_err(ModelError::Config)?;
        config.validate()?;
        if !unread.is_empty() {
            tracing::warn!(
                file = %self.path().display(),
                keys = unread.join(", "),
                "keys that this architecture does not read are ignored"
            );
        }
        if matches!(config.family.as_str(), "llama" | "mistral") {
            self.interleaved = Some((config.n_heads, config.n_kv_heads));
        }
        Ok(config)
    }

    fn described(&self, factors: Option<Vec<f32>>) -> Result<(ModelConfig, Vec<String>), String> {
        self.check_type()?;
        let family = match self.metadata("general.architecture") {
            Some(Value::String(family)) => family.as_str(),
            Some(_) => return Err("GGUF key general.architecture is not a string".into()),
            None => return Err("GGUF key general.architecture is missing".into()),
        };
        if !ARCHITECTURES.contains(&family) {
            return Err(format!(
                "GGUF architecture {family:?} is not supported (llama, qwen2, qwen3, mistral and gemma3 are)"
            ));
        }
        let mut keys = Keys::new(self.all_metadata(), family);
        let config = self.decoder(&mut keys, family, factors)?;
        Ok((config, keys.finish()?))
    }

    /// What else comes as GGUF than models.
    fn check_type(&self) -> Result<(), String> {
        let text = |key: &str| match self.metadata(key) {
            Some(Value::String(text)) => text.as_str(),
            _ => "",
        };
        let (kind, architecture) = (text("general.type"), text("general.architecture"));
        let (what, instead) = match (kind, architecture) {
            ("mmproj", _) | (_, "clip") => (
                "the part of a multimodal model that reads images",
                "the other file, which has the text model",
            ),
            ("adapter", _) => (
                "a LoRA adapter",
                "the base model's file, and import the adapter from its PEFT folder",
            ),
            ("model" | "", _) => return Ok(()),
            _ => ("not a model", "the model's file"),
        };
        Err(format!(
            "general.type is {kind:?}: this file is {what}; give {instead}"
        ))
    }

    fn decoder(
        &self,
        keys: &mut Keys,
        family: &str,
        factors: Option<Vec<f32>>,
    ) -> Result<ModelConfig, String> {
        let gemma = family == "gemma3";
        let hidden_size = needed(keys, "embedding_length")?;
        let n_layers = needed(keys, "block_count")?;
        if n_layers > MAX_BLOCKS {
            return Err(format!(
                "{} = {n_layers} is out of range",
                keys.name("block_count")
            ));
        }
        let n_heads = needed(keys, "attention.head_count")?;
        let n_kv_heads = keys.count("attention.head_count_kv")?.unwrap_or(n_heads);
        let head_dim = head_dim(keys, hidden_size / n_heads.max(1))?;
        let max_positions = needed(keys, "context_length")?;
        let scale = match gemma && n_layers == GEMMA_27B_BLOCKS {
            true => (hidden_size / n_heads.max(1)) as f64,
            false => head_dim as f64,
        };
        let eps = keys.number("attention.layer_norm_rms_epsilon")?;
        Ok(ModelConfig {
            hidden_size,
            intermediate_size: needed(keys, "feed_forward_length")?,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            vocab_size: self.vocab_size()?,
            max_positions,
            norm_eps: eps.ok_or_else(|| missing(keys, "attention.layer_norm_rms_epsilon"))?,
            rope_base: keys.number("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: rope_scaling(keys, factors, (head_dim, max_positions))?,
            local_rope_base: match gemma {
                true => Some(keys.number("rope.freq_base_swa")?.unwrap_or(10_000.0)),
                false => None,
            },
            sliding_window: windows(keys, family, n_layers)?,
            attention_scale: 1.0 / scale.sqrt(),
            qkv_bias: self.has("model.layers.0.self_attn.q_proj.bias"),
            qk_norm: self.has("model.layers.0.self_attn.q_norm.weight"),
            // The converter has added the 1.
            norm_plus_one: false,
            sandwich_norm: gemma,
            embedding_scale: gemma.then(|| (hidden_size as f64).sqrt()),
            activation: match gemma {
                true => Activation::GeluTanh,
                false => Activation::Silu,
            },
            tied_embeddings: !self.has("lm_head.weight"),
            family: family.to_owned(),
        })
    }

    fn vocab_size(&self) -> Result<usize, String> {
        let shape = self.shape_of("model.embed_tokens.weight");
        shape
            .and_then(|shape| shape.first().copied())
            .ok_or_else(|| "tensor token_embd.weight is missing".into())
    }
}

/// The width of heads; values are as wide as keys, and all of a head is rotated.
fn head_dim(keys: &mut Keys, usual: usize) -> Result<usize, String> {
    let head_dim = keys.count("attention.key_length")?.unwrap_or(usual);
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = keys.count(key)?.filter(|other| *other != head_dim) {
            return Err(format!(
                "GGUF key {} = {other} is not supported: heads are {head_dim} wide",
                keys.name(key)
            ));
        }
    }
    Ok(head_dim)
}

fn rope_scaling(
    keys: &mut Keys,
    factors: Option<Vec<f32>>,
    (head_dim, max_positions): (usize, usize),
) -> Result<RopeScaling, String> {
    if let Some(wrong) = factors.as_ref().filter(|f| f.len() != head_dim / 2) {
        return Err(format!(
            "{ROPE_FACTORS} has {} factors, and heads have {} frequencies",
            wrong.len(),
            head_dim / 2
        ));
    }
    rope::scaling(keys, factors, max_positions)
}

/// What each layer sees. llama.cpp has windows in Gemma 3 alone; Mistral's are those of its own files.
fn windows(keys: &mut Keys, family: &str, n_layers: usize) -> Result<Vec<Option<usize>>, String> {
    const WINDOW: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    if !matches!(family, "gemma3" | "mistral") {
        keys.unread(WINDOW);
        keys.unread(PATTERN);
        return Ok(vec![None; n_layers]);
    }
    let window = keys.count(WINDOW)?.filter(|window| *window > 0);
    if family == "mistral" {
        return Ok(vec![window; n_layers]);
    }
    let every = |n: usize| (0..n_layers).map(|i| !(i + 1).is_multiple_of(n)).collect();
    let windowed: Vec<bool> = match keys.take(PATTERN) {
        None => every(GEMMA_PATTERN),
        Some(pattern) => {
            let wrong = || {
                format!(
                    "GGUF key {} is neither a count nor one flag per block",
                    keys.name(PATTERN)
                )
            };
            match pattern {
                Value::Array(flags) if flags.len() == n_layers => {
                    let flags: Option<_> = flags.iter().map(|flag| flag.to_bool().ok()).collect();
                    flags.ok_or_else(wrong)?
                }
                one => match super::keys::integer(one) {
                    // 0: all have it.
                    Some(0) => vec![true; n_layers],
                    Some(n) => every(usize::try_from(n).map_err(|_| wrong())?),
                    None => return Err(wrong()),
                },
            }
        }
    };
    Ok(windowed
        .into_iter()
        .map(|on| window.filter(|_| on))
        .collect())
}

fn needed(keys: &mut Keys, key: &str) -> Result<usize, String> {
    keys.count(key)?.ok_or_else(|| missing(keys, key))
}

fn missing(keys: &Keys, key: &str) -> String {
    format!("GGUF key {} is missing", keys.name(key))
}
