//! `attune-train sample`.

use std::path::PathBuf;

use clap::Args;

use super::base_model::BaseModel;
use crate::config::error::ConfigError;
use attune_train::commands::sample::SampleRequest;

/// `attune-train sample`.
#[derive(Debug, Clone, Args)]
pub struct Sample {
    /// The bundle.
    #[arg(long)]
    pub bundle: PathBuf,
    /// The prompt that everybody sends.
    #[arg(long)]
    pub prompt: String,
    /// The users who ask; the generic user and the bare base answer beside them.
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<String>,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 80)]
    pub max_tokens: usize,
    /// Temperature of the answers; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Seed of every answer.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// The base model.
    #[command(flatten)]
    pub base: BaseModel,
}

impl Sample {
    /// Checks what was typed.
    ///
    /// # Errors
    /// A device that cannot be named so.
    pub fn request(self) -> Result<SampleRequest, ConfigError> {
        Ok(SampleRequest {
            compute: self.base.compute()?,
            base: self.base.base,
            bundle: self.bundle,
            prompt: self.prompt,
            users: self.users,
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            seed: self.seed,
        })
    }
}
