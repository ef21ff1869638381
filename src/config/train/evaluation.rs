//! When a run is evaluated, on what, and when it logs.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::error::{count, share, ConfigError};

/// When a run is evaluated, on what, and when it logs.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Evaluation")]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// Share of each user's pairs (or of the tasks) that is held out.
    #[arg(long, default_value_t = 0.2)]
    pub holdout: f64,
    /// Steps from one evaluation to the next. The best state is published.
    #[arg(long, default_value_t = 100)]
    pub eval_every: usize,
    /// Stop after this many evaluations in a row without a better one.
    #[arg(long)]
    pub patience: Option<usize>,
    /// Steps from one line of metrics to the next.
    #[arg(long, default_value_t = 10)]
    pub log_every: usize,
}

impl Evaluation {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        share("--holdout", self.holdout)?;
        count("--eval-every", self.eval_every)?;
        self.patience.map(|n| count("--patience", n)).transpose()?;
        count("--log-every", self.log_every)?;
        Ok(())
    }
}
