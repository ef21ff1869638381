//! One JSON object per line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{DatasetError, Problem};
use super::nan::without_nan;
use super::object::Object;
use super::room::{io_error, MAX_RECORD_BYTES};
use super::sink::Sink;
use super::source::{Place, Source};

/// Editors on Windows put it before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the lines of `opened`, which is `file`. Blank lines are passed over; one that is too long, not UTF-8 or no
/// object is unusable.
///
/// # Errors
/// The file cannot be read; what `sink` says.
pub(super) fn read(
    file: &Arc<Path>,
    opened: File,
    sink: &mut dyn Sink,
) -> Result<(), DatasetError> {
    let mut reader = BufReader::new(opened);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let most = MAX_RECORD_BYTES + 1;
        let got = (&mut reader)
            .take(most)
            .read_until(b'\n', &mut line)
            .map_err(|e| io_error(file, e))?;
        if got == 0 {
            break;
        }
        let at = Source {
            file: file.clone(),
            place: Place::Line(number),
        };
        if got as u64 == most {
            pass_over_line(&mut reader).map_err(|e| io_error(file, e))?;
            let max = MAX_RECORD_BYTES;
            sink.unusable(&at, Problem::RecordTooLong { max })?;
            continue;
        }
        let bytes = match number {
            1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line),
            _ => &line,
        };
        match std::str::from_utf8(bytes) {
            Err(_) => sink.unusable(&at, Problem::NotUtf8)?,
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => match object(text) {
                Ok(object) => sink.record(&at, object)?,
                Err(problem) => sink.unusable(&at, problem)?,
            },
        }
    }
    Ok(())
}

/// Reads up to the end of a line without keeping it.
fn pass_over_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let block = reader.fill_buf()?;
        let end = block.iter().position(|byte| *byte == b'\n');
        let (length, done) = match end {
            Some(at) => (at + 1, true),
            None => (block.len(), block.is_empty()),
        };
        reader.consume(length);
        if done {
            return Ok(());
        }
    }
}

/// The record that a text is.
pub(super) fn object(text: &str) -> Result<Object, Problem> {
    serde_json::from_str(text).or_else(|error| {
        let plain = match text.contains("NaN") || text.contains("Infinity") {
            true => serde_json::from_str(&without_nan(text)).ok(),
            false => None,
        };
        plain.ok_or_else(|| json_problem(&error))
    })
}

/// The parser's words with the column only: the line is known, and to the parser it is always 1.
fn json_problem(error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    Problem::Json {
        message: format!("column {}: {what}", error.column()),
    }
}
