//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::extract::{Began, ForInference, JsonBody, UserHeader};
use super::headers::AnswerHead;
use super::json;
use super::router::HttpConfig;
use super::sse::{self, Chunks};
use super::types::completion_request::CompletionRequest;
use super::types::completion_response::{Completion, CompletionChoice};
use super::types::error::ErrorResponse;
use super::types::usage::{Attribution, Usage};
use crate::app::answer::{AnswerPiece, WholeAnswer};
use crate::app::state::AppState;
use crate::app::{answer, completions};

/// Go on from a text
///
/// The older interface: no roles and no chat template. Control tokens in a text are plain text;
/// who needs them sends token ids. A prompt that is empty begins with what stands before any text.
/// The person's profile stands in front of a text, not of token ids.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "completions",
    params(("X-User-Id" = Option<String>, Header, description = "The person whom the answer is for")),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answers", content(
            (Completion = "application/json"),
            (Completion = "text/event-stream"),
        )),
        (status = "4XX", description = "A request that cannot be answered", body = ErrorResponse),
        (status = "5XX", description = "A server that cannot answer now", body = ErrorResponse),
    )
)]
pub(super) async fn create_completion(
    State(state): State<Arc<AppState>>,
    State(http): State<Arc<HttpConfig>>,
    ForInference(caller): ForInference,
    Began(began): Began,
    UserHeader(user): UserHeader,
    JsonBody(request): JsonBody<CompletionRequest>,
) -> Result<Response, ApiError> {
    let ignored = request.ignored.clone();
    let streams = request.generation.streams();
    let includes_usage = request.generation.includes_usage();
    let started = completions::start(&state, &caller, request.into_command(user)?, began).await?;
    let (running, echoes) = (started.running, started.echoes);
    let head = AnswerHead::new("cmpl-", running.answered_by, began);
    let headers = head.headers(&ignored);
    if streams {
        let chunks = CompletionChunks {
            usage: includes_usage.then(|| Usage::new(running.prompt_tokens, 0, 0)),
            echoes,
            head,
        };
        return Ok(sse::respond(
            running.answers,
            chunks,
            None,
            http.ping_interval,
            headers,
        ));
    }
    let answers = answer::collect_all(running.answers).await?;
    let bytes = json::bytes_of(&answers) + echoes.iter().map(String::len).sum::<usize>();
    let prompt_tokens = running.prompt_tokens;
    let body = move || completion(head, prompt_tokens, echoes, answers);
    Ok((headers, json::respond(&state, bytes, body).await?).into_response())
}

fn completion(
    head: AnswerHead,
    prompt_tokens: usize,
    echoes: Vec<String>,
    answers: Vec<WholeAnswer>,
) -> Completion {
    let mut usage = Usage::new(prompt_tokens, 0, 0);
    answers.iter().for_each(|answer| usage.add(&answer.end));
    let choices = answers.into_iter().zip(echoes).enumerate();
    let choices = choices.map(|(index, (answer, echo))| CompletionChoice {
        text: echo + &answer.text,
        index,
        logprobs: answer.tokens.map(Into::into),
        finish_reason: Some(answer.end.reason.into()),
    });
    Completion {
        choices: choices.collect(),
        usage: Some(usage),
        attune: Some(Attribution::from(&head.answered_by)),
        ..frame(&head)
    }
}

fn frame(head: &AnswerHead) -> Completion {
    Completion {
        id: head.id.to_string(),
        object: "text_completion",
        created: head.created,
        model: head.answered_by.model.clone(),
        choices: Vec::new(),
        usage: None,
        system_fingerprint: head.answered_by.fingerprint.clone(),
        attune: None,
    }
}

struct CompletionChunks {
    head: AnswerHead,
    /// What goes before each answer; empty where there is nothing.
    echoes: Vec<String>,
    /// Counted where it was asked for.
    usage: Option<Usage>,
}

impl Chunks for CompletionChunks {
    type Chunk = Completion;

    /// The echoes; at least one event, so that every stream says at once who answers.
    fn opening(&mut self) -> Vec<Completion> {
        let echoes = std::mem::take(&mut self.echoes).into_iter().enumerate();
        let echoes = echoes.filter(|(index, echo)| *index == 0 || !echo.is_empty());
        let choices = echoes.map(|(index, text)| CompletionChoice {
            text,
            index,
            logprobs: None,
            finish_reason: None,
        });
        let mut chunks: Vec<_> = choices.map(|choice| self.chunk(vec![choice])).collect();
        if let Some(first) = chunks.first_mut() {
            first.attune = Some(Attribution::from(&self.head.answered_by));
        }
        chunks
    }

    fn piece(&mut self, index: usize, piece: AnswerPiece) -> Vec<Completion> {
        self.usage
            .iter_mut()
            .zip(piece.end)
            .for_each(|(usage, end)| usage.add(&end));
        let tokens = piece.tokens.filter(|tokens| !tokens.is_empty());
        vec![self.chunk(vec![CompletionChoice {
            text: piece.text,
            index,
            logprobs: tokens.map(Into::into),
            finish_reason: piece.end.map(|end| end.reason.into()),
        }])]
    }

    fn closing(&mut self) -> Vec<Completion> {
        let usage = self.usage.take().map(|usage| Completion {
            usage: Some(usage),
            ..frame(&self.head)
        });
        usage.into_iter().collect()
    }
}

impl CompletionChunks {
    fn chunk(&self, choices: Vec<CompletionChoice>) -> Completion {
        Completion {
            choices,
            ..frame(&self.head)
        }
    }
}
