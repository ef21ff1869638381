//! Engine events become text: detokenizer, stop strings, log-probabilities.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::AppError;
use super::state::AppState;
use attune_engine::outbox::{Answer, Left};
pub use attune_engine::request::FinishReason;
use attune_engine::request::{EngineEvent, Finished, TokenOutput};
use attune_text::detokenizer::Detokenizer;
use attune_text::stop::StopMatcher;

/// What the readers of one request share.
#[derive(Debug, Clone)]
pub(super) struct AnswerSettings {
    pub(super) stop: Vec<String>,
    /// Whether control tokens are left out.
    pub(super) skip_special: bool,
    pub(super) logprobs: bool,
    /// When the engine took them in.
    pub(super) submitted: Instant,
    /// The engine's limit, too; here, it is for callers of an engine whose step takes longer.
    pub(super) timeout: Duration,
    /// Set once one of them has failed: the others are of no use.
    pub(super) failed: Arc<AtomicBool>,
}

/// The text that an answer goes on from.
#[derive(Debug, Clone)]
pub(super) struct Preceding {
    /// What of it is given back in front of the answer; may be empty.
    pub(super) echo: String,
    /// What has read it: ids may end inside a character, which then is the first of the answer.
    pub(super) detokenizer: Detokenizer,
}

/// A token as text.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenText {
    /// Its text; bytes that are not UTF-8 by themselves are U+FFFD.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its log-probability in nats.
    pub logprob: f32,
}

/// A token of the answer with its alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenPiece {
    /// The token that was chosen.
    pub chosen: TokenText,
    /// The best alternatives, best first.
    pub top: Vec<TokenText>,
    /// Where its text begins in the answer, in characters.
    pub start: usize,
}

/// How an answer ended and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerEnd {
    /// Why.
    pub reason: FinishReason,
    /// Tokens made, those of a stop string included.
    pub completion_tokens: usize,
    /// Prompt tokens that came from the prefix cache; 0 for further answers of the same prompt.
    pub cached_tokens: usize,
}

/// The next part of an answer. Pieces join to the answer that is given at once.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerPiece {
    /// Text; empty only in the last piece.
    pub text: String,
    /// The tokens of this text, where log-probabilities were asked for.
    pub tokens: Option<Vec<TokenPiece>>,
    /// Set in the last piece.
    pub end: Option<AnswerEnd>,
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeAnswer {
    /// Its text, with what it goes on from where that is echoed.
    pub text: String,
    /// Its tokens, where log-probabilities were asked for.
    pub tokens: Option<Vec<TokenPiece>>,
    /// How it ended.
    pub end: AnswerEnd,
}

/// Reads one answer. Dropping it frees the sequence.
#[derive(Debug)]
pub struct AnswerReader {
    state: Arc<AppState>,
    /// `None` once the answer has ended: the sequence is free.
    answer: Option<Answer>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// Tokens whose text is held back, where log-probabilities were asked for.
    pending: Option<Vec<TokenPiece>>,
    /// Characters that the tokens so far stand for, and how many of them were given out.
    produced: usize,
    shown: usize,
    progress: Progress,
    timeout: Duration,
    failed: Arc<AtomicBool>,
    counts_cache: bool,
    echo: String,
}

/// All answers of a request, read side by side.
///
/// # Errors
/// The first error of any of them; the others are dropped.
pub async fn collect_all(answers: Vec<AnswerReader>) -> Result<Vec<WholeAnswer>, AppError> {
    futures_util::future::try_join_all(answers.into_iter().map(AnswerReader::collect)).await
}

impl AnswerReader {
    pub(super) fn new(state: Arc<AppState>, answer: Answer, settings: AnswerSettings) -> Self {
        Self {
            detokenizer: Detokenizer::new(state.tokenizer.clone(), settings.skip_special),
            state,
            answer: Some(answer),
            stop: StopMatcher::new(settings.stop),
            pending: settings.logprobs.then(Vec::new),
            produced: 0,
            shown: 0,
            progress: Progress::since(settings.submitted),
            timeout: settings.timeout,
            failed: settings.failed,
            counts_cache: false,
            echo: String::new(),
        }
    }

    /// Has its end say how much of the prompt came from the prefix cache: one answer of each prompt does.
    pub(super) fn count_cache(&mut self) {
        self.counts_cache = true;
    }

    /// Reads the answer as what goes on from `preceding`.
    pub(super) fn go_on_from(&mut self, preceding: Preceding) {
        (self.echo, self.detokenizer) = (preceding.echo, preceding.detokenizer);
    }

    /// What stands in front of the answer, the first time; no piece has it.
    pub fn take_echo(&mut self) -> String {
        std::mem::take(&mut self.echo)
    }

