//! What stops a turn. Nothing was promoted then.

use std::io;
use std::path::{Path, PathBuf};

use crate::app::versions::VersionsError;
use attune_adapter::AdapterError;
use attune_ids::AdapterVersion;
use attune_model::error::ModelError;
use attune_store::StoreError;
use attune_train::TrainError;

/// Why a turn ended before its decision.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// Another loop works on this data directory.
    #[error("another `attune loop` is running on {}; only one can run at a time", .0.display())]
    Busy(PathBuf),
    /// There is nothing to turn.
    #[error("{} holds no store: name the server's --data-dir", .0.display())]
    NoStore(PathBuf),
    /// The secret of the split is none.
    #[error(
        "{} is not what attune wrote there: restore it, or remove it to have pairs set aside anew",
        .0.display()
    )]
    NoSecret(PathBuf),
    /// A server has the store open and did not leave word where it listens.
    #[error(
        "another process has {} open, but its address cannot be read ({source}): give --url",
        .data_dir.display()
    )]
    Unreachable {
        /// The data directory.
        data_dir: PathBuf,
        /// Why its address is not known.
        source: io::Error,
    },
    /// Something else answers where the server is said to be.
    #[error(
        "the server at {url} did not prove that it is the server of {}, so it was told nothing: the file `address` \
         there may be left from a server that has ended; name one that you know with --url",
        .data_dir.display()
    )]
    Stranger {
        /// Where.
        url: String,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The server cannot be reached, or breaks off.
    #[error("{url}: {reason}")]
    Http {
        /// What was asked for.
        url: String,
        /// What the client says.
        reason: String,
    },
    /// The server says no.
    #[error("{url}: {status}, {message}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// The alias was moved while the turn went on: what was compared is not what answers now.
    #[error("{0}")]
    Conflict(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Versions of a data directory without a server.
    #[error(transparent)]
    Versions(#[from] VersionsError),
    /// A bundle.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// What the alias names cannot be loaded, so that nothing can be compared with it.
    #[error(
        "version {version} is what is to be improved, and cannot be loaded: {error}; promote another version \
         or roll back, then turn again"
    )]
    Current {
        /// The version.
        version: AdapterVersion,
        /// Why not.
        error: AdapterError,
    },
    /// The base model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Files.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl LoopError {
    /// For `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
