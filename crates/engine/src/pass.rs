//! One pass of a runner, and what its last rows give.

use std::panic::{catch_unwind, AssertUnwindSafe};

use candle_core::Tensor;

use super::device::chosen::ChosenTokens;
use super::logits::{LogitRow, LogitTable};
use super::runner::Runner;
use super::sampler::SamplingPlan;
use attune_model::input::ForwardInput;

/// What a started pass gives.
pub enum Started {
    /// An entry for each wanted row; the pass is through.
    Here(Vec<Last>),
    /// Tokens for all wanted rows, still on their way.
    Away(ChosenTokens),
}

impl Started {
    /// Waits for the entries of `wanted` rows.
    ///
    /// # Errors
    /// A device that failed, or another number of tokens.
    pub fn wait(self, wanted: usize) -> Result<Vec<Last>, String> {
        match self {
            Self::Here(last) => Ok(last),
            Self::Away(tokens) => arrived(tokens, wanted),
        }
    }
}

/// What the last row of a sequence gave.
pub enum Last {
    /// Logits to choose from.
    Logits(LogitRow),
    /// A token that the runner chose; `None`: no token is possible.
    Token(Option<u32>),
}

/// Starts a pass; a panic inside it is an error of the pass. `plans` has an entry for each wanted row:
/// `None` where the token has to be chosen on the host.
///
/// # Errors
/// What failed, in words. A runner keeps nothing between passes but KV slots, and those of a failed pass
/// are lost.
pub fn start(
    runner: &mut dyn Runner,
    input: &ForwardInput,
    plans: &[Option<SamplingPlan>],
) -> Result<Started, String> {
    let run = AssertUnwindSafe(|| {
        let logits = runner.forward(input).map_err(|e| e.to_string())?;
        last_rows(runner, &logits, plans)
    });
    catch_unwind(run).unwrap_or_else(|_| Err("it panicked".into()))
}

/// Tokens where the runner can choose them, and where one may without a look at the logits; the others'
/// logits come to the host.
fn last_rows(
    runner: &mut dyn Runner,
    logits: &Tensor,
    plans: &[Option<SamplingPlan>],
) -> Result<Started, String> {
    let vocab_size = runner.vocab_size();
    if !runner.chooses() || plans.iter().all(Option::is_none) {
        let table = LogitTable::new(logits, plans.len(), vocab_size)?;
        return Ok(Started::Here(table.rows().map(Last::Logits).collect()));
    }
    let asked: Vec<SamplingPlan> = plans.iter().flatten().copied().collect();
    let (chosen, others) = (rows_where(plans, true), rows_where(plans, false));
    if others.is_empty() {
        let tokens = runner.choose(logits, &asked).map_err(|e| e.to_string())?;
        if runner.runs_ahead() {
            return Ok(Started::Away(tokens));
        }
        return Ok(Started::Here(arrived(tokens, asked.len())?));
    }
    let select = |rows: Vec<u32>| {
        let rows = Tensor::new(rows, logits.device()).and_then(|r| logits.index_select(&r, 0));
        rows.map_err(|e| e.to_string())
    };
    let tokens = runner.choose(&select(chosen)?, &asked);
    let n = others.len();
    let here = LogitTable::new(&select(others)?, n, vocab_size)?;
    let tokens = arrived(tokens.map_err(|e| e.to_string())?, asked.len())?;
    let (mut here, mut tokens) = (here.rows().map(Last::Logits), tokens.into_iter());
    let last = |plan: &Option<SamplingPlan>| match plan {
        Some(_) => tokens.next(),
        None => here.next(),
    };
    let last: Option<Vec<Last>> = plans.iter().map(last).collect();
    let last = last.ok_or("a row without a result: a bug")?;
    Ok(Started::Here(last))
}

fn arrived(tokens: ChosenTokens, wanted: usize) -> Result<Vec<Last>, String> {
    let tokens = tokens.wait().map_err(|e| e.to_string())?;
    if tokens.len() != wanted {
        return Err(format!("{} tokens for {wanted} rows: a bug", tokens.len()));
    }
    Ok(tokens.into_iter().map(Last::Token).collect())
}

fn rows_where(plans: &[Option<SamplingPlan>], chosen: bool) -> Vec<u32> {
    let rows = (0u32..).zip(plans);
    let rows = rows.filter(|(_, plan)| plan.is_some() == chosen);
    rows.map(|(row, _)| row).collect()
}
