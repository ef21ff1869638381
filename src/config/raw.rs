//! What was typed: command lines and their `ATTUNE_...` variables, unchecked.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::train::Pdpo;

/// OpenAI-compatible chat inference that answers each user the way that user prefers.
#[derive(Debug, Parser)]
#[command(name = "attune", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `attune`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve chat over HTTP. Fetches the model on first start.
    Serve(Box<Serve>),
    /// Models that attune knows by name.
    #[command(subcommand)]
    Model(Model),
    /// Adapter versions: import, install, promote, roll back, retire, forget, list, verify.
    #[command(subcommand)]
    Adapter(Adapter),
    /// API keys: make, list, revoke. A server that runs follows within seconds.
    #[command(subcommand)]
    Key(Key),
    /// The store: verify, export, import. Stop the server first.
    #[command(subcommand)]
    Store(Store),
    /// Learn from what people preferred: export, train, compare, promote what is better.
    Loop(Box<Loop>),
    /// Print the OpenAPI document.
    Openapi {
        /// Write it to a file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// `attune serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Address to listen on. Without API keys only loopback addresses are taken.
    #[arg(long, env = "ATTUNE_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one.
    #[arg(long, env = "ATTUNE_PORT", default_value_t = 8080)]
    pub port: u16,
    /// The model.
    #[command(flatten)]
    pub model: ModelChoice,
    /// Where the store and the adapter versions are.
    #[command(flatten)]
    pub data: DataDir,
    /// Folder from which `POST /v1/admin/adapters` installs; `bundles` in the data directory if missing.
    #[arg(long, env = "ATTUNE_BUNDLES")]
    pub bundles: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, cuda:1, ... auto takes a GPU if this build can and one is there.
    #[arg(long, env = "ATTUNE_DEVICE", default_value = "auto")]
    pub device: String,
    /// GPUs that share the model, from cuda:0 on: 1, 2, 4, ... (tensor parallelism; wants cargo feature nccl).
    #[arg(long, env = "ATTUNE_TENSOR_PARALLEL", default_value_t = 1)]
    pub tensor_parallel: usize,
    /// CPU threads of the engine; 0 takes one a core.
    #[arg(long, env = "ATTUNE_THREADS", default_value_t = 0)]
    pub threads: usize,
    /// Memory of the KV cache, for example 512MiB or 2GiB; auto is 1GiB on the CPU, and on a GPU what
    /// the model leaves.
    #[arg(long, env = "ATTUNE_KV_MEMORY", default_value = "auto")]
    pub kv_memory: String,
    /// What keys and values are kept as on the CPU; on a GPU they are of the model's type.
    #[arg(long, env = "ATTUNE_KV_DTYPE", value_enum, default_value_t = KvDtype::Auto)]
    pub kv_dtype: KvDtype,
    /// Memory of adapter versions, for example 512MiB or 2GiB. Versions that an alias names stay in it,
    /// others are read when they are first used and leave when room is needed.
    #[arg(long, env = "ATTUNE_ADAPTER_MEMORY", default_value = "4GiB")]
    pub adapter_memory: String,
    /// Answers that are made at once.
    #[arg(long, env = "ATTUNE_MAX_RUNNING", default_value_t = 64)]
    pub max_running: usize,
    /// Answers that wait; more are refused with 503 and Retry-After.
    #[arg(long, env = "ATTUNE_MAX_QUEUED", default_value_t = 512)]
    pub max_queued: usize,
    /// Prompt tokens that wait; more are refused with 503 and Retry-After.
    #[arg(long, env = "ATTUNE_MAX_QUEUED_TOKENS", default_value_t = 262_144)]
    pub max_queued_tokens: usize,
    /// Seconds for which an answer waits for a caller who does not read it; then it is ended.
    #[arg(long, env = "ATTUNE_MAX_STALL", default_value_t = 30)]
    pub max_stall: u64,
    /// Answers that one API key may have at once, running and waiting; more are refused with 429. 0 is no
    /// bound. Without it three quarters of all places, where there are keys.
    #[arg(long, env = "ATTUNE_MAX_ANSWERS_PER_KEY")]
    pub max_answers_per_key: Option<usize>,
    /// The same for one user. Requests that name no user are not counted. 0 is no bound.
    #[arg(long, env = "ATTUNE_MAX_ANSWERS_PER_USER", default_value_t = 128)]
    pub max_answers_per_user: usize,
    /// Rows of one step, decodes and prefill chunks together.
    #[arg(long, env = "ATTUNE_TOKEN_BUDGET", default_value_t = 256)]
    pub token_budget: usize,
    /// Milliseconds that a step should take in which answers go on. Prompts get fewer rows of it where they would
    /// make it longer, and half of this time at least. 0 is no target.
    #[arg(long, env = "ATTUNE_STEP_TARGET_MS", default_value_t = 100)]
    pub step_target_ms: u64,
    /// Compute every prompt from its beginning.
    #[arg(long, env = "ATTUNE_NO_PREFIX_CACHE")]
    pub no_prefix_cache: bool,
    /// Port of a listener for health checks alone, at the same address, on a thread of its own; 0 picks a free one.
    #[arg(long, env = "ATTUNE_HEALTH_PORT")]
    pub health_port: Option<u16>,
    /// Seconds after which a connection is cut whose client takes nothing of what there is for it.
    #[arg(long, env = "ATTUNE_WRITE_TIMEOUT", default_value_t = 60)]
    pub write_timeout: u64,
    /// Origin whose web pages may call, as a browser writes it (`https://chat.example`), or * for all. May be
    /// given several times; in the variable, with commas.
    #[arg(long, env = "ATTUNE_CORS_ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// Refuse fields of requests that have no effect here, in place of naming them in the header
    /// x-attune-ignored.
    #[arg(long, env = "ATTUNE_STRICT")]
    pub strict: bool,
    /// File with API keys; docs/api.md has its format.
    #[arg(long, env = "ATTUNE_API_KEYS")]
    pub api_keys: Option<PathBuf>,
    /// Seed of answers whose request has none; drawn anew at each start if missing.
    #[arg(long, env = "ATTUNE_SEED")]
    pub seed: Option<u64>,
    /// Seconds that answers in flight may take after SIGTERM.
    #[arg(long, env = "ATTUNE_SHUTDOWN_TIMEOUT", default_value_t = 30)]
    pub shutdown_timeout: u64,
    /// Seconds for which chat answers are kept whose requests do not say `store`; 0 keeps none.
    #[arg(long, env = "ATTUNE_KEEP_COMPLETIONS", default_value_t = 0)]
    pub keep_completions: u64,
    /// Refuse to record more while less of the store's disk is free, for example 256MiB or 2GiB; 0 never
    /// refuses. Answers and deletions go on.
    #[arg(long, env = "ATTUNE_MIN_FREE_DISK", default_value = "256MiB")]
    pub min_free_disk: String,
    /// Versions that are kept though no alias names, named before or tries them: so many of the newest.
    #[arg(long, env = "ATTUNE_KEEP_VERSIONS", default_value_t = 32)]
    pub keep_versions: u32,
    /// Seconds after which no version has the id or the rows of a person who was deleted. They are out of
    /// reach at once; each version that has them is replaced by one without, for many deletions at once.
    #[arg(long, env = "ATTUNE_FORGET_WITHIN", default_value_t = 86_400)]
    pub forget_within: u64,
    /// Preferences, ratings, kept completions and profiles that one tenant may have; 0 bounds nothing.
    #[arg(long, env = "ATTUNE_TENANT_MAX_RECORDS", default_value_t = 10_000_000)]
    pub tenant_max_records: u64,
    /// Bytes of them, for example 512MiB or 16GiB; 0 bounds nothing.
    #[arg(long, env = "ATTUNE_TENANT_MAX_BYTES", default_value = "16GiB")]
    pub tenant_max_bytes: String,
    /// Do not put the demo version into a fresh data directory.
    #[arg(long, env = "ATTUNE_NO_DEMO")]
    pub no_demo: bool,
    /// Log lines as JSON.
    #[arg(long, env = "ATTUNE_LOG_JSON")]
    pub log_json: bool,
}

