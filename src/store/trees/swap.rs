//! Another database in the place of the one that is open.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::store::serving::Serving;
use crate::store::trees::opened::Opened;
use crate::store::trees::{Trees, Writer};
use crate::store::StoreError;

impl Trees {
    /// Opens or creates the database in `path`.
    pub(in crate::store) fn open(path: &Path) -> Result<Trees, StoreError> {
        Ok(Trees {
            path: path.to_owned(),
            open: RwLock::new(Some(Arc::new(Opened::open(path)?))),
            writing: Mutex::new(()),
            serving: Serving::default(),
            reads: Arc::default(),
        })
    }

    /// Closes the database, lets `swap` put another one in its place, and opens that. Reads wait
    /// meanwhile; `writer` keeps writes out.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a reader does not end in time, and what `swap` says: then the database
    /// is the one that `swap` left in place. If that cannot be opened, the store has failed.
    pub(in crate::store) fn replace(
        &self,
        _writer: &Writer<'_>,
        patience: Duration,
        swap: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut slot = self.open.write().map_err(|_| StoreError::Failed)?;
        let deadline = Instant::now() + patience;
        let opened = slot.take().ok_or(StoreError::Failed)?;
        // New readers wait for the slot; those that read already hold a copy of `opened`.
        while Arc::strong_count(&opened) > 1 {
            if Instant::now() > deadline {
                *slot = Some(opened);
                return Err(StoreError::Busy);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(opened);
        let swapped = swap();
        *slot = Some(Arc::new(Opened::open(&self.path)?));
        swapped
    }

    pub(super) fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        let slot = self.open.read().map_err(|_| StoreError::Failed)?;
        slot.clone().ok_or(StoreError::Failed)
    }
}
