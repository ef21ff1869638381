//! What the engine needs of a model.

use candle_core::Tensor;

use super::device::chosen::ChosenTokens;
use super::sampler::SamplingPlan;
use attune_model::error::ModelError;
use attune_model::input::ForwardInput;

/// Runs packed rows and keeps their keys and values. Owned by the engine thread.
pub trait Runner: Send {
    /// Writes the KV of every row at its slot and returns the logits of `input.logit_rows`,
    /// (rows, vocab), f32, on any device.
    ///
    /// # Errors
    /// A failure of the whole step; the engine then fails the sequences of this batch.
    fn forward(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError>;

    /// Whether [`Self::choose`] is there: worth while where logits are far from the host.
    fn chooses(&self) -> bool {
        false
    }

    /// Whether a pass may be started before the tokens of the one in front of it are known to the host:
    /// it takes them as `input.carried`. Only of a runner that chooses.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// Starts to choose a token for each row of `logits`, which [`Self::forward`] made, (rows, vocab).
    /// `plans` has one entry per row.
    ///
    /// # Errors
    /// A failure of the whole step.
    fn choose(
        &mut self,
        logits: &Tensor,
        plans: &[SamplingPlan],
    ) -> Result<ChosenTokens, ModelError> {
        let _ = (logits, plans);
        Err(ModelError::Tensor(candle_core::Error::msg(
            "this runner chooses no tokens: a bug",
        )))
    }

    /// Drops what it keeps of sequences beside their keys and values (copies of soft prompts): somebody is to be
    /// forgotten. Nothing that is still needed may be lost.
    fn forget(&mut self) {}

    /// Width of the logits.
    fn vocab_size(&self) -> usize;

    /// Positions a KV block holds.
    fn block_size(&self) -> usize;

    /// KV blocks there are.
    fn n_blocks(&self) -> usize;
}
