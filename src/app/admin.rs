//! The operator's view: versions and aliases as they are, and changes to them, each counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use metrics::{counter, describe_counter};

use super::boot::now_unix_ms;
pub use super::decisions::Decision;
use super::error::AppError;
use super::live::{no_adapter, no_alias, Installed, LiveVersions};
use super::state::AppState;
use super::versions::Expected;
use crate::adapter::bundle::bundle_dir;
pub use crate::adapter::canary::Canary;
use crate::ids::{AdapterVersion, Alias, VersionDigits};
use crate::store::{AdapterRecord, AliasRecord};
pub use crate::store::{AdapterSource, DecisionRecord, VersionTally};

/// The counter of changes.
const CHANGES: &str = "attune_adapter_changes_total";

/// Help texts of what is counted here.
pub fn describe() {
    describe_counter!(
        CHANGES,
        "Changes of versions and aliases that an admin asked for, by change and outcome."
    );
}

/// An installed version.
#[derive(Debug, Clone)]
pub struct AdapterEntry {
    /// What the store knows of it.
    pub record: AdapterRecord,
    /// What is in memory; `None`: it is made for another base model.
    pub loaded: Option<Loaded>,
    /// Bytes of its files.
    pub bytes: u64,
    /// The aliases that name it.
    pub aliases: Vec<Alias>,
    /// The aliases that try it as their canary.
    pub canary_of: Vec<Alias>,
    /// What people thought of its answers.
    pub tally: VersionTally,
}

/// What is known of a version in memory.
#[derive(Debug, Clone, Copy)]
pub struct Loaded {
    /// When it was made, in seconds since 1970.
    pub created_unix: u64,
    /// People with rows of their own.
    pub users: usize,
    /// T_u: rows of one person; 0 without a user model.
    pub rows: usize,
    /// Leases that live: requests under way hold them.
    pub leases: usize,
}

/// All installed versions, and what people thought of the bare base model.
#[derive(Debug, Clone)]
pub struct Adapters {
    /// By version.
    pub entries: Vec<AdapterEntry>,
    /// Comparisons and ratings of answers without a version.
    pub base_tally: VersionTally,
}

/// An alias: what it names, and what it tries.
#[derive(Debug, Clone)]
pub struct AliasEntry {
    /// The name.
    pub alias: Alias,
    /// What it names; `None`: nothing, the bare base model answers.
    pub version: Option<AdapterVersion>,
    /// How it came to name it.
    pub record: Option<AliasRecord>,
    /// The version that a rollback promotes: the one before, while it is installed.
    pub previous: Option<AdapterVersion>,
    /// The version that it tries on some users.
    pub canary: Option<Canary>,
}

/// All installed versions. Reads every preference, for the tallies.
///
/// # Errors
/// The store cannot be read.
pub async fn adapters(state: &Arc<AppState>) -> Result<Adapters, AppError> {
    state
        .blocking(|state| {
            let store = state.versions.store();
            let mut tallies = store.tallies()?;
            let aliases = alias_entries(state)?;
            let records = store.adapters()?.into_iter();
            let entries = records.map(|record| entry(state, record, &aliases, &tallies));
            Ok(Adapters {
                entries: entries.collect(),
                base_tally: tallies.remove(&None).unwrap_or_default(),
            })
        })
        .await
}

/// One of them, by its first digits.
///
/// # Errors
/// None or several begin so; the store cannot be read.
pub async fn adapter(
    state: &Arc<AppState>,
    digits: VersionDigits,
) -> Result<AdapterEntry, AppError> {
    let version = state
        .blocking(move |state| Ok(state.versions.find(&digits)?))
        .await?;
    entry_of(state, &version).await
}

/// Installs a bundle of the bundle folder; true: it was not installed before.
///
/// # Errors
/// See [`LiveVersions::install`].
pub async fn install(
    state: &Arc<AppState>,
    name: String,
) -> Result<(AdapterEntry, bool), AppError> {
    let work = move |live: &LiveVersions| live.install(&name, now_unix_ms());
    let Installed { version, new } = change(state, "install", work).await?;
    Ok((entry_of(state, &version).await?, new))
}

/// Takes a version out.
///
/// # Errors
/// See [`LiveVersions::retire`].
pub async fn retire(
    state: &Arc<AppState>,
    digits: VersionDigits,
) -> Result<AdapterVersion, AppError> {
    change(state, "retire", move |live| live.retire(&digits)).await
}

