//! Where a record stands, for messages.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A record's file and its place there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, or the folder of a PRISM data set.
    pub file: Arc<Path>,
    /// The place in it.
    pub place: Place,
}

/// A place in a file, as an editor or a viewer of tables would name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file, from 1.
    Line(u64),
    /// A record of a JSON array or a row of a Parquet file, from 1.
    Row(u64),
    /// A turn of a PRISM dialogue.
    Turn {
        /// The dialogue's id.
        dialog: Arc<str>,
        /// The turn's index, from 0 as in the file.
        turn: usize,
    },
    /// An entry with a name of its own.
    Entry(Arc<str>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.file.display())?;
        match &self.place {
            Place::Line(line) => write!(f, "line {line}"),
            Place::Row(row) => write!(f, "row {row}"),
            Place::Turn { dialog, turn } => write!(f, "dialogue {dialog}, turn {turn}"),
            Place::Entry(name) => f.write_str(name),
        }
    }
}
