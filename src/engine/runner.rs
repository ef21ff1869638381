//! What the engine needs of a model.

use candle_core::Tensor;

use crate::model::error::ModelError;
use crate::model::input::ForwardInput;

/// Runs packed rows and keeps their keys and values. Owned by the engine thread.
pub trait Runner: Send {
    /// Writes the KV of every row at its slot and returns the logits of `input.logit_rows`,
    /// (rows, vocab), f32, on the CPU.
    ///
    /// # Errors
    /// A failure of the whole step; the engine then fails the sequences of this batch.
    fn forward(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError>;

    /// Width of the logits.
    fn vocab_size(&self) -> usize;

    /// Positions a KV block holds.
    fn block_size(&self) -> usize;

    /// KV blocks there are.
    fn n_blocks(&self) -> usize;
}
