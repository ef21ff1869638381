//! What is left out, and what is counted.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::ages::Ages;
use super::counts::{Counts, FileCounts};
use super::error::{DatasetError, Problem};
use super::fields::NEARLY_USER;
use super::layout::Layout;
use super::object::Object;
use super::pair::Pair;
use super::record::READ;
use super::sink::Sink;
use super::source::Source;
use super::{Dataset, MAX_PAIRS};
use attune_store::TrainingSet;

/// Unusable records that are named; the others are counted.
pub(crate) const MAX_NAMED: usize = 3;

/// Pairs on their way into a data set.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pairs: Vec<Pair>,
    counts: Counts,
    digests: HashSet<[u8; 32]>,
    /// How the records of the current file are understood, once the first was seen.
    layout: Option<Layout>,
    read_before: u64,
    /// Why the first unusable record of the current file is one, and how many there were before the file.
    unusable: Option<DatasetError>,
    unusable_before: u64,
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
        self.unusable = None;
        self.unusable_before = self.counts.dropped_unusable;
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
    /// It had no records, or none that can be used: why the first of them cannot.
    pub(super) fn end(&mut self, file: &Path) -> Result<(), DatasetError> {
        let file = file.to_path_buf();
        let read = self.counts.read - self.read_before;
        let unusable = self.counts.dropped_unusable - self.unusable_before;
        match self.layout {
            Some(layout) if read > unusable => {
                self.counts.files.push(FileCounts {
                    file,
                    layout,
                    read,
                    sha256: self.sha256.take(),
                });
                Ok(())
            }
            _ => Err(self.unusable.take().unwrap_or(DatasetError::Empty { file })),
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

impl Sink for Intake {
    fn reads(&self, column: &str) -> bool {
        READ.contains(&column) || NEARLY_USER.contains(&column)
    }

    fn other_column(&mut self, name: &str, rows: u64) {
        let column = self.counts.other_columns.entry(name.to_owned());
        *column.or_default() += rows;
    }

    /// The first record that has a layout decides for the file.
    fn record(&mut self, at: &Source, object: Object) -> Result<(), DatasetError> {
        let layout = match self.layout {
            Some(layout) => layout,
            None => match Layout::of(&object) {
                Ok(layout) => *self.layout.insert(layout),
                Err(problem) => return self.unusable(at, problem),
            },
        };
        let mut others = Vec::new();
        match layout.pair(object, at.clone(), &mut |name| others.push(name)) {
            Ok(pair) => {
                for name in others {
                    self.other_column(&name, 1);
                }
                self.pair(pair)
            }
            // It is the name of a column, which is wrong in every record.
            Err(problem @ Problem::NearlyUser { .. }) => Err(problem.at(at)),
            Err(problem) => self.unusable(at, problem),
        }
    }

    fn unusable(&mut self, at: &Source, problem: Problem) -> Result<(), DatasetError> {
        let error = problem.at(at);
        self.counts.read += 1;
        self.counts.dropped_unusable += 1;
        if self.counts.unusable.len() < MAX_NAMED {
            self.counts.unusable.push(error.to_string());
        }
        self.unusable.get_or_insert(error);
        Ok(())
    }
}
