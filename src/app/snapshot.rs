//! The store's export, for a client that may be slow.
//!
//! Writers of the store wait while it is exported, so it goes to an unnamed file first, as fast as the
//! disk takes it, and from there to the client. The file is gone with its last reader, or the process.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek};
use std::sync::Arc;

use futures_util::stream::{try_unfold, Stream};

use super::error::AppError;
use super::state::AppState;
use super::store_threads::StoreWork;
use crate::store::{ExportSummary, Store, StoreError};

/// Bytes that are read at a time.
const CHUNK: u64 = 256 << 10;

/// An export that is whole, on disk.
#[derive(Debug)]
pub struct Snapshot {
    /// Its records and its digest.
    pub summary: ExportSummary,
    /// Its size.
    pub bytes: u64,
    file: File,
}

/// Exports the store into a file without a name in the data directory.
///
/// # Errors
/// The disk is full, or a record cannot be read.
pub async fn take(state: &Arc<AppState>) -> Result<Snapshot, AppError> {
    let dir = state.versions.data_dir().to_owned();
    let work = move |store: &Store| -> Result<Snapshot, StoreError> {
        let failed = StoreError::Output;
        let file = tempfile::tempfile_in(dir).map_err(failed)?;
        let mut out = BufWriter::new(file);
        let summary = store.export(&mut out)?;
        let mut file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        let bytes = file.stream_position().map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(Snapshot {
            summary,
            bytes,
            file,
        })
    };
    state.store_threads.run(StoreWork::Long, work).await
}

impl Snapshot {
    /// Its bytes. Each part is read when it is asked for, on a thread where that holds nobody up.
    pub fn into_chunks(self, state: Arc<AppState>) -> impl Stream<Item = io::Result<Vec<u8>>> {
        try_unfold(self.file, move |mut file| {
            let reading = state.tasks.spawn_blocking(move || {
                let mut chunk = Vec::new();
                (&mut file).take(CHUNK).read_to_end(&mut chunk)?;
                Ok((!chunk.is_empty()).then_some((chunk, file)))
            });
            async { reading.await.map_err(io::Error::other)? }
        })
    }
}
