//! How much of a device's memory keys and values may take.

use std::sync::Arc;

use candle_core::Device;

use super::attention_metadata::GATHERED_BYTES;
use crate::kv_cache::KvCache;
use crate::model_runner::{ModelRunner, PROMPT_BYTES};
use crate::runner::Runner;
use attune_model::decoder::Decoder;
use attune_model::device;
use attune_model::error::ModelError;
use attune_model::input::{ForwardInput, SequenceSpan};
use attune_model::kernels::paged_attention::BLOCK_SIZE;

/// Share of all memory that stays free: for LoRA matrices, the allocator and what others use.
const SPARE_SHARE: f64 = 0.05;
/// Bytes that stay free at least.
const SPARE_BYTES: usize = 512 << 20;
/// What keys and values get on the CPU when nobody says.
const ON_CPU: usize = 1 << 30;

/// What is known of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes that are free, with the model in place.
    pub free: usize,
    /// All bytes.
    pub total: usize,
    /// Bytes that the largest pass takes for its activations.
    pub activations: usize,
}

impl DeviceMemory {
    /// Bytes for keys and values, beside activations, soft prompts, gathered contexts and a reserve.
    pub fn for_kv(self) -> usize {
        let spare = SPARE_BYTES.max((self.total as f64 * SPARE_SHARE) as usize);
        let others = spare + self.activations + PROMPT_BYTES + GATHERED_BYTES;
        self.free.saturating_sub(others)
    }
}

/// Blocks of keys and values for `decoder`: as many as `bytes` hold, or, without, as the device has room
/// for beside the activations of a pass of `token_budget` rows, which is run to measure them.
///
/// # Errors
/// A device without room for one block, or that does not answer.
pub fn kv_cache(
    decoder: &Arc<Decoder>,
    bytes: Option<usize>,
    token_budget: usize,
) -> Result<KvCache, ModelError> {
    let (config, placement) = (decoder.config(), decoder.placement());
    let local = placement.local(config)?;
    let block = KvCache::block_bytes(&local, placement);
    let bytes = match (bytes, device::memory(&placement.device)?) {
        (Some(bytes), _) => bytes,
        (None, None) => ON_CPU,
        (None, Some(_)) => {
            let memory = match &placement.shard {
                None => measure(decoder, token_budget)?,
                // A pass would wait for the other devices, which do not know of it yet.
                Some(_) => guess(&placement.device)?,
            };
            let bytes = memory.for_kv();
            let mib = |bytes: usize| bytes >> 20;
            tracing::info!(
                free_mib = mib(memory.free),
                activations_mib = mib(memory.activations),
                kv_mib = mib(bytes),
                "memory of the device"
            );
            if bytes < block {
                return Err(ModelError::Fetch(format!(
                    "the device has no room for keys and values: {} MiB of {} MiB are free, and a pass takes {} MiB. Take a smaller model, --dtype bf16, --quant, or a smaller --token-budget",
                    mib(memory.free),
                    mib(memory.total),
                    mib(memory.activations)
                )));
            }
            bytes
        }
    };
    KvCache::placed(config, placement, (bytes / block).max(1))
}

/// (free, total) bytes, when the pool keeps nothing that is not used.
fn look(device: &Device) -> Result<(usize, usize), ModelError> {
    device::release_unused(device)?;
    Ok(device::memory(device)?.unwrap_or_default())
}

/// A fifth of what is free, for activations.
fn guess(device: &Device) -> Result<DeviceMemory, ModelError> {
    let (free, total) = look(device)?;
    Ok(DeviceMemory {
        free,
        total,
        activations: free / 5,
    })
}

/// Runs one prompt of `rows` rows over blocks of its own, and looks at what it took.
fn measure(decoder: &Arc<Decoder>, rows: usize) -> Result<DeviceMemory, ModelError> {
    let (config, placement) = (decoder.config(), decoder.placement());
    let rows = rows.min(config.max_positions);
    let n_blocks = rows.div_ceil(BLOCK_SIZE);
    let (free, total) = look(&placement.device)?;
    let after = {
        let kv = KvCache::placed(config, placement, n_blocks)?;
        let mut runner = ModelRunner::new(decoder.clone(), kv);
        let logits = runner.forward(&ForwardInput {
            token_ids: vec![0; rows],
            spans: vec![SequenceSpan {
                rows: 0..rows,
                past: 0,
                block_table: (0..n_blocks as u32).collect(),
                lora: None,
            }],
            // Every row could be the last of a sequence.
            logit_rows: (0..rows).collect(),
            ..ForwardInput::default()
        })?;
        // Before anything is released: until then the pool keeps what the pass has used.
        let after = device::memory(&placement.device)?.unwrap_or_default();
        drop(logits);
        after
    };
    Ok(DeviceMemory {
        free: look(&placement.device)?.0.min(free),
        total,
        activations: free.saturating_sub(after.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_get_what_nobody_else_needs() {
        let memory = DeviceMemory {
            free: 60 << 30,
            total: 80 << 30,
            activations: 2 << 30,
        };
        // 5 % of 80 GiB, 2 GiB and twice 256 MiB are not for them.
        assert_eq!(memory.for_kv(), (54 << 30) - PROMPT_BYTES - GATHERED_BYTES);
        let small = DeviceMemory {
            free: 1 << 30,
            total: 4 << 30,
            activations: 1 << 30,
        };
        assert_eq!(small.for_kv(), 0);
    }
}
