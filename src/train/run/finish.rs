//! The best state, evaluated and published.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::start::pretty;
use super::steps::BEST_FILE;
use super::whole::{Outcome, Run};
use crate::adapter::manifest;
use crate::train::adapter::TrainedAdapter;
use crate::train::checkpoint;
use crate::train::evaluate::{compare, evaluate, Bootstrap, EvaluateError, Evaluation};
use crate::train::files::replace;
use crate::train::publish::{contents, publish_only, Description};
use crate::train::report::{report, EVAL_FILE};
use crate::train::scoring::{base_pairs, scored_pairs};
use crate::train::TrainError;

/// Where the version goes.
pub const BUNDLE_DIR: &str = "bundle";

/// Evaluates the best state with intervals, publishes it, and writes the report.
pub(super) fn publish(run: &Run, mut adapter: TrainedAdapter) -> Result<Outcome, TrainError> {
    let out = &run.place.out;
    let best = out.join(BEST_FILE);
    let best_step = if best.exists() {
        checkpoint::load(&best, &mut adapter)?.1.step
    } else {
        0
    };
    let evaluation = evaluation(run, &adapter)?;
    if let Some(evaluation) = &evaluation {
        let json = serde_json::to_value(evaluation).unwrap_or_default();
        replace(&out.join(EVAL_FILE), &pretty(&json))?;
    }
    let mut training = run.description.clone();
    training["best_step"] = json!(best_step);
    training["evaluation"] = evaluation.as_ref().map_or(Value::Null, summary);
    let contents = contents(&adapter, describe(run, training));
    let version = publish_only(&out.join(BUNDLE_DIR), &contents)?;
    report(out).map_err(|e| TrainError::Unfit(e.to_string()))?;
    Ok(Outcome::Published {
        version,
        evaluation: evaluation.map(Box::new),
    })
}

fn describe(run: &Run, training: Value) -> Description {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Description {
        name: run.settings.name.clone(),
        created_unix: since.unwrap_or_default().as_secs(),
        base: manifest::BaseModel {
            name: run.base.id.clone(),
            sha256: run.base.sha256.clone(),
        },
        lora: Some(run.settings.lora.manifest()),
        users: run.prepared.users.iter().cloned().zip(1..).collect(),
        training,
    }
}

fn evaluation(run: &Run, adapter: &TrainedAdapter) -> Result<Option<Evaluation>, TrainError> {
    let pairs = run.prepared.judged();
    if pairs.is_empty() {
        return Ok(None);
    }
    let scored = scored_pairs(pairs, &run.score(adapter, pairs)?);
    let base = base_pairs(pairs);
    let bootstrap = Bootstrap {
        seed: run.settings.seed,
        ..Bootstrap::default()
    };
    let unfit = |e: EvaluateError| TrainError::Unfit(e.to_string());
    let mut evaluation = evaluate(&scored, bootstrap).map_err(unfit)?;
    evaluation
        .against
        .push(compare(&scored, "base", &base, bootstrap).map_err(unfit)?);
    for rival in &run.place.against {
        let other = rival.scored(run.base, pairs, &run.settings.objective)?;
        let comparison = compare(&scored, rival.name(), &other, bootstrap);
        evaluation.against.push(comparison.map_err(unfit)?);
    }
    Ok(Some(evaluation))
}

/// The numbers of an evaluation that a manifest keeps: no users' names beyond its rows.
fn summary(evaluation: &Evaluation) -> Value {
    json!({
        "overall": evaluation.overall,
        "mean_user_accuracy": evaluation.mean_user_accuracy,
        "groups": evaluation.groups,
    })
}
