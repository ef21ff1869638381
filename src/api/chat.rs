//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::extract::{Began, ForInference, JsonBody, UserHeader};
use super::headers::{answer_headers, store_header};
use super::respond::{respond, WireFormat};
use super::router::HttpConfig;
use super::sse::{self, Event};
use super::types::chat_request::ChatCompletionRequest;
use super::types::chat_response::{
    AnswerMessage, ChatChoice, ChatCompletion, ChatCompletionChunk, ChunkChoice, Delta,
};
use super::types::error::ErrorResponse;
use super::types::usage::Attribution;
use crate::app::answer::{AnswerPiece, WholeAnswer};
use crate::app::answering::{AnswerHead, TokenCounts};
use crate::app::chat;
use crate::app::state::AppState;

/// Answer a conversation
///
/// With the model `attune`, the answer is personalised for the person that the header `X-User-Id`,
/// the field `user` or the field `safety_identifier` names, in this order. With `stream`, the
/// answer is a stream of `chat.completion.chunk` events that ends with `data: [DONE]`.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "chat",
    params(("X-User-Id" = Option<String>, Header, description = "The person whom the answer is for")),
    request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The answer", content(
            (ChatCompletion = "application/json"),
            (ChatCompletionChunk = "text/event-stream"),
        )),
        (status = "4XX", description = "A request that cannot be answered", body = ErrorResponse),
        (status = "5XX", description = "A server that cannot answer now", body = ErrorResponse),
    )
)]
pub(super) async fn create_chat_completion(
    State(state): State<Arc<AppState>>,
    State(http): State<Arc<HttpConfig>>,
    ForInference(caller): ForInference,
    Began(began): Began,
    UserHeader(user): UserHeader,
    JsonBody(request): JsonBody<ChatCompletionRequest>,
) -> Result<Response, ApiError> {
    let ignored = request.ignored.clone();
    let streams = request.generation.streams();
    let wire = ChatFormat {
        includes_usage: request.generation.includes_usage(),
    };
    let answering = chat::start(&state, &caller, request.into_command(user)?, began).await?;
    let mut headers = answer_headers(&answering.head, &ignored);
    headers.extend(store_header(state.store_health.state()));
    respond(&state, &http, answering, wire, streams, headers).await
}

struct ChatFormat {
    /// Whether a stream ends with token counts.
    includes_usage: bool,
}

impl WireFormat for ChatFormat {
    type Body = ChatCompletion;

    fn body(
        self,
        head: AnswerHead,
        tokens: TokenCounts,
        answers: Vec<WholeAnswer>,
    ) -> ChatCompletion {
        let choice = |(index, answer): (usize, WholeAnswer)| ChatChoice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: answer.text,
                refusal: None,
            },
            logprobs: answer.tokens.map(Into::into),
            finish_reason: answer.end.reason.into(),
        };
        ChatCompletion {
            object: "chat.completion",
            choices: answers.into_iter().enumerate().map(choice).collect(),
            usage: tokens.into(),
            attune: Attribution::from(&head.answered_by),
            id: head.id.into(),
            created: head.created_unix,
            model: head.answered_by.model,
            system_fingerprint: head.answered_by.fingerprint,
        }
    }

    /// Who speaks. A chat's answers have no echoes.
    fn opening(&mut self, head: &AnswerHead, echoes: Vec<String>) -> Vec<Event> {
        let role = |index| ChunkChoice {
            index,
            delta: Delta {
                role: Some("assistant"),
                content: Some(String::new()),
            },
            logprobs: None,
            finish_reason: None,
        };
        let chunks = (0..echoes.len()).map(|index| ChatCompletionChunk {
            attune: (index == 0).then(|| Attribution::from(&head.answered_by)),
            ..self.chunk(head, vec![role(index)])
        });
        chunks.map(|chunk| sse::event(&chunk)).collect()
    }

    fn piece(&mut self, head: &AnswerHead, index: usize, piece: AnswerPiece) -> Vec<Event> {
        let mut choices = Vec::with_capacity(2);
        let tokens = piece.tokens.filter(|tokens| !tokens.is_empty());
        if !piece.text.is_empty() || tokens.is_some() {
            choices.push(ChunkChoice {
                index,
                delta: Delta {
                    role: None,
                    content: Some(piece.text),
                },
                logprobs: tokens.map(Into::into),
                finish_reason: None,
            });
        }
        if let Some(end) = piece.end {
            choices.push(ChunkChoice {
                index,
                delta: Delta::default(),
                logprobs: None,
                finish_reason: Some(end.reason.into()),
            });
        }
        let chunks = choices.into_iter().map(|c| self.chunk(head, vec![c]));
        chunks.map(|chunk| sse::event(&chunk)).collect()
    }

    fn closing(&mut self, head: &AnswerHead, tokens: TokenCounts) -> Vec<Event> {
        let usage = self.includes_usage.then(|| ChatCompletionChunk {
            usage: Some(Some(tokens.into())),
            ..self.chunk(head, Vec::new())
        });
        let usage = usage.iter().map(sse::event);
        usage.chain([sse::done()]).collect()
    }
}

impl ChatFormat {
    fn chunk(&self, head: &AnswerHead, choices: Vec<ChunkChoice>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: head.id.to_string(),
            object: "chat.completion.chunk",
            created: head.created_unix,
            model: head.answered_by.model.clone(),
            choices,
            usage: self.includes_usage.then_some(None),
            system_fingerprint: head.answered_by.fingerprint.clone(),
            attune: None,
        }
    }
}
