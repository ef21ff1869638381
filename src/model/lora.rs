//! Low-rank adapters of linear layers (LoRA): y = W x + scale * B (A x).

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{bail, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::kernels::packed_matmul::{PackedMatrix, WeightType};

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

/// One adapted layer: delta = scale * B A.
#[derive(Debug, Clone)]
pub struct LoraPair {
    a: Tensor,
    b: Tensor,
    scale: f32,
    packed: Arc<(PackedMatrix, PackedMatrix)>,
}

impl LoraPair {
    /// `a` is (rank, in), `b` (out, rank), both f32 on the CPU; `scale` is alpha / rank.
    ///
    /// # Errors
    /// Tensors that are not matrices of one rank.
    pub fn new(a: Tensor, b: Tensor, scale: f32) -> Result<Self> {
        if a.dims2()?.0 != b.dims2()?.1 {
            bail!(
                "LoRA A {:?} and B {:?} differ in rank",
                a.shape(),
                b.shape()
            );
        }
        let scaled = b.affine(f64::from(scale), 0.0)?;
        let packed = (
            PackedMatrix::new(&a, WeightType::F32)?,
            PackedMatrix::new(&scaled, WeightType::F32)?,
        );
        Ok(Self {
            a,
            b,
            scale,
            packed: Arc::new(packed),
        })
    }

    /// A, (rank, in), f32.
    pub fn a(&self) -> &Tensor {
        &self.a
    }

    /// B, (out, rank), f32.
    pub fn b(&self) -> &Tensor {
        &self.b
    }

    /// alpha / rank.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// A, packed.
    pub(super) fn packed_a(&self) -> &PackedMatrix {
        &self.packed.0
    }

    /// scale * B, packed.
    pub(super) fn packed_b(&self) -> &PackedMatrix {
        &self.packed.1
    }
}

/// The adapted layers of one adapter version, by (block, projection).
#[derive(Debug, Clone, Default)]
pub struct LoraSet {
    /// The pairs; layers that are not named run as the base model.
    pub pairs: BTreeMap<(usize, Projection), LoraPair>,
}
