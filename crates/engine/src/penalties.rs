//! Changes to the logits before a token is chosen: penalties, bias, and end ids that come too soon.
//!
//! With logit l of a token that stands c times in the answer (vLLM's and OpenAI's formulas):
//! repetition r, prompt included: l = l / r if l > 0 else l * r; then
//! l = l - frequency * c - presence * (c > 0); then l = l + bias.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prompt::PromptIds;
use super::request::SamplingParams;

/// What changes the logits of one sequence.
#[derive(Debug, Default)]
pub struct Penalties {
    repetition: Option<Repetition>,
    presence: f32,
    frequency: f32,
    /// Shared with the other answers of the request.
    bias: Arc<[(u32, f32)]>,
    /// How often each id stands in the answer; kept only where a penalty counts.
    in_answer: BTreeMap<u32, u32>,
}

#[derive(Debug)]
struct Repetition {
    by: f32,
    /// Ids of the prompt, each once; shared with the other answers to it.
    in_prompt: Arc<[u32]>,
}

impl Penalties {
    /// For one answer to `prompt`.
    #[expect(
        clippy::float_cmp,
        reason = "exactly 1 and 0 are how clients say `off`"
    )]
    pub fn new(params: &SamplingParams, prompt: &PromptIds) -> Self {
        let by = Some(params.repetition_penalty).filter(|r| *r != 1.0);
        Self {
            repetition: by.map(|by| Repetition {
                by,
                in_prompt: Arc::clone(prompt.distinct()),
            }),
            presence: params.presence_penalty,
            frequency: params.frequency_penalty,
            bias: params.logit_bias.clone(),
            in_answer: BTreeMap::new(),
        }
    }

    /// Whether logits pass as they are.
    pub fn are_off(&self) -> bool {
        !self.counts_tokens() && self.bias.is_empty()
    }

    /// A token of the answer.
    pub fn record(&mut self, id: u32) {
        if self.counts_tokens() {
            *self.in_answer.entry(id).or_default() += 1;
        }
    }

    /// Changes `logits`, one a token id. Ids that they do not have are passed over.
    pub fn apply(&self, logits: &mut [f32]) {
        if let Some(Repetition { by: r, in_prompt }) = &self.repetition {
            let only_prompt = in_prompt.iter();
            let repeated = only_prompt.filter(|id| !self.in_answer.contains_key(id));
            for id in repeated.chain(self.in_answer.keys()) {
                if let Some(logit) = logits.get_mut(*id as usize) {
                    *logit = if *logit > 0.0 { *logit / r } else { *logit * r };
                }
            }
        }
        for (id, count) in &self.in_answer {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit -= self.frequency * *count as f32;
                *logit -= self.presence;
            }
        }
        for (id, bias) in self.bias.iter() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
    }

    fn counts_tokens(&self) -> bool {
        self.repetition.is_some() || self.presence != 0.0 || self.frequency != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_penalty_touches_the_tokens_it_names() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            logit_bias: [(4, 3.0), (99, 1.0)].into(),
            ..SamplingParams::default()
        };
        let mut penalties = Penalties::new(&params, &vec![0, 1].into());
        penalties.record(1);
        penalties.record(1);
        penalties.record(2);
        let mut logits = [4.0, 4.0, -4.0, 4.0, 4.0];
        penalties.apply(&mut logits);
        // 0: prompt only, 4/2. 1: both, 4/2 - 2*0.25 - 0.5. 2: answer, -4*2 - 0.25 - 0.5.
        // 3: neither. 4: bias.
        assert_eq!(logits, [2.0, 1.0, -8.75, 4.0, 7.0]);
    }

    #[test]
    fn nothing_asked_nothing_kept() {
        let mut penalties = Penalties::new(&SamplingParams::default(), &vec![1, 2].into());
        penalties.record(1);
        assert!(penalties.are_off());
        assert!(penalties.repetition.is_none() && penalties.in_answer.is_empty());
    }

    #[test]
    fn answers_to_one_prompt_share_one_set() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            logit_bias: [(4, 3.0)].into(),
            ..SamplingParams::default()
        };
        let prompt = PromptIds::from(vec![7; 1000]);
        let all: Vec<Penalties> = (0..128)
            .map(|_| Penalties::new(&params.clone(), &prompt.clone()))
            .collect();
        for penalties in &all {
            let set = &penalties.repetition.as_ref().unwrap().in_prompt;
            assert!(Arc::ptr_eq(set, prompt.distinct()));
            assert!(Arc::ptr_eq(&penalties.bias, &params.logit_bias));
        }
    }
}
