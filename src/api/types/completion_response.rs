//! Answers of `POST /v1/completions`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::chat_response::FinishReason;
use super::usage::{Attribution, Usage};
use crate::app::answer::TokenPiece;

/// A completion, or one event of a streamed one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Completion {
    /// `cmpl-...`, the same in every event.
    pub id: String,
    /// Always `text_completion`.
    pub object: &'static str,
    /// Seconds since 1970, the same in every event.
    pub created: u64,
    /// The model id of the request.
    pub model: String,
    /// The answers: those of the first prompt, then those of the second...
    pub choices: Vec<CompletionChoice>,
    /// Token counts; in a stream only with `include_usage`, in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// As in chat answers.
    pub system_fingerprint: String,
    /// Who answered; in a stream in the first event only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attune: Option<Attribution>,
}

/// One answer, or a part of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// Its text.
    pub text: String,
    /// Its number.
    pub index: usize,
    /// `null` where it was not asked for.
    #[schema(required)]
    pub logprobs: Option<CompletionLogprobs>,
    /// Why it ended; `null` before the answer's last event.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}

/// Log-probabilities, as parallel lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Texts; a token that is not UTF-8 by itself is written `bytes:\xe2\x80`.
    pub tokens: Vec<String>,
    /// In nats.
    pub token_logprobs: Vec<f32>,
    /// The best tokens; among them the chosen one, also where it is not one of the best.
    #[schema(value_type = Vec<std::collections::HashMap<String, f32>>)]
    pub top_logprobs: Vec<BTreeMap<String, f32>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<usize>,
}

impl From<Vec<TokenPiece>> for CompletionLogprobs {
    fn from(tokens: Vec<TokenPiece>) -> Self {
        let mut lists = Self::default();
        for token in tokens {
            let name = name(&token.chosen.bytes);
            let top = token.top.iter().map(|t| (self::name(&t.bytes), t.logprob));
            let chosen = (name.clone(), token.chosen.logprob);
            lists.top_logprobs.push(top.chain([chosen]).collect());
            lists.tokens.push(name);
            lists.token_logprobs.push(token.chosen.logprob);
            lists.text_offset.push(token.start);
        }
        lists
    }
}

/// Two tokens never have the same name: the lists are keyed by it.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let escaped = bytes.iter().map(|b| format!("\\x{b:02x}"));
            std::iter::once("bytes:".to_owned())
                .chain(escaped)
                .collect()
        }
    }
}
