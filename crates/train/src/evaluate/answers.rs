//! Answers of two policies to the same prompts, as a judge compared them.

use serde::{Deserialize, Serialize};

use super::PersonGain;

/// What a judge said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswersCompared {
    /// Prompts that both policies answered.
    pub prompts: usize,
    /// Of these, prompts with the same answer twice, on which nobody was asked.
    pub same: usize,
    /// Prompts without a vote, as the judge failed.
    pub failed: usize,
    /// Votes for the policy.
    pub won: usize,
    /// Votes for the other.
    pub lost: usize,
    /// What each person gained: 1 for a vote for the policy, -1 for one against it, 0 where neither answer is
    /// better. Who has no vote is not there.
    pub people: Vec<PersonGain>,
}
