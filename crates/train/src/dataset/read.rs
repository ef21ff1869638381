//! Files and folders, by their extension.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::DatasetError;
use super::intake::Intake;
use super::layout::Layout;
use super::sink::Sink;
use super::{csv_file, json_array, json_lines, parquet_file, prism, snapshot, Dataset};

/// The longest record (a line of JSON, a row of a table), in bytes.
pub const MAX_RECORD_BYTES: u64 = 16 << 20;

/// The most bytes that all files may have together; those of a Parquet file count unpacked.
pub const MAX_TOTAL_BYTES: u64 = 4 << 30;

/// The most pairs of a data set.
pub const MAX_PAIRS: usize = 16 << 20;

/// Reads preference pairs; see the [module](super) for kinds of files and layouts. Records that cannot be used are left
/// out and counted.
///
/// # Errors
/// A file that is missing, empty, too large or of no known kind or layout; one of whose records none can be used. The
/// message names file, line and field.
pub fn read(files: &[PathBuf]) -> Result<Dataset, DatasetError> {
    if files.is_empty() {
        return Err(DatasetError::NoFiles);
    }
    let mut intake = Intake::default();
    let mut room = Room {
        left: MAX_TOTAL_BYTES,
    };
    for path in files {
        let file: Arc<Path> = path.as_path().into();
        let kind = Kind::of(&file)?;
        intake.begin((kind == Kind::Prism).then_some(Layout::Prism));
        match kind {
            Kind::JsonLines if snapshot::is_export(&file, open(&file)?)? => {
                intake.begin(Some(Layout::Snapshot));
                snapshot::read(&file, room.open(&file)?, &mut intake)?;
            }
            Kind::Prism => prism::read(&file, &mut room, &mut intake)?,
            kind => records(&file, kind, &mut room, &mut intake)?,
        }
        intake.end(&file)?;
    }
    intake.finish()
}

/// The records of a file of another subject than preferences: JSON lines, whatever its name says, unless that says
/// something else.
///
/// # Errors
/// As [`read`].
pub(crate) fn records_of(file: &Path, sink: &mut dyn Sink) -> Result<(), DatasetError> {
    let shared: Arc<Path> = file.into();
    let kind = match Kind::of(file) {
        Ok(kind @ (Kind::Csv | Kind::Parquet)) => kind,
        Ok(Kind::JsonArray) if begins_an_array(file)? => Kind::JsonArray,
        _ => Kind::JsonLines,
    };
    let mut room = Room {
        left: MAX_TOTAL_BYTES,
    };
    records(&shared, kind, &mut room, sink)
}

fn begins_an_array(file: &Path) -> Result<bool, DatasetError> {
    let mut start = Vec::new();
    let read = open(file)?.take(4096).read_to_end(&mut start);
    read.map_err(|e| io_error(file, e))?;
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
    Ok(text.trim_ascii_start().starts_with(b"["))
}

fn records(
    file: &Arc<Path>,
    kind: Kind,
    room: &mut Room,
    sink: &mut dyn Sink,
) -> Result<(), DatasetError> {
    match kind {
        Kind::JsonArray => json_array::read(file, room.open(file)?, sink),
        Kind::Csv => csv_file::read(file, room.open(file)?, sink),
        Kind::Parquet => parquet_file::read(file, room, sink),
        Kind::JsonLines | Kind::Prism => json_lines::read(file, room.open(file)?, sink),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    JsonLines,
    JsonArray,
    Csv,
    Parquet,
    Prism,
}

impl Kind {
    fn of(file: &Path) -> Result<Self, DatasetError> {
        if file.is_dir() {
            return Ok(Self::Prism);
        }
        let extension = file
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "json" => Ok(Self::JsonArray),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(DatasetError::UnknownKind {
                file: file.to_path_buf(),
            }),
        }
    }
}

/// What is left of [`MAX_TOTAL_BYTES`].
#[derive(Debug)]
pub(super) struct Room {
    left: u64,
}

impl Room {
    /// Opens a file and takes its size.
    ///
    /// # Errors
    /// It cannot be opened, or is too large.
    pub(super) fn open(&mut self, file: &Path) -> Result<File, DatasetError> {
        let opened = open(file)?;
        let size = fs::metadata(file).map_err(|e| io_error(file, e))?.len();
        self.take(file, size)?;
        Ok(opened)
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// There are not so many left.
    pub(super) fn take(&mut self, file: &Path, bytes: u64) -> Result<(), DatasetError> {
        self.left = self.left.checked_sub(bytes).ok_or(DatasetError::TooLarge {
            file: file.to_path_buf(),
            max: MAX_TOTAL_BYTES,
        })?;
        Ok(())
    }
}

fn open(file: &Path) -> Result<File, DatasetError> {
    File::open(file).map_err(|e| io_error(file, e))
}

pub(super) fn io_error(file: &Path, error: std::io::Error) -> DatasetError {
    DatasetError::Io {
        file: file.to_path_buf(),
        error,
    }
}
