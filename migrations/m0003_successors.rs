//! Schema 3. Only a new kind; and indexes and sums that follow from records.
//!
//! | kind | tree | key | data |
//! |---|---|---|---|
//! | `successor` v1 | `successors` | (version) | version, successor, replaced_unix_ms |
//!
//! | derived | key | what it is for |
//! |---|---|---|
//! | `by_expiry` | (time, tenant, id) | completions whose time is over |
//! | `by_metadata` | (tenant, key, value, id) | completions with a pair |
//! | `by_model` | (tenant, model, id) | completions of a model id |
//! | `sums` | what is counted | of tenants, people and versions |
//!
//! What is derived is no record: every migration makes it anew, and no export has it.

use crate::migrate::Migration;
use crate::record::RawRecord;

pub(super) const MIGRATION: Migration = Migration {
    to: 3,
    about: "successors of versions; indexes and sums",
    kinds: &[
        ("adapter", 1),
        ("alias", 1),
        ("by_user", 1),
        ("canary", 1),
        ("completion", 1),
        ("decision", 1),
        ("feedback", 1),
        ("idempotency", 1),
        ("preference", 1),
        ("profile", 1),
        ("successor", 1),
        ("tombstone", 1),
        ("user", 1),
    ],
    upgrade,
};

/// All kinds of schema 2 are kinds of schema 3.
fn upgrade(record: RawRecord) -> Result<Option<RawRecord>, String> {
    Err(format!("schema 2 has no {}", record.kind))
}
