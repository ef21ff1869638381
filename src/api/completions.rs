//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::extract::{Began, ForInference, JsonBody, UserHeader};
use super::headers::answer_headers;
use super::respond::{respond, WireFormat};
use super::router::HttpConfig;
use super::sse::{self, Event};
use super::types::completion_request::CompletionRequest;
use super::types::completion_response::{Completion, CompletionChoice};
use super::types::error::ErrorResponse;
use super::types::usage::Attribution;
use crate::app::answer::{AnswerPiece, WholeAnswer};
use crate::app::answering::{AnswerHead, TokenCounts};
use crate::app::completions;
use crate::app::state::AppState;

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
    let wire = CompletionFormat {
        includes_usage: request.generation.includes_usage(),
    };
    let answering = completions::start(&state, &caller, request.into_command(user)?, began).await?;
    let headers = answer_headers(&answering.head, &ignored);
    respond(&state, &http, answering, wire, streams, headers).await
}

struct CompletionFormat {
    /// Whether a stream ends with token counts.
    includes_usage: bool,
}

impl WireFormat for CompletionFormat {
    type Body = Completion;

    fn body(self, head: AnswerHead, tokens: TokenCounts, answers: Vec<WholeAnswer>) -> Completion {
        let choice = |(index, answer): (usize, WholeAnswer)| CompletionChoice {
            text: answer.text,
            index,
            logprobs: answer.tokens.map(Into::into),
            finish_reason: Some(answer.end.reason.into()),
        };
        Completion {
            usage: Some(tokens.into()),
            attune: Some(Attribution::from(&head.answered_by)),
            ..completion(&head, answers.into_iter().enumerate().map(choice).collect())
        }
    }

    /// The echoes; at least one event, so that every stream says at once who answers.
    fn opening(&mut self, head: &AnswerHead, echoes: Vec<String>) -> Vec<Event> {
        let echo = |index, text| CompletionChoice {
            text,
            index,
            logprobs: None,
            finish_reason: None,
        };
        let echoes = echoes.into_iter().enumerate();
        let echoes = echoes.filter(|(index, echo)| *index == 0 || !echo.is_empty());
        let events = echoes.map(|(index, text)| Completion {
            attune: (index == 0).then(|| Attribution::from(&head.answered_by)),
            ..completion(head, vec![echo(index, text)])
        });
        events.map(|event| sse::event(&event)).collect()
    }

    fn piece(&mut self, head: &AnswerHead, index: usize, piece: AnswerPiece) -> Vec<Event> {
        let tokens = piece.tokens.filter(|tokens| !tokens.is_empty());
        let choice = CompletionChoice {
            text: piece.text,
            index,
            logprobs: tokens.map(Into::into),
            finish_reason: piece.end.map(|end| end.reason.into()),
        };
        vec![sse::event(&completion(head, vec![choice]))]
    }

    fn closing(&mut self, head: &AnswerHead, tokens: TokenCounts) -> Vec<Event> {
        let usage = self.includes_usage.then(|| Completion {
            usage: Some(tokens.into()),
            ..completion(head, Vec::new())
        });
        let usage = usage.iter().map(sse::event);
        usage.chain([sse::done()]).collect()
    }
}

fn completion(head: &AnswerHead, choices: Vec<CompletionChoice>) -> Completion {
    Completion {
        id: head.id.to_string(),
        object: "text_completion",
        created: head.created_unix,
        model: head.answered_by.model.clone(),
        choices,
        usage: None,
        system_fingerprint: head.answered_by.fingerprint.clone(),
        attune: None,
    }
}
