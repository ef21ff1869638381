//! The export: a store as sorted JSON lines with a digest.
//!
//! Line 1 is the header, then one line for each record, sorted by tree and then by key and exactly
//! as it is kept but for [`escaped`] line breaks, then the trailer with the number of records and the SHA-256 of all bytes before
//! it. Two stores with the same records and identity have the same export, byte for byte.
//!
//! There are two ways to it. [`Store::export`] stops writers: for a store that no server has open.
//! [`Store::snapshot`] does not: it shows the moment when it began, without what was removed of people
//! until it ended.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::meta::Meta;
use crate::record::{Kind, RawRecord, Record, KINDS};
use crate::trees::{Was, Watching};
use crate::{open, AdapterRecord, AliasRecord, CanaryRecord, Store, StoreError};
use attune_json::escaped;

/// The `format` of a header.
pub(super) const FORMAT: &str = "attune-store-export";

/// Bytes of a snapshot between two looks at the room on the disk.
const LOOK_EVERY: u64 = 4 << 20;

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Always [`FORMAT`].
    pub(super) format: String,
    /// The schema of the records.
    pub(super) schema: u32,
    /// See [`crate::StoreInfo`].
    pub(super) store_id: String,
    /// See [`crate::StoreInfo`].
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

/// An export in a file without a name, which is gone with its last reader.
#[derive(Debug)]
pub struct SnapshotFile {
    /// What is in it.
    pub summary: ExportSummary,
    /// Its size.
    pub bytes: u64,
    /// At its beginning.
    pub file: File,
}

impl Store {
    /// Writes all records to `out`, sorted and with a digest, and flushes `out`. Writers wait
    /// meanwhile; the caller syncs `out`.
    ///
    /// # Errors
    /// A record cannot be read or `out` cannot be written; an export without trailer is unusable.
    pub fn export(&self, out: &mut impl Write) -> Result<ExportSummary, StoreError> {
        let _writer = self.trees().writer()?;
        let mut out = Lines::begin(out, self)?;
        for kind in KINDS {
            for entry in self.trees().scan(kind.tree, &[]) {
                let (_, value) = entry?;
                out.record(&value)?;
            }
        }
        out.end()
    }

    /// Writes all records of this moment to a file without a name beside the store. Writers go on: they
    /// wait for the moments of its begin and its end only. What is removed of people meanwhile is not
    /// in it, and neither is what is added.
    ///
    /// # Errors
    /// A record cannot be read, the disk has no room, or [`StoreError::Busy`] if more was changed
    /// meanwhile than is kept in memory.
    pub fn snapshot(&self) -> Result<SnapshotFile, StoreError> {
        self.snapshot_stepping(&mut || {})
    }

    /// [`snapshot`](Self::snapshot), with a call between records.
    pub(super) fn snapshot_stepping(
        &self,
        step: &mut dyn FnMut(),
    ) -> Result<SnapshotFile, StoreError> {
        let _alone = self.alone();
        let watching = {
            let _writer = self.trees().writer()?;
            self.trees().watch(removals_win)
        };
        let mut out = Lines::begin(self.nameless()?, self)?;
        let mut skipped = BTreeSet::new();
        for kind in KINDS {
            step();
            self.write_tree(kind.tree, &watching, &mut out, &mut skipped, step)?;
        }
        let removed = {
            // Whatever is removed from here on was removed after this snapshot.
            let _writer = self.trees().writer()?;
            let touched = watching.take()?;
            drop(watching);
            let removed = touched.into_iter().filter(|t| t.was == Was::Removed);
            removed.map(|t| (t.tree, t.key)).collect::<BTreeSet<_>>()
        };
        if removed.is_subset(&skipped) {
            return out.into_file();
        }
        let (_, file) = out.finish()?;
        self.without(file, &removed)
    }

