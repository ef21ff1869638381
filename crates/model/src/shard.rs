//! A model over several devices (tensor parallelism): each rank holds some heads and some of the
//! feed-forward layer, and the ranks add up what they put onto the residual stream.
//!
//! q, k, v, gate and up are cut by outputs, o and down by inputs, so that a block is summed over ranks
//! twice: after o and after down. Embeddings, norms and the head are on every rank.

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::config::ModelConfig;
use super::error::ModelError;
use super::lora::Projection;

/// Sums over ranks.
pub trait SumOverRanks: fmt::Debug + Send + Sync {
    /// The sum of every rank's `x`, the same on all; each rank calls it as often as the others, with
    /// tensors of one shape, and waits for them.
    ///
    /// # Errors
    /// A rank that is gone.
    fn sum(&self, x: &Tensor) -> Result<Tensor>;
}

/// One rank of several.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Which, from 0.
    pub rank: usize,
    /// How many there are.
    pub n_ranks: usize,
    /// The others.
    pub others: Arc<dyn SumOverRanks>,
}

impl Shard {
    /// What of a model's shape is here.
    ///
    /// # Errors
    /// Heads or a feed-forward layer that cannot be divided.
    pub fn config(&self, whole: &ModelConfig) -> std::result::Result<ModelConfig, ModelError> {
        let n = self.n_ranks;
        let parts = [
            ("num_attention_heads", whole.n_heads),
            ("num_key_value_heads", whole.n_kv_heads),
            ("intermediate_size", whole.intermediate_size),
        ];
        if let Some((name, value)) = parts.into_iter().find(|(_, v)| !v.is_multiple_of(n)) {
            return Err(ModelError::Config(format!(
                "{name} = {value} cannot be divided over {n} devices: take a divisor for --tensor-parallel"
            )));
        }
        Ok(ModelConfig {
            n_heads: whole.n_heads / n,
            n_kv_heads: whole.n_kv_heads / n,
            intermediate_size: whole.intermediate_size / n,
            ..whole.clone()
        })
    }

    /// This rank's part of a weight (out, in), or of a bias (out), of a projection.
    ///
    /// # Errors
    /// A side that cannot be divided.
    pub fn part(&self, projection: Projection, weight: &Tensor) -> Result<Tensor> {
        match by_inputs(projection) {
            true => self.cut(weight, 1),
            false => self.cut(weight, 0),
        }
    }

    /// This rank's parts of LoRA's A (rank, in) and B (out, rank) beside a projection.
    ///
    /// # Errors
    /// A side that cannot be divided.
    pub fn lora_part(&self, projection: Projection, [a, b]: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        Ok(match by_inputs(projection) {
            true => [self.cut(a, 1)?, b.clone()],
            false => [a.clone(), self.cut(b, 0)?],
        })
    }

    fn cut(&self, tensor: &Tensor, side: usize) -> Result<Tensor> {
        let length = tensor.dim(side)? / self.n_ranks;
        tensor
            .narrow(side, self.rank * length, length)?
            .contiguous()
    }
}

/// Whether ranks hold a projection by its inputs: then their results are parts of a sum.
fn by_inputs(projection: Projection) -> bool {
    matches!(projection, Projection::O | Projection::Down)
}
