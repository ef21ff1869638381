//! The store's directory: lock, marker, and the copy on which a recovery is rehearsed.
//!
//! | name | what |
//! |---|---|
//! | `STORE` | says that this is a store, and whether its creation was completed |
//! | `lock` | locked while the store is open |
//! | `sled/` | sled's files |
//! | `seal.json` | lengths and hashes of sled's files, while the store is closed |
//! | `rehearsal/` | a copy of `sled/`, only while a recovery is tried |
//! | `compacted/`, `replaced/` | the next and the last `sled/`, only while it is compacted |
//! | `erased` | only while something was erased whose bytes may be in the files still |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::StoreError;
use attune_files::replace::{self, Readers};

const LOCK: &str = "lock";
const MARKER: &str = "STORE";
const SLED: &str = "sled";
const REHEARSAL: &str = "rehearsal";
const COMPACTED: &str = "compacted";
const REPLACED: &str = "replaced";
const ERASED: &str = "erased";
/// What this directory has replaced whole.
const REPLACED_WHOLE: [&str; 3] = [MARKER, ERASED, crate::seal::NAME];

/// What sled writes into its file `conf` with our settings: text and a checksum. Another content
/// is damage, and sled would read the log with wrong settings.
const CONF: &[u8] = b"segment_size: 524288\nuse_compression: false\nversion: 0.34\n";
/// The length of the checksum after `CONF`.
const CONF_CHECKSUM: usize = 4;

/// A locked store directory.
pub(super) struct Dir {
    path: PathBuf,
    _lock: Locked,
}

/// A file whose lock we have, until this is dropped.
pub(super) struct Locked(pub(super) File);

/// How far the creation of a store came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// Not to the end: nothing in it was ever acknowledged.
    Creating,
    /// To the end.
    Ready,
}

impl Dir {
    /// Creates `path` if it does not exist, refuses what is not a store, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Dir, StoreError> {
        create(path)?;
        refuse_other_directories(path)?;
        let file = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .map_err(StoreError::io("open", &file))?;
        let lock = match lock.try_lock() {
            Ok(()) => Locked(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    dir: path.to_owned(),
                })
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &file)(error)),
        };
        replace::sweep(path, &REPLACED_WHOLE).map_err(StoreError::io("tidy", path))?;
        Ok(Dir {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where sled's files are.
    pub(super) fn sled(&self) -> PathBuf {
        self.path.join(SLED)
    }

    /// How far the creation came; `None` in an empty directory.
    pub(super) fn marker(&self) -> Result<Option<Marker>, StoreError> {
        let path = self.path.join(MARKER);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(StoreError::io("read", &path))?,
        };
        for marker in [Marker::Creating, Marker::Ready] {
            if text == marker.text().as_bytes() {
                return Ok(Some(marker));
            }
        }
        Err(self.damaged(vec![format!("{MARKER} has unexpected content")]))
    }

    /// Writes the marker.
    pub(super) fn set_marker(&self, marker: Marker) -> Result<(), StoreError> {
        write_atomically(&self.path, MARKER, marker.text().as_bytes())
    }

    /// Removes sled's files: only where the creation was not completed.
    pub(super) fn discard(&self) -> Result<(), StoreError> {
        remove_tree(&self.sled())
    }

    /// Whether the files that sled would silently make anew are there.
    pub(super) fn check_presence(&self) -> Result<(), StoreError> {
        let mut problems = Vec::new();
        let conf = self.sled().join("conf");
        match fs::read(&conf) {
            Ok(text) if text.len() == CONF.len() + CONF_CHECKSUM && text.starts_with(CONF) => {}
            Ok(_) => problems.push("sled/conf has unexpected content".to_owned()),
            Err(error) => problems.push(format!("sled/conf cannot be read: {error}")),
        }
        match fs::metadata(self.sled().join("db")) {
            Ok(file) if file.is_file() && file.len() > 0 => {}
            Ok(_) => problems.push("sled/db is empty".to_owned()),
            Err(error) => problems.push(format!("sled/db cannot be read: {error}")),
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(self.damaged(problems))
    }

    /// Runs `try_out` on a copy of sled's files, and removes the copy.
    pub(super) fn rehearse(
        &self,
        try_out: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let copy = self.path.join(REHEARSAL);
        remove_tree(&copy)?;
        let result = copy_tree(&self.sled(), &copy).and_then(|()| try_out(&copy));
        remove_tree(&copy)?;
        result
    }

    /// Where a compaction writes.
    pub(super) fn compacted(&self) -> PathBuf {
        self.path.join(COMPACTED)
    }

    /// Puts the compacted files in the place of sled's, and removes those. After a crash,
    /// [`Dir::tidy`] completes or undoes it.
    pub(super) fn swap_in_compacted(&self) -> Result<(), StoreError> {
        let (sled, compacted) = (self.sled(), self.compacted());
        let replaced = self.path.join(REPLACED);
        fs::rename(&sled, &replaced).map_err(StoreError::io("rename", &sled))?;
        if let Err(error) = fs::rename(&compacted, &sled) {
            // Back to where it was; if this fails too, the next open does it.
            let _ = fs::rename(&replaced, &sled);
            return Err(StoreError::io("rename", &compacted)(error));
        }
        sync_dir(&self.path)?;
        remove_tree(&replaced)?;
        sync_dir(&self.path)
    }

    /// Removes what a compaction left that was cut off. Its files are only then in place when they
    /// are complete.
    pub(super) fn tidy(&self) -> Result<(), StoreError> {
        let (sled, replaced) = (self.sled(), self.path.join(REPLACED));
        if replaced.exists() && !sled.exists() {
            fs::rename(&replaced, &sled).map_err(StoreError::io("rename", &replaced))?;
            sync_dir(&self.path)?;
        }
        remove_tree(&replaced)?;
        remove_tree(&self.compacted())
    }

    /// Remembers, across crashes, that something is to be erased from the files.
    pub(super) fn mark_erased(&self) -> Result<(), StoreError> {
        if self.is_marked_erased() {
            return Ok(());
        }
        write_atomically(&self.path, ERASED, b"")
    }

    /// Forgets it.
    pub(super) fn unmark_erased(&self) -> Result<(), StoreError> {
        let path = self.path.join(ERASED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
            Ok(()) => sync_dir(&self.path),
        }
    }

    /// Whether something was erased since the last compaction.
    pub(super) fn is_marked_erased(&self) -> bool {
        self.path.join(ERASED).exists()
    }

    /// The error of this directory with `problems`.
    pub(super) fn damaged(&self, problems: Vec<String>) -> StoreError {
        StoreError::Damaged {
            dir: self.path.clone(),
            problems,
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing alone would leave it locked while a process that was forked just now, and has not
        // come to its exec, holds a copy of the handle.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a lock on the store stays until this process ends");
        }
    }
}

impl Marker {
    fn text(self) -> &'static str {
        match self {
            Marker::Creating => "attune store, layout 1, creating\n",
            Marker::Ready => "attune store, layout 1, ready\n",
        }
    }
}

