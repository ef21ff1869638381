//! `log softmax(x W^T)[target]` of each row, without keeping logits for the backward pass.

use candle_core::{bail, DType, Result, Tensor, D};
use candle_nn::ops::log_softmax;

/// Rows whose logits are in memory at once.
const ROWS: usize = 512;

/// log-probabilities (rows), f32, of `targets`, one a row of x (rows, width); `head` is (vocabulary,
/// width), of x's type. The slope of each row is computed along with its value, as
/// [`crate::kernels::log_probs`] does it.
///
/// # Errors
/// A target outside the vocabulary, or a misshapen x.
pub fn log_probs(x: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (vocabulary, width) = head.dims2()?;
    if x.dims2()? != (targets.len(), width) {
        bail!(
            "log probs: x is {:?} for {} targets",
            x.shape(),
            targets.len()
        );
    }
    if let Some(id) = targets.iter().find(|t| **t as usize >= vocabulary) {
        bail!("log probs: there is no token {id} among {vocabulary}");
    }
    let mut values = Vec::new();
    let mut slopes = Vec::new();
    for (part, targets) in targets.chunks(ROWS).enumerate() {
        let rows = x.detach().narrow(0, part * ROWS, targets.len())?;
        let targets = Tensor::new(targets, x.device())?;
        let logits = rows.matmul(&head.t()?)?.to_dtype(DType::F32)?;
        let log_p = log_softmax(&logits, D::Minus1)?;
        values.push(log_p.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)?);
        if x.track_op() {
            let expected = log_p.exp()?.to_dtype(head.dtype())?.matmul(head)?;
            let chosen = head.index_select(&targets, 0)?.to_dtype(DType::F32)?;
            slopes.push((chosen - expected.to_dtype(DType::F32)?)?);
        }
    }
    let values = match values.as_slice() {
        [] => Tensor::zeros(0, DType::F32, x.device())?,
        parts => Tensor::cat(parts, 0)?,
    };
    if slopes.is_empty() {
        return Ok(values);
    }
    // Its gradient by x is the slopes; its value is 0.
    let x = x.to_dtype(DType::F32)?;
    let along = (x * Tensor::cat(&slopes, 0)?)?.sum(D::Minus1)?;
    (&along - along.detach())? + values
}
