//! What the configuration means: checked once, so that nothing behind it has to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A month: whoever asks to be deleted need not wait longer.
const MAX_FORGET_SECONDS: u64 = 30 * 86_400;

/// A hundred years.
const MAX_KEEP_SECONDS: u64 = 100 * 365 * 86_400;

use candle_core::{DType, Device};
use mistralrs_quant::IsqType;
use rand::rngs::OsRng;
use rand::TryRngCore;

use super::http::HttpSettings;
use super::raw::{DataDir, Dtype, KvDtype, ModelChoice, Serve};
use super::sharing;
use attune_engine::clock::Clock;
use attune_engine::thread::EngineConfig;
use attune_model::device::{usual_dtype, DeviceChoice};
use attune_model::kernels::packed_matmul::WeightType;
use attune_model::kernels::paged_attention::KvType;
use attune_model::linear::LinearFormat;
use attune_model::placement::Placement;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The flag.
    pub(super) setting: &'static str,
    pub(super) problem: String,
}

/// Bounds of `--max-running`, `--max-queued` and `--token-budget`: beyond them a mistake is likelier
/// than a wish.
pub(super) const MAX_COUNT: usize = 1 << 20;

/// Bound of `--max-stall`: a day.
const MAX_STALL_SECONDS: u64 = 86_400;

/// What `attune serve` needs to know.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    address: SocketAddr,
    model: ModelConfigChoice,
    data_dir: PathBuf,
    bundles: PathBuf,
    device: DeviceChoice,
    tensor_parallel: usize,
    threads: usize,
    kv_bytes: Option<usize>,
    adapter_bytes: usize,
    engine: EngineConfig,
    api_keys: Option<PathBuf>,
    max_stall: Duration,
    http: HttpSettings,
    shutdown_timeout: Duration,
    keep_completions: Option<Duration>,
    min_free_disk: u64,
    keep_versions: usize,
    forget_within: Duration,
    tenant_max_records: Option<u64>,
    tenant_max_bytes: Option<u64>,
    demo: bool,
}

/// Which model, and how its linear layers are kept.
#[derive(Debug, Clone)]
pub struct ModelConfigChoice {
    name: String,
    dtype: Dtype,
    kv_type: KvType,
    quantized: Option<IsqType>,
}