/// `attune loop`. All settings of `attune-train pdpo` are settings of its runs.
#[derive(Debug, Clone, Args)]
pub struct Loop {
    /// Turn once, then exit.
    #[arg(long)]
    pub once: bool,
    /// Seconds from the end of a turn to the next.
    #[arg(long, default_value_t = 3600)]
    pub every: u64,
    /// The server's data directory.
    #[command(flatten)]
    pub data: DataDir,
    /// The server's bundle folder; `bundles` in the data directory if missing.
    #[arg(long, env = "ATTUNE_BUNDLES")]
    pub bundles: Option<PathBuf>,
    /// The server's URL. Not needed: a server leaves its address in the data directory.
    #[arg(long, env = "ATTUNE_URL")]
    pub url: Option<String>,
    /// A key with the role admin; better in the variable than on the command line, which others can read.
    #[arg(long, env = "ATTUNE_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// The alias.
    #[arg(long, default_value = "attune")]
    pub alias: String,
    /// By how much a new version must be right more often than the current one, on pairs set aside, as a mean
    /// over people.
    #[arg(long, default_value_t = 0.02)]
    pub margin: f64,
    /// Probability with which a version that is no better may ever be promoted in place of the current one.
    #[arg(long, default_value_t = 0.05)]
    pub chance: f64,
    /// Share of people whose votes may be bought without making a difference, up to 0.4.
    #[arg(long, default_value_t = 0.1)]
    pub coalition: f64,
    /// Share of people who may lose by a new version; more, and it is not promoted.
    #[arg(long, default_value_t = 0.2)]
    pub max_losers: f64,
    /// People with pairs set aside below whom nothing is promoted.
    #[arg(long, default_value_t = 10)]
    pub min_people: usize,
    /// Pairs set aside below which nothing is promoted.
    #[arg(long, default_value_t = 20)]
    pub min_test_pairs: usize,
    /// A command that compares answers: questions come as lines of JSON, votes go out (docs/loop.md).
    /// Without it likelihoods alone are compared.
    #[arg(long, env = "ATTUNE_JUDGE")]
    pub judge: Option<String>,
    /// Seconds that a vote may take; a judge that takes longer has not voted.
    #[arg(long, default_value_t = 60)]
    pub judge_timeout: u64,
    /// Prompts of each person that both versions answer for the judge, at most.
    #[arg(long, default_value_t = 4)]
    pub judge_prompts: usize,
    /// Tokens of such an answer, at most.
    #[arg(long, default_value_t = 256)]
    pub judge_tokens: usize,
    /// Fit rows for people whom the current version does not know, and change nothing else: each of them keeps
    /// the row if it is not worse for them than the generic one.
    #[arg(long)]
    pub fit_users: bool,
    /// Pairs that have to be new since the last decision; fewer, and nothing is trained.
    #[arg(long, default_value_t = 1)]
    pub min_pairs: usize,
    /// Keep the directory of each run here. It holds people's ids.
    #[arg(long)]
    pub keep_runs: Option<PathBuf>,
    /// How to train.
    #[command(flatten)]
    pub train: Pdpo,
}

