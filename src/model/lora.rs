//! Low-rank adapters of linear layers (LoRA): y = W x + scale * B (A x).

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// The linear layers of a decoder block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// `self_attn.q_proj`
    Q,
    /// `self_attn.k_proj`
    K,
    /// `self_attn.v_proj`
    V,
    /// `self_attn.o_proj`
    O,
    /// `mlp.gate_proj`
    Gate,
    /// `mlp.up_proj`
    Up,
    /// `mlp.down_proj`
    Down,
}

impl Projection {
    /// All of them, in the order in which a block uses them.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The name inside a block, as Hugging Face and PEFT checkpoints write it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// One adapted layer.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// A, (rank, in), f32.
    pub a: Tensor,
    /// B, (out, rank), f32.
    pub b: Tensor,
    /// alpha / rank.
    pub scale: f32,
}

/// The adapted layers of one adapter version, by (block, projection).
#[derive(Debug, Clone, Default)]
pub struct LoraSet {
    /// The pairs; layers that are not named run as the base model.
    pub pairs: BTreeMap<(usize, Projection), LoraPair>,
}
