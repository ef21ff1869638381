//! The store's export, for a client that may be slow: it is written to an unnamed file first, as fast as
//! the disk takes it, and goes from there to the client. The file is gone with its last reader, or the
//! process. Nobody who writes waits for any of it.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use futures_util::stream::{try_unfold, Stream};

use super::error::AppError;
use super::state::AppState;
use super::store_threads::StoreWork;
use attune_store::{ExportSummary, Store};

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
    let work = |store: &Store| store.snapshot();
    let taken = state.store_threads.run(StoreWork::Long, work).await?;
    Ok(Snapshot {
        summary: taken.summary,
        bytes: taken.bytes,
        file: taken.file,
    })
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
