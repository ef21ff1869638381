//! The engine's keys and values, in blocks.

use candle_core::{Result, Tensor};

use crate::model::attention::Attention;
use crate::model::config::ModelConfig;
use crate::model::input::ForwardInput;
use crate::model::kernels::paged_attention::{AttentionShape, LayerKv, BLOCK_SIZE};
use crate::model::kernels::slices::with_f32;

/// Keys and values of all layers, f32, on the CPU. Sequences own blocks through the block manager;
/// this only reads and writes where a block table points.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerKv>,
    n_blocks: usize,
}

impl KvCache {
    /// As many blocks as `bytes` hold, at least one.
    pub fn with_memory(config: &ModelConfig, bytes: usize) -> Self {
        Self::with_blocks(config, (bytes / Self::block_bytes(config)).max(1))
    }

    /// Room for `n_blocks`.
    pub fn with_blocks(config: &ModelConfig, n_blocks: usize) -> Self {
        let layer = || LayerKv::new(n_blocks, config.n_kv_heads, config.head_dim);
        Self {
            layers: (0..config.n_layers).map(|_| layer()).collect(),
            n_blocks,
        }
    }

    /// Bytes of one block over all layers.
    pub fn block_bytes(config: &ModelConfig) -> usize {
        2 * config.n_layers * config.n_kv_heads * config.head_dim * BLOCK_SIZE * size_of::<f32>()
    }

    /// Blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }
}

impl Attention for KvCache {
    fn attend(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        qkv: [&Tensor; 3],
        input: &ForwardInput,
    ) -> Result<Tensor> {
        let kv = &mut self.layers[layer];
        let [q, k, v] = qkv;
        let spans = &input.spans;
        with_f32(k, |k| with_f32(v, |v| kv.write(shape, k, v, spans)))??;
        let out = with_f32(q, |q| kv.attend(shape, q, spans))?;
        Tensor::from_vec(out, q.shape(), q.device())
    }
}
