//! Both versions answer prompts that were set aside, and the judge says which answer is better.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Judge, Preference};
use crate::adapter::TrainedAdapter;
use crate::baseline::Baseline;
use crate::evaluate::{AnswersCompared, PersonGain};
use crate::load::locate_and_read;
use crate::prepare::HeldOutPair;
use crate::rollout::engine::{kv_bytes, Job, RolloutEngine, MAX_RUNNING};
use crate::rollout::policy_adapter::{PolicyAdapter, PolicySnapshot};
use crate::settings::judge::JudgeSettings;
use crate::work::context::RunContext;
use crate::TrainError;
use attune_ids::UserKey;

/// Prompts in all, at most.
const MAX_PROMPTS: usize = 4096;

/// Of both answers to a prompt, which have one seed, too: equal versions give equal answers.
const TEMPERATURE: f32 = 0.7;

/// The order in which answers are shown is drawn apart from all else.
const STREAM: u64 = 0x6a75_6467;

/// Compares the answers of `adapter` with those of `baseline` to prompts of `pairs`.
///
/// # Errors
/// A bundle that cannot be used; a failure of the engine. What the judge fails at is no error.
pub fn duel(
    run: &RunContext,
    adapter: &TrainedAdapter,
    baseline: &Baseline,
    pairs: &[HeldOutPair],
    settings: &JudgeSettings,
) -> Result<AnswersCompared, TrainError> {
    let questions = questions(run, adapter, baseline, pairs, settings)?;
    let answers = answers(run, &questions, settings)?;
    let mut order = ChaCha8Rng::seed_from_u64(run.settings.seed);
    order.set_stream(STREAM);
    let mut judge = Judge::new(settings);
    let mut compared = AnswersCompared::default();
    let mut votes: BTreeMap<Option<&UserKey>, Vec<f64>> = BTreeMap::new();
    let bar = run.options.bar("judge");
    bar.set_length(questions.len() as u64);
    for (Question { pair, .. }, [ours, theirs]) in questions.iter().zip(&answers) {
        bar.inc(1);
        if run.options.stop.load(Ordering::Relaxed) {
            break;
        }
        compared.prompts += 1;
        let vote = if ours == theirs {
            compared.same += 1;
            Some(0.0)
        } else {
            let turned = order.random::<bool>();
            let shown = if turned {
                [theirs, ours]
            } else {
                [ours, theirs]
            };
            let preference = judge.ask(&pair.conversation, shown.map(String::as_str));
            preference.map(|preference| vote(preference, turned))
        };
        match vote {
            Some(vote) => votes.entry(pair.user.as_ref()).or_default().push(vote),
            None => compared.failed += 1,
        }
    }
    bar.finish_and_clear();
    let all = || votes.values().flatten();
    compared.won = all().filter(|vote| **vote > 0.0).count();
    compared.lost = all().filter(|vote| **vote < 0.0).count();
    compared.people = votes.values().map(|votes| PersonGain::of(votes)).collect();
    Ok(compared)
}

/// 1: ours is better.
fn vote(preference: Preference, turned: bool) -> f64 {
    let first = match preference {
        Preference::First => 1.0,
        Preference::Second => -1.0,
        Preference::Neither => 0.0,
    };
    if turned {
        -first
    } else {
        first
    }
}

/// A prompt that both versions answer.
struct Question<'a> {
    pair: &'a HeldOutPair,
    /// Ours and theirs.
    policies: [PolicyAdapter; 2],
}

impl Question<'_> {
    fn jobs(&self, run: &RunContext, number: usize, settings: &JudgeSettings) -> [Job<'_>; 2] {
        let ids = self.pair.pair.prompt.iter().copied();
        let ids = run.prefix.bos.into_iter().chain(ids).collect();
        let prompt = run.base.prompts().ids(ids);
        self.policies.each_ref().map(|policy| Job {
            policy,
            prompt: prompt.clone(),
            temperature: TEMPERATURE,
            max_tokens: settings.max_tokens,
            seed: run.settings.seed.wrapping_add(number as u64),
        })
    }
}

/// Everybody's first prompt, then everybody's second, and on. Those that leave no room for an answer are left
/// out.
fn questions<'a>(
    run: &RunContext,
    adapter: &TrainedAdapter,
    baseline: &Baseline,
    pairs: &'a [HeldOutPair],
    settings: &JudgeSettings,
) -> Result<Vec<Question<'a>>, TrainError> {
    let ours = PolicySnapshot::of(adapter)?;
    let theirs = match baseline {
        Baseline::Bundle(dir) => Some(Arc::new(locate_and_read(dir, run.base)?)),
        Baseline::Reference => None,
    };
    let context = run.base.decoder.config().max_positions;
    let mut people: BTreeMap<Option<&UserKey>, Vec<Question>> = BTreeMap::new();
    for pair in pairs {
        let own = people.entry(pair.user.as_ref()).or_default();
        let known = own
            .iter()
            .any(|question| question.pair.conversation == pair.conversation);
        if known || own.len() == settings.prompts {
            continue;
        }
        let theirs = match &theirs {
            Some(version) => PolicyAdapter::of_person(version, pair.user.as_ref()),
            None => PolicyAdapter::base(),
        };
        let policies = [ours.of_row(pair.pair.user), theirs];
        let question = Question { pair, policies };
        let rows = question.jobs(run, 0, settings).map(|job| job.rows());
        if rows.into_iter().all(|rows| rows <= context) {
            own.push(question);
        }
    }
    let mut rest: Vec<_> = people.into_values().map(Vec::into_iter).collect();
    let mut questions = Vec::new();
    for _ in 0..settings.prompts {
        questions.extend(rest.iter_mut().filter_map(Iterator::next));
    }
    questions.truncate(MAX_PROMPTS);
    Ok(questions)
}

/// Ours and theirs, by prompt.
fn answers(
    run: &RunContext,
    questions: &[Question],
    settings: &JudgeSettings,
) -> Result<Vec<[String; 2]>, TrainError> {
    let numbered = questions.iter().enumerate();
    let jobs: Vec<Job> = numbered
        .flat_map(|(number, question)| question.jobs(run, number, settings))
        .collect();
    let Some(longest) = jobs.iter().map(Job::rows).max() else {
        return Ok(Vec::new());
    };
    let room = run.options.max_memory / kv_bytes(run.base, longest, 1).max(1);
    let running = jobs.len().min(MAX_RUNNING).min(room.max(1));
    let engine = RolloutEngine::new(run.base, longest, running)?;
    let bar = run.options.bar("answers");
    bar.set_length(jobs.len() as u64);
    let rollouts = engine.answer_all(&jobs, |n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    let mut texts = rollouts.into_iter().map(|rollout| rollout.text);
    let mut pairs = Vec::with_capacity(questions.len());
    while let (Some(ours), Some(theirs)) = (texts.next(), texts.next()) {
        pairs.push([ours, theirs]);
    }
    Ok(pairs)
}
