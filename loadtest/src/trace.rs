//! Recorded traces: `TIMESTAMP,ContextTokens,GeneratedTokens`, the format of the Azure LLM
//! inference traces.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::DateTime;
use serde::Deserialize;

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRow {
    /// Time since the first row.
    pub offset: Duration,
    /// Length of the prompt, at least 1.
    pub prompt_tokens: usize,
    /// Length of the answer, at least 1.
    pub output_tokens: usize,
}

/// Why a trace cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file is missing, or not CSV with these three columns.
    #[error("{}: {source}", file.display())]
    Csv {
        /// The trace.
        file: PathBuf,
        /// Says which line and column.
        source: csv::Error,
    },
    /// A row that cannot be replayed.
    #[error("{} line {line}: {problem}", file.display())]
    Row {
        /// The trace.
        file: PathBuf,
        /// From 1, the header counted.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A header and nothing else.
    #[error("{} has no rows", file.display())]
    Empty {
        /// The trace.
        file: PathBuf,
    },
}

/// A row as it stands in the file.
#[derive(Deserialize)]
struct CsvRow {
    #[serde(rename = "TIMESTAMP")]
    timestamp: String,
    #[serde(rename = "ContextTokens")]
    context_tokens: usize,
    #[serde(rename = "GeneratedTokens")]
    generated_tokens: usize,
}

/// Reads the first `limit` rows.
///
/// # Errors
/// The file cannot be read, is not of this format, goes back in time, or has no rows.
pub fn read(file: &Path, limit: usize) -> Result<Vec<TraceRow>, TraceError> {
    let csv_error = |source| TraceError::Csv {
        file: file.to_owned(),
        source,
    };
    let mut reader = csv::Reader::from_path(file).map_err(csv_error)?;
    let mut rows: Vec<TraceRow> = Vec::new();
    let mut start = None;
    for (index, row) in reader.deserialize().take(limit).enumerate() {
        let row: CsvRow = row.map_err(csv_error)?;
        let bad = |problem| TraceError::Row {
            file: file.to_owned(),
            line: index + 2,
            problem,
        };
        let time: DateTime = row
            .timestamp
            .parse()
            .map_err(|error| bad(format!("TIMESTAMP {:?}: {error}", row.timestamp)))?;
        let since_start = time.duration_since(*start.get_or_insert(time));
        let offset = Duration::try_from(since_start).ok();
        let previous = rows.last().map_or(Duration::ZERO, |row| row.offset);
        let Some(offset) = offset.filter(|&offset| offset >= previous) else {
            return Err(bad(
                "TIMESTAMP lies before the row above; sort the trace".to_owned()
            ));
        };
        rows.push(TraceRow {
            offset,
            // Zero lengths occur in recordings; a request needs at least one token each way.
            prompt_tokens: row.context_tokens.max(1),
            output_tokens: row.generated_tokens.max(1),
        });
    }
    if rows.is_empty() {
        return Err(TraceError::Empty {
            file: file.to_owned(),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

    fn read_text(rows: &str, limit: usize) -> Result<Vec<TraceRow>, TraceError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.csv");
        std::fs::write(&file, format!("{HEADER}{rows}")).unwrap();
        read(&file, limit)
    }

    #[test]
    fn rows_are_offsets_from_the_first() {
        let text = "2023-11-16 23:59:59.6805900,374,44\r\n2023-11-17 00:00:01.0000000,0,109\r\n\
                    2023-11-17 00:00:02,5,6";
        let rows = read_text(text, 2).unwrap();
        assert_eq!(
            rows,
            [
                TraceRow {
                    offset: Duration::ZERO,
                    prompt_tokens: 374,
                    output_tokens: 44
                },
                TraceRow {
                    offset: Duration::from_nanos(1_319_410_000),
                    prompt_tokens: 1,
                    output_tokens: 109
                },
            ]
        );
    }

    #[test]
    fn bad_rows_are_named() {
        let cases = [
            (
                "2023-11-16 10:00:00,1,1\n2023-11-16 09:00:00,1,1\n",
                "line 3: TIMESTAMP lies before",
            ),
            ("noon,1,1\n", "line 2: TIMESTAMP \"noon\""),
            ("2023-11-16 10:00:00,many,1\n", "line: 2"),
            ("", "has no rows"),
        ];
        for (rows, expected) in cases {
            let error = read_text(rows, 10).unwrap_err().to_string();
            assert!(
                error.contains("t.csv") && error.contains(expected),
                "{error}"
            );
        }
    }
}
