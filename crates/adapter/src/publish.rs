//! Write a version so that it is there whole or not at all.
//!
//! The files are written to a hidden directory beside the others, forced to disk, and renamed to the
//! version's name. Whoever lists versions never sees one that is not whole, whenever the power goes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::bundle::{bundle_dir, verify, BundleContents};
use super::data_until::DataUntil;
use super::error::AdapterError;
use super::files::{Files, OpenFiles, Weights, MANIFEST_FILE, WEIGHTS_FILE};
use super::hash::content_version;
use super::lease::Loaded;
use super::loaded::{LoadError, LoadedVersions};
use super::manifest::{BaseModel, Manifest};
use super::tensors::encode;
use super::without;
use attune_files::Links;
use attune_ids::{AdapterVersion, UserKey};
use attune_model::config::ModelConfig;

/// Directories on their way in and out; nobody lists them.
const INCOMING: &str = ".incoming-";
const RETIRED: &str = ".retired-";

/// A bundle that was read and hashed. Nothing was written yet.
#[derive(Debug)]
pub struct Offered {
    files: Files,
}

impl Offered {
    /// Reads the bundle in `dir`, to publish what is checked: a file that is changed meanwhile changes
    /// nothing.
    ///
    /// # Errors
    /// A directory that is no bundle, or whose content is not what its name says.
    pub fn read(dir: &Path) -> Result<Self, AdapterError> {
        let files = Files::read(dir)?;
        Ok(Self { files })
    }

    /// The bundle in `dir`, which may be anybody's, by a copy in a file without a name in `parent`, which is
    /// made if it is not there: whatever happens to the bundle meanwhile, what is checked is what is
    /// published. Takes no memory to speak of, however large it is. `links` are those at the ends of its files'
    /// paths.
    ///
    /// # Errors
    /// As [`read`](Self::read); a failing disk.
    pub fn copied(dir: &Path, parent: &Path, links: Links) -> Result<Self, AdapterError> {
        let open = OpenFiles::open(dir, links)?;
        fs::create_dir_all(parent).map_err(AdapterError::io(parent))?;
        let nameless = tempfile::tempfile_in(parent).map_err(AdapterError::io(parent))?;
        let files = open.copied(nameless, parent)?;
        Ok(Self { files })
    }

    /// What `contents` are as a bundle.
    ///
    /// # Errors
    /// Contents that no server could load.
    pub fn of(contents: &BundleContents) -> Result<Self, AdapterError> {
        let manifest = contents.manifest.to_bytes()?;
        contents.check()?;
        let weights = encode(&contents.tensors)?;
        let version = content_version(&manifest, &weights);
        let files = Files {
            version,
            manifest,
            weights: Weights::Made(weights),
        };
        Ok(Self { files })
    }

    /// Its version.
    pub fn version(&self) -> &AdapterVersion {
        &self.files.version
    }

    /// Checks everything as [`read`](super::bundle::read) does, and keeps the version in `loaded`.
    ///
    /// # Errors
    /// As [`read`](super::bundle::read); no room in memory.
    pub fn load(
        &self,
        loaded: &LoadedVersions,
        config: &ModelConfig,
        base_sha256: &str,
    ) -> Result<Arc<Loaded>, LoadError> {
        match loaded.hold(self.version()) {
            Some(there) => Ok(there),
            None => loaded.load_files(&self.files, config, base_sha256),
        }
    }

    /// Checks everything as [`read`](super::bundle::read) does.
    ///
    /// # Errors
    /// As [`read`](super::bundle::read).
    pub fn check(&self, config: &ModelConfig, base_sha256: &str) -> Result<(), AdapterError> {
        self.files.load(config, base_sha256).map(drop)
    }

    /// The model that it says it is for.
    ///
    /// # Errors
    /// A manifest that cannot be used.
    pub fn base(&self) -> Result<BaseModel, AdapterError> {
        Ok(Manifest::parse(&self.files.manifest)?.base)
    }

    /// Checks it as far as that goes without its base model.
    ///
    /// # Errors
    /// As [`super::bundle::verify`].
    pub fn verify(&self) -> Result<(), AdapterError> {
        self.files.verify().map(drop)
    }

    /// The people whom it knows, and until when what it has learned of each reaches.
    ///
    /// # Errors
    /// A manifest that cannot be used.
    pub fn people(&self) -> Result<Vec<(UserKey, DataUntil)>, AdapterError> {
        without::people(&self.files.manifest)
    }

    /// A name for people.
    ///
    /// # Errors
    /// A manifest that cannot be used.
    pub fn name(&self) -> Result<Option<String>, AdapterError> {
        Ok(Manifest::parse(&self.files.manifest)?.name)
    }

