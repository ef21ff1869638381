//! Configuration becomes a running server's state.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::task::TaskTracker;

use super::address::Identity;
use super::compute::Compute;
use super::devices;
use super::keys::{KeyFileError, KeyRing};
use super::state::{AppState, Limits};
use super::store_health::StoreHealth;
use super::store_threads::StoreThreads;
use super::versions::{LiveVersions, LoadedBase, Versions, VersionsError};
use crate::config::serve::ServeConfig;
use crate::telemetry::{Metrics, TelemetryError};
use attune_adapter::loaded::LoadedVersions;
use attune_base_model::{BaseModel, LoadError};
use attune_engine::runner::Runner;
use attune_engine::thread::EngineHandle;
use attune_ids::{Alias, IdError};
use attune_model::device::DeviceError;
use attune_model::error::ModelError;
use attune_store::{Disk, StoreError, TenantQuota};

/// The alias that `/v1/models` lists first.
pub const ALIAS: &str = "attune";

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The model.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its memory.
    #[error(transparent)]
    Memory(#[from] ModelError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The installed versions.
    #[error(transparent)]
    Versions(#[from] VersionsError),
    /// The API keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// Metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The alias is not a word.
    #[error(transparent)]
    Alias(#[from] IdError),
    /// The thread pool.
    #[error("the thread pool could not be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The threads of the store.
    #[error("the threads of the store could not be started: {0}")]
    StoreThreads(#[source] std::io::Error),
}

/// A base model, and what the engine runs of it.
pub type Loaded = (BaseModel, Box<dyn Runner>);

/// Loads the model, opens the store, restores the versions and starts the engine. Blocks.
///
/// # Errors
/// See [`BootError`]; nothing is left running.
pub fn boot(config: &ServeConfig, metrics: Metrics) -> Result<Arc<AppState>, BootError> {
    boot_with(config, metrics, devices::load)
}

/// The same with a model that `load` makes.
///
/// # Errors
/// See [`BootError`]; nothing is left running.
pub fn boot_with(
    config: &ServeConfig,
    metrics: Metrics,
    load: impl FnOnce(&ServeConfig) -> Result<Loaded, BootError>,
) -> Result<Arc<AppState>, BootError> {
    let storage = &config.storage;
    let keys = config
        .http
        .api_keys
        .as_deref()
        .map_or_else(|| Ok(KeyRing::open()), KeyRing::from_file)?;
    // The store before the model: a lock held by another process shows at once.
    let versions = Versions::open(&config.data_dir, now_unix_ms())?;
    let (base, runner) = load(config)?;
    let alias = Alias::new(ALIAS)?;
    if storage.demo {
        versions.install_demo(&base, &alias, now_unix_ms())?;
    }
    let loaded = LoadedVersions::new(config.compute.adapter_bytes);
    let bundles = config.bundles.clone();
    let versions = LiveVersions::open(versions, LoadedBase::from(&base), bundles, loaded)?;
    let engine = EngineHandle::spawn(runner, config.engine.clone());
    let limits = Limits {
        strict: config.http.strict,
        keep_completions: storage.keep_completions,
        max_stall: config.max_stall,
        keep_versions: storage.keep_versions,
        forget_within: storage.forget_within,
        ..Limits::default()
    };
    versions.store().set_quota(TenantQuota {
        records: storage.tenant_max_records.unwrap_or(u64::MAX),
        bytes: storage.tenant_max_bytes.unwrap_or(u64::MAX),
    });
    versions
        .store()
        .keep_free(storage.min_free_disk, Arc::new(Disk));
    let threads = StoreThreads::start(versions.store().clone()).map_err(BootError::StoreThreads)?;
    Ok(Arc::new(state(
        base, alias, versions, engine, keys, limits, metrics, threads,
    )))
}

#[expect(clippy::too_many_arguments, reason = "each part is made once, here")]
fn state(
    base: BaseModel,
    alias: Alias,
    versions: LiveVersions,
    engine: EngineHandle,
    keys: KeyRing,
    limits: Limits,
    metrics: Metrics,
    store_threads: StoreThreads,
) -> AppState {
    let model = base.decoder.config();
    AppState {
        context_len: model.max_positions.min(engine.kv_rows()),
        vocab_size: model.vocab_size,
        engine,
        tokenizer: base.tokenizer,
        template: base.template,
        store_threads,
        store_health: StoreHealth::default(),
        versions,
        base_model_id: base.id,
        alias,
        keys,
        identity: Identity::new(),
        encoding: Compute::new(limits.encode_at_once, limits.inline_tokenize_bytes),
        bodies: Compute::new(limits.encode_at_once, limits.inline_body_bytes),
        limits,
        started: SystemTime::now(),
        work: TaskTracker::new(),
        tasks: TaskTracker::new(),
        metrics,
        draining: AtomicBool::new(false),
    }
}

/// Milliseconds since 1970.
pub fn now_unix_ms() -> u64 {
    super::models::unix_millis(SystemTime::now())
}
