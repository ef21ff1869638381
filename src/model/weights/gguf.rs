//! GGUF files: configuration and tensors.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};

use super::gguf_header;
use crate::model::config::{Activation, ModelConfig, RopeScaling};
use crate::model::error::ModelError;
use crate::regular::{self, Links};

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    content: Content,
    reader: BufReader<File>,
    /// Hugging Face name to the name in the file.
    names: HashMap<String, String>,
    /// Heads of q and k whose rows llama.cpp's converter interleaved (family llama only).
    interleaved: Option<(usize, usize)>,
}

impl GgufFile {
    /// Opens a file and checks that every tensor lies inside it.
    ///
    /// # Errors
    /// A file that is not GGUF, is truncated, or has tensors of an unknown type.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let broken = |what: String| {
            ModelError::Weights(format!(
                "{} is not a readable GGUF file: {what}",
                path.display()
            ))
        };
        let (mut file, length) = regular::open(path, Links::Follow).map_err(unreadable)?;
        gguf_header::check(&mut file).map_err(|e| broken(e.to_string()))?;
        let mut reader = BufReader::new(file);
        std::io::Seek::rewind(&mut reader).map_err(unreadable)?;
        let content = Content::read(&mut reader).map_err(|e| broken(e.to_string()))?;
        for (name, info) in &content.tensor_infos {
            let blocks = info.shape.elem_count() / info.ggml_dtype.block_size();
            let bytes = (blocks * info.ggml_dtype.type_size()) as u64;
            let end = content.tensor_data_offset.checked_add(info.offset);
            if end
                .and_then(|e| e.checked_add(bytes))
                .is_none_or(|e| e > length)
            {
                return Err(broken(format!(
                    "it is truncated: tensor {name} ends beyond the file"
                )));
            }
        }
        let sandwich = content
            .tensor_infos
            .contains_key("blk.0.post_attention_norm.weight");
        let names = content
            .tensor_infos
            .keys()
            .map(|n| (hugging_face_name(n, sandwich), n.clone()));
        Ok(Self {
            path: path.to_owned(),
            names: names.collect(),
            content,
            reader,
            interleaved: None,
        })
    }

    /// A metadata value, by its full key.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// Names of the tensors, as Hugging Face would write them.
    pub(super) fn tensor_names(&self) -> BTreeSet<String> {
        let computed = |name: &String| name.as_str() != ROPE_FACTORS;
        self.names.keys().filter(|n| computed(n)).cloned().collect()
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        let info = self.content.tensor_infos.get(self.stored_name(name)?);
        info.map(|info| info.shape.dims().to_vec())
            .ok_or_else(|| super::missing(name))
    }

    /// A tensor, dequantized.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Tensor, ModelError> {
        let stored = self.stored_name(name)?.to_owned();
        let unreadable = |e: candle_core::Error| {
            ModelError::Weights(format!("tensor {name} of {}: {e}", self.path.display()))
        };
        let tensor = self.content.tensor(&mut self.reader, &stored, &Device::Cpu);
        let tensor = tensor
            .and_then(|t| t.dequantize(&Device::Cpu))
            .map_err(unreadable)?;
        let heads = match (self.interleaved, name) {
            (Some((q, _)), n) if n.contains("q_proj") => q,
            (Some((_, k)), n) if n.contains("k_proj") => k,
            _ => return Ok(tensor),
        };
        Ok(uninterleave(&tensor, heads)?)
    }

    /// What the file calls a tensor.
    fn stored_name(&self, name: &str) -> Result<&str, ModelError> {
        let stored = self.names.get(name);
        stored
            .map(String::as_str)
            .ok_or_else(|| super::missing(name))
    }

    /// The configuration that the metadata describes.
    ///
    /// # Errors
    /// A family that the decoder does not know, or a key that is missing or ill-typed, by name.
    pub fn config(&mut self) -> Result<ModelConfig, ModelError> {
        let family = self.string("general.architecture")?;
        if !["llama", "qwen2", "qwen3", "gemma3", "mistral"].contains(&family.as_str()) {
            return Err(ModelError::Config(format!(
                "GGUF architecture {family:?} is not supported (llama, qwen2, qwen3, mistral and gemma3 are)"
            )));
        }
        let key = |rest: &str| format!("{family}.{rest}");
        let gemma = family == "gemma3";
        let hidden_size = self.integer(&key("embedding_length"))?;
        let n_layers = self.integer(&key("block_count"))?;
        let n_heads = self.integer(&key("attention.head_count"))?;
        let n_kv_heads = self
            .integer(&key("attention.head_count_kv"))
            .unwrap_or(n_heads);
        let head_dim = match self.integer(&key("attention.key_length")) {
            Ok(width) => width,
            Err(_) => hidden_size / n_heads.max(1),
        };
        let window = self
            .integer(&key("attention.sliding_window"))
            .ok()
            .filter(|w| *w > 0);
        // Gemma 3 sees everything on every sixth layer.
        let windowed = |layer: usize| !gemma || !(layer + 1).is_multiple_of(6);
        let config = ModelConfig {
            hidden_size,
            intermediate_size: self.integer(&key("feed_forward_length"))?,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            vocab_size: self.vocab_size()?,
            max_positions: self.integer(&key("context_length"))?,
            norm_eps: self.float(&key("attention.layer_norm_rms_epsilon"))?,
            rope_base: self.float(&key("rope.freq_base")).unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(&family)?,
            local_rope_base: gemma.then_some(10_000.0),
            sliding_window: (0..n_layers.min(1 << 12))
                .map(|l| window.filter(|_| windowed(l)))
                .collect(),
            attention_scale: 1.0 / (head_dim as f64).sqrt(),
            qkv_bias: self
                .names
                .contains_key("model.layers.0.self_attn.q_proj.bias"),
            qk_norm: self
                .names
                .contains_key("model.layers.0.self_attn.q_norm.weight"),
            // The converter has added the 1.
            norm_plus_one: false,
            sandwich_norm: gemma,
            embedding_scale: gemma.then(|| (hidden_size as f64).sqrt()),
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            tied_embeddings: !self.names.contains_key("lm_head.weight"),
            family,
        };
        config.validate()?;
        if matches!(config.family.as_str(), "llama" | "mistral") {
            self.interleaved = Some((n_heads, n_kv_heads));
        }
        Ok(config)
    }

    fn rope_scaling(&mut self, family: &str) -> Result<RopeScaling, ModelError> {
        if self.content.tensor_infos.contains_key(ROPE_FACTORS) {
            let factors = self.tensor(ROPE_FACTORS)?.to_vec1::<f32>()?;
            return Ok(RopeScaling::Factors(factors));
        }
        match self
            .string(&format!("{family}.rope.scaling.type"))
            .as_deref()
        {
            Ok("none") | Err(_) => Ok(RopeScaling::None),
            Ok("linear") => {
                let factor = self.float(&format!("{family}.rope.scaling.factor"))?;
                Ok(RopeScaling::Linear { factor })
            }
            Ok(other) => Err(ModelError::Config(format!(
                "rope scaling {other:?} is not supported"
            ))),
        }
    }

    fn vocab_size(&self) -> Result<usize, ModelError> {
        let table = self.content.tensor_infos.get("token_embd.weight");
        table
            .and_then(|t| t.shape.dims().first().copied())
            .ok_or_else(|| {
                ModelError::Weights("tensor model.embed_tokens.weight is missing".into())
            })
    }

    fn value(&self, key: &str) -> Result<&Value, ModelError> {
        self.metadata(key)
            .ok_or_else(|| ModelError::Config(format!("GGUF key {key} is missing")))
    }

    fn string(&self, key: &str) -> Result<String, ModelError> {
        let ill_typed = |_| ModelError::Config(format!("GGUF key {key} is not a string"));
        self.value(key)?.to_string().cloned().map_err(ill_typed)
    }

    fn integer(&self, key: &str) -> Result<usize, ModelError> {
        let value = self.value(key)?;
        let integer = match value {
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            other => other.to_u64().ok(),
        };
        integer
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| ModelError::Config(format!("GGUF key {key} is not a count")))
    }

    fn float(&self, key: &str) -> Result<f64, ModelError> {
        let ill_typed = |_| ModelError::Config(format!("GGUF key {key} is not a number"));
        self.value(key)?.to_f32().map(f64::from).map_err(ill_typed)
    }
}

/// Divisors of the rotary frequencies (Llama 3).
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`. With `sandwich` norms
/// (Gemma 3) `ffn_norm` has another name than without.
fn hugging_face_name(gguf: &str, sandwich: bool) -> String {
    let fixed = match gguf {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(name) = fixed {
        return name.to_owned();
    }
    let parts = gguf.strip_prefix("blk.").and_then(|r| r.split_once('.'));
    let Some((layer, (part, kind))) = parts.and_then(|(l, r)| Some((l, r.rsplit_once('.')?)))
    else {
        return gguf.to_owned();
    };
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" if sandwich => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => other,
    };
    format!("model.layers.{layer}.{part}.{kind}")
}

/// Undoes the row order in which llama.cpp stores q and k of the llama family: pairs side by side,
/// (heads, head_dim / 2, 2, in), instead of halves, (heads, 2, head_dim / 2, in).
fn uninterleave(weight: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let shape = weight.shape().clone();
    let rows = shape.dims()[0];
    weight
        .reshape((heads, rows / heads / 2, 2, ()))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(shape)
}
