//! From written to durable, once for all writers that wait.
//!
//! sled's flush hands the log to the kernel and starts its write-out (`sync_file_range` on Linux),
//! which survives a killed process but not a power cut: neither the file's length nor the drive's
//! cache is forced out, and values that sled moved to files of their own are not synced at all. So
//! after sled's flush we `fdatasync` its log and any new file of that kind ourselves.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;

use crate::blobs::NewBlobs;
use crate::StoreError;

/// Which of the writes so far are durable.
pub(super) struct Durable {
    log: File,
    log_path: PathBuf,
    /// How many writes were applied.
    applied: AtomicU64,
    /// Held while one writer syncs for all that wait.
    synced: Mutex<Synced>,
    /// Set by a failed write or flush: disk and memory may differ until the database is opened anew.
    failed: AtomicBool,
    /// How many files of large values were synced.
    blobs_synced: AtomicU64,
}

struct Synced {
    /// How many of the applied writes are durable.
    writes: u64,
    /// Files of large values that are not.
    blobs: NewBlobs,
}

/// Whether what a database holds when it is opened is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It was closed, and nobody wrote since.
    Durable,
    /// Whoever had it open ended before it was closed.
    Unknown,
}

impl Durable {
    /// For the open sled database in `path`.
    pub(super) fn open(path: &Path, found: Found) -> Result<Durable, StoreError> {
        let log_path = path.join("db");
        let log = File::open(&log_path).map_err(StoreError::io("open", &log_path))?;
        Ok(Durable {
            log,
            log_path,
            applied: AtomicU64::new(0),
            synced: Mutex::new(Synced {
                writes: 0,
                blobs: NewBlobs::of(path.join("blobs"), found == Found::Durable)?,
            }),
            failed: AtomicBool::new(false),
            blobs_synced: AtomicU64::new(0),
        })
    }

    /// # Errors
    /// [`StoreError::Failed`] after an earlier failure.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(StoreError::Failed);
        }
        Ok(())
    }

    /// Runs a write. If the database fails in it, no later write is tried: sled would go on in
    /// memory with what it could not put on disk.
    pub(super) fn write(
        &self,
        write: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check()?;
        let result = write();
        match &result {
            Ok(()) => {
                self.applied.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => self.note(error),
        }
        result
    }

    /// What to wait for so that all writes until now are durable.
    pub(super) fn ticket(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Returns once the first `ticket` writes are durable; `flush` is sled's own.
    pub(super) fn wait(
        &self,
        ticket: u64,
        flush: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut synced = self.synced.lock().map_err(|_| StoreError::Failed)?;
        self.check()?;
        if synced.writes >= ticket {
            return Ok(());
        }
        // What others applied until here rides along.
        let upto = self.ticket();
        let result = flush().and_then(|()| self.sync(&mut synced.blobs));
        match &result {
            Ok(()) => synced.writes = upto,
            Err(error) => self.note(error),
        }
        result
    }

    fn sync(&self, blobs: &mut NewBlobs) -> Result<(), StoreError> {
        let sync = StoreError::io("sync", &self.log_path);
        self.log.sync_data().map_err(sync)?;
        let dir = blobs.dir().to_owned();
        let new = blobs.look()?;
        for name in new {
            sync_blob(&dir.join(name))?;
            self.blobs_synced.fetch_add(1, Ordering::Relaxed);
        }
        if !new.is_empty() {
            super::files::sync_dir(&dir)?;
        }
        blobs.settled();
        Ok(())
    }

    /// How many files of large values were synced since the database was opened.
    #[cfg(test)]
    pub(super) fn blobs_synced(&self) -> u64 {
        self.blobs_synced.load(Ordering::Relaxed)
    }

    /// As if a write had failed.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Backend { .. } | StoreError::Io { .. }) {
            tracing::error!(%error, "a write to the store failed; no more writes until it is reopened");
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}

fn sync_blob(path: &Path) -> Result<(), StoreError> {
    match File::open(path).and_then(|file| file.sync_all()) {
        // sled removed it meanwhile: the record was replaced.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(StoreError::io("sync", path)),
    }
}
