//! Answers of admin routes.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::admin::{
    AdapterEntry, AdapterSource, Adapters, AliasEntry, DecisionRecord, Replaced, VersionTally,
};
use attune_ids::{AdapterVersion, Alias};

/// An installed adapter version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AdapterObject {
    /// Always `adapter`.
    pub object: &'static str,
    /// Its name: the hash of its content, 64 hex digits.
    pub version: String,
    /// A name that its maker gave it.
    #[schema(required)]
    pub name: Option<String>,
    /// When it was made, in seconds since 1970; null where its manifest cannot be read.
    #[schema(required)]
    pub created: Option<u64>,
    /// When it was installed, in seconds since 1970.
    pub installed: u64,
    /// `demo`, `imported`, `trained` or `installed`.
    pub source: &'static str,
    /// Whether it can answer; false: it is made for another base model, or damaged.
    pub loaded: bool,
    /// Only of a version that cannot answer: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// People with rows of their own; null where its manifest cannot be read.
    #[schema(required)]
    pub users: Option<usize>,
    /// Rows of one person's soft prompt; null where its manifest cannot be read.
    #[schema(required)]
    pub rows: Option<usize>,
    /// Pins that requests under way hold.
    pub leases: usize,
    /// The aliases that name it.
    pub aliases: Vec<String>,
    /// The aliases that try it as their canary.
    pub canary_of: Vec<String>,
    /// What people thought of its answers.
    pub tally: TallyObject,
}

/// What people thought of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct TallyObject {
    /// Preferences over another version's answer.
    pub won: u64,
    /// Preferences for another version's answer.
    pub lost: u64,
    /// Preferences between two of its own answers, or with a text of unknown origin.
    pub other_preferences: u64,
    /// Thumbs up, and four or five stars.
    pub liked: u64,
    /// Thumbs down, and one or two stars.
    pub disliked: u64,
}

/// All installed versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AdapterList {
    /// Always `list`.
    pub object: &'static str,
    /// By version.
    pub data: Vec<AdapterObject>,
    /// What people thought of the bare base model's answers.
    pub base_tally: TallyObject,
}

/// A version that is not there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RetiredObject {
    /// Always `adapter.deleted`.
    pub object: &'static str,
    /// The version.
    pub version: String,
    /// Always true.
    pub deleted: bool,
}

/// A version that was replaced by one without people who were deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReplacedObject {
    /// Always `adapter.replaced`.
    pub object: &'static str,
    /// The version that is no more.
    pub version: String,
    /// The version in its place.
    pub successor: String,
    /// How many people left.
    pub people: usize,
}

/// All versions that were replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReplacedList {
    /// Always `list`.
    pub object: &'static str,
    /// By the name that they had.
    pub data: Vec<ReplacedObject>,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AliasObject {
    /// Always `alias`.
    pub object: &'static str,
    /// The name.
    pub alias: String,
    /// The version that answers; null: the bare base model.
    #[schema(required)]
    pub version: Option<String>,
    /// Only while the version cannot be loaded, so that the alias answers nobody: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// The version that a rollback promotes; null: there is none.
    #[schema(required)]
    pub previous: Option<String>,
    /// When the version was promoted, in seconds since 1970.
    #[schema(required)]
    pub promoted: Option<u64>,
    /// How often the alias was moved.
    pub promotions: u64,
    /// The version that is tried on some users.
    #[schema(required)]
    pub canary: Option<CanaryObject>,
}

/// A version that is tried on some users of an alias.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CanaryObject {
    /// The version.
    pub version: String,
    /// How many users of a hundred it answers.
    pub percent: f64,
    /// Only while it cannot be loaded, so that they get what the alias names: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// When it began, in seconds since 1970.
    pub started: u64,
}

/// All aliases.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AliasList {
    /// Always `list`.
    pub object: &'static str,
    /// By name.
    pub data: Vec<AliasObject>,
}

