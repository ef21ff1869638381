//! The engine without its thread: one step is schedule, run, postprocess.

use std::panic::{catch_unwind, AssertUnwindSafe};

use candle_core::Tensor;
use rayon::prelude::*;

use super::batch::{forward_input, ScheduledBatch, ScheduledSpan};
use super::block_manager::BlockManager;
use super::logits::{LogitRow, LogitTable};
use super::request::{SequenceError, TokenOutput};
use super::runner::Runner;
use super::sampler::{Sampler, Wish};
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

/// What came of a span: something if it reached the last row.
type SpanResult = Result<Option<Last>, SequenceError>;

/// What the last row of a sequence gave.
enum Last {
    /// Logits to choose from.
    Logits(LogitRow),
    /// A token that the runner chose; `None`: no token is possible.
    Token(Option<u32>),
}

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
    fn forward(&mut self, spans: &[ScheduledSpan]) -> Result<Vec<Option<Last>>, SequenceError> {
        let running = self.scheduler.running();
        let input = forward_input(spans, running);
        let wanted = spans.iter().filter(|s| s.wants_logits);
        let chooses = self.runner.chooses();
        let wish = |s: &ScheduledSpan| chooses.then(|| running[s.sequence].sampler().wish());
        let wishes: Vec<Option<Wish>> = wanted.map(|s| wish(s).flatten()).collect();
        // A runner keeps nothing between passes but KV slots, and those of a failed pass are lost.
        let runner = &mut *self.runner;
        let last = catch_unwind(AssertUnwindSafe(|| {
            let logits = runner.forward(&input).map_err(|e| e.to_string())?;
            last_rows(runner, &logits, &wishes)
        }));
        let last = last.unwrap_or_else(|_| Err("it panicked".into()));
        let mut last = last.map_err(SequenceError::Step)?.into_iter();
        let row = |span: &ScheduledSpan| span.wants_logits.then(|| last.next()).flatten();
        Ok(spans.iter().map(row).collect())
    }

    fn postprocess(&mut self, batch: &ScheduledBatch, results: Vec<SpanResult>) {
        let mut logits: Vec<Option<Last>> = Vec::with_capacity(results.len());
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

/// What the wanted rows of `logits` give: tokens where the runner can choose them, and where one may
/// without a look at the logits; the others come to the host.
fn last_rows(
    runner: &mut dyn Runner,
    logits: &Tensor,
    wishes: &[Option<Wish>],
) -> Result<Vec<Last>, String> {
    let vocab_size = runner.vocab_size();
    if !runner.chooses() || wishes.iter().all(Option::is_none) {
        let table = LogitTable::new(logits, wishes.len(), vocab_size)?;
        return Ok(table.rows().map(Last::Logits).collect());
    }
    let rows_where = |chosen: bool| {
        let rows = (0u32..).zip(wishes);
        let rows = rows.filter(|(_, w)| w.is_some() == chosen);
        rows.map(|(row, _)| row).collect::<Vec<u32>>()
    };
    let select = |rows: Vec<u32>| {
        let rows = Tensor::new(rows, logits.device()).and_then(|r| logits.index_select(&r, 0));
        rows.map_err(|e| e.to_string())
    };
    let (chosen, others) = (rows_where(true), rows_where(false));
    let mut here = Vec::new();
    let from = if others.is_empty() {
        logits.clone()
    } else {
        let n = others.len();
        here.extend(LogitTable::new(&select(others)?, n, vocab_size)?.rows());
        select(chosen)?
    };
    let asked: Vec<Wish> = wishes.iter().flatten().copied().collect();
    let tokens = runner.choose(&from, &asked).map_err(|e| e.to_string())?;
    let (mut here, mut tokens) = (here.into_iter(), tokens.into_iter());
    let last = |wish: &Option<Wish>| match wish {
        Some(_) => tokens.next().map(Last::Token),
        None => here.next().map(Last::Logits),
    };
    let last: Option<Vec<Last>> = wishes.iter().map(last).collect();
    last.ok_or_else(|| "the runner chose too few tokens".into())
}

struct Job<'a> {
    index: usize,
    sampler: &'a mut Sampler,
    last: Last,
}

/// Chooses a token for every span with logits, in parallel: each depends on its own sequence alone.
fn sample(
    batch: &ScheduledBatch,
    running: &mut [Sequence],
    logits: Vec<Option<Last>>,
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
        if let Some(last) = row {
            jobs.push(Job {
                index,
                sampler: sequence.sampler_mut(),
                last,
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
            last,
        } = self;
        let choose = || match last {
            Last::Logits(logits) => sampler.sample(&logits.values()),
            Last::Token(Some(id)) => Ok(sampler.take(id)),
            Last::Token(None) => Err(SequenceError::NotFinite),
        };
        // A panic here is a bug that one sequence pays for.
        let token = catch_unwind(AssertUnwindSafe(choose))
            .unwrap_or_else(|_| Err(SequenceError::Step("choosing a token panicked".into())));
        (index, token)
    }
}