    /// The same version without the people in `gone`, as one that is not published yet.
    ///
    /// # Errors
    /// A bundle that cannot be used.
    pub fn without(&self, gone: &BTreeSet<UserKey>) -> Result<Self, AdapterError> {
        let files = without::without(&self.files, gone)?;
        Ok(Self { files })
    }

    /// Publishes it in `parent`.
    ///
    /// # Errors
    /// A failing disk, or a damaged directory of that name.
    pub fn publish(self, parent: &Path) -> Result<AdapterVersion, AdapterError> {
        publish(parent, self.files)
    }

    /// The same, but a damaged directory of that name is replaced. Between its end and the new one's beginning
    /// there is none.
    ///
    /// # Errors
    /// A failing disk.
    pub fn publish_anew(self, parent: &Path) -> Result<AdapterVersion, AdapterError> {
        let version = self.version();
        let there = bundle_dir(parent, version);
        if let Some(error) = there.exists().then(|| verify(&there).err()).flatten() {
            tracing::warn!(%version, %error, "a damaged bundle is replaced by a sound one");
            remove(parent, version)?;
        }
        self.publish(parent)
    }
}

/// Bytes of the files of the bundle in `dir`.
///
/// # Errors
/// A directory that is no bundle.
pub fn bytes(dir: &Path) -> Result<u64, AdapterError> {
    Ok(OpenFiles::open(dir, Links::Refuse)?.bytes())
}

/// Publishes `contents` in `parent`, which is made if it is not there. Publishing the same content
/// again changes nothing.
///
/// # Errors
/// Contents that no server could load, a failing disk, or a damaged directory of that name; `parent`
/// has no new version then.
pub fn write(parent: &Path, contents: &BundleContents) -> Result<AdapterVersion, AdapterError> {
    Offered::of(contents)?.publish(parent)
}

/// Publishes the bundle in `dir`, byte for byte, in `parent`.
///
/// # Errors
/// A bundle that does not verify, or as [`write()`].
pub fn copy(dir: &Path, parent: &Path) -> Result<AdapterVersion, AdapterError> {
    let offered = Offered::copied(dir, parent, Links::Refuse)?;
    offered.verify()?;
    offered.publish(parent)
}

/// Removes a version from `parent`; one that is not there is no error. Whoever lists versions sees it
/// whole or not at all, here too.
///
/// # Errors
/// A failing disk.
pub fn remove(parent: &Path, version: &AdapterVersion) -> Result<(), AdapterError> {
    let dir = bundle_dir(parent, version);
    if matches!(fs::symlink_metadata(&dir), Err(e) if e.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    let doomed = hidden_dir(parent, RETIRED)?;
    fs::rename(&dir, doomed.path().join(version.as_str())).map_err(AdapterError::io(&dir))?;
    doomed.close().map_err(AdapterError::io(&dir))?;
    sync_dir(parent)
}

/// Removes what a process that was killed left half written or half removed in `parent`. Only for whoever
/// is the only one to publish there.
///
/// # Errors
/// A failing disk.
pub fn sweep(parent: &Path) -> Result<(), AdapterError> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(AdapterError::io(parent))?,
    };
    for entry in entries {
        let entry = entry.map_err(AdapterError::io(parent))?;
        let name = entry.file_name();
        let hidden = [INCOMING, RETIRED].map(|prefix| name.to_string_lossy().starts_with(prefix));
        if hidden.contains(&true) {
            fs::remove_dir_all(entry.path()).map_err(AdapterError::io(&entry.path()))?;
        }
    }
    Ok(())
}

fn publish(parent: &Path, files: Files) -> Result<AdapterVersion, AdapterError> {
    let target = bundle_dir(parent, &files.version);
    if target.exists() {
        return verify(&target).map(|found| found.version);
    }
    let staged = stage(parent, &files)?;
    if let Err(source) = fs::rename(staged.path(), &target) {
        // Somebody else may have published the same content meanwhile.
        return match verify(&target) {
            Ok(found) => Ok(found.version),
            Err(_) => Err(AdapterError::Io {
                path: target,
                source,
            }),
        };
    }
    // It has moved: nothing is left to clean up.
    let _ = staged.keep();
    sync_dir(parent)?;
    Ok(files.version)
}

/// Writes the files where no listing sees them. Dropping the directory removes it.
fn stage(parent: &Path, files: &Files) -> Result<TempDir, AdapterError> {
    fs::create_dir_all(parent).map_err(AdapterError::io(parent))?;
    let dir = hidden_dir(parent, INCOMING)?;
    write_synced(&dir.path().join(MANIFEST_FILE), &files.manifest)?;
    write_synced(&dir.path().join(WEIGHTS_FILE), &files.weights)?;
    sync_dir(dir.path())?;
    Ok(dir)
}

