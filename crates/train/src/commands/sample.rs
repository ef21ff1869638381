//! One prompt, answered for several users side by side, through the engine that serves.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::compute::Compute;
use crate::load::locate_and_read;
use crate::rollout::engine::{encode, Job, RolloutEngine};
use crate::rollout::policy_adapter::PolicyAdapter;
use crate::TrainError;
use attune_adapter::bundle::Adapter;
use attune_base_model as base_model;
use attune_ids::{Tenant, UserId, UserKey};

/// What `attune-train sample` is asked.
#[derive(Debug, Clone)]
pub struct SampleRequest {
    /// The base model.
    pub base: String,
    /// Where to compute.
    pub compute: Compute,
    /// The bundle.
    pub bundle: PathBuf,
    /// What all are asked.
    pub prompt: String,
    /// Who asks; the generic user and the bare base answer beside them.
    pub users: Vec<String>,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Seed of every answer.
    pub seed: u64,
}

/// The answers, one below the other.
///
/// # Errors
/// A bundle that cannot be used, an id that is none, a prompt that is too long, or a failing pass.
pub fn sample(request: &SampleRequest) -> Result<String, TrainError> {
    let base = base_model::load(&request.base, request.compute.for_answers()?)?;
    let adapter = Arc::new(locate_and_read(&request.bundle, &base)?);
    let policies = policies(request, &adapter)?;
    let prompt = encode(&base, &request.prompt)?;
    let jobs: Vec<Job> = policies
        .iter()
        .map(|(_, policy)| Job {
            policy,
            prompt: prompt.clone(),
            temperature: request.temperature,
            max_tokens: request.max_tokens,
            seed: request.seed,
        })
        .collect();
    let longest = jobs.iter().map(|job| job.rows()).max();
    let (longest, context) = (longest.unwrap_or(0), base.decoder.config().max_positions);
    if longest > context {
        return Err(TrainError::Setting(format!(
            "prompt and answer take {longest} positions, and the model has {context}: give a \
             smaller --max-tokens or a shorter prompt"
        )));
    }
    let engine = RolloutEngine::new(&base, longest, jobs.len())?;
    let answers = engine.answer_all(&jobs, |_| {})?;
    let mut text = String::new();
    for ((name, _), rollout) in policies.iter().zip(answers) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "== {name}\n{}\n", rollout.text);
    }
    Ok(text)
}

/// Who answers, by name.
fn policies(
    request: &SampleRequest,
    adapter: &Arc<Adapter>,
) -> Result<Vec<(String, PolicyAdapter)>, TrainError> {
    let mut policies = Vec::new();
    for user in &request.users {
        let id = UserId::new(user).map_err(|e| TrainError::Setting(e.to_string()))?;
        let key = UserKey {
            tenant: Tenant::default(),
            user: id,
        };
        let policy = PolicyAdapter::of_person(adapter, Some(&key));
        policies.push((format!("{user} ({} row)", policy.row().as_str()), policy));
    }
    policies.push((
        "generic user".into(),
        PolicyAdapter::of_person(adapter, None),
    ));
    policies.push(("base model".into(), PolicyAdapter::base()));
    Ok(policies)
}
