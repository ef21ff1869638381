//! `attune-train explain`: tasks become preference pairs. Chosen is a self-explanation, sampled with the
//! answer shown, or an expert's solution; rejected is an ordinary answer of the model that is wrong; both
//! answer the plain question (ExP-DPO, section 2.3 of the notes on 2507.02834).

use std::io::Write;
use std::path::PathBuf;

use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;

use super::prompts;
use super::solve::read;
use crate::compute::Compute;
use crate::rollout::engine::{
    longest, Rollout, RolloutEngine, RolloutRequest, Sampling, MAX_RUNNING,
};
use crate::rollout::policy_adapter::PolicyAdapter;
use crate::settings::expo::Filters;
use crate::task::Task;
use crate::TrainError;
use attune_base_model as base_model;
use attune_files::replace::{replace, Readers};

/// What `attune-train explain` is asked.
#[derive(Debug, Clone)]
pub struct ExplainRequest {
    /// The base model.
    pub base: String,
    /// Where it answers.
    pub compute: Compute,
    /// Whose explanations: a version, as its generic user; `None`: the bare base.
    pub bundle: Option<PathBuf>,
    /// Files of tasks.
    pub tasks: Vec<PathBuf>,
    /// Only so many tasks, the first ones.
    pub max_tasks: usize,
    /// How answers and explanations are sampled.
    pub sampling: Sampling,
    /// Chosen is the task's solution instead.
    pub expert: bool,
    /// Which answers are taken.
    pub filters: Filters,
    /// The file of pairs.
    pub out: PathBuf,
}

/// What became of the tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ExplainCounts {
    /// Tasks.
    pub tasks: usize,
    /// That do not fit the context.
    pub too_long: usize,
    /// Of which every ordinary answer was right: nothing to reject.
    pub all_right: usize,
    /// Of which no explanation reached the answer, or that have no solution.
    pub unexplained: usize,
    /// That became a pair.
    pub pairs: usize,
}

/// Samples, checks, and writes pairs.
///
/// # Errors
/// Tasks or a bundle that cannot be used; no task became a pair.
pub fn explain(request: &ExplainRequest) -> Result<String, TrainError> {
    let base = base_model::load(&request.base, request.compute.for_answers()?)?;
    let policy = PolicyAdapter::of(request.bundle.as_deref(), &base)?;
    let tasks = read(&request.tasks, request.max_tasks)?;
    let sampling = request.sampling;
    let requests = |prompt: fn(&Task) -> String, seed: u64| -> Vec<RolloutRequest> {
        let sampling = Sampling { seed, ..sampling };
        let numbered = tasks.iter().enumerate();
        numbered
            .map(|(i, task)| RolloutRequest::new(prompt(task), policy.clone(), i, &sampling))
            .collect()
    };
    let plain = requests(prompts::plain, sampling.seed);
    let with_answer = requests(prompts::with_answer, sampling.seed.wrapping_add(1 << 60));
    let jobs = tasks.len() * sampling.samples;
    let longest = longest(&base, &with_answer)?;
    let engine = RolloutEngine::new(&base, longest, jobs.min(MAX_RUNNING))?;
    let ask = |requests: &[RolloutRequest]| {
        let bar = ProgressBar::new(jobs as u64);
        let rollouts = engine.roll_out(requests, |n| bar.set_position(n as u64));
        bar.finish_and_clear();
        rollouts.map(|rollouts| rollouts.answers)
    };
    let ordinary = ask(&plain)?;
    let explained = match request.expert {
        true => None,
        false => Some(ask(&with_answer)?),
    };
    let tasks: Vec<&Task> = tasks.iter().collect();
    let (lines, counts) = pairs(&tasks, &ordinary, explained.as_deref(), request.filters);
    if counts.pairs == 0 {
        return Err(TrainError::Data(counts.nothing()));
    }
    replace(&request.out, Readers::Umask, &lines).map_err(TrainError::io(&request.out))?;
    Ok(format!(
        "{} pairs of {} tasks: {} too long, {} with right answers only, {} without an explanation that \
         reaches the answer\n",
        counts.pairs, counts.tasks, counts.too_long, counts.all_right, counts.unexplained
    ))
}

/// Answers by task; `None`: the task does not fit the context.
pub type ByTask = [Option<Vec<Rollout>>];

/// Lines of pairs, as `pdpo --data` reads them. Chosen are explanations, or for `None` the tasks' own
/// solutions; rejected are ordinary answers.
pub fn pairs(
    tasks: &[&Task],
    ordinary: &ByTask,
    explained: Option<&ByTask>,
    filters: Filters,
) -> (Vec<u8>, ExplainCounts) {
    let mut counts = ExplainCounts::default();
    let mut lines = Vec::new();
    for (i, task) in tasks.iter().enumerate() {
        counts.tasks += 1;
        let explained = explained.map(|explained| explained[i].as_deref().unwrap_or_default());
        let pair = pair(
            filters,
            task,
            ordinary[i].as_deref(),
            explained,
            &mut counts,
        );
        let Some([chosen, rejected]) = pair else {
            continue;
        };
        counts.pairs += 1;
        let prompt = prompts::plain(task);
        let mut line = json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
        if let Some(asker) = task.asker() {
            line["user"] = json!(asker.user);
            line["tenant"] = json!(asker.tenant);
        }
        // Writing to memory cannot fail.
        let _ = writeln!(lines, "{line}");
    }
    (lines, counts)
}

