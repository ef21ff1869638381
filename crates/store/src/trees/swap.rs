//! Another database in the place of the one that is open.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::durable::Found;
use crate::serving::Serving;
use crate::space::Room;
use crate::trees::opened::Opened;
use crate::trees::{Trees, Writer};
use crate::StoreError;

impl Trees {
    /// Opens or creates the database in `path`.
    pub(crate) fn open(path: &Path, found: Found) -> Result<Trees, StoreError> {
        Ok(Trees {
            open: RwLock::new(Some(Arc::new(Opened::open(path, found)?))),
            writing: Mutex::new(()),
            serving: Serving::default(),
            watch: Mutex::new(None),
            room: Room::new(path),
            reads: Arc::default(),
            path: path.to_owned(),
        })
    }

    /// Closes the database, lets `swap` put another one in its place, and opens that. Reads wait
    /// meanwhile; `writer` keeps writes out.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a reader does not end in time, and what `swap` says: then the database
    /// is the one that `swap` left in place. If that cannot be opened, the store has failed.
    pub(crate) fn replace(
        &self,
        _writer: &Writer<'_>,
        patience: Duration,
        swap: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut slot = self.open.write().map_err(|_| StoreError::Failed)?;
        close(&mut slot, patience)?;
        let swapped = swap();
        if !self.path.join("db").exists() {
            // sled would make an empty database in its place. The next open finds what `swap` left.
            swapped?;
            return Err(StoreError::Failed);
        }
        // Whatever is in place now was closed.
        *slot = Some(Arc::new(Opened::open(&self.path, Found::Durable)?));
        swapped
    }

    /// Closes a database that failed, and opens it anew if `try_out` finds that it can be: reads and
    /// writes wait meanwhile. Memory is read again.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a reader does not end in time. What `try_out` says, and what opening says:
    /// the store stays failed then, and this may be called again.
    pub(crate) fn reopen(
        &self,
        patience: Duration,
        try_out: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Whoever panicked with this lock left what the files say: that is what is read now.
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        close(&mut slot, patience)?;
        try_out()?;
        *slot = Some(Arc::new(Opened::open(&self.path, Found::Unknown)?));
        drop(slot);
        self.load_serving()?;
        self.writing.clear_poison();
        self.open.clear_poison();
        drop(writing);
        Ok(())
    }

    pub(super) fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        let slot = self.open.read().map_err(|_| StoreError::Failed)?;
        slot.clone().ok_or(StoreError::Failed)
    }
}

/// Closes what is open in `slot`, if something is.
fn close(slot: &mut Option<Arc<Opened>>, patience: Duration) -> Result<(), StoreError> {
    let deadline = Instant::now() + patience;
    let Some(opened) = slot.take() else {
        return Ok(());
    };
    // New readers wait for the slot; those that read already hold a copy of `opened`.
    while Arc::strong_count(&opened) > 1 {
        if Instant::now() > deadline {
            *slot = Some(opened);
            return Err(StoreError::Busy);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(opened);
    Ok(())
}
