//! Answers as server-sent events.
//!
//! The order is: what opens the stream, pieces of the answers as they come, what closes it, then
//! `data: [DONE]`. A failure in the middle is `data: {"error": ...}` and the end, without `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::http::{header, HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, SelectAll, Stream, StreamExt};
use serde::Serialize;

use super::error::ApiError;
use super::json;
use crate::app::answer::{AnswerPiece, AnswerReader};
use crate::app::error::AppError;
use crate::app::keep::Keeper;

/// Makes the events of one kind of answer.
pub trait Chunks: Send + 'static {
    /// What an event holds.
    type Chunk: Serialize;

    /// Before anything else.
    fn opening(&mut self) -> Vec<Self::Chunk>;

    /// A piece of answer `index`.
    fn piece(&mut self, index: usize, piece: AnswerPiece) -> Vec<Self::Chunk>;

    /// After all answers are complete.
    fn closing(&mut self) -> Vec<Self::Chunk>;
}

/// Streams the answers, and keeps them if that is asked for; a client that goes away drops them, and with them their sequences.
pub fn respond<C: Chunks>(
    answers: Vec<AnswerReader>,
    mut chunks: C,
    keeper: Option<Keeper>,
    ping: Duration,
    mut headers: HeaderMap,
) -> Response {
    let events = Events {
        queue: chunks.opening().iter().map(event).collect(),
        answers: Some(stream::select_all(
            answers.into_iter().enumerate().map(pieces),
        )),
        chunks,
        keeper,
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

struct Events<C> {
    /// Ready to be sent.
    queue: VecDeque<Event>,
    /// `None` once there is nothing more to come.
    answers: Option<SelectAll<Pieces>>,
    chunks: C,
    /// Writes the answers once they are whole, before the stream says that it is done.
    keeper: Option<Keeper>,
}

impl<C: Chunks> Events<C> {
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
                    let chunks = self.chunks.piece(index, piece);
                    self.queue.extend(chunks.iter().map(event));
                }
                Some((_, Err(error))) => {
                    self.answers = None;
                    self.queue
                        .push_back(event(&ApiError::from(error).envelope()));
                }
                None => {
                    self.answers = None;
                    if let Some(keeper) = self.keeper.take() {
                        keeper.write().await;
                    }
                    let chunks = self.chunks.closing();
                    self.queue.extend(chunks.iter().map(event));
                    self.queue.push_back(Event::default().data("[DONE]"));
                }
            }
        }
    }
}

fn event<T: Serialize>(chunk: &T) -> Event {
    Event::default().data(json::text(chunk))
}
