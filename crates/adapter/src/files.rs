//! The two files of a bundle, and what may not lie beside them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::error::AdapterError;
use super::hash::content_version;
use attune_files::{self as regular, Links};
use attune_ids::AdapterVersion;

/// The description.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "adapter.safetensors";

/// Bounds on what is read.
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 << 20;
pub(super) const MAX_WEIGHTS_BYTES: u64 = 8 << 30;

/// The two files of a bundle, whose hash is the directory's name.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) version: AdapterVersion,
    pub(super) manifest: Vec<u8>,
    pub(super) weights: Weights,
}

/// The bytes of weights.
#[derive(Debug)]
pub(super) enum Weights {
    /// They were made here.
    Made(Vec<u8>),
    /// They are in a file, of which the system keeps in memory what it has room for.
    Mapped(Mmap),
}

/// A bundle whose files are open. Its weights were not looked at.
#[derive(Debug)]
pub(super) struct OpenFiles {
    /// What the directory's name says.
    pub(super) claimed: AdapterVersion,
    pub(super) manifest: Vec<u8>,
    weights: File,
    weights_bytes: u64,
    weights_path: PathBuf,
}

impl Files {
    /// Maps the files and checks that their hash is the directory's name. For a directory whose files stay as
    /// they are for as long as this lives: whoever cuts the weights short meanwhile ends this process.
    pub(super) fn read(dir: &Path) -> Result<Self, AdapterError> {
        let open = OpenFiles::open(dir, Links::Refuse)?;
        let weights = map(&open.weights, open.weights_bytes);
        let weights = weights.map_err(AdapterError::io(&open.weights_path))?;
        Self::checked(open.claimed, open.manifest, weights)
    }

    /// The files of the version `claimed`, if that is their hash.
    fn checked(
        claimed: AdapterVersion,
        manifest: Vec<u8>,
        weights: Weights,
    ) -> Result<Self, AdapterError> {
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

impl OpenFiles {
    /// Opens the weights and reads the description.
    pub(super) fn open(dir: &Path, links: Links) -> Result<Self, AdapterError> {
        let claimed = claimed_version(dir)?;
        check_entries(dir)?;
        let manifest = read_file(&dir.join(MANIFEST_FILE), MAX_MANIFEST_BYTES, links)?;
        let weights_path = dir.join(WEIGHTS_FILE);
        let (weights, weights_bytes) = open_file(&weights_path, MAX_WEIGHTS_BYTES, links)?;
        Ok(Self {
            claimed,
            manifest,
            weights,
            weights_bytes,
            weights_path,
        })
    }

    /// Bytes of both files.
    pub(super) fn bytes(&self) -> u64 {
        self.weights_bytes
            .saturating_add(self.manifest.len() as u64)
    }

    /// Copies the weights to `copy`, an empty file in `place` that nobody else has, and maps that: what
    /// happens to the bundle's own file afterwards changes nothing.
    pub(super) fn copied(self, mut copy: File, place: &Path) -> Result<Files, AdapterError> {
        // One byte more than it had: a file that grows meanwhile is not copied on.
        let mut limited = self.weights.take(self.weights_bytes + 1);
        let copied = io::copy(&mut limited, &mut copy).map_err(AdapterError::io(place))?;
        if copied > self.weights_bytes {
            return Err(too_large(&self.weights_path, copied, self.weights_bytes));
        }
        let weights = map(&copy, copied).map_err(AdapterError::io(place))?;
        Files::checked(self.claimed, self.manifest, weights)
    }
}

impl std::ops::Deref for Weights {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Made(bytes) => bytes,
            Self::Mapped(mapped) => mapped,
        }
    }
}

fn map(file: &File, bytes: u64) -> io::Result<Weights> {
    if bytes == 0 {
        return Ok(Weights::Made(Vec::new()));
    }
    // SAFETY: mapped files must not change while they are mapped. Those of installed versions and of copies on
    // their way there belong to this process; commands that read other people's bundles say so.
    #[expect(unsafe_code, reason = "memory-mapped files have no safe constructor")]
    let mapped = unsafe { Mmap::map(file) }?;
    Ok(Weights::Mapped(mapped))
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
    read_file(path, max, Links::Refuse)
}

/// The bytes of a plain file of at most `max` bytes, or of the one that a link leads to.
pub(super) fn read_file(path: &Path, max: u64, links: Links) -> Result<Vec<u8>, AdapterError> {
    let (file, length) = open_file(path, max, links)?;
    regular::read_open(file, length).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => too_large(path, length + 1, max),
        _ => AdapterError::io(path)(error),
    })
}

/// A plain file of at most `max` bytes, and how many it has.
fn open_file(path: &Path, max: u64, links: Links) -> Result<(File, u64), AdapterError> {
    let opened = regular::open(path, links).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => AdapterError::ForeignFile {
            path: path.to_owned(),
            reason: "it must be a plain file, not a link, directory or device",
        },
        _ => AdapterError::io(path)(error),
    });
    let (file, length) = opened?;
    match length > max {
        true => Err(too_large(path, length, max)),
        false => Ok((file, length)),
    }
}

fn too_large(path: &Path, bytes: u64, max: u64) -> AdapterError {
    AdapterError::TooLarge {
        path: path.to_owned(),
        bytes,
        max,
    }
}
