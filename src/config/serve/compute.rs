//! What the engine computes on, and how much memory it takes.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::compute::{device, threads};
use crate::config::error::{problem, ConfigError};
use crate::config::sizes::parse_bytes;
use attune_model::device::DeviceChoice;

/// What the engine computes on, and how much memory it takes.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Compute")]
#[serde(rename_all = "kebab-case")]
pub struct Compute {
    /// Where to compute: auto, cpu, cuda, cuda:1, ... auto takes a GPU if this build can use one and one is there.
    #[arg(long, env = "ATTUNE_DEVICE", default_value = "auto")]
    pub device: String,
    /// Number of GPUs that share the model, counted from cuda:0: 1, 2, 4, ... (tensor parallelism; needs cargo
    /// feature nccl).
    #[arg(long, env = "ATTUNE_TENSOR_PARALLEL", default_value_t = 1)]
    pub tensor_parallel: usize,
    /// CPU threads of the engine; 0 means one per core.
    #[arg(long, env = "ATTUNE_THREADS", default_value_t = 0)]
    pub threads: usize,
    /// Memory of the KV cache, for example 512MiB or 2GiB; auto is 1GiB on the CPU, and on a GPU what
    /// the model leaves.
    #[arg(long, env = "ATTUNE_KV_MEMORY", default_value = "auto")]
    pub kv_memory: String,
    /// Memory of adapter versions, for example 512MiB or 2GiB. Versions that an alias names stay in it; others are
    /// read when they are first used, and leave when room is needed.
    #[arg(long, env = "ATTUNE_ADAPTER_MEMORY", default_value = "4GiB")]
    pub adapter_memory: String,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct ComputeConfig {
    /// Where to compute.
    pub device: DeviceChoice,
    /// GPUs that share the model, from the first one on.
    pub tensor_parallel: usize,
    /// CPU threads of the engine.
    pub threads: usize,
    /// Bytes of the KV cache; `None`: what the device has room for.
    pub kv_bytes: Option<usize>,
    /// Bytes that adapter versions may take in memory.
    pub adapter_bytes: usize,
}

impl ComputeConfig {
    pub(super) fn new(typed: &Compute) -> Result<Self, ConfigError> {
        Ok(Self {
            device: device(&typed.device)?,
            tensor_parallel: tensor_parallel(typed)?,
            threads: threads(typed.threads),
            kv_bytes: match typed.kv_memory.trim() {
                "auto" => None,
                size => Some(parse_bytes("--kv-memory", size)?),
            },
            adapter_bytes: parse_bytes("--adapter-memory", &typed.adapter_memory)?,
        })
    }
}

fn tensor_parallel(typed: &Compute) -> Result<usize, ConfigError> {
    let n = typed.tensor_parallel;
    let text = if n == 1 {
        return Ok(n);
    } else if !cfg!(feature = "nccl") {
        format!(
            "{n} GPUs need a build made with `cargo build --release --features nccl` (docs/gpu.md)"
        )
    } else if !n.is_power_of_two() {
        format!("{n} is not a power of two")
    } else if !matches!(typed.device.as_str(), "auto" | "cuda" | "cuda:0") {
        format!("{n} GPUs are those from cuda:0 on: leave --device out")
    } else {
        return Ok(n);
    };
    Err(problem("--tensor-parallel", text))
}
