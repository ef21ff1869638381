//! What the store says about itself: two records in the tree `meta`.
//!
//! `store` holds the schema version and the identity. `counts` holds the number of records of each
//! tree and changes in the transaction that adds or removes a record, so that a page that was lost
//! without a trace is noticed.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::derived::Sums;
use crate::record::Envelope;
use crate::StoreError;

/// The tree.
pub(super) const TREE: &str = "meta";
/// The key of [`Meta`]. Its place and the field `data.schema` never change, whatever the schema:
/// this is how an older attune recognises a newer store.
pub(super) const META_KEY: &[u8] = b"store";
/// The key of [`Counts`].
pub(super) const COUNTS_KEY: &[u8] = b"counts";

const META_KIND: &str = "meta";
const COUNTS_KIND: &str = "counts";
const VERSION: u32 = 1;

/// The record `store`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    /// The schema of all records.
    pub(super) schema: u32,
    /// Names this store, across exports and imports: 32 hex digits.
    pub(super) store_id: String,
    /// When the store was created, in milliseconds since 1970.
    pub(super) created_unix_ms: u64,
    /// Whether the records are complete.
    pub(super) state: State,
}

/// Whether the records are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// They are.
    Ready,
    /// An import is under way, or was interrupted: the next open discards its records.
    Importing,
}

/// The record `counts`: tree -> number of records, trees without records left out.
pub(super) type Counts = BTreeMap<String, u64>;

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// The schema version of its records.
    pub schema: u32,
    /// Its name, across exports and imports: 32 hex digits.
    pub store_id: String,
    /// When it was created, in milliseconds since 1970.
    pub created_unix_ms: u64,
}

impl From<Meta> for StoreInfo {
    fn from(meta: Meta) -> Self {
        StoreInfo {
            schema: meta.schema,
            store_id: meta.store_id,
            created_unix_ms: meta.created_unix_ms,
        }
    }
}

/// The schema in a [`Meta`] record of any version, past or future.
pub(super) fn schema_of(value: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct AnyMeta {
        data: AnySchema,
    }
    #[derive(Deserialize)]
    struct AnySchema {
        schema: u32,
    }
    let any: AnyMeta = serde_json::from_slice(value).ok()?;
    Some(any.data.schema)
}

pub(super) fn encode_meta(meta: &Meta) -> Result<Vec<u8>, StoreError> {
    encode(META_KIND, META_KEY, meta)
}

pub(super) fn decode_meta(value: &[u8]) -> Result<Meta, StoreError> {
    decode(META_KIND, META_KEY, value)
}

pub(super) fn encode_counts(counts: &Counts) -> Result<Vec<u8>, StoreError> {
    encode(COUNTS_KIND, COUNTS_KEY, counts)
}

pub(super) fn decode_counts(value: &[u8]) -> Result<Counts, StoreError> {
    decode(COUNTS_KIND, COUNTS_KEY, value)
}

/// The one encoding of sums.
pub(super) fn encode_sums(sums: &Sums) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(sums).map_err(|error| bad(b"sums", error.to_string()))
}

/// The counts in `value`; no value is a store without records.
pub(super) fn read_counts(value: Option<Vec<u8>>) -> Result<Counts, StoreError> {
    match value {
        Some(value) => decode_counts(&value),
        None => Ok(Counts::new()),
    }
}

fn encode<T: Serialize>(kind: &str, key: &[u8], data: &T) -> Result<Vec<u8>, StoreError> {
    let envelope = Envelope {
        kind: kind.to_owned(),
        v: VERSION,
        data,
    };
    serde_json::to_vec(&envelope).map_err(|error| bad(key, error.to_string()))
}

fn decode<T: DeserializeOwned>(kind: &str, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let envelope: Envelope<T> =
        serde_json::from_slice(value).map_err(|error| bad(key, error.to_string()))?;
    if envelope.kind != kind || envelope.v != VERSION {
        let (found, v) = (envelope.kind, envelope.v);
        return Err(bad(
            key,
            format!("expected {kind} v{VERSION}, found {found} v{v}"),
        ));
    }
    Ok(envelope.data)
}

fn bad(key: &[u8], reason: String) -> StoreError {
    StoreError::BadRecord {
        tree: TREE,
        key: String::from_utf8_lossy(key).into_owned(),
        reason,
    }
}