/// Chosen and rejected of a task, or a count of why there are none.
fn pair(
    filters: Filters,
    task: &Task,
    ordinary: Option<&[Rollout]>,
    explained: Option<&[Rollout]>,
    counts: &mut ExplainCounts,
) -> Option<[String; 2]> {
    let Some(ordinary) = ordinary else {
        counts.too_long += 1;
        return None;
    };
    let wrong = |rollout: &&Rollout| {
        !rollout.text.is_empty() && (filters.any_rejected || !task.is_solved_by(&rollout.text))
    };
    let Some(rejected) = ordinary.iter().find(wrong) else {
        counts.all_right += 1;
        return None;
    };
    let chosen = match explained {
        Some(explained) => explanation(filters, task, explained, &rejected.text),
        None => solution(task).filter(|s| *s != rejected.text),
    };
    let Some(chosen) = chosen else {
        counts.unexplained += 1;
        return None;
    };
    Some([chosen, rejected.text.clone()])
}

/// The first explanation that can stand as an answer to the plain question, and is not `but`; one that
/// reaches the answer by itself, if there is one.
pub fn explanation(
    filters: Filters,
    task: &Task,
    rollouts: &[Rollout],
    but: &str,
) -> Option<String> {
    let first = |verified: bool| {
        let mut kept = rollouts
            .iter()
            .filter(|s| task.is_solved_by(&s.text) == verified);
        kept.find_map(|s| prompts::as_response(task, &s.text).filter(|text| text != but))
    };
    first(true).or_else(|| first(false).filter(|_| filters.keep_unverified))
}

/// The task's own solution as an answer to the plain question.
pub fn solution(task: &Task) -> Option<String> {
    prompts::as_response(task, task.solution.as_deref()?)
}

impl ExplainCounts {
    /// Why there is no pair, and what to do.
    pub fn nothing(&self) -> String {
        let Self {
            tasks,
            too_long,
            all_right,
            unexplained,
            ..
        } = self;
        format!(
            "none of {tasks} tasks became a pair: {too_long} are too long (a smaller --max-tokens), \
             {all_right} have right answers only (harder tasks, or --any-rejected), {unexplained} have no \
             explanation that reaches the answer (more --samples, easier tasks, or --keep-unverified)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Verifier;

    /// The pair, and what was counted: too long, all right, unexplained.
    fn made(
        filters: Filters,
        ordinary: &[&str],
        explained: &[&str],
    ) -> (Option<[String; 2]>, [usize; 2]) {
        let task = Task {
            question: "2 + 3?".into(),
            answer: "5".into(),
            solution: None,
            verifier: Verifier::Number,
            level: None,
            user: None,
            tenant: None,
        };
        let texts = |texts: &[&str]| -> Vec<Rollout> {
            let rollout = |text: &&str| Rollout {
                text: (*text).into(),
                ids: vec![0],
            };
            texts.iter().map(rollout).collect()
        };
        let mut counts = ExplainCounts::default();
        let (ordinary, explained) = (texts(ordinary), texts(explained));
        let pair = pair(
            filters,
            &task,
            Some(&ordinary),
            Some(&explained),
            &mut counts,
        );
        (pair, [counts.all_right, counts.unexplained])
    }

    #[test]
    fn a_wrong_answer_is_rejected_and_a_verified_explanation_chosen() {
        let strict = Filters::default();
        let (pair, _) = made(strict, &["It is 5.", "It is 6."], &["7?", "2 and 3 are 5."]);
        assert_eq!(pair.unwrap(), ["2 and 3 are 5.", "It is 6."]);
        assert_eq!(made(strict, &["5", "5"], &["5"]), (None, [1, 0]));
        assert_eq!(made(strict, &["6"], &["7", ""]), (None, [0, 1]));
        assert_eq!(made(strict, &["", "5"], &["5"]), (None, [1, 0]));
        let lax = Filters {
            keep_unverified: true,
            any_rejected: true,
        };
        let (pair, _) = made(lax, &["5"], &["Hm, 7."]);
        assert_eq!(pair.unwrap(), ["Hm, 7.\nThe answer is 5.", "5"]);
        let mut counts = ExplainCounts::default();
        let task = Task {
            question: "q".into(),
            answer: "1".into(),
            solution: None,
            verifier: Verifier::Number,
            level: None,
            user: None,
            tenant: None,
        };
        assert_eq!(super::pair(strict, &task, None, None, &mut counts), None);
        assert_eq!(counts.too_long, 1);
        assert!(counts.nothing().contains("--max-tokens"));
    }
}