/// Replaces the file `name` of `dir`: after a crash it has the old content or the new one.
pub(super) fn write_atomically(dir: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let path = dir.join(name);
    replace::replace(&path, Readers::Umask, content).map_err(StoreError::io("write", &path))
}

/// Makes a database durable that sled has just made in `sled`: sled never syncs the file with its settings, without
/// which it cannot be opened.
pub(super) fn sync_new(sled: &Path) -> Result<(), StoreError> {
    let conf = sled.join("conf");
    let sync = File::open(&conf).and_then(|file| file.sync_all());
    sync.map_err(StoreError::io("sync", &conf))?;
    sync_dir(sled)
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    replace::sync_dir(dir).map_err(StoreError::io("sync", dir))
}

fn create(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => {
            return Err(StoreError::NotADirectory {
                dir: path.to_owned(),
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("read", path)(error)),
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    // It says who uses this server: nobody else's business.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(StoreError::io("create", path))
}

fn refuse_other_directories(path: &Path) -> Result<(), StoreError> {
    let mut found = None;
    for entry in fs::read_dir(path).map_err(StoreError::io("read", path))? {
        let name = entry.map_err(StoreError::io("read", path))?.file_name();
        match name.to_str() {
            Some(MARKER) => return Ok(()),
            // Left by a creation that was cut off before its first marker.
            Some(LOCK | "STORE.new") => {}
            Some(name) if replace::is_new(name.as_ref(), MARKER) => {}
            _ => found = Some(name.to_string_lossy().into_owned()),
        }
    }
    match found {
        None => Ok(()),
        Some(found) => Err(StoreError::NotAStore {
            dir: path.to_owned(),
            found,
        }),
    }
}

fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(StoreError::io("remove", path)),
    }
}

pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir(to).map_err(StoreError::io("create", to))?;
    for entry in fs::read_dir(from).map_err(StoreError::io("read", from))? {
        let entry = entry.map_err(StoreError::io("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(StoreError::io("copy", &source))?;
        }
    }
    Ok(())
}
