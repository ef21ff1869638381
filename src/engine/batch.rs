//! What one step computes, and the packed rows that the model sees of it.

use std::ops::Range;

use super::block_hash::Row;
use super::sequence::Sequence;
use crate::model::input::{ForwardInput, SequenceSpan, SoftRow};

/// The rows of one step, by sequence.
#[derive(Debug, Default)]
pub struct ScheduledBatch {
    /// In the order of the running sequences.
    pub spans: Vec<ScheduledSpan>,
}

/// The rows of one sequence in a step.
#[derive(Debug, Clone)]
pub struct ScheduledSpan {
    /// Which of the running sequences.
    pub sequence: usize,
    /// Positions to compute.
    pub positions: Range<usize>,
    /// Whether they reach the sequence's last row, whose logits give the next token.
    pub wants_logits: bool,
}

impl ScheduledBatch {
    /// What was scheduled of `running`.
    pub fn of(running: &[Sequence]) -> Self {
        let span = |(sequence, s): (usize, &Sequence)| {
            let positions = s.scheduled();
            let wants_logits = positions.end == s.n_rows();
            (!positions.is_empty()).then_some(ScheduledSpan {
                sequence,
                positions,
                wants_logits,
            })
        };
        Self {
            spans: running.iter().enumerate().filter_map(span).collect(),
        }
    }

    /// Rows of all sequences.
    pub fn n_rows(&self) -> usize {
        self.spans.iter().map(|s| s.positions.len()).sum()
    }
}

/// Packs spans of `running` without padding; logits in the order of the spans that want them.
pub fn forward_input(spans: &[ScheduledSpan], running: &[Sequence]) -> ForwardInput {
    let mut input = ForwardInput::default();
    for span in spans {
        let sequence = &running[span.sequence];
        let first = input.token_ids.len();
        for position in span.positions.clone() {
            push_row(&mut input, sequence, position);
        }
        let rows = first..input.token_ids.len();
        if span.wants_logits {
            input.logit_rows.push(rows.end - 1);
        }
        let adapter = sequence.request().adapter.as_ref();
        input.spans.push(SequenceSpan {
            rows,
            past: span.positions.start,
            block_table: sequence.block_table().clone(),
            lora: adapter.map(|a| a.lora.clone()),
        });
    }
    input
}

fn push_row(input: &mut ForwardInput, sequence: &Sequence, position: usize) {
    match sequence.row(position) {
        Row::Token(id) => input.token_ids.push(id),
        Row::Soft(index) => {
            let prompt = &sequence.request().soft_prompt;
            input.soft_rows.push(SoftRow {
                row: input.token_ids.len(),
                embeddings: prompt.rows().clone(),
                index: index as usize,
                digest: Some(*prompt.digest()),
            });
            // The model does not look at it.
            input.token_ids.push(0);
        }
    }
}
