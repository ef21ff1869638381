//! The engine's keys and values, in blocks.

use candle_core::{bail, CpuStorage, Result, Storage, Tensor};

use crate::model::attention::Attention;
use crate::model::config::ModelConfig;
use crate::model::input::ForwardInput;
use crate::model::kernels::paged_attention::{AttentionShape, LayerKv, BLOCK_SIZE};

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
        with_slice(k, |k| with_slice(v, |v| kv.write(shape, k, v, spans)))??;
        let out = with_slice(q, |q| kv.attend(shape, q, spans))?;
        Tensor::from_vec(out, q.shape(), q.device())
    }
}

/// The values of a contiguous f32 CPU tensor, without a copy.
fn with_slice<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        bail!("attention needs contiguous f32 tensors on the CPU");
    };
    Ok(f(&values[start..end]))
}
