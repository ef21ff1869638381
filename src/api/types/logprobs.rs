//! Log-probabilities in the form of chat answers.

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::answer::{TokenPiece, TokenText};

/// The tokens of an answer or of a chunk.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChoiceLogprobs {
    /// The tokens in order.
    pub content: Vec<TokenLogprob>,
    /// Always `null`: this server has no refusals.
    #[schema(required, value_type = Option<Vec<TokenLogprob>>)]
    pub refusal: Option<()>,
}

/// A token that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TokenLogprob {
    /// Its text; bytes that are not UTF-8 by themselves are U+FFFD.
    pub token: String,
    /// In nats, of the model's own distribution (before temperature and penalties).
    pub logprob: f32,
    /// Its bytes; those of all tokens join to the answer.
    pub bytes: Vec<u8>,
    /// The best alternatives, best first.
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have been chosen.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TopLogprob {
    /// Its text.
    pub token: String,
    /// In nats.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl From<Vec<TokenPiece>> for ChoiceLogprobs {
    fn from(tokens: Vec<TokenPiece>) -> Self {
        Self {
            content: tokens.into_iter().map(TokenLogprob::from).collect(),
            refusal: None,
        }
    }
}

impl From<TokenPiece> for TokenLogprob {
    fn from(piece: TokenPiece) -> Self {
        Self {
            token: piece.chosen.text,
            logprob: piece.chosen.logprob,
            bytes: piece.chosen.bytes,
            top_logprobs: piece.top.into_iter().map(TopLogprob::from).collect(),
        }
    }
}

impl From<TokenText> for TopLogprob {
    fn from(token: TokenText) -> Self {
        Self {
            token: token.text,
            logprob: token.logprob,
            bytes: token.bytes,
        }
    }
}
