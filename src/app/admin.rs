//! The operator's view: versions and aliases as they are, and changes to them, each counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use metrics::{counter, describe_counter};

use super::boot::now_unix_ms;
use super::error::AppError;
use super::state::AppState;
use super::versions::error::{no_adapter, no_alias};
pub use super::versions::forgetting::Replaced;
use super::versions::live::Installed;
use super::versions::projection::{InstalledVersion, Named, Projection};
use super::versions::{Expected, LiveVersions};
use attune_adapter::about::About;
use attune_adapter::bundle::bundle_dir;
use attune_ids::{AdapterVersion, Alias, VersionDigits};
use attune_store::{AdapterRecord, AliasRecord, Store};
pub use attune_store::{AdapterSource, CanaryRecord, DecisionRecord, Listed, Page, VersionTally};

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
    /// What its manifest says; `None`: it cannot be read.
    pub about: Option<About>,
    /// Why it cannot answer, as far as that is known.
    pub unavailable: Option<String>,
    /// Leases that live: requests under way hold them.
    pub leases: usize,
    /// Bytes of its files.
    pub bytes: u64,
    /// The aliases that name it.
    pub aliases: Vec<Alias>,
    /// The aliases that try it as their canary.
    pub canary_of: Vec<Alias>,
    /// What people thought of its answers.
    pub tally: VersionTally,
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
    pub canary: Option<CanaryRecord>,
    /// Why the version that it names cannot answer.
    pub unavailable: Option<String>,
    /// Why the version that it tries cannot.
    pub canary_unavailable: Option<String>,
}

/// All installed versions.
///
/// # Errors
/// The store cannot be read.
pub async fn adapters(state: &Arc<AppState>) -> Result<Adapters, AppError> {
    state
        .with_versions(|state| {
            let now = state.versions.now();
            let mut tallies = of_successors(&now, state.versions.store().tallies()?);
            let entries = now.versions().map(|v| entry(state, &now, v, &tallies));
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
    let version = state.versions.now().find(&digits)?.record.version.clone();
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

/// Replaces the versions that know people who were deleted by versions without them, now.
///
/// # Errors
/// See [`LiveVersions::forget_deleted`].
pub async fn forget_deleted(state: &Arc<AppState>) -> Result<Vec<Replaced>, AppError> {
    change(state, "forget", |live| live.forget_deleted(now_unix_ms())).await
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
pub fn aliases(state: &AppState) -> Vec<AliasEntry> {
    let now = state.versions.now();
    let mut names: Vec<&Alias> = now.aliases().map(|(alias, _)| alias).collect();
    if let Err(at) = names.binary_search(&&state.alias) {
        names.insert(at, &state.alias);
    }
    let names = names.into_iter();
    names.map(|alias| alias_entry(&now, alias)).collect()
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
    let work = move |live: &LiveVersions| {
        let now = live.promote(&alias, &digits, &expected, now_unix_ms())?;
        Ok(alias_entry(&now, &alias))
    };
    change(state, "promote", work).await
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
    let work = move |live: &LiveVersions| {
        let now = live.roll_back(&alias, &expected, now_unix_ms())?;
        Ok(alias_entry(&now, &alias))
    };
    change(state, "rollback", work).await
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
    let answers = || matches!(state.versions.now().by_alias(&alias), Ok(Some(_)) | Err(_));
    if alias != state.alias && !answers() {
        return Err(no_alias(&alias));
    }
    let work = move |live: &LiveVersions| {
        let now = live.start_canary(&alias, &digits, permille, now_unix_ms())?;
        Ok(alias_entry(&now, &alias))
    };
    change(state, "canary", work).await
}

/// Lets everybody have what an alias names.
///
/// # Errors
/// There is no canary.
pub async fn end_canary(state: &Arc<AppState>, alias: Alias) -> Result<AliasEntry, AppError> {
    let work = move |live: &LiveVersions| {
        let now = live.end_canary(&alias)?;
        Ok(alias_entry(&now, &alias))
    };
    change(state, "end_canary", work).await
}

/// Records what was decided about a trained version, and promotes it if that is what was decided.
///
/// # Errors
/// See [`LiveVersions::decide`]; a name that would never answer.
pub async fn decide(
    state: &Arc<AppState>,
    decision: DecisionRecord,
) -> Result<DecisionRecord, AppError> {
    check_alias(state, &decision.alias)?;
    let name = if decision.promoted { "promote" } else { "keep" };
    let work = move |live: &LiveVersions| live.decide(&decision).map(|()| decision);
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

/// A part of what was decided about trained versions.
///
/// # Errors
/// The store cannot be read.
pub async fn decisions(
    state: &Arc<AppState>,
    page: Page,
) -> Result<Listed<DecisionRecord>, AppError> {
    let read = move |store: &Store| store.decisions_page(&page);
    state.with_store(read).await
}

/// A change, counted.
async fn change<T, F>(state: &Arc<AppState>, name: &'static str, work: F) -> Result<T, AppError>
where
    T: Send + 'static,
    F: FnOnce(&LiveVersions) -> Result<T, AppError> + Send + 'static,
{
    state
        .with_versions(move |state| {
            let done = work(&state.versions);
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

fn entry(
    state: &AppState,
    now: &Projection,
    installed: &InstalledVersion,
    tallies: &BTreeMap<Option<AdapterVersion>, VersionTally>,
) -> AdapterEntry {
    let version = &installed.record.version;
    let named = |named: &Named| named.version() == Some(version);
    let tried = |named: &Named| named.canary.as_ref().is_some_and(|c| c.version == *version);
    let those = |hold: &dyn Fn(&Named) -> bool| {
        let aliases = now.aliases().filter(|(_, named)| hold(named));
        aliases.map(|(alias, _)| alias.clone()).collect()
    };
    AdapterEntry {
        record: installed.record.clone(),
        about: installed.about.as_ref().ok().cloned(),
        unavailable: now.unavailable_version(installed),
        leases: state.versions.loaded().leases(version).unwrap_or(0),
        bytes: bytes(&bundle_dir(state.versions.disk().adapters_dir(), version)),
        aliases: those(&named),
        canary_of: those(&tried),
        tally: tallies
            .get(&Some(version.clone()))
            .copied()
            .unwrap_or_default(),
    }
}

/// What people thought of a version that was replaced counts for the one in its place.
fn of_successors(
    now: &Projection,
    tallies: BTreeMap<Option<AdapterVersion>, VersionTally>,
) -> BTreeMap<Option<AdapterVersion>, VersionTally> {
    let mut sums: BTreeMap<_, VersionTally> = BTreeMap::new();
    for (version, tally) in tallies {
        let version = version.map(|version| now.successor(&version).clone());
        *sums.entry(version).or_default() += tally;
    }
    sums
}

/// Bytes of the files in a directory; what cannot be read does not count.
fn bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|f| f.metadata().ok())
        .map(|m| m.len())
        .sum()
}

fn alias_entry(now: &Projection, alias: &Alias) -> AliasEntry {
    let named = now.alias(alias);
    let record = named.and_then(|named| named.record.clone());
    let previous = record.as_ref().and_then(|record| record.previous.clone());
    AliasEntry {
        alias: alias.clone(),
        version: record.as_ref().map(|record| record.version.clone()),
        previous: previous.filter(|version| now.version(version).is_some()),
        canary: named.and_then(|named| named.canary.clone()),
        unavailable: named.and_then(|named| Some(named.unavailable()?.without_paths())),
        canary_unavailable: named
            .and_then(|named| Some(named.canary_unavailable()?.without_paths())),
        record,
    }
}
