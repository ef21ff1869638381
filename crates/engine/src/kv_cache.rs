//! The engine's keys and values, in blocks.

use candle_core::{Result, Tensor};

use super::device::kv::DeviceKv;
use attune_model::attention::Attention;
use attune_model::config::ModelConfig;
use attune_model::error::ModelError;
use attune_model::input::ForwardInput;
use attune_model::kernels::paged_attention::{AttentionShape, LayerKv, BLOCK_SIZE};
use attune_model::kernels::slices::with_f32;
use attune_model::placement::{Placement, Route};

/// Keys and values of all layers, where the model is. Sequences own blocks through the
/// block manager; this only reads and writes where a block table points.
#[derive(Debug)]
pub struct KvCache {
    layers: Layers,
    n_blocks: usize,
}

#[derive(Debug)]
enum Layers {
    /// On the CPU, for our kernels.
    Kernels(Vec<LayerKv>),
    Portable(Box<DeviceKv>),
}

impl KvCache {
    /// Room for `n_blocks`, or as many as can be counted, beside a model that is placed so; `config` is the whole model's.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn placed(
        config: &ModelConfig,
        placement: &Placement,
        n_blocks: usize,
    ) -> std::result::Result<Self, ModelError> {
        let config = &placement.local(config)?;
        match placement.route() {
            Route::Kernels => {
                let (n_kv_heads, head_dim) = (config.n_kv_heads, config.head_dim);
                let layer = |_| LayerKv::new(placement.kv_type, n_blocks, n_kv_heads, head_dim);
                Ok(Self {
                    layers: Layers::Kernels((0..config.n_layers).map(layer).collect()),
                    n_blocks,
                })
            }
            Route::Portable => {
                let n_blocks = n_blocks.min(DeviceKv::most_blocks(config));
                Ok(Self {
                    layers: Layers::Portable(Box::new(DeviceKv::new(config, placement, n_blocks)?)),
                    n_blocks,
                })
            }
        }
    }

    /// Bytes of one block over all layers, beside a model of this shape that is placed so.
    pub fn block_bytes(config: &ModelConfig, placement: &Placement) -> usize {
        let (n_kv_heads, head_dim) = (config.n_kv_heads, config.head_dim);
        let of_layer = match placement.route() {
            Route::Kernels => placement.kv_type.block_bytes(n_kv_heads, head_dim),
            Route::Portable => {
                2 * n_kv_heads * head_dim * BLOCK_SIZE * placement.dtype.size_in_bytes()
            }
        };
        config.n_layers * of_layer
    }

    /// Blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }
}

impl Attention for KvCache {
    fn begin(&mut self, input: &ForwardInput) -> Result<()> {
        match &mut self.layers {
            Layers::Kernels(_) => Ok(()),
            Layers::Portable(kv) => kv.prepare(input),
        }
    }

    fn attend(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        qkv: [&Tensor; 3],
        input: &ForwardInput,
    ) -> Result<Tensor> {
        let layers = match &mut self.layers {
            Layers::Kernels(layers) => layers,
            Layers::Portable(kv) => return kv.attend(layer, shape, qkv, input),
        };
        let kv = &mut layers[layer];
        let [q, k, v] = qkv;
        let spans = &input.spans;
        with_f32(k, |k| with_f32(v, |v| kv.write(k, v, spans)))??;
        let out = with_f32(q, |q| kv.attend(shape, q, spans))?;
        Tensor::from_vec(out, q.shape(), q.device())
    }
}
