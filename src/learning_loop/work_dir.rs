//! The directory of a loop, `loop/` in the data directory.
//!
//! A turn's snapshot and run hold people's ids and texts, so they are removed when it ends, and what a
//! turn that was killed left is removed by the next. The lock goes with the process that holds it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::secret::split_secret;
use super::LoopError;
use attune_train::dataset::split::SplitSecret;

const DIR: &str = "loop";
const TURN: &str = "turn";

/// The directory, held by one turn.
#[derive(Debug)]
pub struct WorkDir {
    dir: PathBuf,
    turn: PathBuf,
    /// Closed, and so unlocked, with this value.
    _lock: File,
}

impl WorkDir {
    /// Takes the directory of `data_dir`, and empties it.
    ///
    /// # Errors
    /// [`LoopError::Busy`]; a disk that fails.
    pub fn take(data_dir: &Path) -> Result<Self, LoopError> {
        let dir = data_dir.join(DIR);
        fs::create_dir_all(&dir).map_err(LoopError::io(&dir))?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(LoopError::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LoopError::Busy(data_dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(LoopError::Io { path, source }),
        }
        let turn = dir.join(TURN);
        remove(&turn)?;
        fs::create_dir(&turn).map_err(LoopError::io(&turn))?;
        Ok(Self {
            dir,
            turn,
            _lock: lock,
        })
    }

    /// What draws the pairs that are set aside in this data directory.
    ///
    /// # Errors
    /// A disk that fails; a file that holds something else.
    pub fn split_secret(&self) -> Result<SplitSecret, LoopError> {
        split_secret(&self.dir)
    }

    /// Where a turn in `data_dir` has its snapshot.
    pub fn snapshot_in(data_dir: &Path) -> PathBuf {
        data_dir.join(DIR).join(TURN).join("snapshot.jsonl")
    }

    /// Where a turn in `data_dir` trains.
    pub fn run_in(data_dir: &Path) -> PathBuf {
        data_dir.join(DIR).join(TURN).join("run")
    }

    /// Keeps the run in `kept`, under the version that came of it.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn keep_run(&self, kept: &Path, name: &str) -> Result<(), LoopError> {
        let to = kept.join(name);
        fs::create_dir_all(kept).map_err(LoopError::io(kept))?;
        remove(&to)?;
        let run = self.turn.join("run");
        if fs::rename(&run, &to).is_ok() {
            return Ok(());
        }
        // Another file system.
        copy_tree(&run, &to)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.turn) {
            tracing::warn!(%error, "what this turn wrote could not be removed; the next turn removes it");
        }
    }
}

fn remove(dir: &Path) -> Result<(), LoopError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LoopError::io(dir)(error))
        }
        _ => Ok(()),
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), LoopError> {
    fs::create_dir_all(to).map_err(LoopError::io(to))?;
    for entry in fs::read_dir(from).map_err(LoopError::io(from))? {
        let entry = entry.map_err(LoopError::io(from))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &to)?;
        } else {
            fs::copy(&path, &to).map_err(LoopError::io(&to))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_at_a_time_and_nothing_is_left() {
        let data = tempfile::tempdir().unwrap();
        let (first, run) = (
            WorkDir::take(data.path()).unwrap(),
            WorkDir::run_in(data.path()),
        );
        fs::create_dir_all(run.join("bundle")).unwrap();
        fs::write(run.join("bundle").join("x"), "1").unwrap();
        let second = WorkDir::take(data.path()).unwrap_err();
        assert!(matches!(second, LoopError::Busy(_)), "{second}");
        let kept = data.path().join("kept");
        first.keep_run(&kept, "abc").unwrap();
        assert!(kept.join("abc").join("bundle").join("x").is_file());
        fs::write(WorkDir::snapshot_in(data.path()), "alice").unwrap();
        drop(first);
        assert!(!WorkDir::snapshot_in(data.path()).exists());
        // A turn that was killed drops nothing.
        fs::create_dir_all(&run).unwrap();
        let third = WorkDir::take(data.path()).unwrap();
        assert!(!run.exists());
        drop(third);
    }
}