/// What was decided about a trained version.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DecisionObject {
    /// Always `decision`.
    pub object: &'static str,
    /// Its name.
    pub id: String,
    /// When it was taken, in seconds since 1970.
    pub created: u64,
    /// The alias it is about.
    pub alias: String,
    /// The version that the alias named.
    #[schema(required)]
    pub current: Option<String>,
    /// The version that was made; null: none was.
    #[schema(required)]
    pub candidate: Option<String>,
    /// Whether the alias names the candidate since then.
    pub promoted: bool,
    /// Why.
    pub reason: String,
    /// SHA-256 of the snapshot that was learned from.
    #[schema(required)]
    pub snapshot: Option<String>,
    /// The numbers that were compared.
    #[schema(required)]
    pub evaluation: Option<Value>,
}

impl From<AdapterEntry> for AdapterObject {
    fn from(entry: AdapterEntry) -> Self {
        let (record, about) = (entry.record, entry.about);
        Self {
            object: "adapter",
            version: record.version.into(),
            name: record.name,
            created: about.as_ref().map(|about| about.created_unix),
            installed: record.installed_unix_ms / 1000,
            source: source(record.source),
            loaded: entry.unavailable.is_none(),
            unavailable: entry.unavailable,
            bytes: entry.bytes,
            users: about.as_ref().map(|about| about.users),
            rows: about.as_ref().map(|about| about.rows),
            leases: entry.leases,
            aliases: entry.aliases.into_iter().map(Alias::into).collect(),
            canary_of: entry.canary_of.into_iter().map(Alias::into).collect(),
            tally: entry.tally.into(),
        }
    }
}

impl From<Adapters> for AdapterList {
    fn from(adapters: Adapters) -> Self {
        Self {
            object: "list",
            data: adapters.entries.into_iter().map(Into::into).collect(),
            base_tally: adapters.base_tally.into(),
        }
    }
}

impl From<VersionTally> for TallyObject {
    fn from(tally: VersionTally) -> Self {
        Self {
            won: tally.won,
            lost: tally.lost,
            other_preferences: tally.other_preferences,
            liked: tally.liked,
            disliked: tally.disliked,
        }
    }
}

impl From<AdapterVersion> for RetiredObject {
    fn from(version: AdapterVersion) -> Self {
        Self {
            object: "adapter.deleted",
            version: version.into(),
            deleted: true,
        }
    }
}

impl From<Vec<Replaced>> for ReplacedList {
    fn from(replaced: Vec<Replaced>) -> Self {
        let object = |replaced: Replaced| ReplacedObject {
            object: "adapter.replaced",
            version: replaced.old.into(),
            successor: replaced.new.into(),
            people: replaced.people,
        };
        Self {
            object: "list",
            data: replaced.into_iter().map(object).collect(),
        }
    }
}

impl From<AliasEntry> for AliasObject {
    fn from(entry: AliasEntry) -> Self {
        let record = entry.record;
        Self {
            object: "alias",
            alias: entry.alias.into(),
            previous: entry.previous.map(Into::into),
            promoted: record.as_ref().map(|r| r.promoted_unix_ms / 1000),
            promotions: record.as_ref().map_or(0, |r| r.promotions),
            version: entry.version.map(Into::into),
            unavailable: entry.unavailable,
            canary: entry.canary.map(|canary| CanaryObject {
                version: canary.version.into(),
                percent: f64::from(canary.permille) / 10.0,
                unavailable: entry.canary_unavailable,
                started: canary.started_unix_ms / 1000,
            }),
        }
    }
}

impl From<DecisionRecord> for DecisionObject {
    fn from(decision: DecisionRecord) -> Self {
        // Text that is no JSON is shown as it is.
        let evaluation = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self {
            object: "decision",
            id: decision.id.into(),
            created: decision.created_unix_ms / 1000,
            alias: decision.alias.into(),
            current: decision.current.map(Into::into),
            candidate: decision.candidate.map(Into::into),
            promoted: decision.promoted,
            reason: decision.reason,
            snapshot: decision.snapshot,
            evaluation: decision.evaluation.map(evaluation),
        }
    }
}

fn source(source: AdapterSource) -> &'static str {
    match source {
        AdapterSource::Demo => "demo",
        AdapterSource::Imported => "imported",
        AdapterSource::Trained => "trained",
        AdapterSource::Installed => "installed",
    }
}
