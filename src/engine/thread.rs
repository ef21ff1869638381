//! The engine's thread and the handle to it.

use tokio::sync::mpsc;

use super::request::{EngineEvent, EngineRequest, SubmitError};
use super::runner::Runner;

/// Bounds of the engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Sequences that run at once.
    pub max_running: usize,
    /// Sequences that wait.
    pub max_queued: usize,
    /// Prompt tokens (soft rows counted) that wait.
    pub max_queued_tokens: usize,
    /// Rows of one step (decodes and prefill chunks together).
    pub token_budget: usize,
    /// Whether prompts share KV blocks.
    pub prefix_cache: bool,
    /// Seed of sequences that bring none.
    pub seed: u64,
}

/// What the engine is doing; for `/metrics`, `/readyz` and Retry-After.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineStats {
    /// Sequences that run.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// KV blocks that sequences hold.
    pub blocks_used: usize,
    /// KV blocks there are.
    pub blocks_total: usize,
    /// Steps since the start.
    pub steps: u64,
    /// Preemptions since the start.
    pub preemptions: u64,
    /// Prompt rows looked up in the prefix cache since the start.
    pub prefix_queries: u64,
    /// Prompt rows found there.
    pub prefix_hits: u64,
}

/// The way into the engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {}

/// One answer on its way; dropping it frees the sequence within one step.
#[derive(Debug)]
pub struct Answer {
    /// Events in order.
    pub events: mpsc::Receiver<EngineEvent>,
}

impl EngineHandle {
    /// Starts the thread that owns `runner`.
    pub fn spawn(_runner: Box<dyn Runner>, _config: EngineConfig) -> Self {
        unimplemented!()
    }

    /// Submits the answers of one request: all are taken in, or none.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&self, _requests: Vec<EngineRequest>) -> Result<Vec<Answer>, SubmitError> {
        unimplemented!()
    }

    /// A snapshot of the engine.
    pub fn stats(&self) -> EngineStats {
        unimplemented!()
    }

    /// Whether the thread lives and its last step began or its last wait ended recently.
    pub fn is_alive(&self) -> bool {
        unimplemented!()
    }

    /// Takes no more requests; those that run or wait go on.
    pub fn drain(&self) {
        unimplemented!()
    }

    /// Ends what still runs and stops the thread; returns when it has ended.
    pub fn stop(&self) {
        unimplemented!()
    }
}
