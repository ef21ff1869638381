//! act(gate) * up, the middle of the feed-forward layer.

use candle_core::{bail, CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::math::exp;
use crate::model::config::Activation;

/// act(gate) * up, element by element; both (rows, width), f32, contiguous.
///
/// # Errors
/// Shapes that differ, or strided inputs.
pub fn gated(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    gate.apply_op2_no_bwd(up, &Gated(activation))
}

struct Gated(Activation);

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), with tanh(z) = 1 - 2 / (1 + e^2z).
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let z = SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    x * (1.0 - 1.0 / (1.0 + exp(2.0 * z)))
}

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if gate_layout.shape() != up_layout.shape() {
            bail!(
                "gated: {:?} and {:?} differ",
                gate_layout.shape(),
                up_layout.shape()
            );
        }
        let (Some((g0, g1)), Some((u0, u1))) = (
            gate_layout.contiguous_offsets(),
            up_layout.contiguous_offsets(),
        ) else {
            bail!("gated: inputs must be contiguous");
        };
        let (gate, up) = (
            &gate.as_slice::<f32>()?[g0..g1],
            &up.as_slice::<f32>()?[u0..u1],
        );
        let mut out = vec![0f32; gate.len()];
        // Small batches stay on one thread.
        const CHUNK: usize = 16 * 1024;
        let chunks = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK));
        out.par_chunks_mut(CHUNK)
            .zip(chunks)
            .for_each(|(out, (gate, up))| match self.0 {
                Activation::Silu => fill(out, gate, up, silu),
                Activation::GeluTanh => fill(out, gate, up, gelu_tanh),
            });
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }
}

#[inline(always)]
fn fill(out: &mut [f32], gate: &[f32], up: &[f32], activation: impl Fn(f32) -> f32) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = activation(*gate) * up;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn agrees_with_candle() {
        let values: Vec<f32> = (0..9000).map(|i| (i as f32 - 4500.0) / 300.0).collect();
        let gate = Tensor::from_vec(values, (9, 1000), &Device::Cpu).unwrap();
        let up = gate.affine(0.3, 1.0).unwrap();
        for (activation, want) in [
            (Activation::Silu, gate.silu().unwrap()),
            (Activation::GeluTanh, gate.gelu().unwrap()),
        ] {
            let want = (want * &up).unwrap();
            let got = gated(&gate, &up, activation).unwrap();
            let error = (got - want).unwrap().abs().unwrap().max_all().unwrap();
            assert!(
                error.to_scalar::<f32>().unwrap() < 2e-5,
                "{activation:?}: {error}"
            );
        }
    }
}
