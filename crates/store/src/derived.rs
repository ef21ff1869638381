//! What follows from records: indexes that lists and sweeps go by, and sums. It changes in the transaction
//! of the record, and nobody else writes it: exports leave it out, and imports, compactions and migrations
//! make it anew.
//!
//! | tree | key | what it is for |
//! |---|---|---|
//! | `by_expiry` | (time in 16 hex digits, tenant, id) | completions whose time is over |
//! | `by_metadata` | (tenant, key, value, id) | completions with a pair |
//! | `by_model` | (tenant, model, id) | completions of a model id |
//! | `sums` | (`tenant`, tenant), (`user`, tenant, user), (`version`, version) | see [`Sums`] |

use std::collections::{BTreeMap, BTreeSet};

use crate::by_user::OwnedKind;
use crate::completions::CompletionRecord;
use crate::feedback::{FeedbackRecord, Rating};
use crate::keys;
use crate::owned::Owned;
use crate::preferences::PreferenceRecord;
use crate::profiles::ProfileRecord;
use crate::record::{self, Record};
use attune_ids::{AdapterVersion, Tenant, UserKey};

/// The trees of indexes: their keys say all, their values are empty.
pub(super) const BY_EXPIRY: &str = "by_expiry";
/// See [`BY_EXPIRY`].
pub(super) const BY_METADATA: &str = "by_metadata";
/// See [`BY_EXPIRY`].
pub(super) const BY_MODEL: &str = "by_model";
/// The tree of sums.
pub(super) const SUMS: &str = "sums";

/// All trees of what is derived, sorted.
pub(super) const TREES: [&str; 4] = [BY_EXPIRY, BY_METADATA, BY_MODEL, SUMS];

/// Named numbers under a key of [`SUMS`]: those that are 0 are left out, and so are keys without any.
/// A tenant has `records` and `bytes` of preferences, ratings, completions and profiles; a person the number of
/// each kind; a version how often it `won`, `lost`, was in `other` preferences, `liked` and `disliked`.
pub(super) type Sums = BTreeMap<String, u64>;

/// What follows from some records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Derived {
    /// Trees and keys of indexes.
    pub(super) entries: BTreeSet<(&'static str, Vec<u8>)>,
    /// What is added to sums, by key and name.
    pub(super) sums: BTreeMap<(Vec<u8>, &'static str), u64>,
}

/// Whether something follows from the records of `tree`.
pub(super) fn concerns(tree: &str) -> bool {
    [
        CompletionRecord::TREE,
        FeedbackRecord::TREE,
        PreferenceRecord::TREE,
        ProfileRecord::TREE,
    ]
    .contains(&tree)
}

/// What follows from the record in `value`. Nothing, from one that cannot be read: `verify` names it.
pub(super) fn of(tree: &str, value: &[u8]) -> Derived {
    let mut derived = Derived::default();
    match tree {
        CompletionRecord::TREE => {
            if let Ok(record) = record::decode::<CompletionRecord>(&[], value) {
                derived.owned(&record, value);
                derived.completion(&record);
            }
        }
        FeedbackRecord::TREE => {
            if let Ok(record) = record::decode::<FeedbackRecord>(&[], value) {
                derived.owned(&record, value);
                derived.feedback(&record);
            }
        }
        PreferenceRecord::TREE => {
            if let Ok(record) = record::decode::<PreferenceRecord>(&[], value) {
                derived.owned(&record, value);
                derived.preference(&record);
            }
        }
        ProfileRecord::TREE => {
            if let Ok(record) = record::decode::<ProfileRecord>(&[], value) {
                derived.counted(&record.tenant, value);
            }
        }
        _ => {}
    }
    derived
}

impl Derived {
    fn counted(&mut self, of: &Tenant, value: &[u8]) {
        self.add(tenant(of), "records", 1);
        self.add(tenant(of), "bytes", value.len() as u64);
    }

    fn owned<R: Owned>(&mut self, record: &R, value: &[u8]) {
        self.counted(record.tenant(), value);
        if let Some(user) = record.user() {
            let user = UserKey {
                tenant: record.tenant().clone(),
                user: user.clone(),
            };
            self.add(person(&user), counted(R::OWNED), 1);
        }
    }

    fn completion(&mut self, record: &CompletionRecord) {
        let (tenant, id) = (record.tenant.as_str(), record.id.as_str());
        let mut entry = |tree, parts: &[&str]| self.entries.insert((tree, keys::encode(parts)));
        entry(BY_MODEL, &[tenant, &record.model, id]);
        for (key, value) in &record.metadata {
            entry(BY_METADATA, &[tenant, key, value, id]);
        }
        if let Some(at) = record.expires_unix_ms {
            entry(BY_EXPIRY, &[&time(at), tenant, id]);
        }
    }

    fn feedback(&mut self, record: &FeedbackRecord) {
        let name = match record.rating {
            Rating::Up | Rating::Stars(4..) => "liked",
            Rating::Down | Rating::Stars(..=2) => "disliked",
            Rating::Stars(_) => return,
        };
        self.add(version(record.adapter_version.as_ref()), name, 1);
    }

    fn preference(&mut self, record: &PreferenceRecord) {
        let (chosen, rejected) = (&record.chosen, &record.rejected);
        let known = chosen.completion.is_some() && rejected.completion.is_some();
        if known && chosen.adapter_version != rejected.adapter_version {
            self.add(version(chosen.adapter_version.as_ref()), "won", 1);
            self.add(version(rejected.adapter_version.as_ref()), "lost", 1);
        } else {
            self.add(version(record.adapter_version.as_ref()), "other", 1);
        }
    }

    fn add(&mut self, key: Vec<u8>, name: &'static str, more: u64) {
        let sum = self.sums.entry((key, name)).or_insert(0);
        *sum = sum.saturating_add(more);
    }
}

/// The name under which a person's records of a kind are counted.
pub(super) fn counted(kind: OwnedKind) -> &'static str {
    match kind {
        OwnedKind::Completion => "completions",
        OwnedKind::Feedback => "feedback",
        OwnedKind::Idempotency => "requests",
        OwnedKind::Preference => "preferences",
    }
}

/// The key of a tenant's sums.
pub(super) fn tenant(tenant: &Tenant) -> Vec<u8> {
    keys::encode(&["tenant", tenant.as_str()])
}

/// The key of a person's sums.
pub(super) fn person(user: &UserKey) -> Vec<u8> {
    keys::encode(&["user", user.tenant.as_str(), user.user.as_str()])
}

/// The key of a version's sums; `None` is the bare base model.
pub(super) fn version(version: Option<&AdapterVersion>) -> Vec<u8> {
    keys::encode(&["version", version.map_or("", AdapterVersion::as_str)])
}

/// The start of the keys of all versions' sums.
pub(super) fn versions() -> Vec<u8> {
    keys::encode(&["version"])
}

/// A time as a part of a key: such parts sort by time.
pub(super) fn time(unix_ms: u64) -> String {
    format!("{unix_ms:016x}")
}

/// The sums in `value`; none in what is no list of sums.
pub(super) fn read_sums(value: Option<&[u8]>) -> Sums {
    let read = value.map(serde_json::from_slice);
    read.and_then(Result::ok).unwrap_or_default()
}
