//! The lines of an export, read and checked: for the import, and for training.

use std::io::{BufRead, Read};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::migrate;
use crate::migrations::MIGRATIONS;
use crate::record::{RawRecord, MAX_RECORD_BYTES};
use crate::snapshot::{Header, Totals, Trailer, FORMAT};
use crate::StoreError;

/// The longest line, in bytes. An old record may be somewhat longer than a new one.
const MAX_LINE: u64 = 4 * MAX_RECORD_BYTES as u64;

/// An export that was read to its end and is whole.
#[derive(Debug)]
pub(super) struct Whole {
    /// Its first line.
    pub(super) header: Header,
    /// Its last line.
    pub(super) totals: Totals,
    /// How many lines it has.
    pub(super) lines: u64,
}

/// Reads an export to its end. `each` gets the number of a record's line and the record as today's
/// store would write it; it must not trust the records before all of this returns.
///
/// # Errors
/// Malformed, truncated, edited or newer; what `each` says.
pub(super) fn read(
    input: &mut impl BufRead,
    mut each: impl FnMut(u64, Vec<u8>) -> Result<(), StoreError>,
) -> Result<Whole, StoreError> {
    let mut lines = Lines {
        input,
        number: 0,
        hash: Sha256::new(),
    };
    let header = lines.header()?;
    let mut read = 0;
    let totals = loop {
        let line = lines.next()?;
        if let Ok(Trailer { end }) = serde_json::from_slice(&line) {
            break end;
        }
        read += 1;
        if let Some(value) = lines.record(&line, header.schema)? {
            each(lines.number, value)?;
        }
    };
    lines.end(&totals, read)?;
    Ok(Whole {
        header,
        totals,
        lines: lines.number,
    })
}

/// The lines, counted and hashed.
struct Lines<'a, R> {
    input: &'a mut R,
    number: u64,
    /// Of all lines but the trailer.
    hash: Sha256,
}

impl<R: BufRead> Lines<'_, R> {
    /// The next line, without its end.
    fn next(&mut self) -> Result<Vec<u8>, StoreError> {
        self.number += 1;
        let mut line = Vec::new();
        let mut limited = self.input.by_ref().take(MAX_LINE);
        limited
            .read_until(b'\n', &mut line)
            .map_err(StoreError::Input)?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            None => Err(self.bad("the export ends without its trailer; it was cut short")),
            Some(_) => Err(self.bad("the line was cut short, or is too long")),
        }
    }

    fn header(&mut self) -> Result<Header, StoreError> {
        let line = self.next()?;
        self.hash(&line);
        let schema = serde_json::from_slice::<AnyHeader>(&line)
            .ok()
            .filter(|header| header.format == FORMAT)
            .map(|header| header.schema)
            .ok_or_else(|| self.bad("this is not the header of an attune store export"))?;
        migrate::refuse_newer(schema, || "the export".to_owned())?;
        let header: Header =
            serde_json::from_slice(&line).map_err(|error| self.bad(error.to_string()))?;
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if header.store_id.len() != 32 || !header.store_id.bytes().all(hex) {
            return Err(self.bad("store_id must be 32 hex digits"));
        }
        Ok(header)
    }

    /// The record in `line`, of schema `from`, as it is written today; `None` if it is obsolete.
    fn record(&mut self, line: &[u8], from: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.hash(line);
        let record: RawRecord =
            serde_json::from_slice(line).map_err(|error| self.bad(error.to_string()))?;
        let upgraded = migrate::upgrade(record, from, MIGRATIONS);
        let Some(record) = upgraded.map_err(|reason| self.bad(reason))? else {
            return Ok(None);
        };
        let (_, record) = migrate::finish(&record).map_err(|reason| self.bad(reason))?;
        Ok(Some(record.value))
    }

    /// Checks the trailer against the `read` records before it, and that nothing follows.
    fn end(&mut self, totals: &Totals, read: u64) -> Result<(), StoreError> {
        if totals.records != read {
            let expected = totals.records;
            return Err(self.bad(format!("{expected} records expected, {read} found")));
        }
        if totals.sha256 != hex::encode(self.hash.clone().finalize()) {
            return Err(self.bad("the digest does not match; the export was changed"));
        }
        match self.input.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.bad("something follows the trailer")),
            Err(error) => Err(StoreError::Input(error)),
        }
    }

    fn hash(&mut self, line: &[u8]) {
        self.hash.update(line);
        self.hash.update(b"\n");
    }

    fn bad(&self, reason: impl Into<String>) -> StoreError {
        StoreError::BadExport {
            line: self.number,
            reason: reason.into(),
        }
    }
}

/// What headers of all schemas have in common.
#[derive(Deserialize)]
struct AnyHeader {
    format: String,
    schema: u32,
}
