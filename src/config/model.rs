//! Which model; `attune model`.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

/// `attune model`.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// Fetch a model into the cache.
    Pull {
        /// A name that `attune model list` shows.
        #[arg(default_value = "smollm2-135m-instruct")]
        name: String,
    },
    /// Show the known models and which of them are in the cache.
    List,
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelName {
    /// A name that `attune model list` shows, a GGUF file, or a Hugging Face directory.
    #[arg(long, env = "ATTUNE_MODEL", default_value = "smollm2-135m-instruct")]
    pub model: String,
}