    /// The records of `tree` as they were when `watching` began.
    fn write_tree(
        &self,
        tree: &'static str,
        watching: &Watching<'_>,
        out: &mut Lines<BufWriter<File>>,
        skipped: &mut BTreeSet<(&'static str, Vec<u8>)>,
        step: &mut dyn FnMut(),
    ) -> Result<(), StoreError> {
        let mut last: Option<Vec<u8>> = None;
        for entry in self.trees().scan(tree, &[]) {
            let (key, value) = entry?;
            for gone in watching.gone(tree, last.as_deref(), Some(&key)) {
                out.record(&gone)?;
            }
            match watching.was(tree, &key) {
                None => out.record(&value)?,
                Some(Was::Value(old)) => out.record(&old)?,
                Some(Was::Nothing) => {}
                Some(Was::Removed) => drop(skipped.insert((tree, key.clone()))),
            }
            last = Some(key);
            step();
            out.look(self)?;
            watching.check()?;
        }
        for gone in watching.gone(tree, last.as_deref(), None) {
            out.record(&gone)?;
        }
        Ok(())
    }

    /// The same export without some records.
    fn without(
        &self,
        export: File,
        removed: &BTreeSet<(&'static str, Vec<u8>)>,
    ) -> Result<SnapshotFile, StoreError> {
        let mut out = Lines::begin(self.nameless()?, self)?;
        let lines = BufReader::new(export).split(b'\n').skip(1);
        for line in lines {
            let line = line.map_err(StoreError::Output)?;
            let parsed: Result<RawRecord, _> = serde_json::from_slice(&line);
            // The trailer is no record.
            let kind = parsed.ok().and_then(|record| Kind::named(&record.kind));
            let Some(kind) = kind else { continue };
            let known = (kind.canonical)(&line).is_ok_and(|record| {
                let place = (kind.tree, record.key);
                removed.contains(&place)
            });
            if !known {
                out.record(&line)?;
            }
            out.look(self)?;
        }
        out.into_file()
    }

    fn nameless(&self) -> Result<BufWriter<File>, StoreError> {
        let file = tempfile::tempfile_in(self.dir().path());
        file.map(BufWriter::new).map_err(StoreError::Output)
    }
}

/// Versions and what names them are shown as they were; of people, what was removed is gone.
fn removals_win(tree: &'static str) -> bool {
    ![AdapterRecord::TREE, AliasRecord::TREE, CanaryRecord::TREE].contains(&tree)
}

/// Writes lines, counts records and hashes.
struct Lines<W> {
    out: W,
    hash: Sha256,
    records: u64,
    bytes: u64,
    /// Bytes at the last look at the disk.
    looked: u64,
}

impl<W: Write> Lines<W> {
    /// With the header of `store`.
    fn begin(out: W, store: &Store) -> Result<Self, StoreError> {
        let mut lines = Lines {
            out,
            hash: Sha256::new(),
            records: 0,
            bytes: 0,
            looked: 0,
        };
        let Meta {
            schema,
            store_id,
            created_unix_ms,
            ..
        } = open::current_meta(store.trees())?;
        lines.json(&Header {
            format: FORMAT.to_owned(),
            schema,
            store_id,
            created_unix_ms,
        })?;
        Ok(lines)
    }

    fn record(&mut self, value: &[u8]) -> Result<(), StoreError> {
        self.records += 1;
        self.line(value)
    }

    /// With the trailer.
    fn end(mut self) -> Result<ExportSummary, StoreError> {
        self.trailer()
    }

    fn trailer(&mut self) -> Result<ExportSummary, StoreError> {
        let (records, sha256) = (self.records, hex::encode(self.hash.clone().finalize()));
        let end = Totals {
            records,
            sha256: sha256.clone(),
        };
        self.json(&Trailer { end })?;
        self.out.flush().map_err(StoreError::Output)?;
        Ok(ExportSummary { records, sha256 })
    }

    fn json(&mut self, value: &impl Serialize) -> Result<(), StoreError> {
        let line = serde_json::to_vec(value)
            .map_err(|error| StoreError::Output(io::Error::from(error)))?;
        self.line(&line)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), StoreError> {
        for bytes in [&*escaped(line), b"\n"] {
            self.hash.update(bytes);
            self.out.write_all(bytes).map_err(StoreError::Output)?;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }
}

impl Lines<BufWriter<File>> {
    /// Whether the disk of `store` has room for more: asked now and then.
    fn look(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.bytes < self.looked + LOOK_EVERY {
            return Ok(());
        }
        self.looked = self.bytes;
        store.trees().room().for_copy(LOOK_EVERY)
    }

    fn into_file(self) -> Result<SnapshotFile, StoreError> {
        let (summary, file) = self.finish()?;
        let bytes = file.metadata().map_err(StoreError::Output)?.len();
        Ok(SnapshotFile {
            summary,
            bytes,
            file,
        })
    }

    fn finish(mut self) -> Result<(ExportSummary, File), StoreError> {
        let summary = self.trailer()?;
        let file = self.out.into_inner();
        let mut file = file.map_err(|error| StoreError::Output(error.into_error()))?;
        file.rewind().map_err(StoreError::Output)?;
        Ok((summary, file))
    }
}
