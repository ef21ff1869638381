//! What each key and each user may have of the engine.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::error::{problem, ConfigError, MAX_COUNT};
use attune_engine::admission::Caps;
use attune_engine::fairness::Sharing;

/// What each key and each user may have of the engine.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Sharing")]
#[serde(rename_all = "kebab-case")]
pub struct Shares {
    /// Answers per API key, running and waiting; more are refused with 429. 0: no limit [default: three quarters of
    /// all places, if there are keys].
    #[arg(long, env = "ATTUNE_MAX_ANSWERS_PER_KEY")]
    pub max_answers_per_key: Option<usize>,
    /// The same per user. Requests that name no user are not counted. 0: no limit.
    #[arg(long, env = "ATTUNE_MAX_ANSWERS_PER_USER", default_value_t = 128)]
    pub max_answers_per_user: usize,
}

impl Shares {
    /// Checks what was typed, for a server with so many places. Without a number, one key of several may fill three
    /// quarters of them, so that the others still find some; without keys there is nobody to keep them for.
    pub(super) fn config(&self, places: usize, has_keys: bool) -> Result<Sharing, ConfigError> {
        let usual = if has_keys { places.div_ceil(4) * 3 } else { 0 };
        let per_key = self.max_answers_per_key.unwrap_or(usual);
        Ok(Sharing {
            caps: Caps {
                per_key: cap("--max-answers-per-key", per_key)?,
                per_member: cap("--max-answers-per-user", self.max_answers_per_user)?,
            },
            ..Sharing::default()
        })
    }
}

/// 0 is no cap.
fn cap(setting: &'static str, value: usize) -> Result<Option<usize>, ConfigError> {
    if value > MAX_COUNT {
        let text = format!("{value} is not in 0..={MAX_COUNT}");
        return Err(problem(setting, text));
    }
    Ok((value > 0).then_some(value))
}
