//! Why there is no report.

use std::path::PathBuf;

use crate::metrics::file::FILE_NAME;

use crate::run_dir::{EVAL_FILE, RUN_FILE};

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not the directory of a run, or one that has not begun.
    #[error(
        "{} has none of {FILE_NAME}, {EVAL_FILE} and {RUN_FILE}: give the directory that a run of \
         attune-train writes",
        .dir.display()
    )]
    NoRun {
        /// The directory.
        dir: PathBuf,
    },
    /// A file that is not what its name says.
    #[error(
        "{} cannot be read ({reason}): move it away, and the report is written without it",
        .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Permissions, or a full disk.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The plotting library gave up: a defect of this program.
    #[error("the plot {plot:?} cannot be drawn ({reason}); please report this")]
    Plot {
        /// Its title.
        plot: &'static str,
        /// The library's reason.
        reason: String,
    },
}
