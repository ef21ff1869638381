//! `attune-train explain`: tasks become preference pairs. Chosen is a self-explanation, sampled with the
//! answer shown, or an expert's solution; rejected is an ordinary answer of the model that is wrong; both
//! answer the plain question (ExP-DPO, section 2.3 of the notes on 2507.02834).

use std::io::Write;
use std::path::PathBuf;

use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;

use super::prompts;
use super::rollout::{roll_out, Sampling, Voice};
use super::solve::read;
use crate::base_model;
use crate::train::compute::Compute;
use crate::train::files::replace;
use crate::train::task::Task;
use crate::train::TrainError;

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
    /// Explanations count even if they end with another answer; the right one is put behind them.
    pub keep_unverified: bool,
    /// Ordinary answers count even if they are right.
    pub any_rejected: bool,
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
    let voice = Voice::of(request.bundle.as_deref(), &base)?;
    let tasks = read(&request.tasks, request.max_tasks)?;
    let ask = |prompts: Vec<String>, seed: u64| {
        let sampling = Sampling {
            seed,
            ..request.sampling
        };
        let bar = ProgressBar::new((prompts.len() * sampling.samples) as u64);
        let rolled = roll_out(&base, &voice, &prompts, sampling, |n| {
            bar.set_position(n as u64)
        });
        bar.finish_and_clear();
        rolled.map(|rolled| rolled.answers)
    };
    let plain: Vec<String> = tasks.iter().map(prompts::plain).collect();
    let ordinary = ask(plain.clone(), request.sampling.seed)?;
    let explained = if request.expert {
        tasks
            .iter()
            .map(|task| task.solution.clone().map(|s| vec![s]))
            .collect()
    } else {
        let told = tasks.iter().map(prompts::with_answer).collect();
        ask(told, request.sampling.seed.wrapping_add(1 << 60))?
    };
    let mut counts = ExplainCounts::default();
    let mut lines = Vec::new();
    for (i, task) in tasks.iter().enumerate() {
        counts.tasks += 1;
        let pair = pair(
            request,
            task,
            ordinary[i].as_deref(),
            explained[i].as_deref(),
            &mut counts,
        );
        let Some([chosen, rejected]) = pair else {
            continue;
        };
        counts.pairs += 1;
        let line = json!({"prompt": plain[i], "chosen": chosen, "rejected": rejected});
        // Writing to memory cannot fail.
        let _ = writeln!(lines, "{line}");
    }
    if counts.pairs == 0 {
        return Err(TrainError::Unfit(nothing(&counts)));
    }
    replace(&request.out, &lines)?;
    Ok(format!(
        "{} pairs of {} tasks: {} too long, {} with right answers only, {} without an explanation that \
         reaches the answer\n",
        counts.pairs, counts.tasks, counts.too_long, counts.all_right, counts.unexplained
    ))
}

/// Chosen and rejected of a task, or a count of why there are none.
fn pair(
    request: &ExplainRequest,
    task: &Task,
    ordinary: Option<&[String]>,
    explained: Option<&[String]>,
    counts: &mut ExplainCounts,
) -> Option<[String; 2]> {
    let Some(ordinary) = ordinary else {
        counts.too_long += 1;
        return None;
    };
    let wrong = |answer: &&String| {
        !answer.is_empty() && (request.any_rejected || !task.is_solved_by(answer))
    };
    let Some(rejected) = ordinary.iter().find(wrong) else {
        counts.all_right += 1;
        return None;
    };
    let usable = |said: &String| {
        let verified = request.expert || request.keep_unverified || task.is_solved_by(said);
        let response = verified.then(|| prompts::as_response(task, said))??;
        (response != *rejected).then_some(response)
    };
    let Some(chosen) = explained.unwrap_or_default().iter().find_map(usable) else {
        counts.unexplained += 1;
        return None;
    };
    Some([chosen, rejected.clone()])
}

fn nothing(counts: &ExplainCounts) -> String {
    let ExplainCounts {
        tasks,
        too_long,
        all_right,
        unexplained,
        ..
    } = counts;
    format!(
        "none of {tasks} tasks became a pair: {too_long} are too long (a smaller --max-tokens), {all_right} \
         have right answers only (harder tasks, or --any-rejected), {unexplained} have no explanation that \
         reaches the answer (more --samples, easier tasks, or --keep-unverified)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::task::Verifier;

    fn request() -> ExplainRequest {
        ExplainRequest {
            compute: Compute::default(),
            base: String::new(),
            bundle: None,
            tasks: Vec::new(),
            max_tasks: 1,
            sampling: Sampling {
                samples: 1,
                temperature: 1.0,
                max_tokens: 1,
                seed: 0,
            },
            expert: false,
            keep_unverified: false,
            any_rejected: false,
            out: PathBuf::new(),
        }
    }

    /// The pair, and what was counted: too long, all right, unexplained.
    fn made(
        request: &ExplainRequest,
        ordinary: &[&str],
        explained: &[&str],
    ) -> (Option<[String; 2]>, [usize; 2]) {
        let task = Task {
            question: "2 + 3?".into(),
            answer: "5".into(),
            solution: None,
            verifier: Verifier::Number,
            level: None,
        };
        let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|t| (*t).into()).collect() };
        let mut counts = ExplainCounts::default();
        let (ordinary, explained) = (texts(ordinary), texts(explained));
        let pair = pair(
            request,
            &task,
            Some(&ordinary),
            Some(&explained),
            &mut counts,
        );
        (pair, [counts.all_right, counts.unexplained])
    }

    #[test]
    fn a_wrong_answer_is_rejected_and_a_verified_explanation_chosen() {
        let request = request();
        let (pair, _) = made(
            &request,
            &["It is 5.", "It is 6."],
            &["7?", "2 and 3 are 5."],
        );
        assert_eq!(pair.unwrap(), ["2 and 3 are 5.", "It is 6."]);
        assert_eq!(made(&request, &["5", "5"], &["5"]), (None, [1, 0]));
        assert_eq!(made(&request, &["6"], &["7", ""]), (None, [0, 1]));
        assert_eq!(made(&request, &["", "5"], &["5"]), (None, [1, 0]));
        let lax = ExplainRequest {
            keep_unverified: true,
            any_rejected: true,
            ..request.clone()
        };
        let (pair, _) = made(&lax, &["5"], &["Hm, 7."]);
        assert_eq!(pair.unwrap(), ["Hm, 7.\nThe answer is 5.", "5"]);
        let mut counts = ExplainCounts::default();
        let task = Task {
            question: "q".into(),
            answer: "1".into(),
            solution: None,
            verifier: Verifier::Number,
            level: None,
        };
        assert_eq!(super::pair(&request, &task, None, None, &mut counts), None);
        assert_eq!(counts.too_long, 1);
        assert!(nothing(&counts).contains("--max-tokens"));
    }
}
