//! The two files of a bundle, and what may not lie beside them.

use std::fs;
use std::io;
use std::path::Path;

use super::error::AdapterError;
use super::hash::content_version;
use crate::ids::AdapterVersion;
use crate::regular::{self, Links};

/// The description.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "adapter.safetensors";

/// Bounds on what is read into memory.
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 << 20;
pub(super) const MAX_WEIGHTS_BYTES: u64 = 8 << 30;

/// The two files of a bundle, whose hash is the directory's name.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) version: AdapterVersion,
    pub(super) manifest: Vec<u8>,
    pub(super) weights: Vec<u8>,
}

impl Files {
    /// Reads the files and checks that their hash is the directory's name.
    pub(super) fn read(dir: &Path) -> Result<Self, AdapterError> {
        let claimed = claimed_version(dir)?;
        check_entries(dir)?;
        let manifest = read_regular(&dir.join(MANIFEST_FILE), MAX_MANIFEST_BYTES)?;
        let weights = read_regular(&dir.join(WEIGHTS_FILE), MAX_WEIGHTS_BYTES)?;
        let actual = content_version(&manifest, &weights);
        if actual != claimed {
            return Err(AdapterError::Hash { claimed, actual });
        }
        Ok(Self {
            version: actual,
            manifest,
            weights,
        })
    }
}

fn claimed_version(dir: &Path) -> Result<AdapterVersion, AdapterError> {
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    AdapterVersion::new(name).map_err(|_| AdapterError::NotABundle {
        dir: dir.to_owned(),
        reason: "its name is not a version (64 hex digits); \
                 `attune adapter import` makes a bundle of a PEFT checkpoint"
            .into(),
    })
}

/// A bundle's directory holds its two files and nothing else: what is not hashed is not content.
fn check_entries(dir: &Path) -> Result<(), AdapterError> {
    for entry in fs::read_dir(dir).map_err(AdapterError::io(dir))? {
        let path = entry.map_err(AdapterError::io(dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        if matches!(name, Some(MANIFEST_FILE | WEIGHTS_FILE)) {
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let pickle = ["bin", "pt", "pth", "pkl", "pickle", "ckpt"];
        let reason = if pickle.contains(&extension.to_ascii_lowercase().as_str()) {
            "it can be a pickle, which runs code when it is read; only safetensors are accepted"
        } else {
            "only manifest.json and adapter.safetensors may be there"
        };
        return Err(AdapterError::ForeignFile { path, reason });
    }
    for file in [MANIFEST_FILE, WEIGHTS_FILE] {
        if fs::symlink_metadata(dir.join(file)).is_err() {
            return Err(AdapterError::NotABundle {
                dir: dir.to_owned(),
                reason: format!("it has no {file}"),
            });
        }
    }
    Ok(())
}

/// The bytes of a plain file of at most `max` bytes; links and devices are not followed.
pub(super) fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>, AdapterError> {
    let (file, length) =
        regular::open(path, Links::Refuse).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => AdapterError::ForeignFile {
                path: path.to_owned(),
                reason: "it must be a plain file, not a link, directory or device",
            },
            _ => AdapterError::io(path)(error),
        })?;
    let too_large = |bytes| AdapterError::TooLarge {
        path: path.to_owned(),
        bytes,
        max,
    };
    if length > max {
        return Err(too_large(length));
    }
    regular::read_open(file, length).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => too_large(length + 1),
        _ => AdapterError::io(path)(error),
    })
}
