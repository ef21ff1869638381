//! The decoder with its KV cache: what the engine runs.

use candle_core::Tensor;

use super::kv_cache::KvCache;
use super::runner::Runner;
use crate::model::decoder::Decoder;
use crate::model::error::ModelError;
use crate::model::input::ForwardInput;
use crate::model::kernels::paged_attention::BLOCK_SIZE;

/// The real [`Runner`].
#[derive(Debug)]
pub struct ModelRunner {
    decoder: std::sync::Arc<Decoder>,
    kv: KvCache,
}

impl ModelRunner {
    /// Owned by the engine thread.
    pub fn new(decoder: std::sync::Arc<Decoder>, kv: KvCache) -> Self {
        Self { decoder, kv }
    }
}

impl Runner for ModelRunner {
    fn forward(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError> {
        // On a thread of the pool: there a parallel loop starts without a hand-over, of which a pass
        // would otherwise pay some six hundred.
        let (decoder, kv) = (&self.decoder, &mut self.kv);
        Ok(rayon::scope(|_| decoder.forward(input, kv))?)
    }

    fn vocab_size(&self) -> usize {
        self.decoder.config().vocab_size
    }

    fn block_size(&self) -> usize {
        BLOCK_SIZE
    }

    fn n_blocks(&self) -> usize {
        self.kv.n_blocks()
    }
}
