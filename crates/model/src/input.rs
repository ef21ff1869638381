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
    /// One id a row; the value at a soft row, or a carried one, is ignored.
    pub token_ids: Vec<u32>,
    /// Rows that are embeddings instead of tokens, in ascending order of row.
    pub soft_rows: Vec<SoftRow>,
    /// Rows that show embeddings of a tensor: with a gradient while training, or kept on a device.
    pub learned_rows: Option<LearnedRows>,
    /// Rows whose token only the device knows.
    pub carried: Option<CarriedTokens>,
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
    /// Names all of the rows, so that a device may keep them: equal digests, equal rows.
    pub digest: Option<[u8; 32]>,
}

/// Soft rows by the arrays that they show: one soft row of each array, and pairs of a packed row and the
/// row that it shows of all arrays one after the other; arrays are `width` wide.
pub fn by_array(soft_rows: &[SoftRow], width: usize) -> (Vec<&SoftRow>, Vec<(usize, usize)>) {
    let mut arrays: Vec<(&SoftRow, usize)> = Vec::new();
    let (mut n_rows, mut shown_at) = (0, Vec::with_capacity(soft_rows.len()));
    for soft in soft_rows {
        let is_it = |(s, _): &&(&SoftRow, usize)| Arc::ptr_eq(&s.embeddings, &soft.embeddings);
        let known = arrays.iter().find(is_it).map(|(_, first)| *first);
        let first = known.unwrap_or_else(|| {
            arrays.push((soft, n_rows));
            n_rows += soft.embeddings.len() / width;
            n_rows - soft.embeddings.len() / width
        });
        shown_at.push((soft.row, first + soft.index));
    }
    (arrays.into_iter().map(|(soft, _)| soft).collect(), shown_at)
}

/// Embeddings of a tensor, learned as a rule, and the packed rows that they stand at.
#[derive(Debug, Clone)]
pub struct LearnedRows {
    /// (n, hidden), before the family's embedding scale; f32 where it is learned.
    pub embeddings: Tensor,
    /// Pairs of a packed row and the row of `embeddings` that it shows; one may be shown many times.
    pub shown_at: Vec<(usize, usize)>,
}

/// Tokens that a pass takes from where the one in front of it left them.
#[derive(Debug, Clone)]
pub struct CarriedTokens {
    /// (n), u32, where the model is.
    pub ids: Tensor,
    /// Pairs of a packed row and its place in `ids`.
    pub at: Vec<(usize, usize)>,
}

impl CarriedTokens {
    /// Whether `ids` are those of all `n_rows` rows, in order.
    pub fn are_all(&self, n_rows: usize) -> bool {
        let in_order = || (0..n_rows).map(|row| (row, row));
        self.ids.elem_count() == n_rows && self.at.iter().copied().eq(in_order())
    }
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
        (self.past..self.context_len()).map(move |p| self.slot(p, block_size))
    }

    /// The KV slot of a position of the sequence.
    pub fn slot(&self, position: usize, block_size: usize) -> usize {
        self.block_table[position / block_size] as usize * block_size + position % block_size
    }

    /// Rows of the sequence in the KV cache after this step.
    pub fn context_len(&self) -> usize {
        self.past + self.rows.len()
    }
}
