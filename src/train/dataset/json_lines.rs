//! One JSON object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::error::{DatasetError, Problem};
use super::intake::Intake;
use super::read::{io_error, MAX_RECORD_BYTES};
use super::source::{Place, Source};

/// Editors on Windows put it before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the lines of `opened`, which is `file`. Blank lines are passed over.
///
/// # Errors
/// A line that is too long, not UTF-8 or not an object; what `intake` says.
pub(super) fn read(
    file: &Arc<Path>,
    opened: File,
    intake: &mut Intake,
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
            let max = MAX_RECORD_BYTES;
            return Err(Problem::RecordTooLong { max }.at(&at));
        }
        let bytes = match number {
            1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line),
            _ => &line,
        };
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotUtf8.at(&at))?;
        if !text.trim().is_empty() {
            let object = serde_json::from_str(text).map_err(|e| json_problem(&e).at(&at))?;
            intake.record(&at, object)?;
        }
    }
    Ok(())
}

/// The parser's words with the column only: the line is known, and to the parser it is always 1.
fn json_problem(error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    Problem::Json {
        message: format!("column {}: {what}", error.column()),
    }
}
