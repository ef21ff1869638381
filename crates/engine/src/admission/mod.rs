//! Who is taken in: the only place that refuses for want of room.
//!
//! | file | subject |
//! |---|---|
//! | `door` | places, caps and deadlines; who gets a [`Ticket`] and who is told to come again |
//! | `admitted` | what it knows, under one lock; when to come again |
//! | `rates` | how long a prompt row and a step take, measured |
//! | `lengths` | how long answers are, measured |
//! | `forecast` | when a newcomer would be through |
//!
//! A request asks twice. [`Admission::hold`] reserves its places before anything is done for it, and says no at
//! once where there are none; [`Admission::enter`] comes when its prompt is known, and says no if the answer
//! cannot be complete by its deadline. What was refused once has cost nothing but these two looks.

mod admitted;
mod door;
mod forecast;
mod lengths;
mod rates;

use super::request::EngineRequest;
use super::sequence::Sequence;
pub use door::{Admission, Ticket};
pub use rates::{Pass, Rates};

/// Bounds of what the engine has taken in and not finished.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sequences that run at once.
    pub max_running: usize,
    /// Sequences that wait beyond those.
    pub max_queued: usize,
    /// Prompt rows that wait.
    pub max_queued_tokens: usize,
    /// Bounds of one payer.
    pub caps: Caps,
}

/// Sequences that one payer may have in the engine, running and waiting; `None` is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Of one key, where the request has one.
    pub per_key: Option<usize>,
    /// Of one member, where the request names one.
    pub per_member: Option<usize>,
}

/// What is taken in now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Sequences that wait, those among them that were put back.
    pub waiting: usize,
    /// Those of them whose prompts are not known yet.
    pub held: usize,
    /// The rows that the others have to compute.
    pub waiting_rows: usize,
    /// Sequences that run.
    pub running: usize,
}

/// How far a running sequence is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    request: &'a EngineRequest,
    /// Tokens made or in flight.
    made: usize,
    /// Rows to compute before the next token.
    pending: usize,
}

impl<'a> Progress<'a> {
    /// That of `sequence`.
    pub fn of(sequence: &'a Sequence) -> Self {
        let request = sequence.request();
        Self {
            made: sequence.n_rows() - request.prompt_rows(),
            pending: sequence.pending(),
            request,
        }
    }
}
