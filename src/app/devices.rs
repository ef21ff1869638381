//! The model on its device, or on its devices.

use super::boot::{BootError, Loaded};
use crate::config::serve::ServeConfig;
use attune_base_model as base_model;
use attune_engine::device::memory;
use attune_engine::model_runner::ModelRunner;

/// Loads the base model, and makes what the engine runs of it.
///
/// # Errors
/// No such device, no such model, or no room for it.
pub fn load(config: &ServeConfig) -> Result<Loaded, BootError> {
    #[cfg(feature = "nccl")]
    if config.compute.tensor_parallel > 1 {
        return over_several(config);
    }
    let placement = config.model.placed_on(config.compute.device.open()?);
    tracing::info!(device = ?placement.device.location(), dtype = ?placement.dtype, "computing");
    let base = base_model::load(&config.model.name, placement)?;
    let rows = config.engine.token_budget;
    let kv = memory::kv_cache(&base.decoder, config.compute.kv_bytes, rows)?;
    let runner = ModelRunner::new(base.decoder.clone(), kv);
    Ok((base, Box::new(runner)))
}

/// The same over GPUs 0, 1, ...: each has a thread, and all begin at once, for they wait for each other.
#[cfg(feature = "nccl")]
fn over_several(config: &ServeConfig) -> Result<Loaded, BootError> {
    use std::sync::mpsc::channel;
    use std::sync::Arc;

    use attune_engine::device::ranks::{Rank, RankedRunner};
    use attune_engine::kv_cache::KvCache;
    use attune_engine::runner::Runner as _;
    use attune_model::device::DeviceChoice;
    use attune_model::error::ModelError;
    use attune_model::nccl::Meeting;

    let n_ranks = config.compute.tensor_parallel;
    let devices = (0..n_ranks).map(|rank| DeviceChoice::Cuda(rank).open());
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    // Before anybody waits for anybody: a model that is not there, or cannot be divided.
    let files = base_model::load::locate(&config.model.name);
    let files = files.map_err(base_model::LoadError::from)?;
    let meeting = Meeting::new();
    let (mut others, mut waiting) = (Vec::new(), Vec::new());
    for (rank, device) in devices.iter().enumerate().skip(1) {
        let mut placement = config.model.placed_on(device.clone());
        let files = files.clone();
        let (n_blocks, decided) = channel();
        waiting.push(n_blocks);
        others.push(Rank::spawn(rank, move || {
            placement.shard = Some(meeting.join(&placement.device, rank, n_ranks)?);
            let decoder = Arc::new(files.load(placement)?);
            let n_blocks = decided.recv().map_err(|_| {
                ModelError::Fetch("the first device could not load the model".into())
            })?;
            let kv = KvCache::placed(decoder.config(), decoder.placement(), n_blocks)?;
            Ok(ModelRunner::new(decoder, kv))
        })?);
    }
    let mut placement = config.model.placed_on(devices[0].clone());
    let shard = meeting.join(&placement.device, 0, n_ranks);
    placement.shard = Some(shard.map_err(ModelError::from)?);
    tracing::info!(devices = n_ranks, dtype = ?placement.dtype, "computing");
    let base = base_model::load(&config.model.name, placement)?;
    let rows = config.engine.token_budget;
    let kv = memory::kv_cache(&base.decoder, config.compute.kv_bytes, rows)?;
    let first = ModelRunner::new(base.decoder.clone(), kv);
    for rank in waiting {
        if rank.send(first.n_blocks()).is_err() {
            // It has said why in the log, and says so again at the first pass.
            tracing::error!("a device could not load its part of the model");
        }
    }
    Ok((base, Box::new(RankedRunner::new(first, others))))
}
