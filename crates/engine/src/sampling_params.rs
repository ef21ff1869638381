//! The bounds of [`SamplingParams`], checked in one place below every protocol.

use std::sync::Arc;

use super::request::SamplingParams;

/// Alternatives that may be asked for.
pub const MAX_LOGPROBS: usize = 20;
/// Entries of `logit_bias`, as OpenAI bounds them.
pub const MAX_LOGIT_BIAS: usize = 300;

/// A parameter outside its bounds.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidParam {
    /// The field of [`SamplingParams`]; `logprobs` is `top_logprobs` to chat clients.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: ParamProblem,
}

/// What is wrong with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ParamProblem {
    /// NaN or infinite.
    #[error("must be a finite number")]
    NotFinite,
    /// Below the least value.
    #[error("must be at least {min}, got {got}")]
    BelowMin {
        /// The least value.
        min: f64,
        /// The value.
        got: f64,
    },
    /// Above the greatest value.
    #[error("must be at most {max}, got {got}")]
    AboveMax {
        /// The greatest value.
        max: f64,
        /// The value.
        got: f64,
    },
    /// Must be greater than zero.
    #[error("must be greater than 0, got {got}")]
    NotPositive {
        /// The value.
        got: f64,
    },
    /// More entries than are allowed.
    #[error("must have at most {max} entries, got {got}")]
    TooMany {
        /// The bound.
        max: usize,
        /// The number of entries.
        got: usize,
    },
    /// A token id that the logits do not have.
    #[error("token id {id} is not in 0..{vocab_size}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Width of the logits.
        vocab_size: usize,
    },
}

impl Default for SamplingParams {
    /// Plain sampling from the model's distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Arc::default(),
            seed: None,
            logprobs: None,
        }
    }
}

impl SamplingParams {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Checks every number: temperature 0..=2, top_p and min_p 0..=1, presence and frequency
    /// penalty -2..=2, repetition penalty above 0 and at most 10, logit_bias -100..=100 with at most
    /// [`MAX_LOGIT_BIAS`] ids below `vocab_size` (the logits' width, not the tokenizer's length),
    /// logprobs at most [`MAX_LOGPROBS`]. Everything is finite.
    ///
    /// # Errors
    /// The first field that is outside.
    pub fn validate(&self, vocab_size: usize) -> Result<(), InvalidParam> {
        between("temperature", self.temperature, 0.0, 2.0)?;
        between("top_p", self.top_p, 0.0, 1.0)?;
        between("min_p", self.min_p, 0.0, 1.0)?;
        between("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        between("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        between("repetition_penalty", self.repetition_penalty, 0.0, 10.0)?;
        if self.repetition_penalty <= 0.0 {
            let got = f64::from(self.repetition_penalty);
            return fail("repetition_penalty", ParamProblem::NotPositive { got });
        }
        if let Some(got) = self.logprobs.filter(|n| *n > MAX_LOGPROBS) {
            let max = MAX_LOGPROBS as f64;
            let got = got as f64;
            return fail("logprobs", ParamProblem::AboveMax { max, got });
        }
        if self.logit_bias.len() > MAX_LOGIT_BIAS {
            let problem = ParamProblem::TooMany {
                max: MAX_LOGIT_BIAS,
                got: self.logit_bias.len(),
            };
            return fail("logit_bias", problem);
        }
        for &(id, bias) in self.logit_bias.iter() {
            between("logit_bias", bias, -100.0, 100.0)?;
            if id as usize >= vocab_size {
                let problem = ParamProblem::TokenOutOfRange { id, vocab_size };
                return fail("logit_bias", problem);
            }
        }
        Ok(())
    }
}

fn between(field: &'static str, value: f32, min: f64, max: f64) -> Result<(), InvalidParam> {
    let got = f64::from(value);
    if !got.is_finite() {
        fail(field, ParamProblem::NotFinite)
    } else if got < min {
        fail(field, ParamProblem::BelowMin { min, got })
    } else if got > max {
        fail(field, ParamProblem::AboveMax { max, got })
    } else {
        Ok(())
    }
}

fn fail(field: &'static str, problem: ParamProblem) -> Result<(), InvalidParam> {
    Err(InvalidParam { field, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut SamplingParams);

    #[test]
    fn defaults_and_bounds_themselves_are_fine() {
        let mut params = SamplingParams::default();
        params.validate(10).unwrap();
        params.temperature = 2.0;
        params.top_p = 0.0;
        params.min_p = 1.0;
        params.presence_penalty = -2.0;
        params.frequency_penalty = 2.0;
        params.repetition_penalty = 10.0;
        params.logprobs = Some(MAX_LOGPROBS);
        params.logit_bias = [(9, -100.0), (0, 100.0)].into();
        params.validate(10).unwrap();
    }

    #[test]
    fn each_field_is_checked_and_named() {
        let cases: [(&str, Change); 20] = [
            ("temperature", |p| p.temperature = -0.1),
            ("temperature", |p| p.temperature = 2.1),
            ("temperature", |p| p.temperature = f32::NAN),
            ("temperature", |p| p.temperature = f32::INFINITY),
            ("top_p", |p| p.top_p = 1.1),
            ("top_p", |p| p.top_p = f32::NAN),
            ("min_p", |p| p.min_p = -0.1),
            ("min_p", |p| p.min_p = f32::NEG_INFINITY),
            ("presence_penalty", |p| p.presence_penalty = 2.1),
            ("presence_penalty", |p| p.presence_penalty = f32::NAN),
            ("frequency_penalty", |p| p.frequency_penalty = -2.1),
            ("frequency_penalty", |p| p.frequency_penalty = f32::NAN),
            ("repetition_penalty", |p| p.repetition_penalty = 0.0),
            ("repetition_penalty", |p| p.repetition_penalty = 11.0),
            ("repetition_penalty", |p| p.repetition_penalty = f32::NAN),
            ("logprobs", |p| p.logprobs = Some(21)),
            ("logit_bias", |p| p.logit_bias = [(10, 1.0)].into()),
            ("logit_bias", |p| p.logit_bias = [(1, 100.5)].into()),
            ("logit_bias", |p| p.logit_bias = [(1, f32::NAN)].into()),
            ("logit_bias", |p| p.logit_bias = [(1, 1.0); 301].into()),
        ];
        for (i, (field, change)) in cases.into_iter().enumerate() {
            let mut params = SamplingParams::default();
            change(&mut params);
            let error = params.validate(10).expect_err(&format!("case {i}"));
            assert_eq!(error.field, field, "case {i}");
        }
    }
}
