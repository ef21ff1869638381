//! What the configuration means: checked once, so that nothing behind it has to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A hundred years.
const MAX_KEEP_SECONDS: u64 = 100 * 365 * 86_400;

use mistralrs_quant::IsqType;

use super::raw::{DataDir, Dtype, ModelChoice, Serve};
use crate::engine::thread::EngineConfig;
use crate::model::kernels::packed_matmul::WeightType;
use crate::model::linear::LinearFormat;

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
const MAX_COUNT: usize = 1 << 20;

/// What `attune serve` needs to know.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    address: SocketAddr,
    model: ModelConfigChoice,
    data_dir: PathBuf,
    bundles: PathBuf,
    threads: usize,
    kv_bytes: usize,
    engine: EngineConfig,
    api_keys: Option<PathBuf>,
    shutdown_timeout: Duration,
    keep_completions: Option<Duration>,
    demo: bool,
}

/// Which model, and how its linear layers are kept.
#[derive(Debug, Clone)]
pub struct ModelConfigChoice {
    name: String,
    format: LinearFormat,
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
            model: ModelConfigChoice::new(&raw.model)?,
            bundles: bundles.unwrap_or_else(|| data_dir.join("bundles")),
            data_dir,
            threads: if raw.threads == 0 {
                available_threads()
            } else {
                raw.threads.min(1024)
            },
            kv_bytes: parse_bytes("--kv-memory", &raw.kv_memory)?,
            engine: EngineConfig {
                max_running: raw.max_running,
                max_queued: raw.max_queued,
                max_queued_tokens: raw.max_queued_tokens,
                // A step must be able to hold one row of every running sequence.
                token_budget: raw.token_budget.max(raw.max_running),
                prefix_cache: !raw.no_prefix_cache,
                seed: raw.seed,
            },
            api_keys: raw.api_keys.clone(),
            shutdown_timeout: Duration::from_secs(raw.shutdown_timeout.min(86_400)),
            keep_completions: (raw.keep_completions > 0)
                .then(|| Duration::from_secs(raw.keep_completions.min(MAX_KEEP_SECONDS))),
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

    /// CPU threads of the engine.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Bytes of the KV cache.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes
    }

    /// Bounds of the engine.
    pub fn engine(&self) -> &EngineConfig {
        &self.engine
    }

    /// File with API keys.
    pub fn api_keys(&self) -> Option<&Path> {
        self.api_keys.as_deref()
    }

    /// How long answers in flight may take after SIGTERM.
    pub fn shutdown_timeout(&self) -> Duration {
        self.shutdown_timeout
    }

    /// How long answers are kept whose requests do not say; `None`: not at all.
    pub fn keep_completions(&self) -> Option<Duration> {
        self.keep_completions
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
    pub fn new(raw: &ModelChoice) -> Result<Self, ConfigError> {
        let kept_as = match raw.dtype {
            Dtype::Auto | Dtype::F32 => WeightType::F32,
            Dtype::Bf16 => WeightType::Bf16,
            Dtype::F16 => WeightType::F16,
        };
        let format = match quantization(&raw.quant)? {
            Some(kind) => LinearFormat::Quantized(kind),
            None => LinearFormat::Packed(kept_as),
        };
        Ok(Self {
            name: raw.model.clone(),
            format,
        })
    }

    /// A known name or a path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How linear layers are kept.
    pub fn format(&self) -> LinearFormat {
        self.format
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
            _ => {
                let problem = format!("{name:?} is not one of none, q4_0, q4_1, q5_0, q5_1, q8_0, q2k, q3k, q4k, q5k, q6k");
                return Err(ConfigError {
                    setting: "--quant",
                    problem,
                });
            }
        },
    ))
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
        assert_eq!(config.kv_bytes(), 1 << 30);
        assert_eq!(
            config.model().format(),
            LinearFormat::Packed(WeightType::F32)
        );
        assert!(config.engine().token_budget >= config.engine().max_running);
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
            (["--kv-memory", "lots"], "--kv-memory"),
            (["--kv-memory", "0"], "--kv-memory"),
            (["--kv-memory", "1e99"], "--kv-memory"),
            (["--quant", "q9"], "--quant"),
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
