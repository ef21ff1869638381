//! What a protocol sends on: who answers, the answers on their way, and who keeps them.

use super::answer::{AnswerEnd, AnswerReader};
use super::keep::Keeper;
use super::selection::{AnsweredBy, Selection};
use super::state::AppState;
use attune_ids::RecordId;

/// A request that the engine has taken in. Dropping it frees the sequences.
#[derive(Debug)]
pub struct Answering {
    /// What all parts of the answer share.
    pub head: AnswerHead,
    /// Prompt tokens of all prompts; soft rows are not counted.
    pub prompt_tokens: usize,
    /// The answers in order: those of prompt 0 first, `n` per prompt.
    pub answers: Vec<AnswerReader>,
    /// Who keeps them, if they are to be kept.
    pub keeper: Option<Keeper>,
}

/// What all parts of one answer share.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// `chatcmpl-...` or `cmpl-...`
    pub id: RecordId,
    /// When the request began, in seconds since 1970.
    pub created_unix: u64,
    /// Who answers.
    pub answered_by: AnsweredBy,
}

impl AnswerHead {
    /// With a new id that begins with `prefix`.
    pub(super) fn new(state: &AppState, prefix: &str, selection: &Selection) -> Self {
        let began = selection.began_unix_ms();
        Self {
            id: RecordId::generate(prefix, began),
            created_unix: began / 1000,
            answered_by: selection.answered_by(state),
        }
    }
}

/// What a request took, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCounts {
    /// Of all prompts.
    pub prompt: usize,
    /// Those of them that came from the prefix cache.
    pub cached: usize,
    /// Of all answers so far.
    pub completion: usize,
}

impl TokenCounts {
    /// Of a request none of whose answers has ended.
    pub fn of_prompt(tokens: usize) -> Self {
        Self {
            prompt: tokens,
            cached: 0,
            completion: 0,
        }
    }

    /// With one answer more.
    pub fn add(&mut self, end: &AnswerEnd) {
        self.cached += end.cached_tokens;
        self.completion += end.completion_tokens;
    }
}
