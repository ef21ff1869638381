//! Completions that are kept, as OpenAI's document has them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::chat_response::{AnswerMessage, ChatChoice, ChatCompletion, FinishReason};
use super::usage::{Attribution, Usage};
use crate::app::answering::TokenCounts;
use crate::app::keep::{CompletionRecord, KeptChoice};

/// A kept completion.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct KeptChatCompletion {
    /// What was answered.
    #[serde(flatten)]
    pub completion: ChatCompletion,
    /// What it can be found by.
    pub metadata: BTreeMap<String, String>,
}

/// A completion that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Deleted {
    /// Its id.
    pub id: String,
    /// What it was: `chat.completion.deleted`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// A message of a kept completion's conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListedMessage {
    /// The completion's id and the message's place.
    pub id: String,
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Always `null`.
    #[schema(required)]
    pub refusal: Option<String>,
    /// Always `null`.
    #[schema(required)]
    pub content_parts: Option<Vec<String>>,
}

impl From<CompletionRecord> for KeptChatCompletion {
    fn from(record: CompletionRecord) -> Self {
        let tokens = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let completion = ChatCompletion {
            id: record.id.into(),
            object: "chat.completion",
            created: record.created_unix_ms / 1000,
            model: record.model,
            choices: record.choices.into_iter().map(choice).collect(),
            usage: Usage::from(TokenCounts {
                prompt: tokens(record.prompt_tokens),
                cached: 0,
                completion: tokens(record.completion_tokens),
            }),
            system_fingerprint: record.fingerprint,
            attune: Attribution {
                adapter_version: record.adapter_version.map(Into::into),
                user_row: match record.user_row.as_str() {
                    "user" => "user",
                    "generic" => "generic",
                    _ => "none",
                },
                soft_prompt_tokens: tokens(record.soft_prompt_tokens),
            },
        };
        Self {
            completion,
            metadata: record.metadata,
        }
    }
}

fn choice(choice: KeptChoice) -> ChatChoice {
    ChatChoice {
        index: choice.index as usize,
        message: AnswerMessage {
            role: "assistant",
            content: choice.content,
            refusal: None,
        },
        logprobs: None,
        finish_reason: match choice.finish_reason.as_str() {
            "length" => FinishReason::Length,
            _ => FinishReason::Stop,
        },
    }
}
