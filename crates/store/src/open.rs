//! From a directory to a [`Store`], and back.
//!
//! What a failed open leaves behind is what it found. Files that do not match their seal are not
//! opened at all. A store without a seal was killed, and one with an older schema must change: both
//! are first recovered, migrated and verified on a copy, and the real files follow only if that
//! went well.

use std::fs::File;
use std::io::{self, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::durable::Found;
use crate::files::{Dir, Locked, Marker};
use crate::meta::{self, Meta, State};
use crate::migrate::{self, SCHEMA};
use crate::migrations::MIGRATIONS;
use crate::moments::Moments;
use crate::quota::TenantQuota;
use crate::seal::Seal;
use crate::space::Space;
use crate::trees::Trees;
use crate::{compact, greatest, users, verify, StoreError, StoreInfo};

/// How long closing waits for sled's threads to let go of the files. A store that is not sealed in
/// time is recovered at the next open, as after a kill.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);

/// How long readers of a store that has failed may take before it is opened anew.
const MEND_PATIENCE: Duration = Duration::from_secs(5);

/// What the write probe writes: more than a file system keeps beside a file's name.
const PROBE_BYTES: usize = 4096;

/// An open store. Clones share it; it closes with the last one. One process at a time.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` only while dropping.
    trees: Option<Trees>,
    dir: Dir,
    /// Held by who reads everything: one at a time.
    alone: Mutex<()>,
    /// How many people were erased since the store was opened.
    erasures: AtomicU64,
    moments: Moments,
    /// What a tenant may have; `None`: as much as there is room for.
    quota: RwLock<Option<TenantQuota>>,
}

impl Store {
    /// Opens the store in `dir`, and creates it if `dir` is empty or does not exist;
    /// `now_unix_ms` is then its time of creation. Older records are migrated.
    ///
    /// # Errors
    /// Not a directory, not a store, locked, newer than this build, damaged, or not accessible. In
    /// each case its records are as they were.
    pub fn open(dir: &Path, now_unix_ms: u64) -> Result<Store, StoreError> {
        let dir = Dir::lock(dir)?;
        if dir.marker()? != Some(Marker::Ready) {
            return Store::create(dir, now_unix_ms);
        }
        dir.tidy()?;
        dir.check_presence()?;
        let seal = Seal::read(&dir)?;
        if let Some(seal) = &seal {
            let origin = dir.path().display().to_string();
            migrate::refuse_newer(seal.schema, || origin)?;
            let differences = seal.differences(&dir)?;
            if !differences.is_empty() {
                return Err(dir.damaged(differences));
            }
        }
        let found = match &seal {
            Some(_) => Found::Durable,
            None => Found::Unknown,
        };
        if seal.is_none_or(|seal| seal.schema != SCHEMA) {
            dir.rehearse(|copy| try_out(&dir, copy))?;
        }
        Seal::remove(&dir)?;
        let trees = Trees::open(&dir.sled(), found)?;
        // From here on, dropping `store` closes and seals what was opened.
        let store = Store::new(dir, trees);
        make_current(store.trees(), store.dir())?;
        store.trees().load_serving()?;
        greatest::keep_ids_above(store.trees(), store.moments())?;
        store.recall_deletions()?;
        Ok(store)
    }

    fn create(dir: Dir, now_unix_ms: u64) -> Result<Store, StoreError> {
        dir.set_marker(Marker::Creating)?;
        dir.discard()?;
        let store = Store::new_in(dir)?;
        store.trees().writer()?.set_meta(&Meta {
            schema: SCHEMA,
            store_id: format!("{:032x}", rand::random::<u128>()),
            created_unix_ms: now_unix_ms,
            state: State::Ready,
        })?;
        store.inner.dir.set_marker(Marker::Ready)?;
        store.trees().load_serving()?;
        Ok(store)
    }

    fn new_in(dir: Dir) -> Result<Store, StoreError> {
        let trees = Trees::open(&dir.sled(), Found::Durable)?;
        crate::files::sync_new(&dir.sled())?;
        Ok(Store::new(dir, trees))
    }

    fn new(dir: Dir, trees: Trees) -> Store {
        let trees = Some(trees);
        Store {
            inner: Arc::new(Inner {
                trees,
                dir,
                alone: Mutex::new(()),
                erasures: AtomicU64::new(0),
                moments: Moments::default(),
                quota: RwLock::new(None),
            }),
        }
    }

    /// Its schema version, name and time of creation.
    ///
    /// # Errors
    /// The record about the store cannot be read.
    pub fn info(&self) -> Result<StoreInfo, StoreError> {
        Ok(current_meta(self.trees())?.into())
    }

