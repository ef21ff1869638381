//! KV blocks in the layout of mistralrs-paged-attn, and attention by its kernels.

use candle_core::{bail, DType, Device, Result, Tensor};
use mistralrs_paged_attn::{flash_attn_sinks_varlen, paged_attention, reshape_and_cache};

use super::attention_metadata::{AttentionMetadata, CallLimits, Decodes, Prefills, GATHERED_BYTES};
use attune_model::config::ModelConfig;
use attune_model::kernels::paged_attention::{AttentionShape, BLOCK_SIZE};
use attune_model::placement::Placement;

/// Widths of heads that both kernels know.
const HEAD_DIMS: [usize; 7] = [64, 80, 96, 112, 128, 192, 256];
/// Bytes that a thread of these kernels loads at once.
const VECTOR_BYTES: usize = 16;
/// Positions whose scores, in f32, fit the shared memory of every device since compute capability 7.0, of
/// which it takes a little more: above [`ONE_PASS_HEADS`] the decode kernel keeps those of a whole context
/// there.
const ONE_PASS_CONTEXT: usize = 15 * 1024;
/// Sequences times heads up to which it works in parts of 512 positions instead.
const ONE_PASS_HEADS: usize = 512;

/// Blocks of one layer.
#[derive(Debug)]
pub struct CudaBlocks {
    /// (blocks, kv heads, head_dim / x, block size, x); x numbers fill a vector.
    keys: Tensor,
    /// (blocks, kv heads, head_dim, block size).
    values: Tensor,
}

/// [`AttentionMetadata`] on the device.
#[derive(Debug)]
pub struct CudaPass {
    /// (rows), i64.
    slot_mapping: Tensor,
    /// Groups of rows whose context is read in place.
    decodes: Vec<DecodeTensors>,
    /// Groups of spans whose context is gathered.
    prefills: Vec<PrefillTensors>,
    /// (rows), u32.
    results: Option<Tensor>,
}

#[derive(Debug)]
struct DecodeTensors {
    /// (sequences), u32; `None`: all rows of the pass, in order.
    rows: Option<Tensor>,
    /// (sequences, blocks), u32.
    block_tables: Tensor,
    /// (sequences), u32.
    context_lens: Tensor,
    max_context_len: usize,
}

#[derive(Debug)]
struct PrefillTensors {
    /// (sequences * longest), u32.
    rows: Tensor,
    n_spans: usize,
    max_rows: usize,
    cumulative_rows: Tensor,
    blocks: Tensor,
    context: Tensor,
    cumulative_context: Tensor,
}

impl CudaBlocks {
    /// Whether the kernels know heads of this width.
    pub fn takes(head_dim: usize) -> bool {
        HEAD_DIMS.contains(&head_dim)
    }

    /// What one call gets in a model of this shape.
    pub fn limits(config: &ModelConfig, dtype: DType) -> CallLimits {
        let (heads, width) = (config.n_heads, config.head_dim);
        let position = config.n_kv_heads * width;
        // Both kernels count elements in 32 bits.
        let countable = |of: usize| i32::MAX as usize / of.max(1);
        let in_memory = GATHERED_BYTES / (3 * position * dtype.size_in_bytes()).max(1);
        CallLimits {
            long_context: ONE_PASS_CONTEXT,
            long_decodes: (ONE_PASS_HEADS / heads).max(1),
            padded_rows: countable(heads * width),
            gathered: in_memory.min(countable(position)),
        }
    }