impl ServeConfig {
    /// Checks what was typed.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(raw: &Serve) -> Result<Self, ConfigError> {
        if raw.api_keys.is_none() && !raw.host.is_loopback() {
            return Err(ConfigError {
                setting: "--host",
                problem: format!(
                    "{} can be reached by others: give --api-keys FILE, or use 127.0.0.1",
                    raw.host
                ),
            });
        }
        let counts = [
            ("--max-running", raw.max_running),
            ("--max-queued", raw.max_queued),
            ("--token-budget", raw.token_budget),
        ];
        for (setting, value) in counts {
            if value == 0 || value > MAX_COUNT {
                let problem = format!("{value} is not in 1..={MAX_COUNT}");
                return Err(ConfigError { setting, problem });
            }
        }
        if raw.max_queued_tokens == 0 {
            return Err(ConfigError {
                setting: "--max-queued-tokens",
                problem: "0 takes no request".into(),
            });
        }
        let data_dir = data_dir(&raw.data)?;
        let bundles = raw.bundles.clone();
        Ok(Self {
            address: SocketAddr::new(raw.host, raw.port),
            model: ModelConfigChoice::new(&raw.model, raw.kv_dtype)?,
            bundles: bundles.unwrap_or_else(|| data_dir.join("bundles")),
            data_dir,
            device: parse_device(&raw.device)?,
            tensor_parallel: tensor_parallel(raw)?,
            threads: if raw.threads == 0 {
                available_threads()
            } else {
                raw.threads.min(1024)
            },
            kv_bytes: match raw.kv_memory.trim() {
                "auto" => None,
                size => Some(parse_bytes("--kv-memory", size)?),
            },
            adapter_bytes: parse_bytes("--adapter-memory", &raw.adapter_memory)?,
            engine: EngineConfig {
                max_running: raw.max_running,
                max_queued: raw.max_queued,
                max_queued_tokens: raw.max_queued_tokens,
                sharing: sharing::resolve(raw)?,
                // A step must be able to hold one row of every running sequence.
                token_budget: raw.token_budget.max(raw.max_running),
                step_target: (raw.step_target_ms > 0)
                    .then(|| Duration::from_millis(raw.step_target_ms)),
                prefix_cache: !raw.no_prefix_cache,
                seed: raw.seed.map_or_else(drawn_seed, Ok)?,
                clock: Clock::system(),
            },
            max_stall: max_stall(raw)?,
            api_keys: raw.api_keys.clone(),
            http: HttpSettings::new(raw)?,
            shutdown_timeout: Duration::from_secs(raw.shutdown_timeout.min(86_400)),
            keep_completions: (raw.keep_completions > 0)
                .then(|| Duration::from_secs(raw.keep_completions.min(MAX_KEEP_SECONDS))),
            keep_versions: usize::try_from(raw.keep_versions).unwrap_or(usize::MAX),
            forget_within: forget_within(raw.forget_within)?,
            min_free_disk: bytes_or_none("--min-free-disk", &raw.min_free_disk)?.unwrap_or(0),
            tenant_max_records: (raw.tenant_max_records > 0).then_some(raw.tenant_max_records),
            tenant_max_bytes: bytes_or_none("--tenant-max-bytes", &raw.tenant_max_bytes)?,
            demo: !raw.no_demo,
        })
    }

    /// Address to listen on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The model.
    pub fn model(&self) -> &ModelConfigChoice {
        &self.model
    }

    /// Directory of the store and the adapter versions.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Folder from which bundles are installed while the server runs.
    pub fn bundles(&self) -> &Path {
        &self.bundles
    }

    /// Where to compute.
    pub fn device(&self) -> DeviceChoice {
        self.device
    }

    /// GPUs that share the model, from the first one on.
    pub fn tensor_parallel(&self) -> usize {
        self.tensor_parallel
    }

    /// CPU threads of the engine.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes of the KV cache; `None`: what the device has room for.
    pub fn kv_bytes(&self) -> Option<usize> {
        self.kv_bytes
    }

    /// Bytes that adapter versions may take in memory.
    pub fn adapter_bytes(&self) -> usize {
        self.adapter_bytes
    }

    /// Bounds of the engine.
    pub fn engine(&self) -> &EngineConfig {
        &self.engine
    }

    /// File with API keys.
    pub fn api_keys(&self) -> Option<&Path> {
        self.api_keys.as_deref()
    }

    /// Records that one tenant may have.
    pub fn tenant_max_records(&self) -> Option<u64> {
        self.tenant_max_records
    }

    /// Bytes of them.
    pub fn tenant_max_bytes(&self) -> Option<u64> {
        self.tenant_max_bytes
    }

    /// Bytes of the store's disk that are kept free.
    pub fn min_free_disk(&self) -> u64 {
        self.min_free_disk
    }

    /// How long an answer waits for a caller who does not read it.
    pub fn max_stall(&self) -> Duration {
        self.max_stall
    }

    /// Connections, health checks, web pages.
    pub fn http(&self) -> &HttpSettings {
        &self.http
    }

    /// How long answers in flight may take after SIGTERM.
    pub fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout
    }

    /// How long answers are kept whose requests do not say; `None`: not at all.
    pub fn keep_completions(&self) -> Option<Duration> {
        self.keep_completions
    }

    /// How many versions are kept that nobody needs.
    pub fn keep_versions(&self) -> usize {
        self.keep_versions
    }

    /// How soon people who were deleted leave the versions that know them.
    pub fn forget_within(&self) -> Duration {
        self.forget_within
    }

    /// Whether a fresh data directory gets the demo version.
    pub fn demo(&self) -> bool {
        self.demo
    }
}

impl ModelConfigChoice {
    /// Checks what was typed.
    ///
    /// # Errors
    /// A kind of quantization that is not known.
    pub fn new(raw: &ModelChoice, kv_dtype: KvDtype) -> Result<Self, ConfigError> {
        Ok(Self {
            name: raw.model.clone(),
            dtype: raw.dtype,
            kv_type: match (kv_dtype, raw.dtype) {
                (KvDtype::F32, _) | (KvDtype::Auto, Dtype::F32) => KvType::F32,
                (KvDtype::F16 | KvDtype::Auto, _) => KvType::F16,
                (KvDtype::Int8, _) => KvType::Int8,
            },
            quantized: quantization(&raw.quant)?,
        })
    }

    /// A known name or a path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How linear layers are kept on the CPU.
    pub fn format(&self) -> LinearFormat {
        match (self.quantized, self.dtype) {
            (Some(kind), _) => LinearFormat::Quantized(kind),
            (None, Dtype::Auto) => LinearFormat::AsStored,
            (None, Dtype::F32) => LinearFormat::Packed(WeightType::F32),
            (None, Dtype::Bf16) => LinearFormat::Packed(WeightType::Bf16),
            (None, Dtype::F16) => LinearFormat::Packed(WeightType::F16),
        }
    }

