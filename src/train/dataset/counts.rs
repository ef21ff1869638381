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
        if !self.other_columns.is_empty() {
            let names: Vec<&str> = self.other_columns.keys().map(String::as_str).collect();
            write!(f, "; columns that nobody reads: {}", names.join(", "))?;
        }
        Ok(())
    }
}
