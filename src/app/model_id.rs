//! Which model answers: the alias, the bare base, or a pinned version.

use super::error::AppError;
use super::state::AppState;
use crate::adapter::lease::Lease;
use crate::ids::AdapterVersion;

/// Hex digits that a shortened version needs at least.
pub const MIN_VERSION_DIGITS: usize = 8;

/// What a model id stands for now.
#[derive(Debug, Clone)]
pub enum Target {
    /// The bare base, never personalised.
    Base,
    /// The alias: the promoted version, or the bare base while there is none.
    Alias(Option<Lease>),
    /// A version by name.
    Pinned(Lease),
}

/// Resolves a model id. A version that is not loaded is never answered by another one.
///
/// # Errors
/// [`AppError::ModelNotFound`].
pub fn resolve(state: &AppState, id: &str) -> Result<Target, AppError> {
    if id == state.base_model_id {
        return Ok(Target::Base);
    }
    if id == state.alias.as_str() {
        return Ok(Target::Alias(state.registry.by_alias(&state.alias)));
    }
    id.strip_prefix(state.alias.as_str())
        .and_then(|rest| rest.strip_prefix('@'))
        .and_then(|version| pinned(state, version))
        .map(Target::Pinned)
        .ok_or_else(|| AppError::ModelNotFound(id.chars().take(128).collect()))
}

fn pinned(state: &AppState, digits: &str) -> Option<Lease> {
    if let Ok(version) = AdapterVersion::new(digits) {
        return state.registry.by_version(&version);
    }
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() < MIN_VERSION_DIGITS || !digits.bytes().all(hex) {
        return None;
    }
    let versions = state.registry.versions();
    let mut matches = versions
        .iter()
        .filter(|adapter| adapter.version.as_str().starts_with(digits));
    match (matches.next(), matches.next()) {
        (Some(only), None) => state.registry.by_version(&only.version),
        _ => None,
    }
}
