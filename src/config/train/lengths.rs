//! How long prompts and answers of pairs may be.

use clap::{Arg, Args};
use serde::{Deserialize, Serialize};

use crate::config::error::{count, ConfigError};

/// How long prompts and answers of pairs may be.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Lengths")]
#[serde(rename_all = "kebab-case")]
pub struct Lengths {
    /// Longest prompt to keep when a pair is too long, in tokens [default: half of --max-length].
    #[arg(long)]
    pub max_prompt: Option<usize>,
    /// Longest prompt and response together, in tokens.
    #[arg(long, default_value_t = 1024)]
    pub max_length: usize,
}

/// `--max-prompt` of commands other than runs: its default does not follow `--max-length`.
pub(super) fn fixed_max_prompt(flag: Arg) -> Arg {
    flag.default_value("512")
        .help("Longest prompt to keep when a pair is too long, in tokens")
}

impl Lengths {
    /// Longest prompt, longest prompt and response.
    ///
    /// # Errors
    /// A length of 0.
    pub(super) fn checked(&self) -> Result<(usize, usize), ConfigError> {
        let max_length = count("--max-length", self.max_length)?;
        let max_prompt = self.max_prompt.unwrap_or(max_length / 2);
        Ok((count("--max-prompt", max_prompt)?, max_length))
    }
}
