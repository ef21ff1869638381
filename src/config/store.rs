//! `attune store`.

use std::path::PathBuf;

use clap::Subcommand;

use super::data_dir::DataDir;

/// `attune store`.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Check every record and every reference between records.
    Verify {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Write every record as sorted JSON lines.
    Export {
        /// The file.
        #[arg(long)]
        out: PathBuf,
        /// Where from.
        #[command(flatten)]
        data: DataDir,
    },
    /// Rewrite the store's files so that nothing that was deleted is left in them.
    Compact {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Read an export into an empty store.
    Import {
        /// The file.
        file: PathBuf,
        /// Where to.
        #[command(flatten)]
        data: DataDir,
    },
}
