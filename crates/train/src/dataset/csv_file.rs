//! Tables with a header. A cell is text; lists of messages do not fit into one.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use csv::{ErrorKind, StringRecord};
use serde_json::Value;

use super::bounded::{Bounded, Budget};
use super::error::{DatasetError, Problem};
use super::room::{io_error, MAX_RECORD_BYTES};
use super::sink::Sink;
use super::source::{Place, Source};

/// Columns in which an empty cell is an empty text. Elsewhere it says that nothing is there.
const TEXTS: [&str; 6] = [
    "chosen",
    "completion_a",
    "completion_b",
    "prompt",
    "rejected",
    "user_input",
];

/// Reads the rows of `opened`, which is `file`. A row with another number of cells than the header, or that is not
/// UTF-8, is unusable.
///
/// # Errors
/// A column twice, a row that is too long; what `sink` says.
pub(super) fn read(
    file: &Arc<Path>,
    opened: File,
    sink: &mut dyn Sink,
) -> Result<(), DatasetError> {
    let budget = Budget::new(MAX_RECORD_BYTES);
    let mut input = BufReader::new(Bounded::new(opened, budget.clone()));
    let start = input.fill_buf().map_err(|e| io_error(file, e))?;
    // The reader takes a record to begin before the line feed that ends the line before it.
    let ahead = u64::from(is_crlf(start));
    let mut reader = csv::Reader::from_reader(input);
    let fail = |error: csv::Error, line: u64| problem(file, &budget, error, line, ahead);
    let names = reader.headers();
    let names = names.map_err(|e| problem(file, &budget, e, 1, 0))?.clone();
    check_names(&names).map_err(|p| p.at(&at(file, 1)))?;
    let mut record = StringRecord::new();
    loop {
        budget.renew();
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => {
                // The row is read, and the next one can be.
                let goes_on = matches!(
                    error.kind(),
                    ErrorKind::UnequalLengths { .. } | ErrorKind::Utf8 { .. }
                );
                match (goes_on, fail(error, line)) {
                    (true, DatasetError::Record { at, problem }) => sink.unusable(&at, problem)?,
                    (_, error) => return Err(error),
                }
                continue;
            }
        }
        let line = record.position().map_or(line, csv::Position::line) + ahead;
        let object = names.iter().zip(&record).map(cell).collect();
        sink.record(&at(file, line), object)?;
    }
}

/// Whether the first line ends as those of Windows do.
fn is_crlf(start: &[u8]) -> bool {
    let end = start.iter().position(|byte| *byte == b'\n');
    end.is_some_and(|end| start[..end].ends_with(b"\r"))
}

fn cell((name, text): (&str, &str)) -> (String, Value) {
    let value = match text {
        "" if !TEXTS.contains(&name) => Value::Null,
        text => Value::from(text),
    };
    (name.to_owned(), value)
}

fn check_names(names: &StringRecord) -> Result<(), Problem> {
    for (i, name) in names.iter().enumerate() {
        if names.iter().take(i).any(|before| before == name) {
            return Err(Problem::Csv {
                message: format!("the column {name:?} is there twice"),
            });
        }
    }
    Ok(())
}

fn at(file: &Arc<Path>, line: u64) -> Source {
    Source {
        file: file.clone(),
        place: Place::Line(line),
    }
}

fn problem(
    file: &Arc<Path>,
    budget: &Budget,
    error: csv::Error,
    line: u64,
    ahead: u64,
) -> DatasetError {
    let line = error.position().map_or(line, csv::Position::line) + ahead;
    let spent = budget.is_spent();
    let problem = match error.into_kind() {
        ErrorKind::Io(_) if spent => Problem::RecordTooLong {
            max: MAX_RECORD_BYTES,
        },
        ErrorKind::Io(error) => return io_error(file, error),
        ErrorKind::Utf8 { .. } => Problem::NotUtf8,
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => Problem::Csv {
            message: format!("the row has {len} cells, the header {expected_len}"),
        },
        other => Problem::Csv {
            message: format!("{other:?}"),
        },
    };
    problem.at(&at(file, line))
}
