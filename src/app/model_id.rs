//! Which model answers: the alias, the bare base, or a pinned version.

use super::error::AppError;
use super::state::AppState;
use crate::adapter::lease::Lease;
use crate::ids::{Alias, UserKey, VersionDigits};

/// What a model id stands for now.
#[derive(Debug, Clone)]
pub enum Target {
    /// The bare base, never personalised.
    Base,
    /// An alias: the promoted version or its canary, or the bare base while there is none.
    Alias(Option<Lease>),
    /// A version by name.
    Pinned(Lease),
}

/// Resolves a model id for a person, whom a canary may answer. A version that is not loaded is never
/// answered by another one.
///
/// # Errors
/// [`AppError::ModelNotFound`].
pub fn resolve(state: &AppState, id: &str, user: Option<&UserKey>) -> Result<Target, AppError> {
    if id == state.base_model_id {
        return Ok(Target::Base);
    }
    if id == state.alias.as_str() {
        let lease = state.registry.by_alias_for(&state.alias, user);
        return Ok(Target::Alias(lease));
    }
    // Other aliases are there once they name something.
    let other = Alias::new(id).ok();
    let lease = other.and_then(|alias| state.registry.by_alias_for(&alias, user));
    if lease.is_some() {
        return Ok(Target::Alias(lease));
    }
    id.strip_prefix(state.alias.as_str())
        .and_then(|rest| rest.strip_prefix('@'))
        .and_then(|version| pinned(state, version))
        .map(Target::Pinned)
        .ok_or_else(|| AppError::ModelNotFound(id.chars().take(128).collect()))
}

fn pinned(state: &AppState, digits: &str) -> Option<Lease> {
    let digits = VersionDigits::new(digits).ok()?;
    let versions = state.registry.versions();
    let mut matches = versions.iter().filter(|a| digits.begin(&a.version));
    match (matches.next(), matches.next()) {
        (Some(only), None) => state.registry.by_version(&only.version),
        _ => None,
    }
}
