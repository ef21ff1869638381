//! The models that can be asked.

use std::time::{SystemTime, UNIX_EPOCH};

use super::error::AppError;
use super::model_id::{self, Target};
use super::state::AppState;
use super::versions::projection::{InstalledVersion, Projection};
use attune_adapter::lease::Lease;
use attune_ids::{AdapterVersion, Alias};

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

/// All of them: the alias, the bare base, other aliases, then the versions that can be asked, oldest
/// first.
pub fn list(state: &AppState) -> Vec<ModelEntry> {
    let now = state.versions.now();
    let of_alias = |alias: &Alias| entry(state, alias.to_string(), named(&now, alias));
    let mut models = vec![
        of_alias(&state.alias),
        entry(state, state.base_model_id.clone(), None),
    ];
    let answers = |alias: &Alias| *alias != state.alias && named(&now, alias).is_some();
    let others = now.aliases().map(|(alias, _)| alias);
    models.extend(others.filter(|alias| answers(alias)).map(of_alias));
    let mut versions: Vec<_> = now.versions().filter(|v| v.fits).collect();
    versions.sort_by_key(|v| v.record.installed_unix_ms);
    models.extend(versions.into_iter().map(|version| pinned(state, version)));
    models
}

/// One of them.
///
/// # Errors
/// [`AppError::ModelNotFound`].
pub fn show(state: &AppState, id: &str) -> Result<ModelEntry, AppError> {
    let now = state.versions.now();
    // One that cannot answer now is a model all the same.
    let unavailable = Alias::new(id)
        .ok()
        .filter(|alias| now.by_alias(alias).is_err());
    if let Some(alias) = unavailable {
        return Ok(entry(state, id.to_owned(), named(&now, &alias)));
    }
    Ok(match model_id::resolve(state, id, None)? {
        Target::Base => entry(state, id.to_owned(), None),
        Target::Alias(lease) => {
            let now = state.versions.now();
            entry(state, id.to_owned(), about(&now, lease.as_ref()))
        }
        Target::Pinned(version) => pinned(state, &version),
    })
}

/// The version that an alias names, whether it can be loaded or not; `None`: the bare base answers.
fn named<'a>(now: &'a Projection, alias: &Alias) -> Option<&'a InstalledVersion> {
    match now.by_alias(alias) {
        Ok(lease) => about(now, lease.as_ref()),
        Err(_) => Some(now.version(now.alias(alias)?.version()?)?),
    }
}

fn about<'a>(now: &'a Projection, lease: Option<&Lease>) -> Option<&'a InstalledVersion> {
    let found = now.version(&lease?.adapter().version)?;
    Some(found)
}

fn pinned(state: &AppState, version: &InstalledVersion) -> ModelEntry {
    let id = format!("{}@{}", state.alias, version.record.version);
    entry(state, id, Some(version))
}

fn entry(state: &AppState, id: String, version: Option<&InstalledVersion>) -> ModelEntry {
    let about = version.and_then(|version| version.about.as_ref().ok());
    ModelEntry {
        id,
        created_unix: about.map_or_else(|| unix_seconds(state.started), |a| a.created_unix),
        version: version.map(|version| version.record.version.clone()),
        name: about.and_then(|about| about.name.clone()),
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
