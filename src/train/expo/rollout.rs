//! Many answers to many prompts, through the engine that serves: continuous batching, and the rows of a
//! prompt computed once for all its answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{stream, StreamExt};

use crate::adapter::bundle::Adapter;
use crate::base_model::{BaseModel, LoadError};
use crate::engine::kv_cache::KvCache;
use crate::engine::model_runner::ModelRunner;
use crate::engine::outbox::Answer;
use crate::engine::request::{EngineAdapter, EngineEvent, EngineRequest, SamplingParams};
use crate::engine::thread::{EngineConfig, EngineHandle};
use crate::ids::UserKey;
use crate::model::kernels::paged_attention::BLOCK_SIZE;
use crate::text::chat_template::ChatMessage;
use crate::text::tokenizer::SpecialTokens;
use crate::train::load::locate_and_read;
use crate::train::TrainError;
use crate::user_model::soft_prompt::{RowKind, SoftPrompt};

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

    /// Somebody, or for nobody the generic user, as a version knows them.
    pub fn of_person(adapter: &Arc<Adapter>, person: Option<&UserKey>) -> Self {
        let people = adapter.people.as_ref();
        Self {
            adapter: Some(EngineAdapter {
                version: adapter.version.clone(),
                lora: adapter.lora.clone(),
                lease: adapter.clone(),
            }),
            soft_prompt: people.map_or_else(SoftPrompt::none, |people| people.soft_prompt(person)),
        }
    }

    /// Whose rows these are.
    pub fn row(&self) -> RowKind {
        self.soft_prompt.kind()
    }

    /// The bundle in `dir`, or the bare base model.
    ///
    /// # Errors
    /// A bundle that cannot be used.
    pub fn of(bundle: Option<&Path>, base: &BaseModel) -> Result<Self, TrainError> {
        match bundle {
            None => Ok(Self::base()),
            Some(dir) => Ok(Self::of_person(
                &Arc::new(locate_and_read(dir, base)?),
                None,
            )),
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
    if encoded.iter().all(Option::is_none) {
        return Err(TrainError::Unfit(format!(
            "no prompt leaves room for {} tokens in a context of {context}: give a smaller \
             --max-tokens",
            sampling.max_tokens
        )));
    }
    let mut jobs = Vec::new();
    for (number, prompt) in encoded.iter().enumerate() {
        let of_prompt = sampling.seed.wrapping_add((number as u64) << 20);
        for prompt in prompt.iter() {
            jobs.extend((0..sampling.samples as u64).map(|sample| Job {
                voice,
                prompt: prompt.clone(),
                seed: of_prompt.wrapping_add(sample),
            }));
        }
    }
    let (temperature, max_tokens) = (sampling.temperature, sampling.max_tokens);
    let ids = answer_all(base, &jobs, temperature, max_tokens, &mut progress)?;
    let tokens = ids.iter().map(Vec::len).sum();
    let mut ids = ids.iter();
    // Answers come in the order of jobs: all of a prompt that was asked, then all of the next.
    let answers = encoded.iter().map(|prompt| {
        prompt.as_ref()?;
        let of_prompt = ids.by_ref().take(sampling.samples);
        Some(of_prompt.map(|ids| said(base, ids)).collect())
    });
    Ok(Rollouts {
        answers: answers.collect(),
        tokens,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// An answer's ids as text.
pub fn said(base: &BaseModel, ids: &[u32]) -> String {
    base.tokenizer.decode(ids, true).trim().to_owned()
}

/// One answer that is to be made.
#[derive(Debug)]
pub struct Job<'a> {
    /// Who answers.
    pub voice: &'a Voice,
    /// Prompt ids, BOS included where the tokenizer adds one.
    pub prompt: Arc<[u32]>,
    /// Of this answer.
    pub seed: u64,
}

impl Job<'_> {
    /// Positions that it takes with an answer of `max_tokens`.
    pub fn rows(&self, max_tokens: usize) -> usize {
        self.prompt.len() + self.voice.soft_prompt.len() + max_tokens
    }
}

/// The ids of all answers, in the order of `jobs`, each of which fits the context.
///
/// # Errors
/// A pass that fails.
pub fn answer_all(
    base: &BaseModel,
    jobs: &[Job],
    temperature: f32,
    max_tokens: usize,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Vec<u32>>, TrainError> {
    let longest = jobs.iter().map(|job| job.rows(max_tokens)).max();
    let engine = engine(base, longest.unwrap_or(0), jobs.len().clamp(1, MAX_RUNNING))?;
    let mut answers = vec![Vec::new(); jobs.len()];
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(failed)?;
    runtime.block_on(async {
        // As many as run at once wait in the engine; the others here.
        let mut done = stream::iter(jobs.iter().enumerate())
            .map(|(number, job)| {
                let (engine, request) = (&engine, request(base, job, temperature, max_tokens));
                async move { (number, ask(engine, request).await) }
            })
            .buffer_unordered(MAX_RUNNING);
        let mut n = 0;
        while let Some((number, ids)) = done.next().await {
            answers[number] = ids?;
            n += 1;
            progress(n);
        }
        Ok::<_, TrainError>(())
    })?;
    Ok(answers)
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

fn engine(base: &BaseModel, longest: usize, running: usize) -> Result<EngineHandle, TrainError> {
    let blocks = longest.div_ceil(BLOCK_SIZE) + 1;
    let (config, placement) = (base.decoder.config(), base.decoder.placement());
    let kv = KvCache::placed(config, placement, blocks * running);
    let kv = kv.map_err(LoadError::from)?;
    let runner = ModelRunner::new(base.decoder.clone(), kv);
    Ok(EngineHandle::spawn(
        Box::new(runner),
        EngineConfig {
            max_running: running,
            max_queued: MAX_RUNNING,
            max_queued_tokens: longest * MAX_RUNNING,
            token_budget: 256,
            prefix_cache: true,
            // Every request has its own.
            seed: 0,
        },
    ))
}

fn request(base: &BaseModel, job: &Job, temperature: f32, max_tokens: usize) -> EngineRequest {
    let tokenizer = &base.tokenizer;
    let begins = tokenizer.adds_bos() && tokenizer.bos() == job.prompt.first().copied();
    EngineRequest {
        prompt: job.prompt.clone(),
        soft_prompt: job.voice.soft_prompt.clone(),
        soft_at: usize::from(begins),
        adapter: job.voice.adapter.clone(),
        sampling: SamplingParams {
            temperature,
            seed: Some(job.seed),
            ..SamplingParams::default()
        },
        max_tokens: max_tokens.max(1),
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
