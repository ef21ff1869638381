//! Schema 1: users, adapter versions and aliases.
//!
//! | kind | tree | key | data |
//! |---|---|---|---|
//! | `user` v1 | `users` | (tenant, user) | tenant, user, created_unix_ms |
//! | `adapter` v1 | `adapters` | (version) | version, name or null, installed_unix_ms, source |
//! | `alias` v1 | `aliases` | (alias) | alias, version, previous or null, promoted_unix_ms, promotions |

use crate::migrate::Migration;
use crate::record::RawRecord;

pub(super) const MIGRATION: Migration = Migration {
    to: 1,
    about: "users, adapters, aliases",
    kinds: &[("adapter", 1), ("alias", 1), ("user", 1)],
    upgrade,
};

/// Before schema 1 there was nothing.
fn upgrade(record: RawRecord) -> Result<Option<RawRecord>, String> {
    Err(format!("schema 0 has no records, found a {}", record.kind))
}
