//! Where to compute, as it was typed.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::error::{problem, ConfigError};
use attune_model::device::DeviceChoice;

/// Types in which weights can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As the file has them, quantized blocks included; bf16 on a GPU.
    Auto,
    /// 4 bytes: nothing is lost.
    F32,
    /// 2 bytes, wide range.
    Bf16,
    /// 2 bytes, more precise.
    F16,
}

pub(super) fn device(text: &str) -> Result<DeviceChoice, ConfigError> {
    text.parse()
        .map_err(|text: String| problem("--device", text))
}

/// 0 means one per core.
pub(super) fn threads(typed: usize) -> usize {
    match typed {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n.min(1024),
    }
}
