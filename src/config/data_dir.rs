//! Where attune keeps its data.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::error::{problem, ConfigError};

/// Where attune keeps its data.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataDir {
    /// Directory of the store and the adapter versions; made if it is not there [default: attune in the user's data
    /// directory].
    #[arg(long, env = "ATTUNE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

impl DataDir {
    /// The directory: as typed, else `attune` in the user's data directory.
    ///
    /// # Errors
    /// None was typed and this system has none.
    pub fn path(&self) -> Result<PathBuf, ConfigError> {
        let usual = || dirs::data_dir().map(|d| d.join("attune"));
        let none = || problem("--data-dir", "this system has no data directory; name one");
        self.data_dir.clone().or_else(usual).ok_or_else(none)
    }
}

/// Where bundles are offered to a server.
#[derive(Debug, Clone, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BundleFolder {
    /// The server's bundle folder, from which `POST /v1/admin/adapters` installs [default: bundles in the data
    /// directory].
    #[arg(long, env = "ATTUNE_BUNDLES")]
    pub bundles: Option<PathBuf>,
}

impl BundleFolder {
    /// The folder: as typed, else `bundles` in the data directory.
    pub fn path(&self, data_dir: &Path) -> PathBuf {
        let usual = || data_dir.join("bundles");
        self.bundles.clone().unwrap_or_else(usual)
    }
}
