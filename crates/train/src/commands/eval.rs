//! `attune-train eval`: pairs under a bundle, the base, and others beside it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{json, Value};

use crate::baseline::{self, Baseline};
use crate::compute::Compute;
use crate::dataset::{self, Counts};
use crate::encode::EncodeCounts;
use crate::evaluate::{compare, evaluate, Bootstrap, Evaluation, Score};
use crate::load::load;
use crate::loss::Objective;
use crate::policy::Policy;
use crate::prepare::{check_context, encoder, evaluation_pairs, HeldOutPair};
use crate::scoring::{add_reference, base_pairs, PACK_ROWS};
use crate::TrainError;
use attune_base_model::{self as base_model, BaseModel};
use attune_ids::UserKey;

/// What `attune-train eval` is asked.
#[derive(Debug, Clone)]
pub struct EvalRequest {
    /// The base model.
    pub base: String,
    /// Where it is scored.
    pub compute: Compute,
    /// The bundle; `None` scores the bare base.
    pub bundle: Option<PathBuf>,
    /// Other bundles, on the same pairs.
    pub against: Vec<PathBuf>,
    /// Pairs.
    pub data: Vec<PathBuf>,
    /// One JSON object instead of a table.
    pub json: bool,
    /// Temperature of the rewards.
    pub beta: f64,
    /// Longest prompt that is kept of a pair that is too long.
    pub max_prompt: usize,
    /// Longest prompt and response.
    pub max_length: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// Scores pairs under a bundle, the base, and others beside it.
///
/// # Errors
/// A bundle or data that cannot be used.
pub fn eval(request: &EvalRequest) -> Result<String, TrainError> {
    let base = base_model::load(&request.base, request.compute.for_answers()?)?;
    let loaded = request
        .bundle
        .as_deref()
        .map(|dir| load(dir, &base))
        .transpose()?;
    for dir in &request.against {
        Baseline::Bundle(dir.clone()).check(&base)?;
    }
    let none = BTreeMap::new();
    let rows = loaded.as_ref().map_or(&none, |l| &l.rows);
    let (mut pairs, read, encoded) = read_pairs(request, &base, rows)?;
    let reference = Policy::reference(&base.decoder, base.tokenizer.added_bos());
    add_reference(
        &reference,
        pairs.iter_mut().map(|p| &mut p.pair),
        PACK_ROWS,
        |_, _| {},
    )?;
    let bare = base_pairs(&pairs);
    let objective: Objective = format!("dpo:beta={}", request.beta)
        .parse()
        .map_err(|e: crate::loss::objective::ObjectiveError| TrainError::Setting(e.to_string()))?;
    let policy = match &loaded {
        Some(loaded) => baseline::under(loaded, &base, &pairs, &objective)?,
        None => bare.clone(),
    };
    let bootstrap = Bootstrap {
        seed: request.seed,
        ..Bootstrap::default()
    };
    let mut evaluation = evaluate(&policy, bootstrap)?;
    if loaded.is_some() {
        let comparison = compare(&policy, "base", &bare, bootstrap)?;
        evaluation.against.push(comparison);
    }
    for dir in &request.against {
        let baseline = Baseline::Bundle(dir.clone());
        let other = baseline.scored(&base, &pairs, &objective)?;
        let comparison = compare(&policy, baseline.name(), &other, bootstrap);
        evaluation.against.push(comparison?);
    }
    let data = json!({"read": read, "encoded": encoded});
    match request.json {
        true => with_data(&evaluation, data),
        false => Ok(format!("{read}\n{encoded}\n{}", table(&evaluation))),
    }
}

/// An evaluation as one JSON object, with what was read, cut and left out beside it.
fn with_data(evaluation: &Evaluation, data: Value) -> Result<String, TrainError> {
    let bug = |e: serde_json::Error| TrainError::Bug(e.to_string());
    let mut object = serde_json::to_value(evaluation).map_err(bug)?;
    object["data"] = data;
    Ok(format!("{object}\n"))
}

fn read_pairs(
    request: &EvalRequest,
    base: &BaseModel,
    rows: &BTreeMap<UserKey, usize>,
) -> Result<(Vec<HeldOutPair>, Counts, EncodeCounts), TrainError> {
    let data = dataset::read(&request.data)?;
    let encoder = encoder(base, request.max_prompt, request.max_length)?;
    let indices: Vec<usize> = (0..data.pairs.len()).collect();
    let (pairs, counts) = evaluation_pairs(&encoder, &data.pairs, &indices, rows)?;
    check_context(counts.longest, base)?;
    // Where a table follows, it begins with them.
    if request.json || pairs.is_empty() {
        data.counts.warn();
        counts.warn();
    }
    Ok((pairs, data.counts, counts))
}

/// An evaluation as people read it.
pub fn table(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    let mut line = |name: &str, score: &Score| {
        let [low, high] = score.interval;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<24} {:>6} pairs  accuracy {:.3} [{low:.3}, {high:.3}]  margin {:+.3}",
            score.pairs, score.accuracy, score.margin
        );
    };
    line("all", &evaluation.overall);
    for (group, score) in &evaluation.groups {
        line(&format!("{group:?}").to_lowercase(), score);
    }
    for other in &evaluation.against {
        line(&other.name, &other.evaluation.overall);
    }
    for other in &evaluation.against {
        let [low, high] = other.difference.interval;
        let _ = writeln!(
            text,
            "more often right than {}: {:+.3} [{low:+.3}, {high:+.3}]",
            other.name, other.difference.accuracy
        );
    }
    text
}
