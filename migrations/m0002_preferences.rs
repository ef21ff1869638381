//! Schema 2: what people prefer, and what follows from it. Only new kinds.
//!
//! | kind | tree | key | data |
//! |---|---|---|---|
//! | `by_user` v1 | `by_user` | (tenant, user, kind, id) | the same |
//! | `canary` v1 | `canaries` | (alias) | alias, version, permille, started_unix_ms |
//! | `completion` v1 | `completions` | (tenant, id) | a kept answer |
//! | `decision` v1 | `decisions` | (id) | what became of a trained version |
//! | `feedback` v1 | `feedback` | (tenant, id) | a rating of an answer |
//! | `idempotency` v1 | `idempotency` | (tenant, key) | a request that was done |
//! | `preference` v1 | `preferences` | (tenant, id) | of two answers, the better one |
//! | `profile` v1 | `profiles` | (tenant, user) | text about a person, whether to learn |
//! | `tombstone` v1 | `tombstones` | (digest) | a person who was deleted |

use crate::migrate::Migration;
use crate::record::RawRecord;

pub(super) const MIGRATION: Migration = Migration {
    to: 2,
    about: "preferences, feedback, completions, profiles, canaries, decisions",
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
        ("tombstone", 1),
        ("user", 1),
    ],
    upgrade,
};

/// All kinds of schema 1 are kinds of schema 2.
fn upgrade(record: RawRecord) -> Result<Option<RawRecord>, String> {
    Err(format!("schema 1 has no {}", record.kind))
}
