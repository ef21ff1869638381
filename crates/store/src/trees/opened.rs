//! sled's handles, and its errors as ours.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::derived;
use crate::durable::{Durable, Found};
use crate::meta;
use crate::record::KINDS;
use crate::StoreError;

/// Pages that sled may keep in memory, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// The tree that sled makes by itself. We keep nothing in it.
const SLED_DEFAULT_TREE: &str = "__sled__default";

/// An open database. Readers hold it no longer than they read: who replaces it waits for them.
pub(super) struct Opened {
    db: sled::Db,
    pub(super) meta: sled::Tree,
    pub(super) by_name: BTreeMap<&'static str, sled::Tree>,
    pub(super) durable: Durable,
}

impl Opened {
    pub(super) fn open(path: &Path, found: Found) -> Result<Opened, StoreError> {
        // No background flusher: every write flushes, and nothing is written between writes.
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let db = config.open().map_err(backend("open"))?;
        let meta = db.open_tree(meta::TREE).map_err(backend("open"))?;
        let mut by_name = BTreeMap::new();
        let names = KINDS.iter().map(|kind| kind.tree).chain(derived::TREES);
        for name in names {
            let tree = db.open_tree(name).map_err(backend("open"))?;
            by_name.insert(name, tree);
        }
        Ok(Opened {
            db,
            meta,
            by_name,
            durable: Durable::open(path, found)?,
        })
    }

    pub(super) fn tree(&self, name: &'static str) -> &sled::Tree {
        if name == meta::TREE {
            return &self.meta;
        }
        // Names come from `Record::TREE` of the rows of `KINDS`, or are those of `derived`; all are
        // opened above. A kind that is
        // missing there reads as empty from sled's own tree, and `verify` names what is in it.
        self.by_name.get(name).unwrap_or(&self.db)
    }

    /// The names of all trees that are in the files, known or not, except sled's own if empty.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.db.tree_names();
        let mut names: Vec<String> = names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .filter(|name| name != SLED_DEFAULT_TREE || !self.db.is_empty())
            .collect();
        names.sort();
        names
    }

    /// sled's own flush; [`Durable`] adds what it leaves out.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map(drop).map_err(backend("flush"))
    }
}

/// sled's errors become I/O errors here, so that nobody else needs to know them.
pub(super) fn backend(what: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |error| StoreError::Backend {
        what,
        source: match error {
            sled::Error::Io(error) => error,
            sled::Error::Corruption { .. } => {
                io::Error::new(io::ErrorKind::InvalidData, "its files are corrupted")
            }
            error => io::Error::other(error.to_string()),
        },
    }
}