/// All aliases; the server's own is among them even if it was never promoted.
///
/// # Errors
/// The store cannot be read.
pub async fn aliases(state: &Arc<AppState>) -> Result<Vec<AliasEntry>, AppError> {
    state.blocking(alias_entries).await
}

/// Lets an alias name a version.
///
/// # Errors
/// See [`LiveVersions::promote`]; a name that would never answer.
pub async fn promote(
    state: &Arc<AppState>,
    alias: Alias,
    digits: VersionDigits,
    expected: Expected,
) -> Result<AliasEntry, AppError> {
    check_alias(state, &alias)?;
    let work = move |live: &LiveVersions| live.promote(&alias, &digits, &expected, now_unix_ms());
    let record = change(state, "promote", work).await?;
    moved(state, record).await
}

/// Lets an alias name what it named before.
///
/// # Errors
/// See [`LiveVersions::roll_back`].
pub async fn roll_back(
    state: &Arc<AppState>,
    alias: Alias,
    expected: Expected,
) -> Result<AliasEntry, AppError> {
    let work = move |live: &LiveVersions| live.roll_back(&alias, &expected, now_unix_ms());
    let record = change(state, "rollback", work).await?;
    moved(state, record).await
}

/// Lets a version answer some users of an alias.
///
/// # Errors
/// See [`LiveVersions::start_canary`]; an alias that does not exist.
pub async fn start_canary(
    state: &Arc<AppState>,
    alias: Alias,
    digits: VersionDigits,
    permille: u16,
) -> Result<AliasEntry, AppError> {
    // The server's own alias answers even if it names nothing.
    let answers = alias == state.alias || state.registry.by_alias(&alias).is_some();
    if !answers {
        return Err(no_alias(&alias));
    }
    let name = alias.clone();
    let work =
        move |live: &LiveVersions| live.start_canary(&name, &digits, permille, now_unix_ms());
    change(state, "canary", work).await?;
    alias_entry(state, alias).await
}

/// Lets everybody have what an alias names.
///
/// # Errors
/// There is no canary.
pub async fn end_canary(state: &Arc<AppState>, alias: Alias) -> Result<AliasEntry, AppError> {
    let name = alias.clone();
    change(state, "end_canary", move |live| live.end_canary(&name)).await?;
    alias_entry(state, alias).await
}

/// Records what was decided about a trained version, and promotes it if that is what was decided.
///
/// # Errors
/// See [`LiveVersions::decide`]; a name that would never answer.
pub async fn decide(state: &Arc<AppState>, decision: Decision) -> Result<DecisionRecord, AppError> {
    check_alias(state, &decision.alias)?;
    let name = if decision.promoted { "promote" } else { "keep" };
    let work = move |live: &LiveVersions| live.decide(decision, now_unix_ms());
    change(state, name, work).await
}

fn check_alias(state: &AppState, alias: &Alias) -> Result<(), AppError> {
    if alias.as_str() != state.base_model_id {
        return Ok(());
    }
    Err(AppError::Invalid {
        field: "alias",
        message: format!("{alias} is the id of the bare base model; choose another alias"),
    })
}

/// What was decided about trained versions, the oldest first.
///
/// # Errors
/// The store cannot be read.
pub async fn decisions(state: &Arc<AppState>) -> Result<Vec<DecisionRecord>, AppError> {
    state.with_store(|store| store.decisions()).await
}

