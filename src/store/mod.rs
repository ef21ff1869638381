//! The embedded store: versioned records in sled.
//!
//! | file | subject |
//! |---|---|
//! | `keys` | the bytes of a key |
//! | `record` | the envelope around each value, and the table of record kinds |
//! | `users`, `adapters`, `aliases` | one record kind each, with its methods on [`Store`] |
//! | `meta` | schema version, store id, record counts |
//! | `trees` | the only file that names sled: reads and transactions |
//! | `durable` | from written to durable, once for all writers that wait |
//! | `files`, `seal` | the directory: lock, marker, rehearsal; what the files were when it was closed |
//! | `open` | from a directory to a [`Store`], and back |
//! | `migrate` | old records become new ones; the list is in `migrations/` at the top level |
//! | `snapshot`, `import` | the sorted, digested JSONL form of a store |
//! | `verify` | every invariant, checked |
//!
//! The format on disk is described in `docs/store-format.md`. All calls block; an async caller
//! wraps them in `spawn_blocking`. No call reads a clock: times come in as parameters.
//!
//! A write that returns `Ok` is durable. A new record kind is one file here, one line in
//! `record::KINDS` and one migration.

mod adapters;
mod aliases;
mod durable;
mod error;
mod files;
mod import;
mod keys;
mod meta;
mod migrate;
#[path = "../../migrations/mod.rs"]
mod migrations;
mod open;
mod record;
mod seal;
mod snapshot;
mod trees;
mod users;
mod verify;

#[cfg(test)]
mod tests;

pub use adapters::{AdapterRecord, AdapterSource};
pub use aliases::{AliasRecord, CasError};
pub use error::StoreError;
pub use import::ImportSummary;
pub use meta::StoreInfo;
pub use migrate::SCHEMA;
pub use open::Store;
pub use snapshot::ExportSummary;
pub use users::UserRecord;
pub use verify::VerifyReport;
