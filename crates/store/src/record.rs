//! The envelope around each value, and the table of record kinds.
//!
//! A value is one line of JSON, `{"kind":"user","v":1,"data":{...}}`, with the fields in the order
//! of the struct: a record has exactly one encoding, so exports are deterministic.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapters::AdapterRecord;
use crate::aliases::AliasRecord;
use crate::by_user::ByUserRecord;
use crate::canaries::CanaryRecord;
use crate::completions::CompletionRecord;
use crate::decisions::DecisionRecord;
use crate::feedback::FeedbackRecord;
use crate::idempotency::IdempotencyRecord;
use crate::preferences::PreferenceRecord;
use crate::profiles::ProfileRecord;
use crate::successors::SuccessorRecord;
use crate::tombstones::TombstoneRecord;
use crate::trees::Trees;
use crate::users::UserRecord;
use crate::StoreError;

/// The largest encoded record, in bytes.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 20;

/// Every kind of record, sorted by tree: exports and verification follow this order. An alias
/// comes after the adapters it points at.
pub(super) const KINDS: &[Kind] = &[
    Kind::of::<AdapterRecord>(),
    Kind::of::<AliasRecord>(),
    Kind::of::<ByUserRecord>(),
    Kind::of::<CanaryRecord>(),
    Kind::of::<CompletionRecord>(),
    Kind::of::<DecisionRecord>(),
    Kind::of::<FeedbackRecord>(),
    Kind::of::<IdempotencyRecord>(),
    Kind::of::<PreferenceRecord>(),
    Kind::of::<ProfileRecord>(),
    Kind::of::<SuccessorRecord>(),
    Kind::of::<TombstoneRecord>(),
    Kind::of::<UserRecord>(),
];

/// A kind of record: the type, where it is kept and under which key.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The `kind` of the envelope.
    const KIND: &'static str;
    /// The `v` of the envelope. A change of the shape is a new version and a migration.
    const VERSION: u32;
    /// The tree of these records; one kind a tree.
    const TREE: &'static str;

    /// The key under which this record is kept.
    fn key(&self) -> Vec<u8>;

    /// What is wrong with this record given the other records, for example a dangling name.
    fn problem(&self, _trees: &Trees) -> Result<Option<String>, StoreError> {
        Ok(None)
    }
}

/// A value as it is written: what it is, in which version, and the record itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope<T> {
    /// What it is.
    pub(super) kind: String,
    /// Version of the shape of `data`.
    pub(super) v: u32,
    /// The record.
    pub(super) data: T,
}

/// A record of any kind and version, as migrations see it.
pub(super) type RawRecord = Envelope<Value>;

/// The row of a record type in [`KINDS`].
pub(super) struct Kind {
    /// [`Record::KIND`].
    pub(super) kind: &'static str,
    /// [`Record::VERSION`].
    pub(super) version: u32,
    /// [`Record::TREE`].
    pub(super) tree: &'static str,
    /// Reads a value strictly and gives its key and its only encoding, or why it is malformed.
    pub(super) canonical: fn(&[u8]) -> Result<Canonical, String>,
    /// [`Record::problem`] of a value that `canonical` accepts.
    pub(super) problem: fn(&[u8], &Trees) -> Result<Option<String>, StoreError>,
}

/// A well-formed record.
#[derive(Debug, PartialEq)]
pub(super) struct Canonical {
    /// Its key.
    pub(super) key: Vec<u8>,
    /// Its encoding.
    pub(super) value: Vec<u8>,
}

impl Kind {
    const fn of<R: Record>() -> Kind {
        Kind {
            kind: R::KIND,
            version: R::VERSION,
            tree: R::TREE,
            canonical: canonical::<R>,
            problem: problem::<R>,
        }
    }

    /// The kind named `kind`.
    pub(super) fn named(kind: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|row| row.kind == kind)
    }
}

