//! The trees: the only folder that names sled.
//!
//! | file | subject |
//! |---|---|
//! | `opened` | sled's handles, and its errors as ours |
//! | `view` | reads |
//! | `batch` | many edits, a transaction at a time |
//! | `write` | the one writer: checks, edits and counts in one transaction |
//! | `watch` | what changes while somebody reads everything |
//! | `swap` | another database in the place of the one that is open |
//!
//! All writes go through one [`Writer`] at a time: it checks and then applies its edits and the new
//! record counts in one sled transaction, lets the next writer in, and flushes before it returns.
//! Writers that wait for the disk at the same time share the work.

mod batch;
mod opened;
mod swap;
mod view;
mod watch;
mod write;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use crate::record::{self, Record};
use crate::serving::Serving;
use crate::space::Room;
use crate::StoreError;
pub(super) use batch::Batch;
use opened::Opened;
pub(super) use view::View;
use watch::Watch;
pub(super) use watch::{Touched, Was, Watching};
pub(super) use write::Writer;

/// A database that is open: the tree `meta` and one tree for each kind of record. A compaction puts
/// another one in its place.
pub(super) struct Trees {
    path: PathBuf,
    /// `None` while it is replaced, and for good if that failed half-way.
    open: RwLock<Option<Arc<Opened>>>,
    /// Held by the writer, from its checks to the end of its transaction.
    writing: Mutex<()>,
    /// What answers need to know of people, in step with the records.
    serving: Serving,
    /// Who reads everything, and wants to know what changes meanwhile.
    watch: Mutex<Option<Watch>>,
    /// What is kept free of the disk.
    room: Room,
    /// Records that were read since this was opened, shared with the views that read them.
    reads: Arc<AtomicU64>,
}

/// One change of one record.
pub(super) struct Edit {
    pub(super) tree: &'static str,
    pub(super) key: Vec<u8>,
    /// `None` deletes.
    pub(super) value: Option<Vec<u8>>,
}

impl Edit {
    /// Writes `record`.
    pub(super) fn put<R: Record>(record: &R) -> Result<Edit, StoreError> {
        Ok(Edit::put_raw(
            R::TREE,
            record.key(),
            record::encode(record)?,
        ))
    }

    /// Removes the `R` under `key`.
    pub(super) fn delete<R: Record>(key: Vec<u8>) -> Edit {
        Edit::delete_raw(R::TREE, key)
    }

    /// Writes an encoded record.
    pub(super) fn put_raw(tree: &'static str, key: Vec<u8>, value: Vec<u8>) -> Edit {
        Edit {
            tree,
            key,
            value: Some(value),
        }
    }

    /// Removes whatever is under `key`.
    pub(super) fn delete_raw(tree: &'static str, key: Vec<u8>) -> Edit {
        Edit {
            tree,
            key,
            value: None,
        }
    }
}

impl Trees {
    /// What is kept free of the disk.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// What answers need to know of people.
    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }
}
