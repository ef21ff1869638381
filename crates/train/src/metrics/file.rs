//! `metrics.jsonl` and its like on disk: whole lines, appended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The name of the usual file in a run's directory.
pub const FILE_NAME: &str = "metrics.jsonl";

/// Why metrics cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A new run in the directory of another.
    #[error("{} is there already: resume that run, or give another directory", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file that this program did not write, or a damaged one.
    #[error(
        "{}, line {line}, is no line of metrics ({reason}): move the file away to resume without it",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why it cannot be read.
        reason: String,
    },
    /// Permissions, a full disk, a directory that is not there.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// An open file of metrics. Each line is one write, so that a reader beside it sees whole lines.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// The file of a new run.
    ///
    /// # Errors
    /// The file exists, or the directory cannot be written.
    pub fn create(run_dir: &Path, name: &str) -> Result<Self, MetricsError> {
        let path = run_dir.join(name);
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(MetricsError::Exists { path })
            }
            Err(source) => Err(MetricsError::Io { path, source }),
        }
    }

    /// The file of a run that goes on after the checkpoint of `step`, or for `None` from its beginning:
    /// lines of later steps, which will be computed once more, are dropped, and so is a last line without
    /// an end. A run without the file gets one.
    ///
    /// # Errors
    /// A line that is no line of metrics, or a directory that cannot be written. The file is as it was.
    pub fn resume(run_dir: &Path, name: &str, step: Option<u64>) -> Result<Self, MetricsError> {
        let path = run_dir.join(name);
        let io = |source| MetricsError::Io {
            path: path.clone(),
            source,
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Self::create(run_dir, name),
            Err(source) => return Err(io(source)),
        };
        let kept = length_until(&text, step).map_err(|(line, reason)| MetricsError::Foreign {
            path: path.clone(),
            line,
            reason,
        })?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        file.set_len(kept).map_err(io)?;
        Ok(Self { path, file })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// A full disk, or a file that was taken away.
    pub fn append(&mut self, line: &Map<String, Value>) -> Result<(), MetricsError> {
        let io = |source| MetricsError::Io {
            path: self.path.clone(),
            source,
        };
        let mut bytes = serde_json::to_vec(line).map_err(|e| io(e.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(io)
    }
}

/// Bytes of the whole lines of steps up to `step`, which come first; or the number of a line that
/// cannot be read, and why.
fn length_until(text: &str, step: Option<u64>) -> Result<u64, (usize, String)> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
    }
    let mut kept = 0;
    let mut past = false;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            break;
        }
        let read = serde_json::from_str(line);
        let Line { step: of } = read.map_err(|e| (i + 1, e.to_string()))?;
        past |= step.is_none_or(|step| of > step);
        if !past {
            kept += line.len() as u64;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(step: u64) -> Map<String, Value> {
        json!({"step": step, "loss": 0.5})
            .as_object()
            .unwrap()
            .clone()
    }

    fn text(directory: &Path) -> String {
        fs::read_to_string(directory.join(FILE_NAME)).unwrap()
    }

    fn steps(directory: &Path) -> Vec<u64> {
        let step = |l: &str| serde_json::from_str::<Value>(l).unwrap()["step"].as_u64();
        let text = text(directory);
        text.lines().map(|l| step(l).unwrap()).collect()
    }

    #[test]
    fn lines_are_appended_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::create(directory.path(), FILE_NAME).unwrap();
        file.append(&line(1)).unwrap();
        file.append(&line(2)).unwrap();
        assert_eq!(steps(directory.path()), [1, 2]);
        assert!(text(directory.path()).ends_with("}\n"));
    }

    #[test]
    fn a_new_run_does_not_write_into_another() {
        let directory = tempfile::tempdir().unwrap();
        MetricsFile::create(directory.path(), FILE_NAME).unwrap();
        let err = MetricsFile::create(directory.path(), FILE_NAME).unwrap_err();
        assert!(matches!(err, MetricsError::Exists { .. }), "{err}");
    }

    #[test]
    fn a_resumed_run_goes_on_after_its_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::create(directory.path(), FILE_NAME).unwrap();
        for step in [10, 20, 20, 30] {
            file.append(&line(step)).unwrap();
        }
        // The process died while it wrote.
        file.file.write_all(b"{\"step\": 3").unwrap();
        drop(file);
        let mut file = MetricsFile::resume(directory.path(), FILE_NAME, Some(20)).unwrap();
        assert_eq!(steps(directory.path()), [10, 20, 20]);
        file.append(&line(21)).unwrap();
        assert_eq!(steps(directory.path()), [10, 20, 20, 21]);
    }

    #[test]
    fn a_run_that_wrote_nothing_yet_can_be_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::resume(directory.path(), FILE_NAME, Some(5)).unwrap();
        file.append(&line(6)).unwrap();
        assert_eq!(steps(directory.path()), [6]);
    }

    #[test]
    fn a_foreign_file_is_left_alone() {
        for content in ["{\"step\": 1}\nhello\n", "{\"step\": 1}\n{\"loss\": 1}\n"] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(FILE_NAME), content).unwrap();
            let err = MetricsFile::resume(directory.path(), FILE_NAME, Some(1)).unwrap_err();
            assert!(
                matches!(err, MetricsError::Foreign { line: 2, .. }),
                "{err}"
            );
            assert_eq!(text(directory.path()), content);
        }
    }
}
