//! Keys and values in blocks on another device, or of another type, than our CPU kernels take.
//!
//! Where mistralrs-paged-attn has kernels (CUDA, heads of a width that they know) the blocks have its
//! layout. Elsewhere a slot is a row of a plain matrix, and attention is operations of the tensor
//! library, sequence by sequence: slower, and the same on every device.

#[cfg(feature = "cuda")]
use std::collections::BTreeMap;

use candle_core::{bail, Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::attention_metadata::{AttentionMetadata, CallLimits};
use attune_model::config::ModelConfig;
use attune_model::input::{ForwardInput, SequenceSpan};
use attune_model::kernels::paged_attention::{AttentionShape, BLOCK_SIZE};
use attune_model::placement::Placement;
use attune_model::portable::attention::attend;

#[cfg(feature = "cuda")]
use super::cuda_kv::{CudaBlocks, CudaPass};

/// Keys and values of all layers.
#[derive(Debug)]
pub struct DeviceKv {
    layers: Layers,
    placement: Placement,
    n_blocks: usize,
    /// Sliding windows that layers have.
    #[cfg(feature = "cuda")]
    windows: Vec<Option<usize>>,
    #[cfg(feature = "cuda")]
    limits: CallLimits,
    /// Of the pass that runs.
    pass: Option<Pass>,
}

#[derive(Debug)]
enum Layers {
    /// Keys and values of each layer, (slots, kv heads * head_dim).
    Rows(Vec<[Tensor; 2]>),
    #[cfg(feature = "cuda")]
    Cuda(Vec<CudaBlocks>),
}

/// What layers need to know of a pass, on the device.
#[derive(Debug)]
enum Pass {
    Rows(RowsPass),
    /// By sliding window.
    #[cfg(feature = "cuda")]
    Cuda(BTreeMap<Option<usize>, CudaPass>),
}

#[derive(Debug)]
struct RowsPass {
    /// KV slot of each packed row, (rows, 1), u32.
    slots: Tensor,
    /// The slots of each span's context, (positions), u32.
    contexts: Vec<Tensor>,
}

impl DeviceKv {
    /// Blocks whose elements the tensor library can count in the 32 bits of its indices.
    pub fn most_blocks(config: &ModelConfig) -> usize {
        let block = config.n_kv_heads * config.head_dim * BLOCK_SIZE;
        u32::MAX as usize / block.max(1)
    }

    /// Room for `n_blocks`, of which there are no more than [`Self::most_blocks`].
    ///
    /// # Errors
    /// No memory on the device.
    pub fn new(config: &ModelConfig, placement: &Placement, n_blocks: usize) -> Result<Self> {
        Ok(Self {
            layers: Layers::new(config, placement, n_blocks)?,
            placement: placement.clone(),
            n_blocks,
            #[cfg(feature = "cuda")]
            windows: {
                let distinct: std::collections::BTreeSet<_> =
                    config.sliding_window.iter().collect();
                distinct.into_iter().copied().collect()
            },
            #[cfg(feature = "cuda")]
            limits: CudaBlocks::limits(config, placement.dtype),
            pass: None,
        })
    }

    /// Gets ready for a pass over `input`: what all layers share goes to the device once.
    ///
    /// # Errors
    /// A block that is not there, or no memory on the device.
    pub fn prepare(&mut self, input: &ForwardInput) -> Result<()> {
        // A GPU does not answer with an error: it writes elsewhere, or takes no more work from this process.
        let used = |span: &'_ SequenceSpan| span.context_len().div_ceil(BLOCK_SIZE);
        let mut blocks = input
            .spans
            .iter()
            .flat_map(|span| span.block_table.iter().take(used(span)));
        if let Some(block) = blocks.find(|block| **block as usize >= self.n_blocks) {
            bail!(
                "attention: there is no block {block} among {}",
                self.n_blocks
            );
        }
        let device = &self.placement.device;
        self.pass = Some(match &self.layers {
            Layers::Rows(_) => Pass::Rows(RowsPass::new(input, device)?),
            #[cfg(feature = "cuda")]
            Layers::Cuda(_) => {
                let passes = self.windows.iter().map(|window| {
                    let (spans, limits) = (&input.spans, self.limits);
                    let metadata = AttentionMetadata::new(spans, BLOCK_SIZE, *window, limits);
                    Ok((*window, CudaPass::new(&metadata, device)?))
                });
                Pass::Cuda(passes.collect::<Result<_>>()?)
            }
        });
        Ok(())
    }

    /// Keeps the rows' keys and values, and attends.
    ///
    /// # Errors
    /// Misshapen tensors, or a pass that was not prepared.
    pub fn attend(
        &self,
        layer: usize,
        shape: AttentionShape,
        [q, k, v]: [&Tensor; 3],
        input: &ForwardInput,
    ) -> Result<Tensor> {
        match (&self.layers, &self.pass) {
            (Layers::Rows(layers), Some(Pass::Rows(pass))) => {
                pass.attend(&layers[layer], shape, [q, k, v], input)
            }
            #[cfg(feature = "cuda")]
            (Layers::Cuda(layers), Some(Pass::Cuda(passes))) => {
                let Some(pass) = passes.get(&shape.window) else {
                    bail!("attention: no layer should have window {:?}", shape.window);
                };
                layers[layer].attend(shape, [q, k, v], pass)
            }
            _ => bail!("attention: the pass was not prepared, which is a bug"),
        }
    }
}

impl Layers {
    fn new(config: &ModelConfig, placement: &Placement, n_blocks: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if placement.device.is_cuda() && CudaBlocks::takes(config.head_dim) {
            let blocks = || CudaBlocks::new(config, placement, n_blocks);
            let layers = (0..config.n_layers).map(|_| blocks());
            return Ok(Self::Cuda(layers.collect::<Result<_>>()?));
        }
        let shape = (n_blocks * BLOCK_SIZE, config.n_kv_heads * config.head_dim);
        let rows = || Tensor::zeros(shape, placement.dtype, &placement.device);
        let layers = (0..config.n_layers).map(|_| Ok([rows()?, rows()?]));
        Ok(Self::Rows(layers.collect::<Result<_>>()?))
    }
}

impl RowsPass {
    fn new(input: &ForwardInput, device: &Device) -> Result<Self> {
        let slots = input
            .spans
            .iter()
            .flat_map(|s| s.slot_mapping(BLOCK_SIZE))
            .map(|slot| slot as u32);
        let contexts = input.spans.iter().map(|span| {
            let slots = (0..span.context_len()).map(|p| span.slot(p, BLOCK_SIZE) as u32);
            Tensor::new(slots.collect::<Vec<u32>>(), device)
        });
        Ok(Self {
            slots: Tensor::new(slots.collect::<Vec<u32>>(), device)?.unsqueeze(1)?,
            contexts: contexts.collect::<Result<_>>()?,
        })
    }

    fn attend(
        &self,
        [keys, values]: &[Tensor; 2],
        shape: AttentionShape,
        [q, k, v]: [&Tensor; 3],
        input: &ForwardInput,
    ) -> Result<Tensor> {
        let slots = self.slots.broadcast_as(k.shape())?.contiguous()?;
        keys.scatter_set(&slots, &k.contiguous()?, 0)?;
        values.scatter_set(&slots, &v.contiguous()?, 0)?;
        let of_span = |(span, context): (&SequenceSpan, &Tensor)| {
            let q = q.narrow(0, span.rows.start, span.rows.len())?;
            let (k, v) = (
                keys.index_select(context, 0)?,
                values.index_select(context, 0)?,
            );
            attend(shape, &q, &k, &v)
        };
        let parts = input.spans.iter().zip(&self.contexts).map(of_span);
        Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
    }
}
