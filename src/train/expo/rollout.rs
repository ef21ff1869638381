//! Many answers to many prompts, through the engine that serves: continuous batching, and the rows of a
//! prompt computed once for all its answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{stream, StreamExt};

use crate::adapter::bundle::Adapter;
use crate::base_model::BaseModel;
use crate::engine::kv_cache::KvCache;
use crate::engine::model_runner::ModelRunner;
use crate::engine::outbox::Answer;
use crate::engine::request::{EngineAdapter, EngineEvent, EngineRequest, SamplingParams};
use crate::engine::thread::{EngineConfig, EngineHandle};
use crate::model::kernels::paged_attention::BLOCK_SIZE;
use crate::text::chat_template::ChatMessage;
use crate::text::tokenizer::SpecialTokens;
use crate::train::load::locate_and_read;
use crate::train::TrainError;
use crate::user_model::soft_prompt::SoftPrompt;

/// Answers that are made at once.
const MAX_RUNNING: usize = 32;

/// Who answers: a base model, alone or with a version as its generic user.
#[derive(Debug)]
pub struct Voice {
    adapter: Option<EngineAdapter>,
    soft_prompt: SoftPrompt,
}

impl Voice {
    /// The bare base model.
    pub fn base() -> Self {
        Self {
            adapter: None,
            soft_prompt: SoftPrompt::none(),
        }
    }

    /// The generic user of a version.
    pub fn generic(adapter: &Arc<Adapter>) -> Self {
        let people = adapter.people.as_ref();
        Self {
            adapter: Some(EngineAdapter {
                version: adapter.version.clone(),
                lora: adapter.lora.clone(),
                lease: adapter.clone(),
            }),
            soft_prompt: people.map_or_else(SoftPrompt::none, |people| people.soft_prompt(None)),
        }
    }

    /// The bundle in `dir`, or the bare base model.
    ///
    /// # Errors
    /// A bundle that cannot be used.
    pub fn of(bundle: Option<&Path>, base: &BaseModel) -> Result<Self, TrainError> {
        match bundle {
            None => Ok(Self::base()),
            Some(dir) => Ok(Self::generic(&Arc::new(locate_and_read(dir, base)?))),
        }
    }
}

/// How answers are sampled.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Answers to each prompt.
    pub samples: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Each answer's seed follows from it, the prompt's number and its own.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Rollouts {
    /// By prompt; `None`: prompt and answer do not fit the context, nothing was asked.
    pub answers: Vec<Option<Vec<String>>>,
    /// Tokens of all answers.
    pub tokens: usize,
    /// How long it took.
    pub seconds: f64,
}