/// A change, counted.
async fn change<T, F>(state: &Arc<AppState>, name: &'static str, work: F) -> Result<T, AppError>
where
    T: Send + 'static,
    F: FnOnce(&LiveVersions) -> Result<T, AppError> + Send + 'static,
{
    state
        .blocking(move |state| {
            let done = work(&state.live);
            let outcome = match &done {
                Ok(_) => "done",
                Err(AppError::Store(_) | AppError::Internal(_)) => "failed",
                Err(_) => "refused",
            };
            state
                .metrics
                .record(|| counter!(CHANGES, "change" => name, "outcome" => outcome).increment(1));
            done
        })
        .await
}

async fn entry_of(
    state: &Arc<AppState>,
    version: &AdapterVersion,
) -> Result<AdapterEntry, AppError> {
    let mut entries = adapters(state).await?.entries.into_iter();
    let found = entries.find(|entry| entry.record.version == *version);
    // Somebody may have retired it meanwhile.
    found.ok_or_else(|| no_adapter(version.to_string()))
}

/// The alias as this change left it, whoever moved it again meanwhile.
async fn moved(state: &Arc<AppState>, record: AliasRecord) -> Result<AliasEntry, AppError> {
    let mut entry = alias_entry(state, record.alias.clone()).await?;
    if entry.record.as_ref() != Some(&record) {
        entry.version = Some(record.version.clone());
        entry.previous = record.previous.clone();
        entry.record = Some(record);
    }
    Ok(entry)
}

async fn alias_entry(state: &Arc<AppState>, alias: Alias) -> Result<AliasEntry, AppError> {
    let mut entries = aliases(state).await?.into_iter();
    let found = entries.find(|entry| entry.alias == alias);
    found.ok_or_else(|| no_alias(&alias))
}

fn entry(
    state: &AppState,
    record: AdapterRecord,
    aliases: &[AliasEntry],
    tallies: &BTreeMap<Option<AdapterVersion>, VersionTally>,
) -> AdapterEntry {
    let version = &record.version;
    let named = |entry: &&AliasEntry| entry.version.as_ref() == Some(version);
    let tried = |entry: &&AliasEntry| entry.canary.as_ref().is_some_and(|c| c.version == *version);
    let name = |entry: &AliasEntry| entry.alias.clone();
    AdapterEntry {
        loaded: loaded(state, version),
        bytes: bytes(&bundle_dir(state.versions.adapters_dir(), version)),
        aliases: aliases.iter().filter(named).map(name).collect(),
        canary_of: aliases.iter().filter(tried).map(name).collect(),
        tally: tallies
            .get(&Some(version.clone()))
            .copied()
            .unwrap_or_default(),
        record,
    }
}

fn loaded(state: &AppState, version: &AdapterVersion) -> Option<Loaded> {
    // Before this function takes a lease itself.
    let leases = state.registry.leases(version)?;
    let lease = state.registry.by_version(version)?;
    let people = lease.adapter().people.as_ref();
    Some(Loaded {
        created_unix: lease.adapter().created_unix,
        users: people.map_or(0, |people| people.len()),
        rows: people.map_or(0, |people| people.model().n_user_tokens()),
        leases,
    })
}

/// Bytes of the files in a directory; what cannot be read does not count.
fn bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|f| f.metadata().ok())
        .map(|m| m.len())
        .sum()
}

fn alias_entries(state: &AppState) -> Result<Vec<AliasEntry>, AppError> {
    let records = state.versions.store().aliases()?.into_iter();
    let mut records: BTreeMap<Alias, AliasRecord> = records
        .map(|record| (record.alias.clone(), record))
        .collect();
    let mut aliases: BTreeSet<Alias> = records.keys().cloned().collect();
    aliases.insert(state.alias.clone());
    let entries = aliases.into_iter().map(|alias| {
        let record = records.remove(&alias);
        alias_entry_of(state, alias, record)
    });
    entries.collect()
}

/// What the registry says, since it answers: a write that failed may be visible in the store. The store
/// alone knows of versions that are not loaded.
fn alias_entry_of(
    state: &AppState,
    alias: Alias,
    record: Option<AliasRecord>,
) -> Result<AliasEntry, AppError> {
    let (store, registry) = (state.versions.store(), &state.registry);
    let is_loaded = |version: &AdapterVersion| registry.by_version(version).is_some();
    let version = match registry.by_alias(&alias) {
        Some(lease) => Some(lease.adapter().version.clone()),
        None => {
            let kept = record.as_ref().map(|record| record.version.clone());
            kept.filter(|version| !is_loaded(version))
        }
    };
    let record = record.filter(|record| Some(&record.version) == version.as_ref());
    let previous = match record.as_ref().and_then(|r| r.previous.as_ref()) {
        Some(previous) => store.adapter(previous)?.map(|found| found.version),
        None => None,
    };
    let canary = match registry.canary(&alias) {
        Some(canary) => Some(canary),
        None => {
            let mut kept = store.canaries()?.into_iter();
            let kept = kept.find(|c| c.alias == alias && !is_loaded(&c.version));
            kept.map(Canary::from)
        }
    };
    Ok(AliasEntry {
        alias,
        version,
        record,
        previous,
        canary,
    })
}
