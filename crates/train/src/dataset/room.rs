//! How much may be read, in bytes.

use std::fs::{self, File};
use std::path::Path;

use super::error::DatasetError;

/// The longest record (a line of JSON, a row of a table), in bytes.
pub const MAX_RECORD_BYTES: u64 = 16 << 20;

/// The most bytes that all files may have together; those of a Parquet file count unpacked.
pub const MAX_TOTAL_BYTES: u64 = 4 << 30;

/// What is left of [`MAX_TOTAL_BYTES`].
#[derive(Debug)]
pub(super) struct Room {
    left: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            left: MAX_TOTAL_BYTES,
        }
    }
}

impl Room {
    /// Opens a file and takes its size.
    ///
    /// # Errors
    /// It cannot be opened, or is too large.
    pub(super) fn open(&mut self, file: &Path) -> Result<File, DatasetError> {
        let opened = open(file)?;
        let size = fs::metadata(file).map_err(|e| io_error(file, e))?.len();
        self.take(file, size)?;
        Ok(opened)
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// There are not so many left.
    pub(super) fn take(&mut self, file: &Path, bytes: u64) -> Result<(), DatasetError> {
        self.left = self.left.checked_sub(bytes).ok_or(DatasetError::TooLarge {
            file: file.to_path_buf(),
            max: MAX_TOTAL_BYTES,
        })?;
        Ok(())
    }
}

pub(super) fn open(file: &Path) -> Result<File, DatasetError> {
    File::open(file).map_err(|e| io_error(file, e))
}

pub(super) fn io_error(file: &Path, error: std::io::Error) -> DatasetError {
    DatasetError::Io {
        file: file.to_path_buf(),
        error,
    }
}
