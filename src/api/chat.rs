//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::extract::{Began, ForInference, JsonBody, UserHeader};
use super::headers::{AnswerHead, KEPT, STORE};
use super::json;
use super::router::HttpConfig;
use super::sse::{self, Chunks};
use super::types::chat_request::ChatCompletionRequest;
use super::types::chat_response::{
    AnswerMessage, ChatChoice, ChatCompletion, ChatCompletionChunk, ChunkChoice, Delta,
};
use super::types::error::ErrorResponse;
use super::types::usage::{Attribution, Usage};
use crate::app::answer::{AnswerPiece, WholeAnswer};
use crate::app::state::AppState;
use crate::app::store_health::StoreState;
use crate::app::{answer, chat};

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
    let includes_usage = request.generation.includes_usage();
    let (running, keeper) =
        chat::start(&state, &caller, request.into_command(user)?, began).await?;
    let head = AnswerHead::new("chatcmpl-", running.answered_by, began);
    let keeper = keeper.map(|k| k.named(&head.id, running.prompt_tokens));
    let mut headers = head.headers(&ignored);
    let store = state.store_health.state();
    if store != StoreState::Writable {
        headers.insert(STORE, HeaderValue::from_static(store.as_str()));
    }
    if streams {
        let chunks = ChatChunks {
            count: running.answers.len(),
            usage: includes_usage.then(|| Usage::new(running.prompt_tokens, 0, 0)),
            head,
        };
        return Ok(sse::respond(
            running.answers,
            chunks,
            keeper,
            http.ping_interval,
            headers,
        ));
    }
    let answers = answer::collect_all(running.answers).await?;
    if let Some(mut keeper) = keeper {
        keeper.answers(&answers);
        let kept = match keeper.write().await {
            true => "true",
            false => "false",
        };
        headers.insert(KEPT, HeaderValue::from_static(kept));
    }
    let (bytes, prompt_tokens) = (json::bytes_of(&answers), running.prompt_tokens);
    let body = move || completion(head, prompt_tokens, answers);
    Ok((headers, json::respond(&state, bytes, body).await?).into_response())
}

fn completion(head: AnswerHead, prompt_tokens: usize, answers: Vec<WholeAnswer>) -> ChatCompletion {
    let mut usage = Usage::new(prompt_tokens, 0, 0);
    answers.iter().for_each(|answer| usage.add(&answer.end));
    let choices = answers
        .into_iter()
        .enumerate()
        .map(|(index, answer)| ChatChoice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: answer.text,
                refusal: None,
            },
            logprobs: answer.tokens.map(Into::into),
            finish_reason: answer.end.reason.into(),
        });
    ChatCompletion {
        object: "chat.completion",
        choices: choices.collect(),
        usage,
        attune: Attribution::from(&head.answered_by),
        id: head.id.into(),
        created: head.created,
        model: head.answered_by.model,
        system_fingerprint: head.answered_by.fingerprint,
    }
}

struct ChatChunks {
    head: AnswerHead,
    count: usize,
    /// Counted where it was asked for.
    usage: Option<Usage>,
}

impl Chunks for ChatChunks {
    type Chunk = ChatCompletionChunk;

    fn opening(&mut self) -> Vec<ChatCompletionChunk> {
        let role = |index| ChunkChoice {
            index,
            delta: Delta {
                role: Some("assistant"),
                content: Some(String::new()),
            },
            logprobs: None,
            finish_reason: None,
        };
        let mut chunks: Vec<_> = (0..self.count).map(|i| self.chunk(vec![role(i)])).collect();
        if let Some(first) = chunks.first_mut() {
            first.attune = Some(Attribution::from(&self.head.answered_by));
        }
        chunks
    }

    fn piece(&mut self, index: usize, piece: AnswerPiece) -> Vec<ChatCompletionChunk> {
        let mut chunks = Vec::with_capacity(2);
        let tokens = piece.tokens.filter(|tokens| !tokens.is_empty());
        if !piece.text.is_empty() || tokens.is_some() {
            chunks.push(self.chunk(vec![ChunkChoice {
                index,
                delta: Delta {
                    role: None,
                    content: Some(piece.text),
                },
                logprobs: tokens.map(Into::into),
                finish_reason: None,
            }]));
        }
        if let Some(end) = piece.end {
            self.usage.iter_mut().for_each(|usage| usage.add(&end));
            chunks.push(self.chunk(vec![ChunkChoice {
                index,
                delta: Delta::default(),
                logprobs: None,
                finish_reason: Some(end.reason.into()),
            }]));
        }
        chunks
    }

    fn closing(&mut self) -> Vec<ChatCompletionChunk> {
        let usage = self.usage.take().map(|usage| ChatCompletionChunk {
            usage: Some(Some(usage)),
            ..self.chunk(Vec::new())
        });
        usage.into_iter().collect()
    }
}

impl ChatChunks {
    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: self.head.id.to_string(),
            object: "chat.completion.chunk",
            created: self.head.created,
            model: self.head.answered_by.model.clone(),
            choices,
            usage: self.usage.as_ref().map(|_| None),
            system_fingerprint: self.head.answered_by.fingerprint.clone(),
            attune: None,
        }
    }
}
