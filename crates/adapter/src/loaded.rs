//! The versions that are in memory, within a budget.
//!
//! A version is read when it is first used. Where the budget has no room for it, the versions that
//! nobody holds leave first, the least recently used one before the others.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::bundle::Adapter;
use super::error::AdapterError;
use super::files::Files;
use super::lease::{Lease, Loaded};
use super::memory::{Budget, Reservation};
use attune_ids::AdapterVersion;
use attune_model::config::ModelConfig;

/// Versions in memory. Shared by all requests; every method takes `&self`.
///
/// A version stays while this keeps it, a [`Lease`] of it lives, or somebody else holds its
/// [`Loaded`]. Its memory is free again when the last of them is gone.
#[derive(Debug)]
pub struct LoadedVersions {
    budget: Arc<Budget>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    versions: HashMap<AdapterVersion, Entry>,
    /// Those, and those that others hold still.
    all: Vec<Weak<Loaded>>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    loaded: Arc<Loaded>,
    used: u64,
}

/// Why a version is not in memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its bundle.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Versions that are in use take the memory.
    #[error(
        "the version needs {needed} bytes of memory; versions that are in use have {used} of the \
         {max} that --adapter-memory allows: raise it, or come again when answers have ended"
    )]
    NoRoom {
        /// Bytes of the version.
        needed: usize,
        /// Bytes of versions that are held.
        used: usize,
        /// Bytes of all.
        max: usize,
    },
}

impl LoadedVersions {
    /// No version; room for `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            budget: Arc::new(Budget::new(max_bytes)),
            kept: Mutex::default(),
        }
    }

    /// A lease of a version that is in memory.
    pub fn lease(&self, version: &AdapterVersion) -> Option<Lease> {
        self.hold(version).as_ref().map(Lease::of)
    }

    /// A hold of a version that is in memory, for whoever is no request.
    pub fn hold(&self, version: &AdapterVersion) -> Option<Arc<Loaded>> {
        self.kept().touch(version)
    }

    /// Reads the bundle in `dir` for the model `config`, whose weights have the hash `base_sha256`, and
    /// keeps it; the version that is there already, if it is. Blocks.
    ///
    /// # Errors
    /// As [`read`](super::bundle::read); no room.
    pub fn load(
        &self,
        dir: &Path,
        config: &ModelConfig,
        base_sha256: &str,
    ) -> Result<Arc<Loaded>, LoadError> {
        let files = Files::read(dir)?;
        if let Some(loaded) = self.hold(&files.version) {
            return Ok(loaded);
        }
        self.load_files(&files, config, base_sha256)
    }

    /// The same of files that were read and hashed already.
    pub(super) fn load_files(
        &self,
        files: &Files,
        config: &ModelConfig,
        base_sha256: &str,
    ) -> Result<Arc<Loaded>, LoadError> {
        let memory = self.reserve(files.bytes_in_memory()?)?;
        let adapter = files.load(config, base_sha256)?;
        Ok(self.keep(Loaded::new(adapter, memory)))
    }

    /// Keeps a version that was made in memory, as one that takes `bytes`.
    ///
    /// # Errors
    /// [`LoadError::NoRoom`].
    pub fn insert(&self, adapter: Adapter, bytes: usize) -> Result<Arc<Loaded>, LoadError> {
        let memory = self.reserve(bytes)?;
        Ok(self.keep(Loaded::new(adapter, memory)))
    }

    /// All versions that are in memory, those included that only running answers hold.
    pub fn all(&self) -> Vec<Arc<Loaded>> {
        self.kept().all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Does not keep a version any more. Those who hold it may go on.
    pub fn forget(&self, version: &AdapterVersion) {
        let gone = self.kept().versions.remove(version);
        // Freeing the memory must not keep requests waiting for the lock.
        drop(gone);
    }

    /// How many leases of a version live; `None`: it is not in memory, or does not stay.
    pub fn leases(&self, version: &AdapterVersion) -> Option<usize> {
        let kept = self.kept();
        Some(kept.versions.get(version)?.loaded.leases())
    }

    /// Number of versions that are kept.
    pub fn len(&self) -> usize {
        self.kept().versions.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all versions that are in memory, those included that only leases hold.
    pub fn used_bytes(&self) -> usize {
        self.budget.used()
    }

    /// Makes room for `bytes`.
    fn reserve(&self, bytes: usize) -> Result<Reservation, LoadError> {
        loop {
            if let Some(memory) = self.budget.reserve(bytes) {
                return Ok(memory);
            }
            let idle = match bytes <= self.budget.max() {
                true => self.kept().take_least_used(),
                false => None,
            };
            if idle.is_none() {
                return Err(LoadError::NoRoom {
                    needed: bytes,
                    used: self.budget.used(),
                    max: self.budget.max(),
                });
            }
        }
    }

    /// Keeps `loaded`, or the same version if it came first.
    fn keep(&self, loaded: Loaded) -> Arc<Loaded> {
        let mut kept = self.kept();
        let version = loaded.adapter().version.clone();
        if let Some(first) = kept.touch(&version) {
            drop(kept);
            return first;
        }
        let (loaded, used) = (Arc::new(loaded), kept.tick());
        let entry = Entry {
            loaded: loaded.clone(),
            used,
        };
        kept.all.retain(|known| known.strong_count() > 0);
        kept.all.push(Arc::downgrade(&loaded));
        kept.versions.insert(version, entry);
        loaded
    }

    /// No method panics between two changes that belong together, hence poison is ignored.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn touch(&mut self, version: &AdapterVersion) -> Option<Arc<Loaded>> {
        let used = self.tick();
        let entry = self.versions.get_mut(version)?;
        entry.used = used;
        Some(entry.loaded.clone())
    }

    /// Takes out the version that nobody holds and that was used least recently. Nobody can begin to
    /// hold it meanwhile: that takes the lock.
    fn take_least_used(&mut self) -> Option<Arc<Loaded>> {
        let idle = self.versions.iter();
        let idle = idle.filter(|(_, entry)| Arc::strong_count(&entry.loaded) == 1);
        let oldest = idle.min_by_key(|(_, entry)| entry.used)?.0.clone();
        Some(self.versions.remove(&oldest)?.loaded)
    }
}