    /// Returns once every earlier write is durable. Writes that returned `Ok` already are.
    ///
    /// # Errors
    /// The flush fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.trees().writer()?.commit(&[])
    }

    /// Keeps `bytes` of the disk free, as `space` says how much there is: writes that make the store
    /// larger are refused while less is free.
    pub fn keep_free(&self, bytes: u64, space: Arc<dyn Space>) {
        self.trees().room().keep(bytes, space);
    }

    /// Whether the disk has room for a file of `bytes` that is not the store's.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]: less than what is to be kept free would be left.
    pub fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.trees().room().for_file(bytes)
    }

    /// Whether the store would take a write now: no write has failed, there is room, and the disk takes
    /// a small file beside the store. The store itself is not written to, since a write that fails there
    /// stops all further ones.
    ///
    /// # Errors
    /// Why it would not.
    pub fn is_writable(&self) -> Result<(), StoreError> {
        self.trees().check()?;
        self.trees().room().for_record()?;
        let dir = self.inner.dir.path();
        let probe = || {
            let mut file = tempfile::tempfile_in(dir)?;
            file.write_all(&[0; PROBE_BYTES])?;
            file.sync_data()
        };
        probe().map_err(StoreError::io("write to", dir))
    }

    /// Opens the database of a store that has failed anew, as after a kill: recovery is tried on a copy
    /// first. What was acknowledged is there; the write that failed may be. Nothing is done to a store
    /// that has not failed.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`] for the copy, [`StoreError::Busy`] if a reader does not end in time, and what
    /// an open says: the store has failed still.
    pub fn mend(&self) -> Result<(), StoreError> {
        if self.trees().check().is_ok() {
            return Ok(());
        }
        let _alone = self.alone();
        let dir = self.dir();
        self.trees().room().for_copy(compact::size(&dir.sled())?)?;
        self.trees().reopen(MEND_PATIENCE, || {
            drop(let_go(&dir.sled())?);
            dir.rehearse(|copy| try_out(dir, copy))
        })
    }

    /// Waits until nobody else reads everything.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        let alone = &self.inner.alone;
        alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many people were erased since the store was opened.
    pub(super) fn erasures(&self) -> u64 {
        self.inner.erasures.load(Ordering::SeqCst)
    }

    /// What a tenant may have.
    pub(super) fn quota(&self) -> &RwLock<Option<TenantQuota>> {
        &self.inner.quota
    }

    /// Somebody is erased: the writer's call.
    pub(super) fn count_erasure(&self) {
        self.inner.erasures.fetch_add(1, Ordering::SeqCst);
    }

    /// Records, and entries of indexes, that were read since the store was opened: what a call costs.
    pub fn records_read(&self) -> u64 {
        self.trees().reads()
    }

    /// When a request begins that may write records of people, in milliseconds since 1970: the time of the
    /// records that it writes. What began before its person was deleted is refused, whenever it comes to
    /// writing.
    pub fn begin(&self, now_unix_ms: u64) -> u64 {
        self.inner.moments.begin(now_unix_ms)
    }

    /// In which order things came.
    pub(super) fn moments(&self) -> &Moments {
        &self.inner.moments
    }

    /// The database.
    pub(super) fn trees(&self) -> &Trees {
        // Only `Inner::drop` takes it, and then no `Store` is left.
        #[expect(clippy::expect_used, reason = "see the line above")]
        self.inner.trees.as_ref().expect("the store is open")
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Dir {
        &self.inner.dir
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.inner.dir.path().display())
    }
}

/// The record about the store.
pub(super) fn current_meta(trees: &Trees) -> Result<Meta, StoreError> {
    trees.meta()?.ok_or_else(|| StoreError::BadRecord {
        tree: meta::TREE,
        key: String::from_utf8_lossy(meta::META_KEY).into_owned(),
        reason: "it is missing".to_owned(),
    })
}

/// On a copy: recovery, migration, and a look at every record.
fn try_out(dir: &Dir, copy: &Path) -> Result<(), StoreError> {
    let attempt = || {
        let trees = Trees::open(copy, Found::Durable)?;
        make_current(&trees, dir)?;
        verify::verify(&trees)
    };
    // sled asserts, rather than fails, on some damaged files. Nothing outlives the copy.
    let Ok(result) = catch_unwind(AssertUnwindSafe(attempt)) else {
        return Err(dir.damaged(vec!["sled's files make no sense".to_owned()]));
    };
    match result {
        Ok(report) if report.is_clean() => Ok(()),
        Ok(report) => Err(dir.damaged(report.problems)),
        Err(error) if is_damage(&error) => Err(dir.damaged(vec![error.to_string()])),
        Err(error) => Err(error),
    }
}

fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::BadRecord { .. } => true,
        // What sled reports of its files, as opposed to what the file system reports to it.
        StoreError::Backend { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other
        ),
        _ => false,
    }
}

/// Discards an import that was interrupted, and migrates older records.
fn make_current(trees: &Trees, dir: &Dir) -> Result<(), StoreError> {
    users::refuse_white_space(trees, dir.path())?;
    let value = trees.get(meta::TREE, meta::META_KEY)?;
    if let Some(schema) = value.as_deref().and_then(meta::schema_of) {
        migrate::refuse_newer(schema, || dir.path().display().to_string())?;
    }
    let mut current = current_meta(trees)?;
    if current.state == State::Importing {
        let writer = trees.writer()?;
        writer.clear()?;
        current.state = State::Ready;
        writer.set_meta(&current)?;
    }
    migrate::migrate(trees, current, MIGRATIONS)
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(trees) = self.trees.take() else {
            return;
        };
        // A store whose write failed stays unsealed: the next open looks at every record.
        let sound = trees.check();
        let schema = current_meta(&trees).map(|meta| meta.schema);
        drop(trees);
        let sealed = let_go(&self.dir.sled()).and_then(|_db| {
            sound?;
            Seal::of(&self.dir, schema?)?.write(&self.dir)
        });
        if let Err(error) = sealed {
            tracing::warn!(%error, "the store was closed without a seal; it is verified when it is opened");
        }
    }
}

/// Waits until sled's threads, which may have some work left after the database was dropped, let go
/// of its files. They are ours until the result is dropped.
pub(super) fn let_go(sled: &Path) -> Result<Locked, StoreError> {
    let path = sled.join("db");
    let db = File::open(&path).map_err(StoreError::io("open", &path))?;
    let deadline = Instant::now() + SEAL_PATIENCE;
    while let Err(error) = db.try_lock() {
        if Instant::now() > deadline {
            return Err(StoreError::io("lock", &path)(error.into()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Locked(db))
}
