//! What goes wrong with models.

/// What went wrong with a model file or a forward pass.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A configuration that this decoder cannot run, or a malformed one.
    #[error("the model's configuration cannot be used: {0}")]
    Config(String),
    /// Weights that are missing, left over, misshapen or unreadable.
    #[error("the model's weights cannot be used: {0}")]
    Weights(String),
    /// A model that could not be fetched or is not there.
    #[error("{0}")]
    Fetch(String),
    /// A failure of the tensor library: wrong shapes (a bug here) or no memory.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A file that could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
