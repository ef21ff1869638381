//! The embedded store: versioned records in sled.
//!
//! | file | subject |
//! |---|---|
//! | `keys` | the bytes of a key |
//! | `record` | the envelope around each value, and the table of record kinds |
//! | `users`, `profiles`, `adapters`, `aliases`, `canaries`, `successors`, `decisions`, `tombstones` | one record kind each, with its methods on [`Store`] |
//! | `completions`, `preferences`, `feedback` | the same, of kinds that belong to a tenant's person; `owned` has what they share |
//! | `by_user`, `idempotency` | which records are a person's; which requests were done |
//! | `moments` | in which order deletions and requests came |
//! | `person`, `erase` | all that is recorded of a person: shown, deleted |
//! | `derived` | indexes and sums, which follow from records |
//! | `list` | a part of records, by indexes |
//! | `quota` | how much a tenant may have |
//! | `tally` | what people thought of each version |
//! | `meta` | schema version, store id, record counts |
//! | `serving` | what answers need to know of people, in memory |
//! | `trees` | the only folder that names sled: reads and transactions |
//! | `durable`, `blobs` | from written to durable, once for all writers that wait; files of large values |
//! | `space` | room on the disk |
//! | `greatest` | ids that are made go on from those that are kept |
//! | `files`, `seal` | the directory: lock, marker, rehearsal; what the files were when it was closed |
//! | `open` | from a directory to a [`Store`], and back |
//! | `migrate` | old records become new ones; the list is in `migrations/` at the top level |
//! | `snapshot`, `lines`, `import` | the sorted, digested JSONL form of a store: written, read, put into a store |
//! | `training_set` | what that form says to a trainer |
//! | `compact` | the same records in new files |
//! | `verify` | every invariant, checked |
//!
//! The format on disk is described in `docs/store-format.md`. All calls block but [`Store::known`]; an
//! async caller has them done by threads of the store (`app::store_threads`). No call reads a clock: times
//! come in as parameters.
//!
//! A write that returns `Ok` is durable. A new record kind is one file here, one line in
//! `record::KINDS` and one migration.

mod adapters;
mod aliases;
mod blobs;
mod by_user;
mod canaries;
mod compact;
mod completions;
mod decisions;
mod derived;
mod durable;
mod erase;
mod error;
mod feedback;
mod files;
mod greatest;
mod idempotency;
mod import;
mod keys;
mod lines;
mod list;
mod meta;
mod migrate;
#[path = "../../../migrations/mod.rs"]
mod migrations;
mod moments;
mod open;
mod owned;
mod person;
mod preferences;
mod profiles;
mod quota;
mod record;
mod seal;
mod serving;
mod snapshot;
mod space;
mod successors;
mod tally;
mod tombstones;
mod training_set;
mod trees;
mod users;
mod verify;

#[cfg(test)]
mod tests;

pub use adapters::{AdapterRecord, AdapterSource};
pub use aliases::{AliasRecord, CasError};
pub use canaries::CanaryRecord;
pub use compact::CompactSummary;
pub use completions::{CompletionFilter, CompletionRecord, KeptChoice};
pub use decisions::DecisionRecord;
pub use error::StoreError;
pub use feedback::{FeedbackRecord, Rating};
pub use idempotency::Idempotent;
pub use import::ImportSummary;
pub use list::{Listed, Owners, Page};
pub use meta::StoreInfo;
pub use migrate::SCHEMA;
pub use open::Store;
pub use owned::{InsertError, Inserted};
pub use person::{ExportPlace, UserCounts};
pub use preferences::{ComparedAnswer, PreferenceRecord, PreferenceSource, Turn};
pub use profiles::ProfileRecord;
pub use quota::{TenantQuota, TenantUse};
pub use serving::KnownPerson;
pub use snapshot::{ExportSummary, SnapshotFile};
pub use space::{Disk, Space};
pub use successors::SuccessorRecord;
pub use tally::VersionTally;
pub use tombstones::{tombstone_digest, TombstoneRecord};
pub use training_set::{Deletions, SnapshotPair, TrainingSet};
pub use users::UserRecord;
pub use verify::VerifyReport;
