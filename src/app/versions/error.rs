//! What goes wrong with versions.

use crate::app::error::AppError;
use attune_adapter::error::AdapterError;
use attune_adapter::loaded::LoadError;
use attune_ids::{AdapterVersion, Alias, IdError, VersionDigits};
use attune_store::{CasError, StoreError};

/// What goes wrong with the versions of a data directory.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bundle.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A version does not come into memory.
    #[error("version {version} cannot be loaded: {source}")]
    Load {
        /// The version.
        version: AdapterVersion,
        /// Why.
        source: LoadError,
    },
    /// The version that an alias names cannot be loaded: nothing answers in its place.
    #[error("alias {alias} names version {version}, which cannot be loaded")]
    Unavailable {
        /// The alias.
        alias: Alias,
        /// The version.
        version: AdapterVersion,
    },
    /// The alias was not moved.
    #[error(transparent)]
    Alias(#[from] CasError),
    /// What was given is not a version's digits.
    #[error(transparent)]
    Digits(#[from] IdError),
    /// No installed version begins with these digits.
    #[error("no installed version begins with {0}; `attune adapter list` shows what is installed")]
    Unknown(VersionDigits),
    /// Several do.
    #[error("several installed versions begin with {0}; give more digits")]
    Ambiguous(VersionDigits),
    /// The version is not installed.
    #[error("adapter version {0} is not installed; `attune adapter list` shows those that are")]
    NotInstalled(AdapterVersion),
    /// The version cannot answer here.
    #[error("version {0} is made for a different base model than the one being served")]
    OtherBase(AdapterVersion),
    /// The alias is not where the caller thought it was: somebody else moved it.
    #[error(
        "alias {alias} names {}, which is not what was expected; look at it again, then promote",
        .actual.as_ref().map_or("nothing", AdapterVersion::as_str)
    )]
    Conflict {
        /// The alias.
        alias: Alias,
        /// What it names.
        actual: Option<AdapterVersion>,
    },
    /// The alias named nothing before, or what it named was removed.
    #[error("alias {0} has no version to go back to; promote one by its name")]
    NothingBefore(Alias),
}

impl VersionsError {
    /// The message for those who must not learn where this server keeps its files.
    pub fn without_paths(&self) -> String {
        match self {
            Self::Adapter(error)
            | Self::Load {
                source: LoadError::Adapter(error),
                ..
            } => error.without_paths(),
            Self::Load { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }
}

impl From<VersionsError> for AppError {
    fn from(error: VersionsError) -> Self {
        let message = error.to_string();
        match error {
            VersionsError::Store(error) => error.into(),
            VersionsError::Alias(error) => error.into(),
            VersionsError::Unknown(digits) => no_adapter(digits.to_string()),
            VersionsError::NotInstalled(version) => no_adapter(version.to_string()),
            VersionsError::Conflict { .. }
            | VersionsError::NothingBefore(_)
            | VersionsError::OtherBase(_) => Self::Conflict(message),
            VersionsError::Digits(_) | VersionsError::Ambiguous(_) => Self::Invalid {
                field: "version",
                message,
            },
            VersionsError::Load { version, source } => not_loaded(version, source),
            VersionsError::Unavailable { alias, version } => {
                Self::AliasUnavailable { alias, version }
            }
            VersionsError::Adapter(_) => Self::Internal(message),
        }
    }
}

impl From<CasError> for AppError {
    fn from(error: CasError) -> Self {
        match error {
            CasError::Store(error) => error.into(),
            CasError::NotInstalled { version } => no_adapter(version.to_string()),
            CasError::Conflict { .. } => Self::Conflict(error.to_string()),
        }
    }
}

/// The error for a version that does not come into memory.
fn not_loaded(version: AdapterVersion, error: LoadError) -> AppError {
    match error {
        LoadError::NoRoom { .. } => AppError::AdapterMemory(error.to_string()),
        LoadError::Adapter(error) => AppError::AdapterDamaged {
            version,
            reason: error.to_string(),
        },
    }
}

/// The error for an alias that does not exist.
pub fn no_alias(alias: &Alias) -> AppError {
    let (what, id) = ("alias", alias.to_string());
    AppError::NotFound { what, id }
}

/// The error for a version that is not installed.
pub fn no_adapter(id: String) -> AppError {
    let what = "adapter";
    AppError::NotFound { what, id }
}
