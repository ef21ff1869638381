//! A version that a request names and that is not in memory is loaded then, off the async threads.
//!
//! One at a time: reading a version takes disk and cores from everybody. Requests that wait for it cost
//! a task each, and there is a bound on them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::projection::InstalledVersion;
use crate::app::error::AppError;
use crate::app::state::AppState;
use attune_adapter::lease::Lease;

/// Requests that may wait for versions to be loaded.
const MAX_WAITING: usize = 256;

/// When a request that finds too many others waiting may come again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Who may load, and who may wait for it.
#[derive(Debug)]
pub struct FirstUse {
    loading: Semaphore,
    waiting: Semaphore,
}

impl Default for FirstUse {
    fn default() -> Self {
        Self {
            loading: Semaphore::new(1),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }
}

/// A lease of an installed version, which is read and verified first if it is not in memory.
///
/// # Errors
/// [`AppError::AdapterMemory`], [`AppError::AdapterDamaged`]; too many wait.
pub async fn lease(
    state: &Arc<AppState>,
    version: Arc<InstalledVersion>,
) -> Result<Lease, AppError> {
    let versions = &state.versions;
    if let Some(lease) = versions.loaded().lease(&version.record.version) {
        return Ok(lease);
    }
    let first_use = versions.first_use();
    let overloaded = |_| AppError::Overloaded {
        retry_after: RETRY_AFTER,
    };
    let _waiting = first_use.waiting.try_acquire().map_err(overloaded)?;
    let closed = |_| AppError::ShuttingDown;
    let _loading = first_use.loading.acquire().await.map_err(closed)?;
    state.blocking(move |state| load(state, &version)).await
}

/// It may have been loaded by whoever waited before, and retired or replaced since it was named.
fn load(state: &AppState, version: &InstalledVersion) -> Result<Lease, AppError> {
    let (versions, name) = (&state.versions, &version.record.version);
    let held = versions.hold(version);
    let now = versions.now();
    if now.version(name).is_some() {
        return Ok(Lease::of(&held?));
    }
    versions.loaded().forget(name);
    match now.version(now.successor(name)) {
        Some(next) => Ok(Lease::of(&versions.hold(next)?)),
        None => Err(AppError::ModelNotFound(name.to_string())),
    }
}
