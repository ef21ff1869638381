//! The small steps of a block: RMSNorm, rotary embedding, gate.

use candle_core::{DType, Result, Tensor, D};
use candle_nn::{ops, rotary_emb};
use mistralrs_quant::{fused_glu, GluActivationType};

use crate::config::Activation;

/// RMSNorm over the last dimension of x, which is as wide as `weight`; both of one type.
///
/// # Errors
/// A misshapen x.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if x.track_op() {
        // As the kernel rounds: once, at the end.
        let wide = x.to_dtype(DType::F32)?;
        let square = (wide.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
        let normal = wide.broadcast_div(&(square + f64::from(eps))?.sqrt()?)?;
        let scaled = normal.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
        scaled.to_dtype(x.dtype())
    } else {
        ops::rms_norm(&x.contiguous()?, weight, eps)
    }
}

/// Rotates each head of x, (rows, heads * head_dim), pairing element j with j + head_dim / 2; `cos` and
/// `sin` are (rows, head_dim / 2), of x's type.
///
/// # Errors
/// A misshapen x.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let half = cos.dim(1)?;
    let heads = x.reshape((1, rows, (), 2 * half))?;
    let rotated = if x.track_op() {
        let (low, high) = (heads.narrow(3, 0, half)?, heads.narrow(3, half, half)?);
        let angle = |t: &Tensor| t.reshape((1, rows, 1, half));
        let (cos, sin) = (angle(cos)?, angle(sin)?);
        let by = |x: &Tensor, angle: &Tensor| x.broadcast_mul(angle);
        let new_low = (by(&low, &cos)? - by(&high, &sin)?)?;
        let new_high = (by(&high, &cos)? + by(&low, &sin)?)?;
        Tensor::cat(&[new_low, new_high], D::Minus1)?
    } else {
        rotary_emb::rope_thd(&heads.contiguous()?, cos, sin)?
    };
    rotated.reshape((rows, width))
}

/// act(gate) * up, element by element; both (rows, width), of one type.
///
/// # Errors
/// Shapes that differ.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    let dtype = gate.dtype();
    // The fused kernel has no gradient, and its tanh is not exact enough for f32. It rounds once.
    if gate.track_op() || up.track_op() || dtype == DType::F32 {
        let (gate, up) = (gate.to_dtype(DType::F32)?, up.to_dtype(DType::F32)?);
        let gate = match activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        return (gate * up)?.to_dtype(dtype);
    }
    let activation = match activation {
        Activation::Silu => GluActivationType::Silu,
        Activation::GeluTanh => GluActivationType::Gelu,
    };
    fused_glu(gate, up, activation)
}
