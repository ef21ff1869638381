//! Where trainers compute, and what scoring needs: from what was typed.

use candle_core::DType;

use super::resolved::{parse_device, ConfigError};
use super::train::{ComputeFlags, Eval};
use super::training::problem;
use attune_model::device::DeviceChoice;
use attune_train::commands::EvalRequest;
use attune_train::compute::Compute;

/// Checks what was typed. The error names the first setting that cannot be used, by its flag.
impl TryFrom<Eval> for EvalRequest {
    type Error = ConfigError;

    fn try_from(raw: Eval) -> Result<Self, ConfigError> {
        Ok(Self {
            compute: raw.compute.resolve()?,
            base: raw.base,
            bundle: raw.bundle,
            against: raw.against,
            data: raw.data,
            json: raw.json,
            beta: raw.beta,
            max_prompt: raw.max_prompt,
            max_length: raw.max_length,
            seed: raw.seed,
        })
    }
}

impl ComputeFlags {
    /// Checks what was typed.
    ///
    /// # Errors
    /// A device or a type that there is not.
    pub(super) fn resolve(&self) -> Result<Compute, ConfigError> {
        compute(self.device.as_deref(), self.dtype.as_deref())
    }
}

pub(super) fn compute(device: Option<&str>, dtype: Option<&str>) -> Result<Compute, ConfigError> {
    let dtype = match dtype {
        None | Some("auto") => None,
        Some("bf16") => Some(DType::BF16),
        Some("f16") => Some(DType::F16),
        Some("f32") => Some(DType::F32),
        Some(other) => {
            let text = format!("{other:?} is not one of auto, bf16, f16, f32");
            return Err(problem("--dtype", text));
        }
    };
    Ok(Compute {
        device: device.map_or(Ok(DeviceChoice::Auto), parse_device)?,
        dtype,
    })
}