fn hidden_dir(parent: &Path, prefix: &str) -> Result<TempDir, AdapterError> {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent)
        .map_err(AdapterError::io(parent))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), AdapterError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(AdapterError::io(path))
}

fn sync_dir(dir: &Path) -> Result<(), AdapterError> {
    attune_files::replace::sync_dir(dir).map_err(AdapterError::io(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::list;

    fn files() -> Files {
        let (manifest, weights) = (b"{}".to_vec(), b"weights".to_vec());
        Files {
            version: content_version(&manifest, &weights),
            manifest,
            weights: Weights::Made(weights),
        }
    }

    /// A file as large as `bytes` says, most of it a hole.
    fn large_bundle(parent: &Path, bytes: u64) -> std::path::PathBuf {
        let dir = parent.join("0".repeat(64));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(MANIFEST_FILE), "{}").unwrap();
        let weights = File::create(dir.join(WEIGHTS_FILE)).unwrap();
        weights.set_len(bytes).unwrap();
        dir
    }

    /// Bytes of memory that are this process's own.
    #[cfg(target_os = "linux")]
    fn own_memory() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_copy_takes_no_memory_to_speak_of_and_leaves_nothing_when_it_is_refused() {
        let (from, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = 512 << 20;
        let dir = large_bundle(from.path(), bytes);
        let before = own_memory();
        let error = Offered::copied(&dir, parent.path(), Links::Refuse).unwrap_err();
        assert!(matches!(error, AdapterError::Hash { .. }), "{error}");
        let after = own_memory();
        // Tests beside this one take some, none of them that much.
        assert!(after < before + bytes / 2, "{before} {after}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_published_is_what_was_copied_whatever_becomes_of_the_bundle() {
        let (from, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let version = publish(from.path(), files()).unwrap();
        let dir = bundle_dir(from.path(), &version);
        let offered = Offered::copied(&dir, parent.path(), Links::Refuse).unwrap();
        // Cut short while the copy is in use, and written over.
        fs::write(dir.join(WEIGHTS_FILE), "").unwrap();
        fs::write(dir.join(WEIGHTS_FILE), "other").unwrap();
        assert_eq!(&offered.files.weights[..], b"weights");
        assert_eq!(offered.publish(parent.path()).unwrap(), version);
        let published = bundle_dir(parent.path(), &version).join(WEIGHTS_FILE);
        assert_eq!(fs::read(published).unwrap(), b"weights");
        // One that changed since it was named is refused.
        let changed = Offered::copied(&dir, parent.path(), Links::Refuse);
        assert!(matches!(changed, Err(AdapterError::Hash { .. })));
    }

    #[test]
    fn a_killed_writer_leaves_no_version() {
        let parent = tempfile::tempdir().unwrap();
        // As after kill -9: nobody cleans up.
        let left = stage(parent.path(), &files()).unwrap().keep();
        assert!(left.join(WEIGHTS_FILE).exists());
        assert!(list(parent.path()).unwrap().is_empty());
        let version = publish(parent.path(), files()).unwrap();
        assert_eq!(list(parent.path()).unwrap()[0].version, version);
    }

    #[test]
    fn a_removed_version_is_gone_and_can_be_published_again() {
        let parent = tempfile::tempdir().unwrap();
        let version = publish(parent.path(), files()).unwrap();
        for _ in 0..2 {
            remove(parent.path(), &version).unwrap();
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        }
        assert_eq!(publish(parent.path(), files()).unwrap(), version);
    }

    #[test]
    fn a_failed_rename_cleans_up() {
        let parent = tempfile::tempdir().unwrap();
        let files = files();
        // A dangling link: not there for `exists`, but a directory cannot take its place.
        #[cfg(unix)]
        std::os::unix::fs::symlink("nowhere", bundle_dir(parent.path(), &files.version)).unwrap();
        let err = publish(parent.path(), files).unwrap_err();
        assert!(matches!(err, AdapterError::Io { .. }), "{err}");
        let left = fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(left, 1, "only the link is left");
    }

    /// The trainer and the server may be different users.
    #[test]
    #[cfg(unix)]
    fn a_version_has_the_permissions_of_any_directory() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let plain = parent.path().join("plain");
        fs::create_dir(&plain).unwrap();
        let version = publish(parent.path(), files()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&bundle_dir(parent.path(), &version)), mode(&plain));
    }
}
