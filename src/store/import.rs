//! The import: an export becomes the content of an empty store, or nothing does.
//!
//! The lines are first read to the end, checked, upgraded and spooled to a nameless file beside the
//! store. Only a good export is then written, in batches, under a mark that makes the next open
//! discard what an interrupted import left.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::store::meta::{Meta, State};
use crate::store::migrate::{self, BATCH};
use crate::store::migrations::MIGRATIONS;
use crate::store::record::{RawRecord, MAX_RECORD_BYTES};
use crate::store::snapshot::{Header, Totals, Trailer, FORMAT};
use crate::store::trees::{Edit, Writer};
use crate::store::{open, verify, Store, StoreError, SCHEMA};

/// The longest line, in bytes. An old record may be somewhat longer than a new one.
const MAX_LINE: u64 = 4 * MAX_RECORD_BYTES as u64;

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSummary {
    /// The number of records now in the store.
    pub records: u64,
    /// The schema of the export; the store has the current one.
    pub schema: u32,
    /// The digest of the export.
    pub sha256: String,
}

impl Store {
    /// Fills this store, which must have no records, from an export of this schema or an older one.
    /// The store takes over the export's store id and time of creation. Writers wait meanwhile.
    ///
    /// # Errors
    /// Records in the store; an export that is malformed, truncated, edited, newer, or whose
    /// records do not fit together. Then the store is empty still.
    pub fn import(&self, input: &mut impl BufRead) -> Result<ImportSummary, StoreError> {
        let writer = self.trees().writer()?;
        if !self.trees().counts()?.is_empty() {
            return Err(StoreError::NotEmpty {
                dir: self.dir().path().to_owned(),
            });
        }
        let spooled = self.spool(input)?;
        let before = open::current_meta(self.trees())?;
        writer.set_meta(&Meta {
            state: State::Importing,
            ..before.clone()
        })?;
        if let Err(error) = self.fill(&writer, &spooled) {
            // If this fails too, the next open discards the records.
            let undone = writer.clear().and_then(|()| writer.set_meta(&before));
            if let Err(error) = undone {
                tracing::warn!(%error, "a failed import is undone when the store is opened again");
            }
            return Err(error);
        }
        writer.set_meta(&Meta {
            schema: SCHEMA,
            store_id: spooled.header.store_id,
            created_unix_ms: spooled.header.created_unix_ms,
            state: State::Ready,
        })?;
        Ok(ImportSummary {
            records: spooled.records,
            schema: spooled.header.schema,
            sha256: spooled.totals.sha256,
        })
    }

    /// Reads and checks the whole export.
    fn spool(&self, input: &mut impl BufRead) -> Result<Spooled, StoreError> {
        let dir = self.dir().path();
        let file = tempfile::tempfile_in(dir).map_err(StoreError::io("write to", dir))?;
        let mut spool = BufWriter::new(file);
        let mut lines = Lines {
            input,
            number: 0,
            hash: Sha256::new(),
        };
        let header = lines.header()?;
        let (mut read, mut records) = (0, 0);
        let totals = loop {
            let line = lines.next()?;
            if let Ok(Trailer { end }) = serde_json::from_slice(&line) {
                break end;
            }
            read += 1;
            if let Some(mut value) = lines.record(&line, header.schema)? {
                value.push(b'\n');
                spool
                    .write_all(&value)
                    .map_err(StoreError::io("write to", dir))?;
                records += 1;
            }
        };
        lines.end(&totals, read)?;
        let file = spool.into_inner().map_err(io::IntoInnerError::into_error);
        Ok(Spooled {
            header,
            totals,
            records,
            last_line: lines.number,
            file: file.map_err(StoreError::io("write to", dir))?,
        })
    }

    /// Writes the spooled records, and looks at all of them together.
    fn fill(&self, writer: &Writer<'_>, spooled: &Spooled) -> Result<(), StoreError> {
        let read = StoreError::io;
        let dir = self.dir().path();
        let bad = |reason| StoreError::BadExport {
            line: spooled.last_line,
            reason,
        };
        let mut file = &spooled.file;
        file.rewind().map_err(read("read in", dir))?;
        let mut edits = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(read("read in", dir))?;
            let record = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
            let (kind, record) = migrate::finish(&record).map_err(bad)?;
            edits.push(Edit::put_raw(kind.tree, record.key, record.value));
            if edits.len() >= BATCH {
                writer.apply(&edits)?;
                edits.clear();
            }
        }
        writer.apply(&edits)?;
        let report = verify::verify_records(self.trees())?;
        if !report.is_clean() {
            return Err(bad(report.problems.join("; ")));
        }
        if report.records.values().sum::<u64>() != spooled.records {
            return Err(bad("two records have the same key".to_owned()));
        }
        Ok(())
    }
}

/// A good export, in today's form.
struct Spooled {
    header: Header,
    totals: Totals,
    /// Records in `file`: fewer than in the export if a migration dropped some.
    records: u64,
    /// The number of the trailer's line.
    last_line: u64,
    /// One record a line.
    file: File,
}

/// The lines of an export, counted and hashed.
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
