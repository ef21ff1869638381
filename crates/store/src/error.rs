//! What can go wrong in the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::quota::{TenantQuota, TenantUse};
use attune_ids::{AdapterVersion, Alias};

/// A failed store operation. Every message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The path names something that is not a directory: usually a typing error.
    #[error("{} is not a directory; give the store a directory", dir.display())]
    NotADirectory {
        /// The path.
        dir: PathBuf,
    },
    /// The directory holds other files: usually a typing error. Nothing was written to it.
    #[error(
        "{} is not an attune store (it holds {found:?}); give an empty or new directory",
        dir.display()
    )]
    NotAStore {
        /// The directory.
        dir: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// Another process, or another [`Store`](crate::Store) of this one, has it open.
    #[error("another attune process holds {}; stop it first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The store, or the export, was written by a newer attune. Nothing was changed.
    #[error(
        "{origin} has schema {found}, this attune knows schemas up to {known}; \
         use the attune that wrote it, or a newer one"
    )]
    Newer {
        /// The store's directory, or "the export".
        origin: String,
        /// Its schema version.
        found: u32,
        /// The newest schema version of this build.
        known: u32,
    },
    /// A person's id has white space around it, which is no part of an id. Nothing was changed.
    #[error(
        "the store in {} has the user {user:?}, and white space around an id is no part of it any more; export it \
         with the attune that wrote it, and import that into a new directory: an import leaves the white space out",
        dir.display()
    )]
    WhiteSpace {
        /// The directory.
        dir: PathBuf,
        /// The id.
        user: String,
    },
    /// Files or records are not as they were written: a failing disk, a partial copy, an edit by
    /// hand. [`Store::open`](crate::Store::open) that says so has changed nothing.
    #[error(
        "the store in {} is damaged and was left as it is: {}; restore the directory from a \
         backup, or import the last export into a new one",
        dir.display(), problems.join("; ")
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What was found, a line each.
        problems: Vec<String>,
    },
    /// What was to be written belongs to somebody who was deleted after the request for it began.
    #[error(
        "the user was deleted while this request was under way: nothing was recorded; a request that \
         begins now begins anew with them"
    )]
    UserDeleted,
    /// One record cannot be read.
    #[error("record {key} of {tree} cannot be read: {reason}; run `attune store verify`")]
    BadRecord {
        /// The tree.
        tree: &'static str,
        /// The key, printable.
        key: String,
        /// Why.
        reason: String,
    },
    /// A record is larger than the store takes (1 MiB).
    #[error(
        "a record of {tree} has {bytes} bytes, and at most {max} are allowed; make it smaller"
    )]
    TooLarge {
        /// The tree.
        tree: &'static str,
        /// Its encoded size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// An alias still answers with this version, or tries it as its canary.
    #[error(
        "adapter {version} is in use by alias {}; promote another version or end the canary first",
        join(aliases)
    )]
    AdapterInUse {
        /// The version.
        version: AdapterVersion,
        /// The aliases that point at it.
        aliases: Vec<Alias>,
    },
    /// Import needs a store without records.
    #[error("the store in {} has records; import into a new directory", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The export is malformed, truncated or was edited. Nothing was imported.
    #[error(
        "the export cannot be used: line {line}: {reason}; nothing was imported, so export again"
    )]
    BadExport {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The export cannot be read to its end. Nothing was imported.
    #[error("cannot read the export: {0}; nothing was imported")]
    Input(#[source] io::Error),
    /// The export cannot be written. What was written has no trailer, and no import takes it.
    #[error("cannot write the export: {0}; remove the incomplete file")]
    Output(#[source] io::Error),
    /// Somebody else reads or writes so much that this has to wait. Nothing was changed.
    #[error("the store is busy with other work; try it again later")]
    Busy,
    /// Less of the disk is free than is kept for what makes room. Nothing was changed.
    #[error(
        "the disk of the store has {free} bytes free, and this needs {needed}; free some space, then \
         try it again (--min-free-disk says how much is kept)"
    )]
    NoRoom {
        /// Bytes that are free.
        free: u64,
        /// Bytes that have to be.
        needed: u64,
    },
    /// The tenant has as much as it may have.
    #[error(
        "the tenant has {} records of {} bytes, and may have {} of {}; delete some of its kept \
         completions or people, or have the quota raised (--tenant-max-records, --tenant-max-bytes)",
        used.records, used.bytes, quota.records, quota.bytes
    )]
    Quota {
        /// What it has.
        used: TenantUse,
        /// What it may have.
        quota: TenantQuota,
    },
    /// An earlier write failed, so that memory and disk may differ. Reads go on. A server opens the
    /// database anew by itself.
    #[error("an earlier write to the store failed; fix its cause (see the log), then wait or restart attune")]
    Failed,
    /// A file operation of ours failed.
    #[error("cannot {what} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// The operation, for example "read".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database under the store failed: most often a full disk or an I/O error.
    #[error("the store cannot {what}: {source}{}", advice(source))]
    Backend {
        /// The operation, for example "write".
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl StoreError {
    /// Wraps the error of a file operation: `.map_err(StoreError::io("read", &path))`.
    pub(super) fn io<'a>(
        what: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> StoreError + 'a {
        move |source| StoreError::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

fn join(aliases: &[Alias]) -> String {
    let names: Vec<&str> = aliases.iter().map(Alias::as_str).collect();
    names.join(", ")
}

/// What an operator can do about an I/O error. sled keeps the kind but not always the code.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space (everything that was acknowledged is safe)"
        }
        io::ErrorKind::FileTooLarge => {
            "; raise the file size limit, ulimit -f (everything that was acknowledged is safe)"
        }
        io::ErrorKind::PermissionDenied => "; make it readable and writable for this user",
        io::ErrorKind::ReadOnlyFilesystem => "; mount the file system for writing",
        _ => "",
    }
}
