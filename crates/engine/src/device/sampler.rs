//! Tokens chosen where the logits are: of a step, only ids come to the host.
//!
//! On a GPU by a kernel of ours (`choose.cu`), one launch per step; on the CPU by the sampler itself. Both keep
//! the order and the meaning of `sampler.rs`. On a GPU weights are integers of 2^-40 of the best token's, so
//! that a token at the very edge of top-p, or of the draw, may fall to the other side.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

use crate::draw::Scratch;
use crate::sampler::SamplingPlan;

/// Numbers of a plan.
const NUMBERS: usize = 5;

/// What was chosen, on the device.
#[derive(Debug)]
pub struct Choice {
    /// (rows), u32; 0 at a row whose logits are not numbers, or without a possible token.
    pub ids: Tensor,
    /// (2, rows), f32: the ids, and a check that is NaN where there is none.
    pub report: Tensor,
}

/// A token for each row of `logits`, (rows, vocab), f32. `plans` has one entry per row.
///
/// # Errors
/// A failure of the tensor library.
pub fn choose(logits: &Tensor, plans: &[SamplingPlan]) -> Result<Choice> {
    let numbers = plans.iter().flat_map(numbers).collect::<Vec<f64>>();
    let plans = Tensor::from_vec(numbers, (plans.len(), NUMBERS), logits.device())?;
    let report = logits
        .contiguous()?
        .apply_op2_no_bwd(&plans, &ChooseTokens)?;
    // Ids below 2^24 are exact in f32; so there is one copy to the host.
    let ids = report.narrow(0, 0, 1)?.squeeze(0)?.to_dtype(DType::U32)?;
    Ok(Choice { ids, report })
}

fn numbers(plan: &SamplingPlan) -> [f64; NUMBERS] {
    [
        f64::from(plan.temperature),
        plan.top_k as f64,
        f64::from(plan.top_p),
        f64::from(plan.min_p),
        plan.u,
    ]
}

fn plan(numbers: &[f64]) -> SamplingPlan {
    SamplingPlan {
        temperature: numbers[0] as f32,
        top_k: numbers[1] as usize,
        top_p: numbers[2] as f32,
        min_p: numbers[3] as f32,
        u: numbers[4],
    }
}

struct ChooseTokens;

impl CustomOp2 for ChooseTokens {
    fn name(&self) -> &'static str {
        "choose-tokens"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        layout: &Layout,
        plans: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, vocab) = layout.shape().dims2()?;
        let first = layout.start_offset();
        let logits = &logits.as_slice::<f32>()?[first..first + rows * vocab];
        let mut report = vec![0.0; 2 * rows];
        let plans = plans.as_slice::<f64>()?.chunks_exact(NUMBERS);
        let mut scratch = Scratch::default();
        for (row, (logits, numbers)) in logits.chunks_exact(vocab).zip(plans).enumerate() {
            match plan(numbers).choose(logits, &mut scratch) {
                Some(id) => report[row] = id as f32,
                None => report[rows + row] = f32::NAN,
            }
        }
        Ok((CpuStorage::F32(report), Shape::from((2, rows))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        logits: &candle_core::CudaStorage,
        layout: &Layout,
        plans: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (rows, vocab) = layout.shape().dims2()?;
        let report = gpu::choose(logits, layout.start_offset(), plans, [rows, vocab])?;
        Ok((report, Shape::from((2, rows))))
    }
}

#[cfg(feature = "cuda")]
mod gpu {
    use std::sync::OnceLock;

    use candle_core::cuda::cudarc::driver::{LaunchConfig, PushKernelArg};
    use candle_core::cuda::cudarc::nvrtc::compile_ptx;
    use candle_core::{CudaStorage, Error, Result};

    /// Of a block; a power of two, and no more than the kernel's shared memory has room for.
    const THREADS: u32 = 1024;

    /// For any device: its driver translates it on.
    pub fn ptx() -> Result<&'static str> {
        static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
        let compile = || {
            let ptx = compile_ptx(include_str!("choose.cu")).map_err(|e| e.to_string())?;
            Ok(ptx.to_src())
        };
        match PTX.get_or_init(compile) {
            Ok(ptx) => Ok(ptx),
            Err(error) => Err(Error::Msg(format!(
                "the sampler's kernel does not compile: {error}"
            ))),
        }
    }

    #[expect(unsafe_code, reason = "a kernel of ours is launched")]
    pub fn choose(
        logits: &CudaStorage,
        first: usize,
        plans: &CudaStorage,
        [rows, vocab]: [usize; 2],
    ) -> Result<CudaStorage> {
        let device = &logits.device;
        let function = device.get_or_load_custom_func("choose", "attune-choose", ptx()?)?;
        let values = logits.as_cuda_slice::<f32>()?;
        let values = values.slice(first..first + rows * vocab);
        let plans = plans.as_cuda_slice::<f64>()?;
        let vocab = vocab as u32;
        // SAFETY: the kernel writes each of its elements.
        let report = unsafe { device.alloc::<f32>(2 * rows)? };
        let config = LaunchConfig {
            grid_dim: (rows as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = function.builder();
        launch.arg(&values).arg(plans).arg(&vocab).arg(&report);
        // SAFETY: the arguments are those of `choose` in choose.cu, in order and type; it reads `vocab`
        // logits and five numbers for each of the grid's rows, which both slices hold, and writes two floats.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        Ok(CudaStorage::wrap_cuda_slice(report, device.clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::chosen::ChosenTokens;
    use super::super::host_copy::HostCopy;
    use super::*;
    use crate::request::SamplingParams;

    #[test]
    fn what_the_next_pass_would_take_is_what_the_host_is_told() {
        let low = f32::NEG_INFINITY;
        let rows = [
            [low, 0.0, 1.0, low],
            [f32::NAN, 0.0, 0.0, 0.0],
            [0.0, f32::INFINITY, 0.0, 0.0],
            [low; 4],
            [0.0, 0.0, 0.0, 0.0],
        ];
        // Rows of a larger tensor, as logits of a mixed batch are.
        let padding = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
        let logits = Tensor::new(&rows, &Device::Cpu).unwrap();
        let logits = Tensor::cat(&[padding, logits], 0).unwrap();
        let logits = logits.narrow(0, 2, 5).unwrap();
        for (params, u, last) in [
            (SamplingParams::greedy(), 0.0, 0),
            (SamplingParams::default(), 0.8, 3),
        ] {
            let choice = choose(&logits, &[SamplingPlan::of(&params, u); 5]).unwrap();
            let ids = choice.ids.to_vec1::<u32>().unwrap();
            assert_eq!(ids, [2, 0, 0, 0, last]);
            let tokens = ChosenTokens::new(choice.ids, HostCopy::of(choice.report));
            let told = [Some(2), None, None, None, Some(last)];
            assert_eq!(tokens.wait().unwrap(), told);
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn the_kernel_compiles() {
        assert!(gpu::ptx().unwrap().contains(".entry choose"));
    }
}
