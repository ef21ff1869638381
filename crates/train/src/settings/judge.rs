//! What a judge is, and how much it is asked.

use std::time::Duration;

/// What a judge is, and how much it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeSettings {
    /// Run by `sh -c`.
    pub command: String,
    /// So long a vote is waited for.
    pub timeout: Duration,
    /// Prompts of each person, at most.
    pub prompts: usize,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
}
