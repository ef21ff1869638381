//! Token counts, and who answered.

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::answering::TokenCounts;
use crate::app::selection::AnsweredBy;

/// Token counts of a request. Soft-prompt rows are not tokens of the prompt and are not counted;
/// [`Attribution`] has their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of all answers.
    pub completion_tokens: usize,
    /// The sum of both.
    pub total_tokens: usize,
    /// More about the prompt.
    pub prompt_tokens_details: PromptTokensDetails,
}

/// More about the tokens of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens that came from the prefix cache.
    pub cached_tokens: usize,
}

impl From<TokenCounts> for Usage {
    fn from(tokens: TokenCounts) -> Self {
        Self {
            prompt_tokens: tokens.prompt,
            completion_tokens: tokens.completion,
            total_tokens: tokens.prompt + tokens.completion,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: tokens.cached,
            },
        }
    }
}

/// Who answered: an extension of attune's, beside OpenAI's fields. In a stream it stands in the
/// first chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attribution {
    /// The adapter version that answered; `null` is the bare base model.
    #[schema(required)]
    pub adapter_version: Option<String>,
    /// Whose soft prompt it was.
    #[schema(value_type = UserRow)]
    pub user_row: &'static str,
    /// Rows of the soft prompt; they take positions of the context.
    pub soft_prompt_tokens: usize,
}

/// Whose soft prompt an answer was made with.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum UserRow {
    /// There is no user model.
    None,
    /// The generic user's: nobody was named, or the person is unknown.
    Generic,
    /// The person's own.
    User,
}

impl From<&AnsweredBy> for Attribution {
    fn from(answered_by: &AnsweredBy) -> Self {
        Self {
            adapter_version: answered_by.version.as_ref().map(ToString::to_string),
            user_row: answered_by.row.as_str(),
            soft_prompt_tokens: answered_by.soft_prompt_tokens,
        }
    }
}
