//! The export: a store as sorted JSON lines with a digest.
//!
//! Line 1 is the header, then one line for each record, sorted by tree and then by key and exactly
//! as it is kept, then the trailer with the number of records and the SHA-256 of all bytes before
//! it. Two stores with the same records and identity have the same export, byte for byte.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::meta::Meta;
use crate::store::record::KINDS;
use crate::store::{open, Store, StoreError};

/// The `format` of a header.
pub(super) const FORMAT: &str = "attune-store-export";

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Always [`FORMAT`].
    pub(super) format: String,
    /// The schema of the records.
    pub(super) schema: u32,
    /// See [`crate::store::StoreInfo`].
    pub(super) store_id: String,
    /// See [`crate::store::StoreInfo`].
    pub(super) created_unix_ms: u64,
}

/// The last line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trailer {
    /// Tells the trailer from a record.
    pub(super) end: Totals,
}

/// What the lines before the trailer add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Totals {
    /// The number of record lines.
    pub(super) records: u64,
    /// The SHA-256 of all bytes before the trailer, in hex.
    pub(super) sha256: String,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSummary {
    /// The number of records.
    pub records: u64,
    /// The digest in the trailer: the name of this snapshot.
    pub sha256: String,
}

impl Store {
    /// Writes all records to `out`, sorted and with a digest, and flushes `out`. Writers wait
    /// meanwhile, so `out` should be a file rather than a slow client; the caller syncs it.
    ///
    /// # Errors
    /// A record cannot be read or `out` cannot be written; an export without trailer is unusable.
    pub fn export(&self, out: &mut impl Write) -> Result<ExportSummary, StoreError> {
        let _writer = self.trees().writer()?;
        let mut out = Digesting {
            out,
            hash: Sha256::new(),
        };
        let Meta {
            schema,
            store_id,
            created_unix_ms,
            ..
        } = open::current_meta(self.trees())?;
        out.json(&Header {
            format: FORMAT.to_owned(),
            schema,
            store_id,
            created_unix_ms,
        })?;
        let mut records = 0;
        for kind in KINDS {
            for entry in self.trees().scan(kind.tree, &[]) {
                let (_, value) = entry?;
                out.line(&value)?;
                records += 1;
            }
        }
        let sha256 = hex::encode(out.hash.clone().finalize());
        let end = Totals {
            records,
            sha256: sha256.clone(),
        };
        out.json(&Trailer { end })?;
        out.out.flush().map_err(StoreError::Output)?;
        Ok(ExportSummary { records, sha256 })
    }
}

/// Writes lines and hashes them.
struct Digesting<'a, W> {
    out: &'a mut W,
    hash: Sha256,
}

impl<W: Write> Digesting<'_, W> {
    fn json(&mut self, value: &impl Serialize) -> Result<(), StoreError> {
        let line = serde_json::to_vec(value)
            .map_err(|error| StoreError::Output(io::Error::from(error)))?;
        self.line(&line)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), StoreError> {
        for bytes in [line, b"\n"] {
            self.hash.update(bytes);
            self.out.write_all(bytes).map_err(StoreError::Output)?;
        }
        Ok(())
    }
}
