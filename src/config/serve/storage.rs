//! What is kept, and for how long.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::error::{problem, ConfigError};
use crate::config::sizes::bytes_or_none;

/// A month: anybody who asks to be deleted need not wait longer.
const MAX_FORGET_SECONDS: u64 = 30 * 86_400;

/// A hundred years.
const MAX_KEEP_SECONDS: u64 = 100 * 365 * 86_400;

/// What is kept, and for how long.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Storage")]
#[serde(rename_all = "kebab-case")]
pub struct Storage {
    /// Seconds to keep chat answers whose requests do not set `store`; 0 keeps none.
    #[arg(long, env = "ATTUNE_KEEP_COMPLETIONS", default_value_t = 0)]
    pub keep_completions: u64,
    /// Refuse to record more while less of the store's disk is free, for example 256MiB or 2GiB; 0 never
    /// refuses. Answers and deletions go on.
    #[arg(long, env = "ATTUNE_MIN_FREE_DISK", default_value = "256MiB")]
    pub min_free_disk: String,
    /// How many of the newest versions to keep among those that no alias names, named before or tries.
    #[arg(long, env = "ATTUNE_KEEP_VERSIONS", default_value_t = 32)]
    pub keep_versions: u32,
    /// Seconds after a deletion by which no version has the person's id or rows. Nothing can reach them from the
    /// deletion on; each version that has them is then replaced by one without, for many deletions together.
    #[arg(long, env = "ATTUNE_FORGET_WITHIN", default_value_t = 86_400)]
    pub forget_within: u64,
    /// Preferences, ratings, kept completions and profiles per tenant; 0: no limit.
    #[arg(long, env = "ATTUNE_TENANT_MAX_RECORDS", default_value_t = 10_000_000)]
    pub tenant_max_records: u64,
    /// Bytes of these per tenant, for example 512MiB or 16GiB; 0: no limit.
    #[arg(long, env = "ATTUNE_TENANT_MAX_BYTES", default_value = "16GiB")]
    pub tenant_max_bytes: String,
    /// Do not put the demo version into a fresh data directory.
    #[arg(long, env = "ATTUNE_NO_DEMO")]
    pub no_demo: bool,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// How long answers are kept whose requests do not say; `None`: not at all.
    pub keep_completions: Option<Duration>,
    /// Bytes of the store's disk that are kept free.
    pub min_free_disk: u64,
    /// How many versions are kept that nobody needs.
    pub keep_versions: usize,
    /// How soon people who were deleted leave the versions that know them.
    pub forget_within: Duration,
    /// Records that one tenant may have.
    pub tenant_max_records: Option<u64>,
    /// Bytes of them.
    pub tenant_max_bytes: Option<u64>,
    /// Whether a fresh data directory gets the demo version.
    pub demo: bool,
}

impl StorageConfig {
    pub(super) fn new(typed: &Storage) -> Result<Self, ConfigError> {
        let forget_within = typed.forget_within;
        if forget_within > MAX_FORGET_SECONDS {
            let text = format!("{forget_within} is not in 0..={MAX_FORGET_SECONDS} (30 days)");
            return Err(problem("--forget-within", text));
        }
        let keep = typed.keep_completions.min(MAX_KEEP_SECONDS);
        Ok(Self {
            keep_completions: (keep > 0).then(|| Duration::from_secs(keep)),
            min_free_disk: bytes_or_none("--min-free-disk", &typed.min_free_disk)?.unwrap_or(0),
            keep_versions: usize::try_from(typed.keep_versions).unwrap_or(usize::MAX),
            forget_within: Duration::from_secs(forget_within),
            tenant_max_records: (typed.tenant_max_records > 0).then_some(typed.tenant_max_records),
            tenant_max_bytes: bytes_or_none("--tenant-max-bytes", &typed.tenant_max_bytes)?,
            demo: !typed.no_demo,
        })
    }
}
