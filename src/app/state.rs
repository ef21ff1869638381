//! What the server holds while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;

use super::address::Identity;
use super::compute::Compute;
use super::error::AppError;
use super::keys::KeyRing;
use super::store_health::StoreHealth;
use super::store_threads::{StoreThreads, StoreWork};
use super::versions::LiveVersions;
use crate::telemetry::{Metrics, TelemetryError};
use attune_engine as engine;
use attune_engine::thread::EngineHandle;
pub use attune_engine::thread::EngineStats;
use attune_ids::Alias;
use attune_store::Store;
use attune_text::chat_template::ChatTemplate;
use attune_text::prompt::PromptEncoder;
use attune_text::tokenizer::Tokenizer;

/// Bounds of requests that are no part of the OpenAI surface.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Tokens of an answer where the request names no number; the context bounds it too.
    pub default_max_tokens: usize,
    /// Messages of a chat.
    pub max_messages: usize,
    /// Whether fields of requests that change nothing are refused.
    pub strict: bool,
    /// Longest time for an answer, from submission to the last token.
    pub answer_timeout: Duration,
    /// Longest time for which an answer waits for a caller who does not read it.
    pub max_stall: Duration,
    /// How many versions are kept that nobody needs, the newest ones.
    pub keep_versions: usize,
    /// How soon people who were deleted leave the versions that know them.
    pub forget_within: Duration,
    /// How long completions are kept whose requests do not say; `None`: not at all.
    pub keep_completions: Option<Duration>,
    /// Texts longer than this many bytes are rendered and tokenized off the async threads.
    pub inline_tokenize_bytes: usize,
    /// So many of them at once, and so many bodies; others wait for their turn.
    pub encode_at_once: usize,
    /// Bodies and answers longer than this many bytes are parsed and written off the async threads.
    pub inline_body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            default_max_tokens: 4096,
            max_messages: 2048,
            strict: false,
            answer_timeout: Duration::from_secs(600),
            max_stall: Duration::from_secs(30),
            keep_versions: 32,
            forget_within: Duration::from_secs(86_400),
            keep_completions: None,
            inline_tokenize_bytes: 8 * 1024,
            // The engine needs cores, too.
            encode_at_once: cores().div_ceil(2),
            inline_body_bytes: 8 * 1024,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// An empty set of counters, with the buckets and help texts of the engine's.
///
/// # Errors
/// See [`TelemetryError`].
pub fn new_metrics() -> Result<Metrics, TelemetryError> {
    let metrics = Metrics::new(&[
        (
            "attune_time_to_first_token_seconds",
            &engine::metrics::TTFT_BUCKETS,
        ),
        (
            "attune_inter_token_latency_seconds",
            &engine::metrics::ITL_BUCKETS,
        ),
        ("attune_step_time_seconds", &engine::metrics::ITL_BUCKETS),
    ])?;
    metrics.record(engine::metrics::describe);
    metrics.record(super::admin::describe);
    metrics.record(super::keep::describe);
    metrics.record(super::store_health::describe);
    Ok(metrics)
}

/// Everything that handlers share.
pub struct AppState {
    /// The way into the engine.
    pub engine: EngineHandle,
    /// The base model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The base model's chat template; a model without one serves completions only.
    pub template: Option<ChatTemplate>,
    /// The store and the adapter versions.
    pub versions: LiveVersions,
    /// The bare base model's id.
    pub base_model_id: String,
    /// The id of base + promoted version, personalised.
    pub alias: Alias,
    /// Positions of a sequence: soft prompt, prompt and answer together.
    pub context_len: usize,
    /// Width of the logits; ids from callers are checked against it.
    pub vocab_size: usize,
    /// API keys.
    pub keys: KeyRing,
    /// What proves to commands on this machine that this is the server of its data directory.
    pub identity: Identity,
    /// Bounds of requests.
    pub limits: Limits,
    /// Turns at rendering and tokenizing long texts.
    pub encoding: Compute,
    /// Turns at parsing long bodies and at writing long answers.
    pub bodies: Compute,
    /// When the server started.
    pub started: SystemTime,
    /// Requests in flight: each holds a token until its last byte is out.
    pub work: TaskTracker,
    /// Background tasks: connections, upkeep.
    pub tasks: TaskTracker,
    /// Where work on the store is done.
    pub store_threads: StoreThreads,
    /// What the store can do.
    pub store_health: StoreHealth,
    /// Counters.
    pub metrics: Metrics,
    /// Set once; new work is refused from then on.
    pub draining: AtomicBool,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState")
            .field("base_model_id", &self.base_model_id)
            .field("context_len", &self.context_len)
            .finish_non_exhaustive()
    }
}

impl AppState {
    /// A request that came at `now_unix_ms` begins: when, in milliseconds since 1970, as its records will say. See
    /// [`Store::begin`].
    pub fn begin(&self, now_unix_ms: u64) -> u64 {
        self.versions.store().begin(now_unix_ms)
    }

    /// What makes prompts.
    pub fn prompts(&self) -> PromptEncoder<'_> {
        PromptEncoder::new(&self.tokenizer, self.template.as_ref()).at_most(self.context_len)
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Refuses new work from now on; what is in flight goes on.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
        self.engine.drain();
    }

    /// Runs `work`, which blocks, on a thread where it holds nobody up. It runs to its end even if the
    /// caller goes away.
    ///
    /// # Errors
    /// What `work` says; a thread that fails.
    pub async fn blocking<T, F>(self: &Arc<Self>, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, AppError> + Send + 'static,
    {
        let shared = self.clone();
        let task = self.tasks.spawn_blocking(move || work(&shared));
        task.await
            .map_err(|error| AppError::Internal(format!("a blocking thread failed: {error}")))?
    }

    /// Runs `work`, some reads or writes of a request, on a thread of the store.
    ///
    /// # Errors
    /// [`AppError::StoreBusy`] if too much waits there already; what `work` says.
    pub async fn with_store<T, E, F>(self: &Arc<Self>, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        E: Into<AppError> + Send + 'static,
        F: FnOnce(&Store) -> Result<T, E> + Send + 'static,
    {
        self.store_threads.run(StoreWork::Request, work).await
    }

    /// Runs `work`, a change of versions or a look at all of them, on a thread of the store.
    ///
    /// # Errors
    /// [`AppError::StoreBusy`] if too much waits there already; what `work` says.
    pub async fn with_versions<T, F>(self: &Arc<Self>, work: F) -> Result<T, AppError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, AppError> + Send + 'static,
    {
        let shared = self.clone();
        let work = move |_: &Store| work(&shared);
        self.store_threads.run(StoreWork::Change, work).await
    }

    /// Whether requests can be answered. They are without the store, too: see [`StoreHealth`].
    ///
    /// # Errors
    /// What is not ready.
    pub fn ready(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("the server is shutting down".to_owned());
        }
        if !self.engine.is_alive() {
            return Err("the engine has stopped".to_owned());
        }
        Ok(())
    }
}