    /// The same on `device`.
    pub fn placed_on(&self, device: Device) -> Placement {
        if device.is_cpu() {
            return Placement {
                kv_type: self.kv_type,
                ..self.format().into()
            };
        }
        let dtype = match self.dtype {
            Dtype::Auto => usual_dtype(&device),
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        };
        Placement {
            format: self
                .quantized
                .map_or(LinearFormat::Dense, LinearFormat::Quantized),
            ..Placement::dense(device, dtype)
        }
    }
}

/// The data directory: as typed, else `attune` in the user's data directory.
///
/// # Errors
/// None was typed and this system has none.
pub fn data_dir(raw: &DataDir) -> Result<PathBuf, ConfigError> {
    let usual = || dirs::data_dir().map(|d| d.join("attune"));
    raw.data_dir
        .clone()
        .or_else(usual)
        .ok_or_else(|| ConfigError {
            setting: "--data-dir",
            problem: "this system has no data directory; name one".into(),
        })
}

/// From the system, so that neither a restart nor a second server repeats the answers of the first.
fn drawn_seed() -> Result<u64, ConfigError> {
    OsRng.try_next_u64().map_err(|error| ConfigError {
        setting: "--seed",
        problem: format!("this system gives no random number ({error}); name a seed"),
    })
}

fn max_stall(raw: &Serve) -> Result<Duration, ConfigError> {
    match raw.max_stall {
        seconds @ 1..=MAX_STALL_SECONDS => Ok(Duration::from_secs(seconds)),
        seconds => Err(ConfigError {
            setting: "--max-stall",
            problem: format!("{seconds} is not in 1..={MAX_STALL_SECONDS} seconds"),
        }),
    }
}

fn forget_within(seconds: u64) -> Result<Duration, ConfigError> {
    if seconds > MAX_FORGET_SECONDS {
        return Err(ConfigError {
            setting: "--forget-within",
            problem: format!("{seconds} is not in 0..={MAX_FORGET_SECONDS} (30 days)"),
        });
    }
    Ok(Duration::from_secs(seconds))
}

fn tensor_parallel(raw: &Serve) -> Result<usize, ConfigError> {
    let n = raw.tensor_parallel;
    let problem = if n == 1 {
        return Ok(n);
    } else if !cfg!(feature = "nccl") {
        format!("{n} GPUs want a build with `cargo build --release --features nccl` (docs/gpu.md)")
    } else if !n.is_power_of_two() {
        format!("{n} is not a power of two")
    } else if !matches!(raw.device.as_str(), "auto" | "cuda" | "cuda:0") {
        format!("{n} GPUs are those from cuda:0 on: leave --device out")
    } else {
        return Ok(n);
    };
    Err(ConfigError {
        setting: "--tensor-parallel",
        problem,
    })
}

pub(super) fn parse_device(text: &str) -> Result<DeviceChoice, ConfigError> {
    text.parse().map_err(|problem| ConfigError {
        setting: "--device",
        problem,
    })
}

pub(super) fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn quantization(name: &str) -> Result<Option<IsqType>, ConfigError> {
    Ok(Some(
        match name.to_ascii_lowercase().replace("_k", "k").as_str() {
            "none" => return Ok(None),
            "q4_0" => IsqType::Q4_0,
            "q4_1" => IsqType::Q4_1,
            "q5_0" => IsqType::Q5_0,
            "q5_1" => IsqType::Q5_1,
            "q8_0" => IsqType::Q8_0,
            "q2k" => IsqType::Q2K,
            "q3k" => IsqType::Q3K,
            "q4k" => IsqType::Q4K,
            "q5k" => IsqType::Q5K,
            "q6k" => IsqType::Q6K,
            "fp8" => IsqType::F8E4M3,
            _ => {
                let problem = format!("{name:?} is not one of none, q4_0, q4_1, q5_0, q5_1, q8_0, q2k, q3k, q4k, q5k, q6k, fp8");
                return Err(ConfigError {
                    setting: "--quant",
                    problem,
                });
            }
        },
    ))
}

/// A size; 0 is none.
fn bytes_or_none(setting: &'static str, text: &str) -> Result<Option<u64>, ConfigError> {
    match text.trim() {
        "0" => Ok(None),
        size => Ok(Some(parse_bytes(setting, size)? as u64)),
    }
}

