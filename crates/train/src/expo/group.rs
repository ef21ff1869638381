//! One batch of groups becomes a loss and gradients: GRPO on what the policy answered, and beside it the
//! log-probability of a positive answer (ExP-SFT, section 2.5 of the notes on 2507.02834).

use crate::adapter::TrainedAdapter;
use crate::loss::grpo::{advantages, Grpo, TokenLoss};
use crate::pack::Completion;
use crate::policy::{Activations, Policy, Scored};
use crate::TrainError;
use attune_model::decoder::Decoder;

/// A question, what the policy answered, and a positive answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Prompt ids without BOS.
    pub prompt: Vec<u32>,
    /// Ids of each answer as they were sampled; none of them empty.
    pub answers: Vec<Vec<u32>>,
    /// One for each answer.
    pub rewards: Vec<f64>,
    /// Ids of a self-explanation or an expert's solution, which is no member of the group.
    pub positive: Option<Vec<u32>>,
}

/// Log-probabilities of each token of each answer, group after group.
pub type TokenLogps = Vec<Vec<f32>>;

/// Groups on their way into the objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The groups.
    pub groups: Vec<Group>,
    /// Of [`GroupLearner::reference`].
    pub reference: Option<TokenLogps>,
    /// Under the policy that sampled the answers; `None`: under the one that learns.
    pub old: Option<TokenLogps>,
}

/// What does not change from step to step.
#[derive(Debug)]
pub struct GroupLearner<'a> {
    /// The frozen base.
    pub decoder: &'a Decoder,
    /// BOS, where the tokenizer adds one.
    pub bos: Option<u32>,
    /// The objective.
    pub grpo: Grpo,
    /// Whether log pi of a positive answer is the sum over its tokens instead of their mean.
    pub positive_sum: bool,
    /// Of the sampling: the probabilities of answers are those with it.
    pub temperature: f64,
    /// Packed rows of one pass, at most; a single answer may have more.
    pub pack_rows: usize,
    /// Whether blocks run a second time in the backward pass.
    pub activations: Activations,
}

/// What a batch gave; its gradients are in the adapter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupResult {
    /// The weighed mean of -min(rho A, clip(rho) A).
    pub surrogate: f64,
    /// The weighed mean of the distance to the reference.
    pub kl: f64,
    /// -log pi of the positive answers, by token or summed, averaged over all groups.
    pub positive_nll: f64,
    /// surrogate + kl coefficient * kl + beta * positive_nll.
    pub loss: f64,
    /// Tokens that the clip held back.
    pub clipped: usize,
    /// Tokens of all answers.
    pub tokens: usize,
    /// Packed rows that went through the model.
    pub packed_rows: usize,
    /// The policy's own; empty for answers that nothing is learned from.
    pub logps: TokenLogps,
}

/// An answer on its way into the objective.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    /// Its number in the batch.
    number: usize,
    completion: Completion<'a>,
    advantage: f64,
}

