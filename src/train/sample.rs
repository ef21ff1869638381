//! One prompt, answered for several users side by side, through the engine that serves.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::expo::rollout::encode;
use super::load::locate_and_read;
use super::TrainError;
use crate::adapter::bundle::Adapter;
use crate::base_model::{self, BaseModel};
use crate::engine::kv_cache::KvCache;
use crate::engine::model_runner::ModelRunner;
use crate::engine::outbox::Answer;
use crate::engine::request::{EngineAdapter, EngineEvent, EngineRequest, SamplingParams};
use crate::engine::thread::{EngineConfig, EngineHandle};
use crate::ids::{Tenant, UserId, UserKey};
use crate::model::kernels::packed_matmul::WeightType;
use crate::model::linear::LinearFormat;
use crate::user_model::soft_prompt::SoftPrompt;

/// What `attune-train sample` is asked.
#[derive(Debug, Clone)]
pub struct SampleRequest {
    /// The base model.
    pub base: String,
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

/// Who answers, and with what.
struct Voice {
    name: String,
    soft_prompt: SoftPrompt,
    adapter: Option<EngineAdapter>,
}

/// The answers, one below the other.
///
/// # Errors
/// A bundle that cannot be used, an id that is none, a prompt that is too long, or a failing pass.
pub fn sample(request: &SampleRequest) -> Result<String, TrainError> {
    let base = base_model::load(&request.base, LinearFormat::Packed(WeightType::F32))?;
    let adapter = Arc::new(locate_and_read(&request.bundle, &base)?);
    let voices = voices(request, &adapter)?;
    let prompt = encode(&base, &request.prompt)?;
    let rows = voices
        .iter()
        .map(|v| v.soft_prompt.len())
        .max()
        .unwrap_or(0);
    let longest = prompt.len() + rows + request.max_tokens;
    let context = base.decoder.config().max_positions;
    if longest > context {
        return Err(TrainError::Unfit(format!(
            "prompt and answer take {longest} positions, and the model has {context}: give a \
             smaller --max-tokens or a shorter prompt"
        )));
    }
    let engine = engine(request, &base, longest, voices.len());
    let asked = voices
        .iter()
        .map(|voice| ask(request, &base, &prompt, voice));
    let answers = engine.submit(asked.collect()).map_err(failed)?;
    let mut text = String::new();
    for (voice, answer) in voices.iter().zip(answers) {
        let ids = tokens(answer)?;
        let said = base.tokenizer.decode(&ids, true);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "== {}\n{}\n", voice.name, said.trim());
    }
    Ok(text)
}

fn voices(request: &SampleRequest, adapter: &Arc<Adapter>) -> Result<Vec<Voice>, TrainError> {
    let soft_prompt = |key: Option<&UserKey>| match &adapter.people {
        Some(people) => people.soft_prompt(key),
        None => SoftPrompt::none(),
    };
    let voice = |name: String, soft_prompt| Voice {
        name,
        soft_prompt,
        adapter: Some(EngineAdapter {
            version: adapter.version.clone(),
            lora: adapter.lora.clone(),
            lease: adapter.clone(),
        }),
    };
    let mut voices = Vec::new();
    for user in &request.users {
        let id = UserId::new(user.as_str()).map_err(|e| TrainError::Unfit(e.to_string()))?;
        let key = UserKey {
            tenant: Tenant::default(),
            user: id,
        };
        let soft_prompt = soft_prompt(Some(&key));
        let name = format!("{user} ({} row)", soft_prompt.kind().as_str());
        voices.push(voice(name, soft_prompt));
    }
    voices.push(voice("generic user".into(), soft_prompt(None)));
    voices.push(Voice {
        name: "base model".into(),
        soft_prompt: SoftPrompt::none(),
        adapter: None,
    });
    Ok(voices)
}

fn engine(
    request: &SampleRequest,
    base: &BaseModel,
    longest: usize,
    voices: usize,
) -> EngineHandle {
    let config = base.decoder.config();
    let blocks = longest.div_ceil(crate::model::kernels::paged_attention::BLOCK_SIZE) + 1;
    let kv = KvCache::with_blocks(config, blocks * voices);
    let runner = ModelRunner::new(base.decoder.clone(), kv);
    EngineHandle::spawn(
        Box::new(runner),
        EngineConfig {
            max_running: voices,
            max_queued: voices,
            max_queued_tokens: longest * voices,
            token_budget: 256.max(voices),
            prefix_cache: true,
            seed: request.seed,
        },
    )
}

fn ask(
    request: &SampleRequest,
    base: &BaseModel,
    prompt: &Arc<[u32]>,
    voice: &Voice,
) -> EngineRequest {
    let tokenizer = &base.tokenizer;
    let begins = tokenizer.adds_bos() && tokenizer.bos() == prompt.first().copied();
    EngineRequest {
        prompt: prompt.clone(),
        soft_prompt: voice.soft_prompt.clone(),
        soft_at: usize::from(begins),
        adapter: voice.adapter.clone(),
        sampling: SamplingParams {
            temperature: request.temperature,
            seed: Some(request.seed),
            ..SamplingParams::default()
        },
        max_tokens: request.max_tokens.max(1),
        min_tokens: 0,
        end_ids: tokenizer.end_ids().into(),
        ignore_eos: false,
    }
}

/// The ids of one answer; waits for them.
fn tokens(mut answer: Answer) -> Result<Vec<u32>, TrainError> {
    let mut ids = Vec::new();
    while let Some(event) = answer.events.blocking_recv() {
        match event {
            EngineEvent::Token(token) => ids.push(token.id),
            EngineEvent::Finished(_) => return Ok(ids),
            EngineEvent::Failed(error) => return Err(failed(error)),
        }
    }
    Err(TrainError::Unfit(
        "the engine ended before the answer".into(),
    ))
}

fn failed(error: impl std::fmt::Display) -> TrainError {
    TrainError::Unfit(error.to_string())
}
