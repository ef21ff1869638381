//! The models that can be asked.

use std::time::{SystemTime, UNIX_EPOCH};

use super::error::AppError;
use super::model_id::{self, Target};
use super::state::AppState;
use crate::adapter::bundle::Adapter;
use crate::ids::AdapterVersion;

/// A model that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// What requests call it.
    pub id: String,
    /// Seconds since 1970: when the version was made, or for the bare base when the server started.
    pub created_unix: u64,
    /// The version that answers now; `None` is the bare base.
    pub version: Option<AdapterVersion>,
    /// A name that its maker gave the version.
    pub name: Option<String>,
}

/// All of them: the alias, the bare base, other aliases, then the loaded versions, oldest first.
pub fn list(state: &AppState) -> Vec<ModelEntry> {
    let promoted = state.registry.by_alias(&state.alias);
    let promoted = promoted.as_ref().map(|lease| lease.adapter().as_ref());
    let mut models = vec![
        entry(state, state.alias.to_string(), promoted),
        entry(state, state.base_model_id.clone(), None),
    ];
    for (alias, version) in state.registry.aliases() {
        let lease = state.registry.by_version(&version);
        if let Some(lease) = lease.filter(|_| alias != state.alias) {
            models.push(entry(state, alias.to_string(), Some(lease.adapter())));
        }
    }
    let versions = state.registry.versions();
    models.extend(versions.iter().map(|adapter| pinned(state, adapter)));
    models
}

/// One of them.
///
/// # Errors
/// [`AppError::ModelNotFound`].
pub fn show(state: &AppState, id: &str) -> Result<ModelEntry, AppError> {
    Ok(match model_id::resolve(state, id, None)? {
        Target::Base | Target::Alias(None) => entry(state, id.to_owned(), None),
        Target::Alias(Some(lease)) => entry(state, id.to_owned(), Some(lease.adapter())),
        Target::Pinned(lease) => pinned(state, lease.adapter()),
    })
}

fn pinned(state: &AppState, adapter: &Adapter) -> ModelEntry {
    entry(
        state,
        format!("{}@{}", state.alias, adapter.version),
        Some(adapter),
    )
}

fn entry(state: &AppState, id: String, adapter: Option<&Adapter>) -> ModelEntry {
    ModelEntry {
        id,
        created_unix: adapter.map_or_else(|| unix_seconds(state.started), |a| a.created_unix),
        version: adapter.map(|a| a.version.clone()),
        name: adapter.and_then(|a| a.name.clone()),
    }
}

/// Whole seconds since 1970; 0 for a clock that stands before that.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Milliseconds since 1970, likewise.
pub fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