    /// Room for `n_blocks`.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn new(config: &ModelConfig, placement: &Placement, n_blocks: usize) -> Result<Self> {
        let (dtype, device) = (placement.dtype, &placement.device);
        let (heads, width) = (config.n_kv_heads, config.head_dim);
        let x = VECTOR_BYTES / dtype.size_in_bytes();
        Ok(Self {
            keys: Tensor::zeros((n_blocks, heads, width / x, BLOCK_SIZE, x), dtype, device)?,
            values: Tensor::zeros((n_blocks, heads, width, BLOCK_SIZE), dtype, device)?,
        })
    }

    /// Keeps the rows' keys and values, and attends.
    ///
    /// # Errors
    /// Misshapen tensors.
    pub fn attend(
        &self,
        shape: AttentionShape,
        [q, k, v]: [&Tensor; 3],
        pass: &CudaPass,
    ) -> Result<Tensor> {
        let n_rows = q.dim(0)?;
        let heads = |x: &Tensor| x.contiguous()?.reshape((n_rows, (), shape.head_dim));
        let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
        let (keys, values) = (&self.keys, &self.values);
        reshape_and_cache(&k, &v, None, None, keys, values, &pass.slot_mapping)?;
        let mut parts = Vec::new();
        for decodes in &pass.decodes {
            parts.push(self.decode(shape, &q, decodes)?);
        }
        for prefills in &pass.prefills {
            parts.push(self.prefill(shape, &q, prefills)?);
        }
        let out = match parts.as_slice() {
            [] => bail!("attention: a pass without rows"),
            [one] => one.clone(),
            parts => Tensor::cat(parts, 0)?,
        };
        let out = match &pass.results {
            Some(places) => out.index_select(places, 0)?,
            None => out,
        };
        out.reshape((n_rows, shape.n_heads * shape.head_dim))
    }

    /// (sequences, heads, head_dim).
    fn decode(&self, shape: AttentionShape, q: &Tensor, decodes: &DecodeTensors) -> Result<Tensor> {
        let q = match &decodes.rows {
            Some(rows) => q.index_select(rows, 0)?,
            None => q.clone(),
        };
        // A soft cap of 1 is none.
        paged_attention(
            &q,
            None,
            None,
            &self.keys,
            &self.values,
            &decodes.block_tables,
            &decodes.context_lens,
            None,
            decodes.max_context_len,
            shape.scale,
            1.0,
            None,
        )
    }

    /// (sequences * longest, heads, head_dim).
    fn prefill(
        &self,
        shape: AttentionShape,
        q: &Tensor,
        prefills: &PrefillTensors,
    ) -> Result<Tensor> {
        let AttentionShape {
            n_heads, head_dim, ..
        } = shape;
        let (n_spans, max_rows) = (prefills.n_spans, prefills.max_rows);
        let padded = q.index_select(&prefills.rows, 0)?;
        let padded = padded.reshape((n_spans, max_rows, n_heads, head_dim))?;
        let (k, v) = gather(
            &self.keys,
            &self.values,
            &prefills.blocks,
            &prefills.context,
        )?;
        let out = flash_attn_sinks_varlen(
            &padded.transpose(1, 2)?,
            &k,
            &v,
            None,
            &prefills.cumulative_rows,
            &prefills.cumulative_context,
            shape.scale,
            shape.window.unwrap_or(0),
        )?;
        let out = out.transpose(1, 2)?.contiguous()?;
        out.reshape((n_spans * max_rows, n_heads, head_dim))
    }
}

/// Keys and values at the places `context` among the slots of `blocks`: (positions, kv heads, head_dim)
/// each. mistralrs-paged-attn's own gather reads a number back from the device for every layer.
fn gather(
    keys: &Tensor,
    values: &Tensor,
    blocks: &Tensor,
    context: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (_, heads, width, size) = values.dims4()?;
    let rows = |x: Tensor| {
        x.contiguous()?
            .reshape((blocks.dim(0)? * size, heads, width))
    };
    let k = keys.index_select(blocks, 0)?.permute((0, 3, 1, 2, 4))?;
    let v = values.index_select(blocks, 0)?.permute((0, 3, 1, 2))?;
    Ok((
        rows(k)?.index_select(context, 0)?,
        rows(v)?.index_select(context, 0)?,
    ))
}

impl CudaPass {
    /// Brings `metadata` to the device.
    ///
    /// # Errors
    /// No memory on the device.
    pub fn new(metadata: &AttentionMetadata, device: &Device) -> Result<Self> {
        let in_order = metadata.results.is_none() && metadata.prefills.is_empty();
        let whole = in_order && metadata.decodes.len() == 1;
        let decodes = metadata.decodes.iter();
        let decodes = decodes.map(|d| DecodeTensors::new(d, whole, device));
        let prefills = metadata.prefills.iter();
        let prefills = prefills.map(|p| PrefillTensors::new(p, device));
        let results = metadata.results.as_deref();
        Ok(Self {
            slot_mapping: Tensor::new(metadata.slot_mapping.as_slice(), device)?,
            decodes: decodes.collect::<Result<_>>()?,
            prefills: prefills.collect::<Result<_>>()?,
            results: results.map(|r| Tensor::new(r, device)).transpose()?,
        })
    }
}

impl PrefillTensors {
    fn new(prefills: &Prefills, device: &Device) -> Result<Self> {
        let integers = |values: &[u32]| Tensor::new(values, device);
        Ok(Self {
            rows: integers(&prefills.rows)?,
            n_spans: prefills.n_spans(),
            max_rows: prefills.max_rows,
            cumulative_rows: integers(&prefills.cumulative_rows)?,
            blocks: integers(&prefills.blocks)?,
            context: integers(&prefills.context)?,
            cumulative_context: integers(&prefills.cumulative_context)?,
        })
    }
}

impl DecodeTensors {
    fn new(decodes: &Decodes, whole: bool, device: &Device) -> Result<Self> {
        let shape = (decodes.rows.len(), decodes.max_blocks);
        let rows = (!whole).then(|| Tensor::new(decodes.rows.as_slice(), device));
        Ok(Self {
            rows: rows.transpose()?,
            block_tables: Tensor::new(decodes.block_tables.as_slice(), device)?.reshape(shape)?,
            context_lens: Tensor::new(decodes.context_lens.as_slice(), device)?,
            max_context_len: decodes.max_context_len,
        })
    }
}