    /// The next piece; `None` after the last one or an error.
    pub async fn next(&mut self) -> Option<Result<AnswerPiece, AppError>> {
        loop {
            match self.event().await? {
                Ok(EngineEvent::Token(token)) => {
                    if let Some(piece) = self.token(token) {
                        return Some(Ok(piece));
                    }
                }
                Ok(EngineEvent::Finished(finished)) => return Some(Ok(self.finish(&finished))),
                Ok(EngineEvent::Failed(error)) => return Some(Err(self.fail(error.into()))),
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
    }

    /// The whole answer, behind its echo.
    ///
    /// # Errors
    /// The first error of [`AnswerReader::next`].
    pub async fn collect(mut self) -> Result<WholeAnswer, AppError> {
        let (mut text, mut tokens) = (self.take_echo(), None);
        while let Some(piece) = self.next().await {
            let piece = piece?;
            text.push_str(&piece.text);
            if let Some(more) = piece.tokens {
                tokens.get_or_insert_with(Vec::new).extend(more);
            }
            if let Some(end) = piece.end {
                return Ok(WholeAnswer { text, tokens, end });
            }
        }
        Err(AppError::Internal("an answer ended without an end".into()))
    }

    async fn event(&mut self) -> Option<Result<EngineEvent, AppError>> {
        let deadline = self.progress.submitted + self.timeout;
        let receive = self.answer.as_mut()?.events.recv();
        Some(
            match tokio::time::timeout_at(deadline.into(), receive).await {
                Err(_) => Err(AppError::Deadline(self.timeout)),
                Ok(None) => Err(AppError::Internal("the engine dropped an answer".into())),
                Ok(Some(event)) => Ok(event),
            },
        )
    }

    fn token(&mut self, token: TokenOutput) -> Option<AnswerPiece> {
        self.progress.tokens += 1;
        let described = self.pending.is_some().then(|| self.token_piece(&token));
        if let (Some(pending), Some(piece)) = (&mut self.pending, described) {
            pending.push(piece);
        }
        let text = self.detokenizer.push(token.id);
        self.produced += text.chars().count();
        let outcome = self.stop.push(&text);
        if outcome.matched.is_some() {
            let cached = self.leave(Left::Complete);
            return Some(self.last_piece(outcome.text, FinishReason::Stop, cached, false));
        }
        (!outcome.text.is_empty()).then(|| self.piece(outcome.text))
    }

    fn finish(&mut self, finished: &Finished) -> AnswerPiece {
        let tail = self.detokenizer.finish();
        let mut outcome = self.stop.push(&tail);
        let matched = outcome.matched.is_some();
        if !matched {
            outcome.text.push_str(&self.stop.finish());
        }
        let reason = if matched {
            FinishReason::Stop
        } else {
            finished.reason
        };
        self.last_piece(outcome.text, reason, finished.cached_tokens, !matched)
    }

    fn last_piece(
        &mut self,
        text: String,
        reason: FinishReason,
        cached_tokens: usize,
        whole: bool,
    ) -> AnswerPiece {
        self.answer = None;
        self.progress.outcome = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        let mut piece = self.piece(text);
        if let (true, Some(tokens), Some(rest)) = (whole, &mut piece.tokens, &mut self.pending) {
            tokens.append(rest);
        }
        piece.end = Some(AnswerEnd {
            reason,
            completion_tokens: self.progress.tokens,
            cached_tokens: if self.counts_cache { cached_tokens } else { 0 },
        });
        piece
    }

    fn fail(&mut self, error: AppError) -> AppError {
        let why = match error {
            AppError::Deadline(_) => Left::Deadline,
            _ => Left::GivenUp,
        };
        self.leave(why);
        self.failed.store(true, Ordering::Relaxed);
        self.progress.outcome = "error";
        error
    }

    /// Frees the sequence, which learns why; says how many prompt tokens were cached.
    fn leave(&mut self, why: Left) -> usize {
        self.answer.take().map_or(0, |answer| {
            let cached = answer.cached_tokens();
            answer.leave(why);
            cached
        })
    }

    /// `text` with the tokens that begin in what was given out up to its end.
    fn piece(&mut self, text: String) -> AnswerPiece {
        self.shown += text.chars().count();
        let shown = self.shown;
        let tokens = self.pending.as_mut().map(|pending| {
            let ready = pending.partition_point(|t| t.start < shown);
            pending.drain(..ready).collect()
        });
        AnswerPiece {
            text,
            tokens,
            end: None,
        }
    }

    fn token_piece(&self, token: &TokenOutput) -> TokenPiece {
        let top = token.top.iter().map(|t| self.describe(t.id, t.logprob));
        TokenPiece {
            top: top.collect(),
            chosen: self.describe(token.id, token.logprob.unwrap_or(f32::NEG_INFINITY)),
            start: self.produced,
        }
    }

    fn describe(&self, id: u32, logprob: f32) -> TokenText {
        let bytes = self.state.tokenizer.token_bytes(id);
        TokenText {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            // JSON has no infinities; OpenAI writes -9999 for a token that cannot be.
            logprob: if logprob.is_finite() {
                logprob
            } else {
                -9999.0
            },
        }
    }
}

impl Drop for AnswerReader {
    fn drop(&mut self) {
        if self.failed.load(Ordering::Relaxed) {
            self.leave(Left::GivenUp);
        }
        self.state.metrics.record(|| self.progress.record());
    }
}

/// When an answer was submitted, and what became of it.
#[derive(Debug)]
struct Progress {
    submitted: Instant,
    tokens: usize,
    outcome: &'static str,
}

impl Progress {
    fn since(submitted: Instant) -> Self {
        Self {
            submitted,
            tokens: 0,
            outcome: "cancelled",
        }
    }

    fn record(&self) {
        metrics::counter!("attune_answers_total", "outcome" => self.outcome).increment(1);
        metrics::histogram!("attune_answer_latency_seconds").record(self.submitted.elapsed());
    }
}