/// Which model, and how its weights are kept.
#[derive(Debug, Clone, Args)]
pub struct ModelChoice {
    /// A name that `attune model list` shows, a GGUF file, or a Hugging Face directory.
    #[arg(long, env = "ATTUNE_MODEL", default_value = "smollm2-135m-instruct")]
    pub model: String,
    /// How weights are kept. On the CPU activations are in f32, and in 8 bits where they meet quantized
    /// blocks; on a GPU all is in this type, with sums in f32.
    #[arg(long, env = "ATTUNE_DTYPE", value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// Quantize the linear layers at load: none, q4_0, q4_1, q5_0, q5_1, q8_0, q2k, q3k, q4k, q5k, q6k,
    /// fp8 (GPU).
    #[arg(long, env = "ATTUNE_QUANT", default_value = "none")]
    pub quant: String,
}

/// Types in which weights can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// As the file has them, quantized blocks included; bf16 on a GPU.
    Auto,
    /// 4 bytes: nothing is lost.
    F32,
    /// 2 bytes, wide range.
    Bf16,
    /// 2 bytes, more precise.
    F16,
}

/// Types in which keys and values can be kept on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvDtype {
    /// f32 with --dtype f32, else f16.
    Auto,
    /// 4 bytes: nothing is lost.
    F32,
    /// 2 bytes.
    F16,
    /// 1 byte, and a factor for each position and head.
    Int8,
}

/// Which model.
#[derive(Debug, Clone, Args)]
pub struct ModelName {
    /// A name that `attune model list` shows, a GGUF file, or a Hugging Face directory.
    #[arg(long, env = "ATTUNE_MODEL", default_value = "smollm2-135m-instruct")]
    pub model: String,
}

/// Where attune keeps its data.
#[derive(Debug, Clone, Args)]
pub struct DataDir {
    /// Directory of the store and the adapter versions; made if it is not there.
    #[arg(long, env = "ATTUNE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// `attune model`.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// Fetch a model into the cache.
    Pull {
        /// A name that `attune model list` shows.
        #[arg(default_value = "smollm2-135m-instruct")]
        name: String,
    },
    /// Show the known models and which of them are in the cache.
    List,
}