/// `1GiB`, `512 MiB`, `1.5GB`, `1000000`.
pub(super) fn parse_bytes(setting: &'static str, text: &str) -> Result<usize, ConfigError> {
    let problem = || format!("{text:?} is not a size; write for example 512MiB or 2GiB");
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => {
            return Err(ConfigError {
                setting,
                problem: problem(),
            })
        }
    };
    let bytes = number.parse::<f64>().map(|n| n * factor);
    match bytes {
        Ok(bytes) if (1.0..=1e15).contains(&bytes) => Ok(bytes as usize),
        _ => Err(ConfigError {
            setting,
            problem: problem(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::raw::{Cli, Command};
    use super::*;

    fn serve(arguments: &[&str]) -> Result<ServeConfig, ConfigError> {
        let typed = ["attune", "serve"].iter().chain(arguments);
        let Command::Serve(raw) = Cli::parse_from(typed).command else {
            panic!("not serve")
        };
        ServeConfig::new(&raw)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_can_be_served() {
        let config = serve(&["--data-dir", "d"]).unwrap();
        assert_eq!(config.address().to_string(), "127.0.0.1:8080");
        assert_eq!(config.device(), DeviceChoice::Auto);
        assert_eq!(config.kv_bytes(), None);
        assert_eq!(config.model().format(), LinearFormat::AsStored);
        assert!(config.engine().token_budget >= config.engine().max_running);
    }

    #[test]
    fn keys_and_values_are_in_f16_unless_all_is_exact() {
        let kv_type = |arguments: &[&str]| {
            let config = serve(&[&["--data-dir", "d"], arguments].concat()).unwrap();
            config.model().placed_on(Device::Cpu).kv_type
        };
        assert_eq!(kv_type(&[]), KvType::F16);
        assert_eq!(kv_type(&["--dtype", "bf16"]), KvType::F16);
        assert_eq!(kv_type(&["--dtype", "f32"]), KvType::F32);
        assert_eq!(
            kv_type(&["--dtype", "f32", "--kv-dtype", "f16"]),
            KvType::F16
        );
        assert_eq!(kv_type(&["--kv-dtype", "f32"]), KvType::F32);
        assert_eq!(kv_type(&["--kv-dtype", "int8"]), KvType::Int8);
    }

    #[test]
    fn a_seed_is_drawn_for_each_start_unless_one_is_named() {
        let seed = |arguments: &[&str]| {
            let all = ["--data-dir", "d"].iter().chain(arguments);
            let all: Vec<&str> = all.copied().collect();
            serve(&all).unwrap().engine().seed
        };
        // Two draws of 64 bits are equal once in 2^64 runs.
        assert_ne!(seed(&[]), seed(&[]));
        assert_eq!(seed(&["--seed", "0"]), 0);
        assert_eq!(seed(&["--seed", "7"]), 7);
    }

    #[test]
    fn without_keys_only_loopback_is_served() {
        let problem = serve(&["--host", "0.0.0.0"]).unwrap_err().to_string();
        assert!(problem.contains("--api-keys"), "{problem}");
        assert!(serve(&["--host", "0.0.0.0", "--api-keys", "f", "--data-dir", "d"]).is_ok());
        assert!(serve(&["--host", "::1", "--data-dir", "d"]).is_ok());
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for (arguments, named) in [
            (["--max-running", "0"], "--max-running"),
            (["--token-budget", "99999999"], "--token-budget"),
            (["--max-queued-tokens", "0"], "--max-queued-tokens"),
            (
                ["--max-answers-per-user", "99999999"],
                "--max-answers-per-user",
            ),
            (
                ["--max-answers-per-key", "99999999"],
                "--max-answers-per-key",
            ),
            (["--device", "gpu"], "--device"),
            (["--device", "cuda:x"], "--device"),
            (["--tensor-parallel", "3"], "--tensor-parallel"),
            (["--tensor-parallel", "0"], "--tensor-parallel"),
            (["--max-stall", "0"], "--max-stall"),
            (["--max-stall", "86401"], "--max-stall"),
            (["--kv-memory", "lots"], "--kv-memory"),
            (["--kv-memory", "0"], "--kv-memory"),
            (["--kv-memory", "1e99"], "--kv-memory"),
            (["--quant", "q9"], "--quant"),
            (["--health-port", "8080"], "--health-port"),
            (["--write-timeout", "0"], "--write-timeout"),
            (["--cors-origin", "chat.example"], "--cors-origin"),
        ] {
            let problem = serve(&arguments).unwrap_err().to_string();
            assert!(problem.starts_with(named), "{problem}");
        }
    }

    #[test]
    fn sizes_and_quantizations_have_several_spellings() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5 GB", 1_500_000_000),
            ("4096", 4096),
        ] {
            assert_eq!(parse_bytes("--kv-memory", text).unwrap(), bytes);
        }
        assert_eq!(quantization("Q4_K").unwrap(), Some(IsqType::Q4K));
        assert_eq!(quantization("q8_0").unwrap(), Some(IsqType::Q8_0));
        assert_eq!(quantization("none").unwrap(), None);
    }
}
