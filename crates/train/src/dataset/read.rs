//! Files and folders, by their extension.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::DatasetError;
use super::intake::Intake;
use super::layout::Layout;
use super::room::{io_error, open, Room};
use super::sink::Sink;
use super::{csv_file, json_array, json_lines, parquet_file, prism, snapshot, Dataset};

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
    let mut room = Room::default();
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
    let mut room = Room::default();
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
