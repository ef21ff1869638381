//! The directory of a PEFT checkpoint. It is the operator's own: links are followed, as the hub's cache is made
//! of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::AdapterError;
use super::files::{read_file, MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_WEIGHTS_BYTES};
use super::tensors::{TensorData, TensorFile};
use attune_files::Links;

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
const PICKLE_FILE: &str = "adapter_model.bin";

/// How a clone begins that did not fetch its large files.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// How deep below a directory checkpoints are looked for, to name them: `snapshots/REVISION` of the hub's cache.
const DEPTH: usize = 2;
/// How many of them are named.
const NAMED: usize = 4;

/// A directory with an `adapter_config.json`.
#[derive(Debug)]
pub(super) struct Folder<'a>(&'a Path);

impl<'a> Folder<'a> {
    /// Looks at what is there.
    ///
    /// # Errors
    /// [`AdapterError::NotACheckpoint`], with what it is instead.
    pub(super) fn at(dir: &'a Path) -> Result<Self, AdapterError> {
        // A link whose end is gone is a file that cannot be read, not one that is not there.
        if fs::symlink_metadata(dir.join(CONFIG_FILE)).is_ok() {
            return Ok(Self(dir));
        }
        fs::metadata(dir).map_err(AdapterError::io(dir))?;
        Err(AdapterError::NotACheckpoint {
            dir: dir.to_owned(),
            reason: what_it_is(dir),
        })
    }

    /// The configuration.
    ///
    /// # Errors
    /// A file that cannot be read, or is too large.
    pub(super) fn config(&self) -> Result<Vec<u8>, AdapterError> {
        read_file(&self.0.join(CONFIG_FILE), MAX_MANIFEST_BYTES, Links::Follow)
    }

    /// The tensors, under the names that they have there.
    ///
    /// # Errors
    /// A pickle; a file that is not there, cannot be read or is no safetensors file.
    pub(super) fn tensors(&self) -> Result<BTreeMap<String, TensorData>, AdapterError> {
        let (path, pickle) = (self.0.join(WEIGHTS_FILE), self.0.join(PICKLE_FILE));
        if fs::symlink_metadata(&path).is_err() {
            if fs::symlink_metadata(&pickle).is_ok() {
                return Err(AdapterError::ForeignFile {
                    path: pickle,
                    reason: "it is a pickle, which runs code when it is read; load the adapter where you \
                             trust it, and save it again with `save_pretrained(DIR, safe_serialization=True)`",
                });
            }
            return Err(AdapterError::NotACheckpoint {
                dir: self.0.to_owned(),
                reason: format!("it has no {WEIGHTS_FILE}"),
            });
        }
        let bytes = read_file(&path, MAX_WEIGHTS_BYTES, Links::Follow)?;
        if bytes.starts_with(LFS_POINTER) {
            return Err(AdapterError::PeftFile(
                "it is a pointer of Git LFS, not the file; `git lfs pull` fetches that".into(),
            ));
        }
        TensorFile::parse(WEIGHTS_FILE, &bytes)?.values()
    }
}

/// Why a path without a configuration is no checkpoint.
fn what_it_is(dir: &Path) -> String {
    if !dir.is_dir() {
        return format!("it is a file; give the directory with {CONFIG_FILE}");
    }
    if dir.join(MANIFEST_FILE).exists() {
        return "it is a bundle already; `attune adapter install` takes it".into();
    }
    let mut inside = Vec::new();
    checkpoints_below(dir, DEPTH, &mut inside);
    inside.sort();
    if !inside.is_empty() {
        let more = match inside.len() > NAMED {
            true => ", ...",
            false => "",
        };
        let named = inside.iter().take(NAMED);
        let named: Vec<String> = named.map(|path| path.display().to_string()).collect();
        return format!(
            "it has no {CONFIG_FILE}; name one of {}{more}",
            named.join(", ")
        );
    }
    if dir.join("config.json").exists() {
        return format!(
            "it has no {CONFIG_FILE}, but the config.json of a whole model; `attune serve --model` takes that"
        );
    }
    format!("it has no {CONFIG_FILE}")
}

fn checkpoints_below(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.join(CONFIG_FILE).exists() {
            found.push(path);
        } else if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            checkpoints_below(&path, depth - 1, found);
        }
    }
}
