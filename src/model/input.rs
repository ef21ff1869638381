//! The rows of one forward pass: prefill chunks and decodes of many sequences, packed without
//! padding.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::lora::LoraSet;

/// One packed batch. Row `r` is a token id or an embedding; the rows of one sequence are contiguous
/// and in order.
#[derive(Debug, Clone, Default)]
pub struct ForwardInput {
    /// One id a row; the value at a soft row is ignored.
    pub token_ids: Vec<u32>,
    /// Rows that are embeddings instead of tokens, in ascending order of row.
    pub soft_rows: Vec<SoftRow>,
    /// While training: rows that are embeddings with a gradient.
    pub learned_rows: Option<LearnedRows>,
    /// Which rows belong to which sequence: the spans partition `0..token_ids.len()`, in order.
    pub spans: Vec<SequenceSpan>,
    /// Rows whose logits are wanted, ascending.
    pub logit_rows: Vec<usize>,
}

/// A row fed to the first block in place of a token embedding.
#[derive(Debug, Clone)]
pub struct SoftRow {
    /// The packed row.
    pub row: usize,
    /// Rows of raw embeddings, (n, hidden) row-major; before the family's embedding scale.
    pub embeddings: Arc<[f32]>,
    /// Which of them.
    pub index: usize,
}

/// Embeddings that are being learned, and the packed rows that they stand at.
#[derive(Debug, Clone)]
pub struct LearnedRows {
    /// (n, hidden), f32; before the family's embedding scale.
    pub embeddings: Tensor,
    /// Pairs of a packed row and the row of `embeddings` that it shows; one may be shown many times.
    pub shown_at: Vec<(usize, usize)>,
}

/// The rows of one sequence.
#[derive(Debug, Clone)]
pub struct SequenceSpan {
    /// Packed rows of this step.
    pub rows: Range<usize>,
    /// Rows of the sequence that are in the KV cache before this step: the position of the first row.
    pub past: usize,
    /// KV blocks of the sequence, in position order; they cover `past + rows.len()` positions.
    pub block_table: Arc<[u32]>,
    /// The LoRA of this sequence; `None` is the bare base.
    pub lora: Option<Arc<LoraSet>>,
}

impl SequenceSpan {
    /// The KV slot of each row of this step: block * block_size + offset.
    pub fn slot_mapping(&self, block_size: usize) -> impl Iterator<Item = usize> + '_ {
        (self.past..self.past + self.rows.len())
            .map(move |p| self.block_table[p / block_size] as usize * block_size + p % block_size)
    }

    /// Rows of the sequence in the KV cache after this step.
    pub fn context_len(&self) -> usize {
        self.past + self.rows.len()
    }
}