/// The encoding of `record`.
///
/// # Errors
/// [`StoreError::TooLarge`].
pub(super) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    let envelope = Envelope {
        kind: R::KIND.to_owned(),
        v: R::VERSION,
        data: record,
    };
    let value = serde_json::to_vec(&envelope).map_err(|error| StoreError::BadRecord {
        tree: R::TREE,
        key: crate::keys::show(&record.key()),
        reason: error.to_string(),
    })?;
    if value.len() > MAX_RECORD_BYTES {
        return Err(StoreError::TooLarge {
            tree: R::TREE,
            bytes: value.len(),
            max: MAX_RECORD_BYTES,
        });
    }
    Ok(value)
}

/// The record in `value`, which was read under `key`.
///
/// # Errors
/// [`StoreError::BadRecord`].
pub(super) fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R, StoreError> {
    parse(value).map_err(|reason| StoreError::BadRecord {
        tree: R::TREE,
        key: crate::keys::show(key),
        reason,
    })
}

fn parse<R: Record>(value: &[u8]) -> Result<R, String> {
    let raw: Envelope<R> = serde_json::from_slice(value).map_err(|error| {
        // The common case, a record of another kind or version, deserves better than serde's words.
        match serde_json::from_slice::<RawRecord>(value) {
            Ok(raw) if raw.kind != R::KIND || raw.v != R::VERSION => mismatch::<R, Value>(&raw),
            _ => error.to_string(),
        }
    })?;
    if raw.kind != R::KIND || raw.v != R::VERSION {
        return Err(mismatch::<R, R>(&raw));
    }
    Ok(raw.data)
}

fn mismatch<R: Record, T>(raw: &Envelope<T>) -> String {
    let (kind, v) = (&raw.kind, raw.v);
    format!("expected {} v{}, found {kind} v{v}", R::KIND, R::VERSION)
}

fn canonical<R: Record>(value: &[u8]) -> Result<Canonical, String> {
    let record: R = parse(value)?;
    Ok(Canonical {
        key: record.key(),
        value: encode(&record).map_err(|error| error.to_string())?,
    })
}

fn problem<R: Record>(value: &[u8], trees: &Trees) -> Result<Option<String>, StoreError> {
    match parse::<R>(value) {
        Ok(record) => record.problem(trees),
        Err(reason) => Ok(Some(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_ids::{Tenant, UserId};

    fn record() -> UserRecord {
        UserRecord {
            tenant: Tenant::default(),
            user: UserId::new("ann").unwrap(),
            created_unix_ms: 7,
        }
    }

    #[test]
    fn one_encoding() {
        let bytes = encode(&record()).unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"kind":"user","v":1,"data":{"tenant":"default","user":"ann","created_unix_ms":7}}"#
        );
        assert_eq!(
            decode::<UserRecord>(&record().key(), &bytes).unwrap(),
            record()
        );
    }

    #[test]
    fn other_kinds_and_versions_are_named() {
        let text = r#"{"kind":"user","v":2,"data":{"tenant":"t"}}"#;
        let error = parse::<UserRecord>(text.as_bytes()).unwrap_err();
        assert_eq!(error, "expected user v1, found user v2");
        let text = r#"{"kind":"alias","v":1,"data":{"tenant":"t","user":"u","created_unix_ms":0}}"#;
        let error = parse::<UserRecord>(text.as_bytes()).unwrap_err();
        assert_eq!(error, "expected user v1, found alias v1");
    }

    #[test]
    fn reading_is_strict() {
        for text in [
            "",
            "{}",
            "null",
            r#"{"kind":"user","v":1,"data":{"tenant":"t","user":"u"}}"#,
            r#"{"kind":"user","v":1,"data":{"tenant":"t","user":"","created_unix_ms":0}}"#,
            r#"{"kind":"user","v":1,"data":{"tenant":"t","user":"u","created_unix_ms":-1}}"#,
            r#"{"kind":"user","v":1,"data":{"tenant":"t","user":"u","created_unix_ms":0,"x":1}}"#,
            r#"{"kind":"user","v":1,"x":0,"data":{"tenant":"t","user":"u","created_unix_ms":0}}"#,
        ] {
            assert!(parse::<UserRecord>(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_are_sorted_and_distinct() {
        assert!(KINDS.windows(2).all(|pair| pair[0].tree < pair[1].tree));
        for row in KINDS {
            assert_eq!(
                Kind::named(row.kind).map(|found| found.tree),
                Some(row.tree)
            );
        }
    }
}
