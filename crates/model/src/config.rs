//! What distinguishes one decoder family from another, as flags.

use super::error::ModelError;
use super::lora::Projection;

/// Frequencies of the rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// Positions divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Each frequency divided by its own factor: (head_dim / 2) values (`rope_freqs.weight` of GGUF).
    Factors(Vec<f32>),
    /// Llama 3: low frequencies divided, high ones kept, smooth between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Bound of the low frequencies.
        low_freq_factor: f64,
        /// Bound of the high frequencies.
        high_freq_factor: f64,
        /// Context length that the model was first trained for.
        original_max_positions: usize,
    },
    /// YaRN.
    Yarn(Yarn),
}

/// YaRN (arXiv 2309.00071): frequencies that turn rarely within the original context are divided, those that turn
/// often kept, a line between; cosines and sines grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    /// Divisor of the low frequencies.
    pub factor: f64,
    /// Context length that the model was first trained for.
    pub original_max_positions: usize,
    /// Turns within it from which on a frequency is kept.
    pub beta_fast: f64,
    /// Turns within it up to which a frequency is divided.
    pub beta_slow: f64,
    /// Whether the bounds between them are whole frequencies.
    pub truncate: bool,
    /// Factor of cosines and sines.
    pub magnitude: f64,
}

/// The gate of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x)
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// A decoder's shape and flags, from `config.json` or GGUF metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family's name, for people: `llama`, `qwen2`, `qwen3`, `mistral`, `gemma3`.
    pub family: String,
    /// Width of a row.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the logits.
    pub vocab_size: usize,
    /// Positions that the model was made for.
    pub max_positions: usize,
    /// RMSNorm's epsilon.
    pub norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_base: f64,
    /// Its scaling.
    pub rope_scaling: RopeScaling,
    /// Base of the rotary embedding of sliding-window layers, where it differs (Gemma 3).
    pub local_rope_base: Option<f64>,
    /// Sliding window of each layer: position i sees i - window + 1 ..= i. `None` sees all.
    pub sliding_window: Vec<Option<usize>>,
    /// Factor of the attention scores.
    pub attention_scale: f64,
    /// Bias of q, k and v (Qwen2).
    pub qkv_bias: bool,
    /// RMSNorm of each query and key head (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// RMSNorm multiplies by 1 + w (Gemma 3 as Hugging Face stores it).
    pub norm_plus_one: bool,
    /// RMSNorm after attention and after the feed-forward layer too (Gemma 3).
    pub sandwich_norm: bool,
    /// Factor of the embeddings (Gemma 3: sqrt(hidden_size)).
    pub embedding_scale: Option<f64>,
    /// The gate.
    pub activation: Activation,
    /// Logits come from the embedding table.
    pub tied_embeddings: bool,
}

impl ModelConfig {
    /// (out, in) of a projection.
    pub fn projection_shape(&self, projection: Projection) -> (usize, usize) {
        let q = self.n_heads * self.head_dim;
        let kv = self.n_kv_heads * self.head_dim;
        match projection {
            Projection::Q => (q, self.hidden_size),
            Projection::K | Projection::V => (kv, self.hidden_size),
            Projection::O => (self.hidden_size, q),
            Projection::Gate | Projection::Up => (self.intermediate_size, self.hidden_size),
            Projection::Down => (self.hidden_size, self.intermediate_size),
        }
    }

    /// Weights of a block's linear layers.
    pub fn projection_weights(&self) -> usize {
        let shapes = Projection::ALL.map(|p| self.projection_shape(p));
        shapes.iter().map(|(n_out, n_in)| n_out * n_in).sum()
    }

    /// Checks that the numbers can belong to a decoder, before anything is allocated.
    ///
    /// # Errors
    /// The first number that cannot.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.n_layers),
            ("num_attention_heads", self.n_heads),
            ("num_key_value_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_positions),
        ];
        for (name, value) in positive {
            if value == 0 || value > 1 << 24 {
                return Err(ModelError::Config(format!(
                    "{name} = {value} is out of range"
                )));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(ModelError::Config(format!(
                "num_attention_heads = {} is not a multiple of num_key_value_heads = {}",
                self.n_heads, self.n_kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::Config(format!(
                "head_dim = {} is odd",
                self.head_dim
            )));
        }
        self.validate_rope()?;
        let measures = [
            ("the epsilon of RMSNorm", self.norm_eps),
            ("the scale of attention", self.attention_scale),
        ];
        for (name, value) in measures {
            above_zero(name, value)?;
        }
        if self.sliding_window.len() != self.n_layers {
            return Err(ModelError::Config(
                "one sliding window per layer is needed".into(),
            ));
        }
        Ok(())
    }

    /// Checks everything that frequencies are computed from.
    fn validate_rope(&self) -> Result<(), ModelError> {
        above_zero("the base of the rotary embedding", self.rope_base)?;
        if let Some(base) = self.local_rope_base {
            above_zero(
                "the base of the rotary embedding of layers with a window",
                base,
            )?;
        }
        let factors: Vec<f64> = match &self.rope_scaling {
            RopeScaling::None => vec![],
            RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. } => vec![*factor],
            RopeScaling::Factors(factors) => factors.iter().map(|f| f64::from(*f)).collect(),
            RopeScaling::Yarn(yarn) => {
                if self.rope_base <= 1.0 {
                    return Err(ModelError::Config(
                        "YaRN needs a base of the rotary embedding above 1".into(),
                    ));
                }
                vec![yarn.factor, yarn.magnitude, yarn.beta_fast, yarn.beta_slow]
            }
        };
        for factor in factors {
            above_zero("a factor of the rotary embedding", factor)?;
        }
        match &self.rope_scaling {
            RopeScaling::Factors(factors) if factors.len() != self.head_dim / 2 => {
                Err(ModelError::Config(format!(
                    "{} factors of rotary frequencies, and heads have {}",
                    factors.len(),
                    self.head_dim / 2
                )))
            }
            _ => Ok(()),
        }
    }
}

fn above_zero(name: &str, value: f64) -> Result<(), ModelError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(ModelError::Config(format!(
        "{name} is {value}; it must be a number above 0"
    )))
}
