//! Which model answers: the alias, the bare base, or a pinned version.

use std::sync::Arc;

use super::error::AppError;
use super::state::AppState;
use super::versions::projection::InstalledVersion;
use attune_adapter::lease::Lease;
use attune_ids::{Alias, UserKey, VersionDigits};

/// What a model id stands for now.
#[derive(Debug, Clone)]
pub enum Target {
    /// The bare base, never personalised.
    Base,
    /// An alias: the promoted version or its canary, or the bare base while there is none.
    Alias(Option<Lease>),
    /// A version by name. It may not be in memory yet.
    Pinned(Arc<InstalledVersion>),
}

/// Resolves a model id for a person, whom a canary may answer. A version that is not installed is never
/// answered by another one.
///
/// # Errors
/// [`AppError::ModelNotFound`], [`AppError::AliasUnavailable`].
pub fn resolve(state: &AppState, id: &str, user: Option<&UserKey>) -> Result<Target, AppError> {
    if id == state.base_model_id {
        return Ok(Target::Base);
    }
    let now = state.versions.now();
    if id == state.alias.as_str() {
        let lease = now.by_alias_for(&state.alias, user)?;
        return Ok(Target::Alias(lease));
    }
    // Other aliases are there once they name something.
    let lease = match Alias::new(id) {
        Ok(alias) => now.by_alias_for(&alias, user)?,
        Err(_) => None,
    };
    if lease.is_some() {
        return Ok(Target::Alias(lease));
    }
    id.strip_prefix(state.alias.as_str())
        .and_then(|rest| rest.strip_prefix('@'))
        .and_then(|digits| VersionDigits::new(digits).ok())
        .and_then(|digits| now.find(&digits).ok().cloned())
        // One for another base model is no model of this server. What a damaged one is for is not known.
        .filter(|installed| installed.fits || installed.about.is_err())
        .map(Target::Pinned)
        .ok_or_else(|| AppError::ModelNotFound(id.chars().take(128).collect()))
}
