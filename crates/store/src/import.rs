//! The import: an export becomes the content of an empty store, or nothing does.
//!
//! The lines are first read to the end, checked, upgraded and spooled to a nameless file beside the
//! store. Only a good export is then written, in batches, under a mark that makes the next open
//! discard what an interrupted import left.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use crate::meta::{Meta, State};
use crate::migrate;
use crate::snapshot::{Header, Totals};
use crate::trees::{Batch, Edit, Writer};
use crate::{lines, open, verify, Store, StoreError, SCHEMA};

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
        self.recall_deletions()?;
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
        let mut records = 0;
        let read = lines::read(input, |_, mut value| {
            value.push(b'\n');
            records += 1;
            spool
                .write_all(&value)
                .map_err(StoreError::io("write to", dir))
        })?;
        let file = spool.into_inner().map_err(io::IntoInnerError::into_error);
        Ok(Spooled {
            header: read.header,
            totals: read.totals,
            records,
            last_line: read.lines,
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
        let mut batch = Batch::default();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(read("read in", dir))?;
            let record = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
            let (kind, record) = migrate::finish(&record).map_err(bad)?;
            batch.push(Edit::put_raw(kind.tree, record.key, record.value));
            batch.apply_if_full(writer)?;
        }
        writer.apply(&batch.take())?;
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
    /// One record per line.
    file: File,
}
