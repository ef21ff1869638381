//! What was read, left out and passed over.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::layout::Layout;

/// Counts of one [`read`](fn@super::read).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Each file, and how it was understood.
    pub files: Vec<FileCounts>,
    /// Pairs in the files.
    pub read: u64,
    /// Pairs that are left.
    pub kept: u64,
    /// Users among them.
    pub users: u64,
    /// Left out: records that are none, or not like the others of their file.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped_unusable: u64,
    /// Where the first of them are, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<String>,
    /// Left out: exact repeats of a pair before.
    pub dropped_duplicates: u64,
    /// Left out: both replies are the same.
    pub dropped_identical: u64,
    /// Left out: a reply has nothing but white space.
    pub dropped_empty_replies: u64,
    /// Left out: the prompt has nothing but white space.
    pub dropped_empty_prompts: u64,
    /// Left out: pairs of people who do not take part in learning.
    pub dropped_opted_out: u64,
    /// Left out: pairs of people who were deleted from the store that a snapshot is of.
    pub dropped_deleted: u64,
    /// Kept: pairs that say the opposite of one before.
    pub contradictory: u64,
    /// PRISM turns without a question, a chosen or a rejected reply; they make no pair.
    pub skipped_turns: u64,
    /// Fields that nobody reads, with the number of records that have them.
    pub other_columns: BTreeMap<String, u64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// Says on the terminal what was left out or passed over, if anything was.
    pub fn warn(&self) {
        if self.kept < self.read
            || self.contradictory + self.skipped_turns > 0
            || !self.other_columns.is_empty()
        {
            tracing::warn!("{self}");
        }
    }
}

/// Columns that nobody reads, with the number of records that have them.
pub(crate) fn columns(columns: &BTreeMap<String, u64>) -> String {
    let said = columns.iter().map(|(name, records)| match name.as_str() {
        "" => format!("one without a name in {records} records"),
        name => format!("{name} in {records} records"),
    });
    said.collect::<Vec<_>>().join(", ")
}

/// What one file gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileCounts {
    /// The file.
    pub file: PathBuf,
    /// How its records were understood.
    pub layout: Layout,
    /// Pairs in it.
    pub read: u64,
    /// SHA-256 of a snapshot: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One line for people; what is zero is not said.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pairs of {} users from {} read",
            self.kept, self.users, self.read
        )?;
        let said = [
            (self.dropped_duplicates, "repeats left out"),
            (self.dropped_identical, "with equal replies left out"),
            (self.dropped_empty_replies, "with an empty reply left out"),
            (self.dropped_empty_prompts, "with an empty prompt left out"),
            (self.dropped_opted_out, "of people who opted out left out"),
            (self.dropped_deleted, "of people who were deleted left out"),
            (self.contradictory, "contradict another one"),
            (self.skipped_turns, "turns without a pair"),
        ];
        for (count, what) in said.iter().filter(|(count, _)| *count > 0) {
            write!(f, "; {count} {what}")?;
        }
        if self.dropped_unusable > 0 {
            let first = self.unusable.join("; ");
            write!(f, "; {} unusable left out: {first}", self.dropped_unusable)?;
            if self.dropped_unusable > self.unusable.len() as u64 {
                f.write_str("; and so on")?;
            }
        }
        if !self.other_columns.is_empty() {
            let columns = columns(&self.other_columns);
            write!(f, "; unused columns: {columns}")?;
        }
        if self.other_columns.contains_key("system") {
            f.write_str(" (what the system says is read from a message of that role in prompt)")?;
        }
        Ok(())
    }
}