/// `attune adapter`.
#[derive(Debug, Subcommand)]
pub enum Adapter {
    /// Turn a PEFT checkpoint (LoRA, with or without the authors' user model) into a version.
    Import(AdapterImport),
    /// Copy a bundle into the data directory and make it known.
    Install {
        /// The bundle's directory.
        bundle: PathBuf,
        /// The model that the server serves: a version of another one is refused.
        #[command(flatten)]
        model: ModelName,
        /// Where to.
        #[command(flatten)]
        data: DataDir,
    },
    /// Let the model id `attune` name a version.
    Promote {
        /// The version, or its first 8 or more digits.
        version: String,
        /// Only if the alias names this version now; `none` if it names nothing.
        #[arg(long)]
        expected: Option<String>,
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Let the model id `attune` name what it named before.
    Rollback {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Remove a version that the model id does not name.
    Retire {
        /// The version, or its first 8 or more digits.
        version: String,
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Replace each version that knows people who were deleted by one without their ids and rows.
    Forget {
        /// The bundle folder, where bundles are replaced, too; `bundles` in the data directory if missing.
        #[arg(long, env = "ATTUNE_BUNDLES")]
        bundles: Option<PathBuf>,
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Show the installed versions.
    List {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Write a bundle as a PEFT checkpoint.
    Export {
        /// The bundle's directory.
        bundle: PathBuf,
        /// Directory that gets adapter_config.json and adapter_model.safetensors.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a bundle's hash and structure.
    Verify {
        /// The bundle's directory.
        bundle: PathBuf,
    },
}

/// `attune adapter import`.
#[derive(Debug, Args)]
pub struct AdapterImport {
    /// The checkpoint's directory: adapter_config.json and adapter_model.safetensors.
    pub checkpoint: PathBuf,
    /// Directory that gets the bundle; the data directory's own adapters if missing.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A name for people.
    #[arg(long)]
    pub name: Option<String>,
    /// T_u: rows of one user's soft prompt. The checkpoint does not say.
    #[arg(long, default_value_t = 0)]
    pub n_user_tokens: usize,
    /// User ids of rows 1, 2, ...; the checkpoint does not say.
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<String>,
    /// Until when the data reaches that it was trained on: 2026-11-01T00:00:00Z, or milliseconds since 1970.
    /// People who were deleted before that keep their rows, all others who were ever deleted lose them.
    #[arg(long)]
    pub data_until: Option<String>,
    /// Users' rows stand alone instead of being added to the generic user's.
    #[arg(long)]
    pub without_generic: bool,
    /// The model that the checkpoint was trained on.
    #[command(flatten)]
    pub model: ModelChoice,
    /// Where.
    #[command(flatten)]
    pub data: DataDir,
}

/// `attune key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key and print it. That happens once: the file keeps a hash.
    New(KeyNew),
    /// Show the keys of the file, without the keys.
    List {
        /// Where.
        #[command(flatten)]
        file: KeyFile,
    },
    /// Take a key out.
    Revoke {
        /// Its name, or its prefix as `attune key list` shows it.
        key: String,
        /// Where.
        #[command(flatten)]
        file: KeyFile,
    },
}

/// `attune key new`.
#[derive(Debug, Args)]
pub struct KeyNew {
    /// A name, for logs and for `attune key revoke`.
    #[arg(long)]
    pub name: String,
    /// Owner of its user ids [default: default]. With the role admin: the tenant that it manages, or * for the
    /// whole server.
    #[arg(long)]
    pub tenant: Option<String>,
    /// What it may do; may be given several times.
    #[arg(long = "role", value_delimiter = ',', default_value = "inference",
        value_parser = ["inference", "feedback", "users", "admin"])]
    pub roles: Vec<String>,
    /// Ids of the people for whom it may act; everybody of the tenant if missing.
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<String>,
    /// The person of requests that name none.
    #[arg(long)]
    pub user: Option<String>,
    /// When it ends: a date (2027-01-31), a time (2027-01-31T12:00:00Z), or days from now (90d).
    #[arg(long)]
    pub expires: Option<String>,
    /// Where.
    #[command(flatten)]
    pub file: KeyFile,
}

/// The file with API keys.
#[derive(Debug, Args)]
pub struct KeyFile {
    /// File with API keys, that of `attune serve`; `attune key new` makes it if it is not there.
    #[arg(long, env = "ATTUNE_API_KEYS")]
    pub api_keys: PathBuf,
}

/// `attune store`.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Check every record and every reference between records.
    Verify {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Write every record as sorted JSON lines.
    Export {
        /// The file.
        #[arg(long)]
        out: PathBuf,
        /// Where from.
        #[command(flatten)]
        data: DataDir,
    },
    /// Rewrite the store's files so that nothing that was deleted is left in them.
    Compact {
        /// Where.
        #[command(flatten)]
        data: DataDir,
    },
    /// Read an export into an empty store.
    Import {
        /// The file.
        file: PathBuf,
        /// Where to.
        #[command(flatten)]
        data: DataDir,
    },
}
