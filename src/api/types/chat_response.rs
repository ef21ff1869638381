//! Answers of `POST /v1/chat/completions`.

use serde::Serialize;
use utoipa::ToSchema;

use super::logprobs::ChoiceLogprobs;
use super::usage::{Attribution, Usage};
use crate::app::answer::FinishReason as Reason;

/// A chat answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-...`
    pub id: String,
    /// Always `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// The model id of the request.
    pub model: String,
    /// The answers, in order of `index`.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
    pub usage: Usage,
    /// `fp_<base model>_<first 12 digits of the adapter version, or "base">_<none|generic|user>`.
    pub system_fingerprint: String,
    /// Who answered.
    pub attune: Attribution,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Its number.
    pub index: usize,
    /// What was said.
    pub message: AnswerMessage,
    /// `null` where it was not asked for.
    #[schema(required)]
    pub logprobs: Option<ChoiceLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AnswerMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
    /// Always `null`.
    #[schema(required)]
    pub refusal: Option<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// It has as many tokens as were allowed.
    Length,
}

impl From<Reason> for FinishReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Stop => Self::Stop,
            Reason::Length => Self::Length,
        }
    }
}

/// One event of a streamed chat answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatCompletionChunk {
    /// The same in every chunk.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: &'static str,
    /// The same in every chunk.
    pub created: u64,
    /// The model id of the request.
    pub model: String,
    /// One part of one answer; none in the chunk with token counts.
    pub choices: Vec<ChunkChoice>,
    /// With `include_usage`: `null` in every chunk but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
    /// As in [`ChatCompletion`].
    pub system_fingerprint: String,
    /// Who answers; in the first chunk only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attune: Option<Attribution>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChunkChoice {
    /// Which answer.
    pub index: usize,
    /// What is new.
    pub delta: Delta,
    /// The tokens of this part, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<ChoiceLogprobs>,
    /// `null` before the answer's last chunk.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}

/// What is new in an answer; empty in its last chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delta {
    /// `assistant`, in the answer's first chunk only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}
