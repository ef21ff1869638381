//! What a run's directory holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ReportError;
use super::history::History;
use crate::entangle::heat_map;
use crate::evaluate::{Evaluation, TaskEvaluation};
use crate::metrics::file::FILE_NAME;
use crate::run_dir::{EVAL_FILE, RUN_FILE, SOLVED_FILE};

/// The files of a run, as far as they are there.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFiles {
    /// The directory's own name.
    pub name: String,
    /// `metrics.jsonl`.
    pub history: Option<History>,
    /// `eval.json`.
    pub evaluation: Option<Evaluation>,
    /// `solved.json`.
    pub tasks: Option<TaskEvaluation>,
    /// `heat-map-0.svg` and so on, as far as they are there.
    pub heat_maps: Vec<String>,
    /// `run.json`.
    pub run: Option<Value>,
}

impl RunFiles {
    /// Reads a run's directory.
    ///
    /// # Errors
    /// None of the files is there, or one of them is not what its name says.
    pub fn read(dir: &Path) -> Result<Self, ReportError> {
        let metrics = text(dir, FILE_NAME)?;
        let files = Self {
            name: name(dir),
            history: metrics
                .map(|(path, text)| History::parse(&text).map_err(malformed(path)))
                .transpose()?,
            evaluation: json(dir, EVAL_FILE)?,
            tasks: json(dir, SOLVED_FILE)?,
            heat_maps: heat_maps(dir)?,
            run: json(dir, RUN_FILE)?,
        };
        if files.history.is_none() && files.evaluation.is_none() && files.run.is_none() {
            return Err(ReportError::NoRun { dir: dir.into() });
        }
        Ok(files)
    }
}

fn heat_maps(dir: &Path) -> Result<Vec<String>, ReportError> {
    let mut found = Vec::new();
    while let Some((_, svg)) = text(dir, &heat_map::file_name(found.len()))? {
        found.push(svg);
    }
    Ok(found)
}

/// `.` has no name of its own, but the directory behind it does.
fn name(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let last = whole.file_name().unwrap_or(whole.as_os_str());
    last.to_string_lossy().into_owned()
}

fn json<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Option<T>, ReportError> {
    let Some((path, text)) = text(dir, file)? else {
        return Ok(None);
    };
    let read = serde_json::from_str(&text).map_err(|e| e.to_string());
    read.map(Some).map_err(malformed(path))
}

fn text(dir: &Path, file: &str) -> Result<Option<(PathBuf, String)>, ReportError> {
    let path = dir.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io { path, source }),
    }
}

fn malformed(path: PathBuf) -> impl FnOnce(String) -> ReportError {
    move |reason| ReportError::Malformed { path, reason }
}
