//! A model that is a script: the next character follows from the last one.
//!
//! | after | comes |
//! |---|---|
//! | a line break (the end of a chat prompt) | `a`; with a soft prompt `A` (generic), `K` (row 1), `U` (row 2) |
//! | a letter | the next letter; after `j`, `J`, `T` and `Z` the end |
//! | a digit | the next digit, without end |
//! | `z`, `~` | logits that are not numbers |
//! | anything else | the end |

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use attune_engine::runner::Runner;
use attune_model::error::ModelError;
use attune_model::input::ForwardInput;
use candle_core::{Device, Tensor};
use metrics_exporter_prometheus::PrometheusRecorder;

/// Width of the logits; the tokenizer knows fewer ids.
pub const VOCAB: usize = 128;
/// Width of a row.
pub const HIDDEN: usize = 4;
/// Positions of a KV block.
pub const BLOCK_SIZE: usize = 16;
/// Blocks of the KV cache.
pub const BLOCKS: usize = 4096 / BLOCK_SIZE;

const END: usize = 2;
const LINE_BREAK: u32 = 99;

/// The id of an ASCII character in the tiny tokenizers.
pub const fn id(character: char) -> u32 {
    character as u32 - 28
}

/// Lets steps through, or holds them.
#[derive(Default)]
pub struct Gate {
    /// Steps that may still pass; `None` is all.
    left: Mutex<Option<usize>>,
    changed: Condvar,
    reached: AtomicBool,
}

impl Gate {
    /// Holds the engine before its next step.
    pub fn close(&self) {
        *self.left.lock().unwrap() = Some(0);
    }

    /// Lets everything through.
    pub fn open(&self) {
        *self.left.lock().unwrap() = None;
        self.changed.notify_all();
    }

    /// Lets so many more steps through a closed gate.
    pub fn pass(&self, steps: usize) {
        if let Some(left) = &mut *self.left.lock().unwrap() {
            *left += steps;
        }
        self.changed.notify_all();
    }

    /// Whether the engine has come here at least once.
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    fn step(&self) {
        self.reached.store(true, Ordering::SeqCst);
        let mut left = self.left.lock().unwrap();
        while *left == Some(0) {
            left = self.changed.wait(left).unwrap();
        }
        if let Some(left) = &mut *left {
            *left -= 1;
        }
    }
}

/// What may differ between two scripted models.
pub struct Shape {
    /// Width of a row of a soft prompt.
    pub hidden: usize,
    /// Blocks of the KV cache.
    pub n_blocks: usize,
    /// What a step costs.
    pub per_step: Duration,
    /// What each row of a step costs on top.
    pub per_row: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            hidden: HIDDEN,
            n_blocks: BLOCKS,
            per_step: Duration::ZERO,
            per_row: Duration::ZERO,
        }
    }
}

/// What a model read, row by row; `None` is a soft row.
pub type RowsRead = Arc<Mutex<Vec<Option<u32>>>>;

pub struct ScriptedRunner {
    gate: Arc<Gate>,
    rows_read: Option<RowsRead>,
    shape: Shape,
    /// Until the first step, whose thread counts into it from then on.
    recorder: Option<&'static PrometheusRecorder>,
}

impl ScriptedRunner {
    pub fn new(gate: Arc<Gate>, shape: Shape) -> Self {
        Self {
            gate,
            rows_read: None,
            shape,
            recorder: None,
        }
    }

    /// Notes what it reads in `rows`.
    pub fn noting(self, rows: Option<RowsRead>) -> Self {
        Self {
            rows_read: rows,
            ..self
        }
    }

    /// The engine's thread counts into the process's recorder unless it has one of its own, and the
    /// servers of other tests would count into it too.
    pub fn counting_into(self, recorder: PrometheusRecorder) -> Self {
        Self {
            recorder: Some(Box::leak(Box::new(recorder))),
            ..self
        }
    }

    /// Takes the time that a model of this shape takes.
    fn compute(&self, rows: usize) {
        let rows = u32::try_from(rows).unwrap();
        let cost = self.shape.per_step + self.shape.per_row * rows;
        if !cost.is_zero() {
            std::thread::sleep(cost);
        }
    }
}

impl Runner for ScriptedRunner {
    fn forward(&mut self, input: &ForwardInput) -> Result<Tensor, ModelError> {
        if let Some(recorder) = self.recorder.take() {
            // For as long as the thread lives.
            std::mem::forget(metrics::set_default_local_recorder(recorder));
        }
        self.gate.step();
        self.compute(input.token_ids.len());
        if let Some(read) = &self.rows_read {
            let is_soft = |row| input.soft_rows.iter().any(|soft| soft.row == row);
            let rows = input.token_ids.iter().enumerate();
            let rows = rows.map(|(row, id)| (!is_soft(row)).then_some(*id));
            read.lock().unwrap().extend(rows);
        }
        let mut logits = Vec::with_capacity(input.logit_rows.len() * VOCAB);
        for &row in &input.logit_rows {
            let span = input.spans.iter().find(|s| s.rows.contains(&row)).unwrap();
            let soft = input.soft_rows.iter().find(|s| span.rows.contains(&s.row));
            let user = soft.map(|s| s.embeddings[s.index * self.shape.hidden] as u32);
            logits.extend(logits_after(input.token_ids[row], user));
        }
        let shape = (input.logit_rows.len(), VOCAB);
        Ok(Tensor::from_vec(logits, shape, &Device::Cpu)?)
    }

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn block_size(&self) -> usize {
        BLOCK_SIZE
    }

    fn n_blocks(&self) -> usize {
        self.shape.n_blocks
    }
}

fn logits_after(last: u32, user: Option<u32>) -> [f32; VOCAB] {
    let next = if last == LINE_BREAK {
        match user {
            None => id('a'),
            Some(user) => id('A') + 10 * user,
        }
    } else {
        match char::from_u32(last + 28).unwrap() {
            'z' | '~' => return [f32::NAN; VOCAB],
            'j' | 'J' | 'T' | 'Z' => END as u32,
            '9' => id('0'),
            c if c.is_ascii_alphanumeric() => last + 1,
            _ => END as u32,
        }
    };
    let mut logits = [0.0; VOCAB];
    logits[next as usize] = 10.0;
    logits
}