/// Answers to `prompts`, each as one user message. The same arguments give the same answers, whatever runs
/// beside them. `progress` is told how many answers are done.
///
/// # Errors
/// A template or a pass that fails; no prompt fits the context.
pub fn roll_out(
    base: &BaseModel,
    voice: &Voice,
    prompts: &[String],
    sampling: Sampling,
    mut progress: impl FnMut(usize),
) -> Result<Rollouts, TrainError> {
    let start = Instant::now();
    let encoded = prompts.iter().map(|prompt| encode(base, prompt));
    let mut encoded: Vec<Option<Arc<[u32]>>> = encoded
        .map(|ids| ids.map(Some))
        .collect::<Result<_, TrainError>>()?;
    let rows = |ids: &Arc<[u32]>| ids.len() + voice.soft_prompt.len() + sampling.max_tokens;
    let context = base.decoder.config().max_positions;
    for ids in &mut encoded {
        *ids = ids.take().filter(|ids| rows(ids) <= context);
    }
    let Some(longest) = encoded.iter().flatten().map(rows).max() else {
        return Err(TrainError::Unfit(format!(
            "no prompt leaves room for {} tokens in a context of {context}: give a smaller \
             --max-tokens",
            sampling.max_tokens
        )));
    };
    let engine = engine(base, longest, sampling);
    let mut requests = Vec::new();
    for (prompt, ids) in encoded.iter().enumerate() {
        for sample in ids.iter().flat_map(|_| 0..sampling.samples) {
            requests.push((prompt, sample));
        }
    }
    let mut answers: Vec<Option<Vec<String>>> = encoded
        .iter()
        .map(|ids| ids.as_ref().map(|_| vec![String::new(); sampling.samples]))
        .collect();
    let mut tokens = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|e| TrainError::Unfit(e.to_string()))?;
    runtime.block_on(async {
        let asked = requests.into_iter().filter_map(|(prompt, sample)| {
            let ids = encoded[prompt].clone()?;
            Some((
                prompt,
                sample,
                request(base, voice, ids, sampling, (prompt, sample)),
            ))
        });
        // As many as run at once wait in the engine; the others here.
        let mut done = stream::iter(asked)
            .map(|(prompt, sample, request)| {
                let engine = &engine;
                async move { (prompt, sample, ask(engine, request).await) }
            })
            .buffer_unordered(MAX_RUNNING);
        let mut n = 0;
        while let Some((prompt, sample, ids)) = done.next().await {
            let ids = ids?;
            tokens += ids.len();
            n += 1;
            progress(n);
            if let Some(of_prompt) = &mut answers[prompt] {
                of_prompt[sample] = base.tokenizer.decode(&ids, true).trim().to_owned();
            }
        }
        Ok::<_, TrainError>(())
    })?;
    Ok(Rollouts {
        answers,
        tokens,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// As `/v1/chat/completions` encodes a user's message, or `/v1/completions` a prompt for a model without a
/// template.
pub fn encode(base: &BaseModel, prompt: &str) -> Result<Arc<[u32]>, TrainError> {
    let ids = match &base.template {
        Some(template) => {
            let message = ChatMessage {
                role: "user".into(),
                content: prompt.to_owned(),
            };
            template.encode(&base.tokenizer, &[message], true)
        }
        None => base.tokenizer.encode(prompt, SpecialTokens::AsText),
    };
    let ids = ids.map_err(|e| TrainError::Unfit(e.to_string()))?;
    if ids.is_empty() {
        return Err(TrainError::Unfit(
            "the prompt has no token: write one".into(),
        ));
    }
    Ok(ids.into())
}

fn engine(base: &BaseModel, longest: usize, sampling: Sampling) -> EngineHandle {
    let blocks = longest.div_ceil(BLOCK_SIZE) + 1;
    let kv = KvCache::with_blocks(base.decoder.config(), blocks * MAX_RUNNING);
    let runner = ModelRunner::new(base.decoder.clone(), kv);
    EngineHandle::spawn(
        Box::new(runner),
        EngineConfig {
            max_running: MAX_RUNNING,
            max_queued: MAX_RUNNING,
            max_queued_tokens: longest * MAX_RUNNING,
            token_budget: 256,
            prefix_cache: true,
            seed: sampling.seed,
        },
    )
}

fn request(
    base: &BaseModel,
    voice: &Voice,
    prompt: Arc<[u32]>,
    sampling: Sampling,
    (number, sample): (usize, usize),
) -> EngineRequest {
    let tokenizer = &base.tokenizer;
    let begins = tokenizer.adds_bos() && tokenizer.bos() == prompt.first().copied();
    let seed = sampling
        .seed
        .wrapping_add((number as u64) << 20)
        .wrapping_add(sample as u64);
    EngineRequest {
        prompt,
        soft_prompt: voice.soft_prompt.clone(),
        soft_at: usize::from(begins),
        adapter: voice.adapter.clone(),
        sampling: SamplingParams {
            temperature: sampling.temperature,
            seed: Some(seed),
            ..SamplingParams::default()
        },
        max_tokens: sampling.max_tokens.max(1),
        min_tokens: 0,
        end_ids: tokenizer.end_ids().into(),
        ignore_eos: false,
    }
}

async fn ask(engine: &EngineHandle, request: EngineRequest) -> Result<Vec<u32>, TrainError> {
    let answers = engine.submit(vec![request]).map_err(failed)?;
    let ended = || TrainError::Unfit("the engine ended before the answer".into());
    let mut answer: Answer = answers.into_iter().next().ok_or_else(ended)?;
    let mut ids = Vec::new();
    while let Some(event) = answer.events.recv().await {
        match event {
            EngineEvent::Token(token) => ids.push(token.id),
            EngineEvent::Finished(_) => return Ok(ids),
            EngineEvent::Failed(error) => return Err(failed(error)),
        }
    }
    Err(ended())
}

fn failed(error: impl std::fmt::Display) -> TrainError {
    TrainError::Unfit(error.to_string())
}