impl GroupLearner<'_> {
    /// The reference's log-probabilities; `None` where the objective asks for none.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn reference(&self, groups: &[Group]) -> Result<Option<TokenLogps>, TrainError> {
        if self.grpo.kl == 0.0 {
            return Ok(None);
        }
        let policy = Policy {
            temperature: self.temperature,
            ..Policy::reference(self.decoder, self.bos)
        };
        let items = items(groups);
        let mut logps = Vec::new();
        for (_, pack) in policy.packs(&items, self.pack_rows, |i| i.completion) {
            logps.extend(policy.token_log_probs(&pack)?);
        }
        Ok(Some(logps))
    }

    /// Loss and gradients of `batch`. `beta` is the coefficient of log pi(positive answer | question).
    /// Gradients are set, not added to.
    ///
    /// # Errors
    /// A loss that is not finite, or a failure of the tensor library.
    pub fn learn(
        &self,
        adapter: &mut TrainedAdapter,
        batch: &Batch,
        beta: f64,
    ) -> Result<GroupResult, TrainError> {
        adapter.zero_gradients();
        let mut policy = Policy::of(self.decoder, self.bos, adapter, None)?;
        let mut result = GroupResult::default();
        policy.temperature = self.temperature;
        self.learn_answers(adapter, &policy, batch, &mut result)?;
        if beta > 0.0 {
            policy.temperature = 1.0;
            self.learn_positives(adapter, &policy, &batch.groups, beta, &mut result)?;
        }
        result.loss = result.surrogate + self.grpo.kl * result.kl + beta * result.positive_nll;
        match result.loss.is_finite() {
            true => Ok(result),
            false => Err(TrainError::NotFinite { step: 0 }),
        }
    }

    fn learn_answers(
        &self,
        adapter: &mut TrainedAdapter,
        policy: &Policy,
        batch: &Batch,
        result: &mut GroupResult,
    ) -> Result<(), TrainError> {
        let (reference, old) = (batch.reference.as_ref(), batch.old.as_ref());
        let all = items(&batch.groups);
        let tokens: usize = all.iter().map(|i| i.completion.response.len()).sum();
        result.tokens = tokens;
        result.logps = vec![Vec::new(); all.len()];
        // The others have a gradient of exactly 0, and nothing to add to the loss.
        let learned = |item: &&Item| reference.is_some() || item.advantage != 0.0;
        let items: Vec<Item> = all.iter().filter(learned).copied().collect();
        for (items, pack) in policy.packs(&items, self.pack_rows, |i| i.completion) {
            let grads = |scored: &Scored| -> Result<Vec<f32>, TrainError> {
                let mut grads = Vec::with_capacity(scored.values.len());
                for (item, logps) in items.iter().zip(scored.by_completion()) {
                    let n = logps.len();
                    let weight = self.grpo.weight(n, all.len(), tokens);
                    for (at, logp) in logps.iter().enumerate() {
                        let of = |logps: &TokenLogps| f64::from(logps[item.number][at]);
                        let policy = f64::from(*logp);
                        let old = old.map_or(policy, of);
                        let reference = reference.map(of);
                        let token = self.grpo.token(policy, old, reference, item.advantage);
                        grads.push((weight * token.grad) as f32);
                        result.add(&token, weight);
                    }
                    result.logps[item.number] = logps;
                }
                Ok(grads)
            };
            result.packed_rows += policy.learn_tokens(adapter, &pack, self.activations, grads)?;
        }
        Ok(())
    }

    fn learn_positives(
        &self,
        adapter: &mut TrainedAdapter,
        policy: &Policy,
        groups: &[Group],
        beta: f64,
        result: &mut GroupResult,
    ) -> Result<(), TrainError> {
        let positives: Vec<Completion> = groups.iter().filter_map(positive).collect();
        for (_, pack) in policy.packs(&positives, self.pack_rows, |c| *c) {
            let grads = |sums: &[f64]| -> Result<Vec<f64>, TrainError> {
                let grad = |(completion, sum): (&Completion, &f64)| {
                    let tokens = match self.positive_sum {
                        true => 1,
                        false => completion.response.len(),
                    };
                    let weight = 1.0 / (groups.len() * tokens) as f64;
                    result.positive_nll -= weight * sum;
                    -beta * weight
                };
                Ok(pack.iter().zip(sums).map(grad).collect())
            };
            result.packed_rows += policy.learn(adapter, &pack, self.activations, grads)?;
        }
        Ok(())
    }
}

impl GroupResult {
    fn add(&mut self, token: &TokenLoss, weight: f64) {
        self.surrogate += weight * token.surrogate;
        self.kl += weight * token.kl;
        self.clipped += usize::from(token.clipped);
    }
}

fn items(groups: &[Group]) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for group in groups {
        for (response, advantage) in group.answers.iter().zip(advantages(&group.rewards)) {
            items.push(Item {
                number: items.len(),
                completion: completion(&group.prompt, response),
                advantage,
            });
        }
    }
    items
}

fn positive(group: &Group) -> Option<Completion<'_>> {
    let response = group.positive.as_ref()?;
    Some(completion(&group.prompt, response))
}

fn completion<'a>(prompt: &'a [u32], response: &'a [u32]) -> Completion<'a> {
    Completion {
        user: None,
        prompt,
        response,
        kept: None,
    }
}

impl Group {
    /// Whether no answer is right.
    pub fn is_unsolved(&self) -> bool {
        self.rewards.iter().all(|r| *r == 0.0)
    }

    /// Whether its rewards say nothing.
    pub fn agrees(&self) -> bool {
        advantages(&self.rewards).iter().all(|a| *a == 0.0)
    }
}
