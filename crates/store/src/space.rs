//! Room on the disk.
//!
//! sled cannot go on after a write that the disk had no room for; it has to be opened anew, which takes
//! room itself. So writes that grow the store are refused while less than a set amount is free. What makes
//! room, and the small records of operators, is never refused; long work that writes much may use half
//! of the amount, so that it fills no disk on which others have to write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::StoreError;

/// Says how much room there is.
pub trait Space: Send + Sync {
    /// Bytes that are free, for this process, on the disk that holds `dir`.
    ///
    /// # Errors
    /// The file system does not say.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// What the file system says.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Space for Disk {
    fn free(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// What is kept free of the disk of one store; nothing, until it is set.
pub(super) struct Room {
    dir: PathBuf,
    kept: RwLock<Option<Kept>>,
}

#[derive(Clone)]
struct Kept {
    bytes: u64,
    space: Arc<dyn Space>,
}

impl Room {
    /// Of the disk that holds the database in `path`.
    pub(super) fn new(path: &Path) -> Room {
        Room {
            // The database itself may change places.
            dir: path.parent().unwrap_or(path).to_owned(),
            kept: RwLock::new(None),
        }
    }

    /// Keeps `bytes` free from now on.
    pub(super) fn keep(&self, bytes: u64, space: Arc<dyn Space>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Kept { bytes, space });
    }

    /// Whether there is room for a record.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`].
    pub(super) fn for_record(&self) -> Result<(), StoreError> {
        self.check(0, 1)
    }

    /// Whether there is room for a file of `bytes` besides.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`].
    pub(super) fn for_file(&self, bytes: u64) -> Result<(), StoreError> {
        self.check(bytes, 1)
    }

    /// Whether there is room for a file of `bytes` that helps the store itself.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`].
    pub(super) fn for_copy(&self, bytes: u64) -> Result<(), StoreError> {
        self.check(bytes, 2)
    }

    fn check(&self, more: u64, part: u64) -> Result<(), StoreError> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Kept { bytes, space }) = kept.clone() else {
            return Ok(());
        };
        drop(kept);
        let free = space.free(&self.dir);
        let free = free.map_err(StoreError::io("ask for the free space of", &self.dir))?;
        let needed = (bytes / part).saturating_add(more);
        match free >= needed {
            true => Ok(()),
            false => Err(StoreError::NoRoom { free, needed }),
        }
    }
}
