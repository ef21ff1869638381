//! Parquet files, as Hugging Face keeps data sets: texts and lists of messages.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::error::{DatasetError, Problem};
use super::record::is_other;
use super::room::Room;
use super::sink::Sink;
use super::source::{Place, Source};

/// Reads the rows of `file`. Only columns that some layout reads are unpacked.
///
/// # Errors
/// A damaged file, one that unpacks to too much; what `sink` says.
pub(super) fn read(
    file: &Arc<Path>,
    room: &mut Room,
    sink: &mut dyn Sink,
) -> Result<(), DatasetError> {
    let opened = room.open(file)?;
    let whole = |problem: Problem| DatasetError::File {
        file: file.to_path_buf(),
        problem,
    };
    let reader = guarded(|| SerializedFileReader::new(opened)).map_err(whole)?;
    let metadata = reader.metadata();
    let unpacked = metadata
        .row_groups()
        .iter()
        .map(|group| group.total_byte_size());
    let unpacked = unpacked.map(|size| u64::try_from(size).unwrap_or(u64::MAX));
    room.take(file, unpacked.fold(0, u64::saturating_add))?;

    let known = known_columns(metadata.file_metadata(), sink).map_err(whole)?;
    let rows = || RowIter::from_file_into(Box::new(reader)).project(Some(known));
    let mut rows = guarded(rows).map_err(whole)?;
    for number in 1.. {
        let at = Source {
            file: file.clone(),
            place: Place::Row(number),
        };
        let row = guarded(|| rows.next().transpose()).map_err(|p| p.at(&at))?;
        let Some(row) = row else {
            break;
        };
        let fields = row.into_columns().into_iter();
        let object = fields
            .map(|(name, field)| json(field).map(|value| (name, value)))
            .collect::<Result<_, _>>();
        match object {
            Ok(object) => sink.record(&at, object)?,
            Err(problem) => sink.unusable(&at, problem)?,
        }
    }
    Ok(())
}

/// Runs a part of the Parquet reader, which panics on some files whose parts contradict each
/// other. Nothing that it was at work on is used after that.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Problem> {
    let message = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its parts contradict each other".to_owned(),
    };
    Err(Problem::Parquet { message })
}

/// The schema of the columns that some layout reads; the others are counted.
fn known_columns(metadata: &FileMetaData, sink: &mut dyn Sink) -> Result<Type, Problem> {
    let rows = u64::try_from(metadata.num_rows()).unwrap_or_default();
    let schema = metadata.schema();
    let (known, other): (Vec<_>, Vec<_>) = schema
        .get_fields()
        .iter()
        .cloned()
        .partition(|column| sink.reads(column.name()));
    if known.is_empty() {
        let found = other
            .iter()
            .map(|column| column.name().to_owned())
            .collect();
        return Err(Problem::Layout { found });
    }
    for column in other.iter().filter(|column| is_other(column.name())) {
        sink.other_column(column.name(), rows);
    }
    guarded(|| {
        Type::group_type_builder(schema.name())
            .with_fields(known)
            .build()
    })
}

fn json(field: Field) -> Result<Value, Problem> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(text) => text.into(),
        // Older writers do not say that a column is text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => return Err(Problem::NotUtf8),
        },
        Field::Group(row) => {
            let fields = row.into_columns().into_iter();
            let fields = fields.map(|(name, field)| json(field).map(|value| (name, value)));
            Value::Object(fields.collect::<Result<Map<_, _>, _>>()?)
        }
        Field::ListInternal(list) => {
            let elements = list.elements().iter().cloned().map(json);
            Value::Array(elements.collect::<Result<_, _>>()?)
        }
        // No layout reads these. As text they are at worst a wrong label.
        other => other.to_string().into(),
    })
}
