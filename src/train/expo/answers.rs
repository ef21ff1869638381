//! Answers and explanations of a policy in training.

use std::collections::BTreeMap;

use super::prompts;
use super::rollout::{Asked, RolledOut, RolloutEngine, Said, Sampling};
use super::settings::ExpoSettings;
use super::voice::Voices;
use crate::ids::UserKey;
use crate::train::task::Task;
use crate::train::TrainError;

/// Seeds of explanations begin here, those of answers below.
const EXPLANATIONS: u64 = 1 << 62;
/// Seeds of evaluations begin here.
const EVALUATIONS: u64 = 1 << 61;

/// Asks a policy in training.
pub struct Answers<'a> {
    /// What runs it.
    pub engine: RolloutEngine<'a>,
    /// How it is asked.
    pub expo: &'a ExpoSettings,
    /// Whose row is whose.
    pub rows: BTreeMap<UserKey, usize>,
    /// Of the run.
    pub seed: u64,
    /// Tokens and seconds since they were taken last.
    pub spent: Spent,
}

/// What answers took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Tokens.
    pub tokens: usize,
    /// Seconds.
    pub seconds: f64,
}

impl Answers<'_> {
    /// Ordinary answers to `tasks` at `step`.
    ///
    /// # Errors
    /// A pass that fails; no question fits.
    pub fn ordinary(
        &mut self,
        voices: &Voices,
        tasks: &[&Task],
        step: usize,
    ) -> Result<Vec<Option<Vec<Said>>>, TrainError> {
        let sampling = self.sampling(self.expo.samples);
        self.ask(voices, tasks, prompts::plain, sampling, step as u64)
    }

    /// Explanations of `tasks`, each with its answer shown, at `step`.
    ///
    /// # Errors
    /// A pass that fails; no question fits.
    pub fn explanations(
        &mut self,
        voices: &Voices,
        tasks: &[&Task],
        step: usize,
    ) -> Result<Vec<Option<Vec<Said>>>, TrainError> {
        let sampling = Sampling {
            seed: self.seed.wrapping_add(EXPLANATIONS),
            ..self.sampling(self.expo.explanations)
        };
        self.ask(voices, tasks, prompts::with_answer, sampling, step as u64)
    }

    /// Answers to `tasks` that the policy is judged by: those of one seed, whatever the step.
    ///
    /// # Errors
    /// A pass that fails; no question fits.
    pub fn judged(&mut self, voices: &Voices, tasks: &[&Task]) -> Result<RolledOut, TrainError> {
        let sampling = Sampling {
            samples: self.expo.eval_samples,
            temperature: self.expo.eval_temperature,
            seed: self.seed.wrapping_add(EVALUATIONS),
            ..self.sampling(0)
        };
        let asked = self.asked(voices, tasks, prompts::plain);
        self.engine.roll_out(&asked, sampling, |_| {})
    }

    /// What was spent since this was asked last.
    pub fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    fn sampling(&self, samples: usize) -> Sampling {
        Sampling {
            samples,
            temperature: self.expo.temperature,
            max_tokens: self.expo.max_tokens,
            seed: self.seed,
        }
    }

    fn asked(&self, voices: &Voices, tasks: &[&Task], prompt: fn(&Task) -> String) -> Vec<Asked> {
        let one = |task: &&Task| Asked {
            prompt: prompt(task),
            voice: voices.of_row(self.row(task)),
        };
        tasks.iter().map(one).collect()
    }

    /// The user row of who asks; 0 for who has none.
    fn row(&self, task: &Task) -> usize {
        let row = task.asker().and_then(|user| self.rows.get(&user).copied());
        row.unwrap_or(0)
    }

    fn ask(
        &mut self,
        voices: &Voices,
        tasks: &[&Task],
        prompt: fn(&Task) -> String,
        sampling: Sampling,
        step: u64,
    ) -> Result<Vec<Option<Vec<Said>>>, TrainError> {
        let sampling = Sampling {
            // Tasks of a step are numbered below it.
            seed: sampling.seed.wrapping_add(step << 40),
            ..sampling
        };
        let asked = self.asked(voices, tasks, prompt);
        let rolled = self.engine.roll_out(&asked, sampling, |_| {})?;
        self.spent.tokens += rolled.tokens;
        self.spent.seconds += rolled.seconds;
        Ok(rolled.answers)
    }
}
