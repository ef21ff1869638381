//! The ordered list of migrations: number n leads from schema n - 1 to schema n.
//!
//! This file belongs to `attune::store`, which includes it. `README.md` says how to add one.

use crate::migrate::Migration;

mod m0001_initial;
mod m0002_preferences;
mod m0003_successors;

/// All migrations. A released one never changes.
pub(super) const MIGRATIONS: &[Migration] = &[
    m0001_initial::MIGRATION,
    m0002_preferences::MIGRATION,
    m0003_successors::MIGRATION,
];
