//! What `app` answers becomes a response: one JSON body, or a stream of events.
//!
//! ```text
//!   chat, completions --command--> app::chat, app::completions --Answering--> respond --> json  (one body)
//!          |                                                                     ^  \---> sse   (events)
//!          +------------------ WireFormat: how body and events look -------------+
//! ```

use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::ApiError;
use super::headers::KEPT;
use super::json;
use super::router::HttpConfig;
use super::sse::{self, Event};
use crate::app::answer::{self, AnswerPiece, WholeAnswer};
use crate::app::answering::{AnswerHead, Answering, TokenCounts};
use crate::app::state::AppState;

/// How one protocol writes answers.
pub trait WireFormat: Send + 'static {
    /// All answers at once.
    type Body: Serialize;

    /// The body of an answer that is not streamed.
    fn body(self, head: AnswerHead, tokens: TokenCounts, answers: Vec<WholeAnswer>) -> Self::Body;

    /// The events before anything else. Each answer begins with its echo, which may be empty.
    fn opening(&mut self, head: &AnswerHead, echoes: Vec<String>) -> Vec<Event>;

    /// The events of a piece of answer `index`.
    fn piece(&mut self, head: &AnswerHead, index: usize, piece: AnswerPiece) -> Vec<Event>;

    /// The events after all answers are complete.
    fn closing(&mut self, head: &AnswerHead, tokens: TokenCounts) -> Vec<Event>;
}

/// Streams the answers, or waits for all of them, and keeps them if that is asked for.
///
/// # Errors
/// The first that any answer has; in a stream it is an event.
pub async fn respond<W: WireFormat>(
    state: &AppState,
    http: &HttpConfig,
    answering: Answering,
    wire: W,
    streams: bool,
    mut headers: HeaderMap,
) -> Result<Response, ApiError> {
    if streams {
        return Ok(sse::stream(answering, wire, http.ping_interval, headers));
    }
    let mut tokens = TokenCounts::of_prompt(answering.prompt_tokens);
    let answers = answer::collect_all(answering.answers).await?;
    answers.iter().for_each(|answer| tokens.add(&answer.end));
    if let Some(mut keeper) = answering.keeper {
        keeper.answers(&answers);
        let kept = match keeper.write(&tokens).await {
            true => "true",
            false => "false",
        };
        headers.insert(KEPT, HeaderValue::from_static(kept));
    }
    let (bytes, head) = (json::bytes_of(&answers), answering.head);
    let body = move || wire.body(head, tokens, answers);
    Ok((headers, json::respond(state, bytes, body).await?).into_response())
}
