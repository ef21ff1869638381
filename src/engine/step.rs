//! The engine without its thread: one step is schedule, run, postprocess.

use std::panic::{catch_unwind, AssertUnwindSafe};

use rayon::prelude::*;

use super::batch::{forward_input, ScheduledBatch, ScheduledSpan};
use super::block_manager::BlockManager;
use super::logits::{LogitRow, LogitTable};
use super::request::{SequenceError, TokenOutput};
use super::runner::Runner;
use super::sampler::Sampler;
use super::scheduler::Scheduler;
use super::sequence::Sequence;
use super::thread::{EngineConfig, EngineStats};

/// Owns the model and all sequences.
pub struct Engine {
    runner: Box<dyn Runner>,
    scheduler: Scheduler,
    steps: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// So many rows were computed.
    Ran {
        /// Rows of all sequences.
        rows: usize,
    },
    /// There was nothing to do: no sequences, or all of them stalled.
    Idle,
}

/// What came of a span: logits if it reached the last row.
type SpanResult = Result<Option<LogitRow>, SequenceError>;

impl Engine {
    /// An idle engine.
    pub fn new(runner: Box<dyn Runner>, config: &EngineConfig) -> Self {
        let blocks = BlockManager::new(runner.n_blocks(), runner.block_size(), config.prefix_cache);
        Self {
            scheduler: Scheduler::new(blocks, config.max_running, config.token_budget),
            runner,
            steps: 0,
        }
    }

    /// Takes sequences in.
    pub fn enqueue(&mut self, sequences: Vec<Sequence>) {
        for sequence in sequences {
            self.scheduler.enqueue(sequence);
        }
    }

    /// Computes one batch and hands its tokens out; [`Self::let_go`] says who has ended.
    pub fn step(&mut self) -> StepOutcome {
        let batch = self.scheduler.schedule();
        if batch.spans.is_empty() {
            return self.step_without_rows();
        }
        self.steps += 1;
        let results = self.run(&batch);
        self.postprocess(&batch, results);
        StepOutcome::Ran {
            rows: batch.n_rows(),
        }
    }

    /// Sends the last events of the sequences that the step ended: apart from it, so that their
    /// readers find the books in order.
    pub fn let_go(&mut self) {
        self.scheduler.let_go();
    }

    /// Ends everything with `error`.
    pub fn fail_all(&mut self, error: &SequenceError) {
        self.scheduler.fail_all(error);
    }

    /// Queues and blocks, to look at.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Counts; `waiting` has the preempted sequences only, for the handle knows the others.
    pub fn stats(&self) -> EngineStats {
        let waiting = self.scheduler.waiting().iter();
        let totals = self.scheduler.totals();
        EngineStats {
            running: self.scheduler.running().len(),
            waiting: waiting.filter(|s| s.was_started()).count(),
            blocks_used: self.scheduler.blocks().used(),
            blocks_total: self.scheduler.blocks().total(),
            steps: self.steps,
            preemptions: totals.preemptions,
            prefix_queries: totals.prefix_queries,
            prefix_hits: totals.prefix_hits,
        }
    }

    fn step_without_rows(&mut self) -> StepOutcome {
        if self.scheduler.fail_oldest_ready(SequenceError::KvExhausted) {
            tracing::error!("no sequence could be scheduled: this is a bug; ended the oldest");
            return StepOutcome::Ran { rows: 0 };
        }
        StepOutcome::Idle
    }

    /// Runs the batch. If it fails, each sequence runs alone, so that only those fail that cannot
    /// run; their slots are their own, so computing rows twice changes nothing.
    fn run(&mut self, batch: &ScheduledBatch) -> Vec<SpanResult> {
        match self.forward(&batch.spans) {
            Ok(results) => results.into_iter().map(Ok).collect(),
            Err(error) if batch.spans.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::error!(%error, sequences = batch.spans.len(), "a step failed; running its sequences one by one");
                let alone = |span| {
                    let mut results = self.forward(std::slice::from_ref(span))?;
                    Ok(results.pop().flatten())
                };
                batch.spans.iter().map(alone).collect()
            }
        }
    }

    /// One forward pass; a panic inside it is an error of the pass.
    fn forward(&mut self, spans: &[ScheduledSpan]) -> Result<Vec<Option<LogitRow>>, SequenceError> {
        let input = forward_input(spans, self.scheduler.running());
        // A runner keeps nothing between passes but KV slots, and those of a failed pass are lost.
        let logits = catch_unwind(AssertUnwindSafe(|| self.runner.forward(&input)));
        let logits = match logits {
            Ok(Ok(logits)) => logits,
            Ok(Err(error)) => return Err(SequenceError::Step(error.to_string())),
            Err(_) => return Err(SequenceError::Step("it panicked".into())),
        };
        let wanted = spans.iter().filter(|s| s.wants_logits).count();
        let table = LogitTable::new(&logits, wanted, self.runner.vocab_size())
            .map_err(SequenceError::Step)?;
        let mut rows = table.rows();
        let row = |span: &ScheduledSpan| span.wants_logits.then(|| rows.next()).flatten();
        Ok(spans.iter().map(row).collect())
    }

    fn postprocess(&mut self, batch: &ScheduledBatch, results: Vec<SpanResult>) {
        let mut logits: Vec<Option<LogitRow>> = Vec::with_capacity(results.len());
        for (span, result) in batch.spans.iter().zip(results) {
            match result {
                Ok(row) => {
                    self.scheduler.advance(span.sequence);
                    logits.push(row);
                }
                Err(error) => {
                    self.scheduler.running_mut()[span.sequence].fail(error);
                    logits.push(None);
                }
            }
        }
        let running = self.scheduler.running_mut();
        for (index, token) in sample(batch, running, logits) {
            match token {
                Ok(token) => running[index].accept(token),
                Err(error) => running[index].fail(error),
            }
        }
        self.scheduler.reap();
    }
}

struct Job<'a> {
    index: usize,
    sampler: &'a mut Sampler,
    logits: LogitRow,
}

/// Chooses a token for every span with logits, in parallel: each depends on its own sequence alone.
fn sample(
    batch: &ScheduledBatch,
    running: &mut [Sequence],
    logits: Vec<Option<LogitRow>>,
) -> Vec<(usize, Result<TokenOutput, SequenceError>)> {
    let mut rows = batch
        .spans
        .iter()
        .map(|s| s.sequence)
        .zip(logits)
        .peekable();
    let mut jobs = Vec::new();
    for (index, sequence) in running.iter_mut().enumerate() {
        let Some((_, row)) = rows.next_if(|(i, _)| *i == index) else {
            continue;
        };
        if let Some(logits) = row {
            jobs.push(Job {
                index,
                sampler: sequence.sampler_mut(),
                logits,
            });
        }
    }
    match jobs.len() {
        // Not worth waking other threads for.
        0 | 1 => jobs.into_iter().map(Job::run).collect(),
        _ => jobs.into_par_iter().map(Job::run).collect(),
    }
}

impl Job<'_> {
    fn run(self) -> (usize, Result<TokenOutput, SequenceError>) {
        let Self {
            index,
            sampler,
            logits,
        } = self;
        // A panic here is a bug that one sequence pays for.
        let token = catch_unwind(AssertUnwindSafe(|| sampler.sample(&logits.values())))
            .unwrap_or_else(|_| Err(SequenceError::Step("choosing a token panicked".into())));
        (index, token)
    }
}
