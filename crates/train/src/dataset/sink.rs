//! Where the records of a file go.

use super::error::{DatasetError, Problem};
use super::object::Object;
use super::source::Source;

/// Takes the records of a file, whatever kind of file it is.
pub(crate) trait Sink {
    /// Whether a column of a table is worth unpacking.
    fn reads(&self, column: &str) -> bool;

    /// A column that no record brings along because it is not even read.
    fn other_column(&mut self, name: &str, rows: u64);

    /// A record.
    ///
    /// # Errors
    /// The file cannot be used.
    fn record(&mut self, at: &Source, object: Object) -> Result<(), DatasetError>;

    /// What is no record, though the ones behind it may be.
    ///
    /// # Errors
    /// The file cannot be used.
    fn unusable(&mut self, at: &Source, problem: Problem) -> Result<(), DatasetError>;
}
