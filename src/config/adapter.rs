//! `attune adapter`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::data_dir::{BundleFolder, DataDir};
use super::model::ModelName;

/// `attune adapter`.
#[derive(Debug, Subcommand)]
pub enum Adapter {
    /// Turn a PEFT checkpoint (LoRA, with or without the authors' user model) into a version.
    Import(AdapterImport),
    /// Copy a bundle into the data directory and install it.
    Install {
        /// The bundle's directory.
        bundle: PathBuf,
        /// The model that the server serves: a version of another one is refused.
        #[command(flatten)]
        model: ModelName,
        /// Where to.
        #[command(flatten)]
        data: DataDir,
    },
    /// Make the model id `attune` name a version.
    Promote {
        /// The version, or its first 8 or more digits.
        version: String,
        /// Only if the alias names this version now; `none` if it names nothing.
        #[arg(long)]
        expected: Option<String>,
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Make the model id `attune` name what it named before.
    Rollback {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Remove a version that the model id does not name.
    Retire {
        /// The version, or its first 8 or more digits.
        version: String,
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Replace each version that knows deleted people, here and in the bundle folder, by one without their ids and
    /// rows.
    Forget {
        /// Where bundles are replaced, too.
        #[command(flatten)]
        bundles: BundleFolder,
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Show the installed versions.
    List {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Write a bundle as a PEFT checkpoint.
    Export {
        /// The bundle's directory.
        bundle: PathBuf,
        /// Directory that gets adapter_config.json and adapter_model.safetensors.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a bundle's hash and structure.
    Verify {
        /// The bundle's directory.
        bundle: PathBuf,
    },
}

/// `attune adapter import`.
#[derive(Debug, Args)]
pub struct AdapterImport {
    /// The checkpoint's directory: adapter_config.json and adapter_model.safetensors.
    pub checkpoint: PathBuf,
    /// Directory that gets the bundle [default: the data directory's own adapters].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A name for people to read.
    #[arg(long)]
    pub name: Option<String>,
    /// T_u: rows of one user's soft prompt. The checkpoint does not say.
    #[arg(long, default_value_t = 0)]
    pub n_user_tokens: usize,
    /// User ids of rows 1, 2, ...; the checkpoint does not say.
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<String>,
    /// End of the data that it was trained on: 2026-11-01T00:00:00Z, or milliseconds since 1970. People deleted
    /// before that moment keep their rows; everybody deleted after it loses theirs.
    #[arg(long)]
    pub data_until: Option<String>,
    /// Users' rows stand alone instead of being added to the generic user's.
    #[arg(long)]
    pub without_generic: bool,
    /// The model that the checkpoint was trained on.
    #[command(flatten)]
    pub model: ModelName,
    /// Where.
    #[command(flatten)]
    pub data: DataDir,
}
