//! Causal attention of a sequence's last rows over all of its keys and values, and of packs.

use candle_core::{DType, Device, Result, Tensor, D};
use candle_nn::ops::{softmax, softmax_last_dim};

use crate::kernels::packed_attention::SpanContext;
use crate::kernels::paged_attention::AttentionShape;

/// What rows at positions `first..first + n_rows` may not see of `n_keys` positions: (rows, keys), 0
/// where they see and negative infinity elsewhere, f32.
///
/// # Errors
/// No memory.
pub fn mask(
    first: usize,
    n_rows: usize,
    n_keys: usize,
    window: Option<usize>,
    device: &Device,
) -> Result<Tensor> {
    let cell = |row: usize, key: usize| {
        let position = first + row;
        let in_window = window.is_none_or(|w| key + w > position);
        match key <= position && in_window {
            true => 0.0,
            false => f32::NEG_INFINITY,
        }
    };
    let cells = (0..n_rows).flat_map(|row| (0..n_keys).map(move |key| cell(row, key)));
    Tensor::from_vec(cells.collect::<Vec<f32>>(), (n_rows, n_keys), device)
}

/// Attention of one sequence: q is (rows, heads * head_dim), k and v (keys, kv heads * head_dim), of one
/// type; the rows are the last of the keys' positions. The result is shaped like q.
///
/// # Errors
/// Misshapen tensors.
pub fn attend(shape: AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let AttentionShape {
        n_heads,
        n_kv_heads,
        head_dim,
        scale,
        window,
        ..
    } = shape;
    let (n_rows, n_keys) = (q.dim(0)?, k.dim(0)?);
    let group = n_heads / n_kv_heads;
    // (kv heads, group * rows, head_dim): the query heads of a key head side by side.
    let q = q.reshape((n_rows, n_kv_heads, group, head_dim))?;
    let q = q.permute((1, 2, 0, 3))?.contiguous()?;
    let q = q.reshape((n_kv_heads, group * n_rows, head_dim))?;
    let by_head = |x: &Tensor| {
        let x = x.reshape((n_keys, n_kv_heads, head_dim))?;
        x.transpose(0, 1)?.contiguous()
    };
    let (k, v) = (by_head(k)?, by_head(v)?);
    let scores = q.matmul(&k.transpose(1, 2)?.contiguous()?)?;
    let mut scores = scores
        .to_dtype(DType::F32)?
        .affine(f64::from(scale), 0.0)?
        .reshape((n_kv_heads, group, n_rows, n_keys))?;
    if n_rows > 1 || window.is_some_and(|w| w < n_keys) {
        let mask = mask(n_keys - n_rows, n_rows, n_keys, window, scores.device())?;
        scores = scores.broadcast_add(&mask)?;
    }
    let weights = match scores.track_op() {
        true => softmax(&scores, D::Minus1)?,
        false => softmax_last_dim(&scores)?,
    };
    let weights = weights.to_dtype(v.dtype())?;
    let weights = weights.reshape((n_kv_heads, group * n_rows, n_keys))?;
    let out = weights.matmul(&v)?;
    let out = out.reshape((n_kv_heads, group, n_rows, head_dim))?;
    let out = out.permute((2, 0, 1, 3))?.contiguous()?;
    out.reshape((n_rows, n_heads * head_dim))
}

/// Attention of a pack of rows that stand for themselves, span by span: q, k and v are the pack's.
///
/// # Errors
/// Misshapen tensors.
pub fn attend_pack(
    shape: AttentionShape,
    [q, k, v]: [&Tensor; 3],
    spans: &[SpanContext],
) -> Result<Tensor> {
    let of_span = |span: &SpanContext| {
        let own = |x: &Tensor| x.narrow(0, span.rows.start, span.rows.len());
        let context = |x: &Tensor| -> Result<Tensor> {
            let mut parts = Vec::with_capacity(span.before.len() + 1);
            for before in &span.before {
                parts.push(x.narrow(0, before.start, before.len())?);
            }
            parts.push(own(x)?);
            Tensor::cat(&parts, 0)
        };
        attend(shape, &own(q)?, &context(k)?, &context(v)?)
    };
    let parts = spans.iter().map(of_span).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, 0)
}
