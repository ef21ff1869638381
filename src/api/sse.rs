//! Answers as server-sent events.
//!
//! The order is: what opens the stream, pieces of the answers as they come, what closes it. A failure in the middle
//! is `data: {"error": ...}` and the end, without what closes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::http::{header, HeaderMap, HeaderName, HeaderValue};
pub use axum::response::sse::Event;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, SelectAll, Stream, StreamExt};
use serde::Serialize;

use super::error::ApiError;
use super::json;
use super::respond::WireFormat;
use crate::app::answer::{AnswerPiece, AnswerReader};
use crate::app::answering::{AnswerHead, Answering, TokenCounts};
use crate::app::error::AppError;
use crate::app::keep::Keeper;

/// An event without a name.
pub fn event<T: Serialize>(data: &T) -> Event {
    Event::default().data(json::text(data))
}

/// The last event of a stream that ended well, at OpenAI's older routes.
pub fn done() -> Event {
    Event::default().data("[DONE]")
}

/// Streams the answers, and keeps them if that is asked for; a client that goes away drops them, and with them their sequences.
pub fn stream<W: WireFormat>(
    mut answering: Answering,
    mut wire: W,
    ping: Duration,
    mut headers: HeaderMap,
) -> Response {
    let echoes = answering.answers.iter_mut().map(AnswerReader::take_echo);
    let queue = wire.opening(&answering.head, echoes.collect()).into();
    let pieces = answering.answers.into_iter().enumerate().map(pieces);
    let events = Events {
        queue,
        answers: Some(stream::select_all(pieces)),
        wire,
        head: answering.head,
        tokens: TokenCounts::of_prompt(answering.prompt_tokens),
        keeper: answering.keeper,
    };
    let stream = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    let alive = KeepAlive::new().interval(ping).text("ping");
    let mut response = Sse::new(stream).keep_alive(alive).into_response();
    response.headers_mut().extend(headers);
    response
}

type Piece = (usize, Result<AnswerPiece, AppError>);
type Pieces = Pin<Box<dyn Stream<Item = Piece> + Send>>;

/// The pieces of one answer, with its number.
fn pieces((index, answer): (usize, AnswerReader)) -> Pieces {
    Box::pin(stream::unfold(answer, move |mut answer| async move {
        let piece = answer.next().await?;
        Some(((index, piece), answer))
    }))
}

struct Events<W> {
    /// Ready to be sent.
    queue: VecDeque<Event>,
    /// `None` once there is nothing more to come.
    answers: Option<SelectAll<Pieces>>,
    wire: W,
    head: AnswerHead,
    tokens: TokenCounts,
    /// Writes the answers once they are whole, before the stream says that it is done.
    keeper: Option<Keeper>,
}

impl<W: WireFormat> Events<W> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            match self.answers.as_mut()?.next().await {
                Some((index, Ok(piece))) => {
                    if let Some(keeper) = &mut self.keeper {
                        keeper.piece(index, &piece);
                    }
                    piece.end.iter().for_each(|end| self.tokens.add(end));
                    self.queue.extend(self.wire.piece(&self.head, index, piece));
                }
                Some((_, Err(error))) => {
                    self.answers = None;
                    self.queue
                        .push_back(event(&ApiError::from(error).envelope()));
                }
                None => {
                    self.answers = None;
                    if let Some(keeper) = self.keeper.take() {
                        keeper.write(&self.tokens).await;
                    }
                    self.queue
                        .extend(self.wire.closing(&self.head, self.tokens));
                }
            }
        }
    }
}
