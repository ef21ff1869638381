//! What is left out, and what is counted.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::ages::Ages;
use super::counts::{Counts, FileCounts};
use super::error::DatasetError;
use super::layout::Layout;
use super::object::Object;
use super::pair::Pair;
use super::source::Source;
use super::{Dataset, MAX_PAIRS};
use crate::store::TrainingSet;

/// Pairs on their way into a data set.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pairs: Vec<Pair>,
    counts: Counts,
    digests: HashSet<[u8; 32]>,
    /// How the records of the current file are understood, once the first was seen.
    layout: Option<Layout>,
    read_before: u64,
    /// Of the snapshots so far: who was deleted must stay forgotten.
    ages: Ages,
    /// The name of the current file, if it is a snapshot.
    sha256: Option<String>,
}

impl Intake {
    /// A file begins. `layout`: where its name already says it.
    pub(super) fn begin(&mut self, layout: Option<Layout>) {
        self.layout = layout;
        self.sha256 = None;
        self.read_before = self.counts.read;
    }

    /// A record of the current file.
    ///
    /// # Errors
    /// A record of no layout, or of another one than the first.
    pub(super) fn record(&mut self, at: &Source, object: Object) -> Result<(), DatasetError> {
        let layout = match self.layout {
            Some(layout) => layout,
            None => *self
                .layout
                .insert(Layout::of(&object).map_err(|p| p.at(at))?),
        };
        let columns = &mut self.counts.other_columns;
        let mut other = |name: String| *columns.entry(name).or_default() += 1;
        let pair = layout
            .pair(object, at.clone(), &mut other)
            .map_err(|p| p.at(at))?;
        self.pair(pair)
    }

    /// A column that no record brings along because it is not even read.
    pub(super) fn other_column(&mut self, name: &str, rows: u64) {
        *self
            .counts
            .other_columns
            .entry(name.to_owned())
            .or_default() += rows;
    }

    /// The current file is a snapshot, whose pairs are in.
    pub(super) fn snapshot(&mut self, file: &Arc<Path>, set: TrainingSet) {
        self.counts.read += set.opted_out;
        self.counts.dropped_opted_out += set.opted_out;
        self.sha256 = Some(set.sha256.clone());
        self.ages.snapshot(file, set);
    }

    /// Whoever was deleted from a store is not learned from other files either.
    fn forget(&mut self) {
        let before = self.pairs.len();
        self.pairs.retain(|pair| !self.ages.forgotten(pair));
        self.counts.dropped_deleted = (before - self.pairs.len()) as u64;
        self.ages.note(&self.pairs);
    }

    /// A turn that makes no pair.
    pub(super) fn skipped_turn(&mut self) {
        self.counts.skipped_turns += 1;
    }

    /// A pair; kept if there is something to learn from it.
    ///
    /// # Errors
    /// More than [`MAX_PAIRS`].
    pub(super) fn pair(&mut self, pair: Pair) -> Result<(), DatasetError> {
        self.counts.read += 1;
        let blank = |text: &str| text.trim().is_empty();
        if blank(&pair.chosen) || blank(&pair.rejected) {
            self.counts.dropped_empty_replies += 1;
        } else if pair.prompt.is_blank() {
            self.counts.dropped_empty_prompts += 1;
        } else if pair.chosen == pair.rejected {
            self.counts.dropped_identical += 1;
        } else if !self.digests.insert(pair.digest()) {
            self.counts.dropped_duplicates += 1;
        } else if self.pairs.len() == MAX_PAIRS {
            return Err(DatasetError::TooManyPairs {
                file: pair.source.file.to_path_buf(),
                max: MAX_PAIRS,
            });
        } else {
            self.counts.contradictory += u64::from(self.digests.contains(&pair.reverse_digest()));
            self.pairs.push(pair);
        }
        Ok(())
    }

    /// The file ends.
    ///
    /// # Errors
    /// It had no records.
    pub(super) fn end(&mut self, file: &Path) -> Result<(), DatasetError> {
        let file = file.to_path_buf();
        let read = self.counts.read - self.read_before;
        match self.layout {
            Some(layout) if read > 0 => {
                self.counts.files.push(FileCounts {
                    file,
                    layout,
                    read,
                    sha256: self.sha256.take(),
                });
                Ok(())
            }
            _ => Err(DatasetError::Empty { file }),
        }
    }

    /// The data set.
    ///
    /// # Errors
    /// Nothing is left.
    pub(super) fn finish(mut self) -> Result<Dataset, DatasetError> {
        self.forget();
        let users: HashSet<_> = self.pairs.iter().filter_map(|p| p.user.as_ref()).collect();
        self.counts.users = users.len() as u64;
        self.counts.kept = self.pairs.len() as u64;
        if self.pairs.is_empty() {
            let counts = Box::new(self.counts);
            return Err(DatasetError::NothingLeft { counts });
        }
        Ok(Dataset {
            pairs: self.pairs,
            ages: self.ages,
            counts: self.counts,
        })
    }
}
