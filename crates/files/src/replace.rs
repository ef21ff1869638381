//! Files that are there whole or not at all: written beside their place, forced to disk, renamed into it.
//!
//! After a crash there is the old file or the new one, and after `Ok` the new one, even if the power fails. A
//! symbolic link in the file's place is replaced, not followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Everybody whom the umask of this process lets, as with any other file.
    Umask,
    /// Its owner, and the group that could read the file in its place; whose that was, it stays. Without such
    /// a file: its owner alone.
    AsBefore,
}

/// Replaces the file at `path` by `bytes`.
///
/// # Errors
/// A directory that is missing or cannot be written, or a full disk; `path` is as it was.
pub fn replace(path: &Path, readers: Readers, bytes: &[u8]) -> io::Result<()> {
    let mut file = Replacement::begin(path, readers)?;
    file.write_all(bytes)?;
    file.finish()
}

/// A file that is being written, to take the place of another or of none. Dropped before
/// [`finish`](Self::finish), it leaves everything as it was.
#[derive(Debug)]
pub struct Replacement {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    readers: Readers,
}

impl Replacement {
    /// For the file at `path`.
    ///
    /// # Errors
    /// A directory that is missing or cannot be written.
    pub fn begin(path: &Path, readers: Readers) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let prefix = prefix(path.file_name().unwrap_or_default());
        builder.prefix(&prefix);
        #[cfg(unix)]
        if readers == Readers::Umask {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        Ok(Self {
            file: BufWriter::new(builder.tempfile_in(parent(path))?),
            path: path.to_owned(),
            readers,
        })
    }

    /// Puts it in its place, durably.
    ///
    /// # Errors
    /// A disk that is full or fails, or a file whose owner it cannot have; `path` is as it was, unless only its
    /// directory could not be forced to disk.
    pub fn finish(self) -> io::Result<()> {
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        if self.readers == Readers::AsBefore {
            keep_owner(&self.path, file.as_file())?;
        }
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        sync_dir(parent(&self.path))
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes what killed processes left of new files `names` in `dir`. Only for the one process that writes them.
///
/// # Errors
/// The directory cannot be read or written.
pub fn sweep(dir: &Path, names: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if names.iter().any(|name| is_new(&entry.file_name(), name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether `found` is the name of a new file `name` that is not in its place yet.
pub fn is_new(found: &OsStr, name: &str) -> bool {
    let prefix = prefix(name.as_ref());
    found
        .as_encoded_bytes()
        .starts_with(prefix.as_encoded_bytes())
}

/// Forces the names in `dir` to disk, where the system can.
///
/// # Errors
/// A directory that is missing, or a disk that fails.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// The folder of `path`. A bare name has an empty parent, which no system opens.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What the names of a file begin with before it is in its place.
fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".new-");
    prefix
}

/// Gives `new` the owner of the file at `path`, and its group the right to read it if it had that.
#[cfg(unix)]
fn keep_owner(path: &Path, new: &File) -> io::Result<()> {
    use std::os::unix::fs::{fchown, MetadataExt, PermissionsExt};
    let old = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let mine = new.metadata()?;
    if (mine.uid(), mine.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(fs::Permissions::from_mode(0o600 | (old.mode() & 0o040)))
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_and_a_failure_leaves_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for text in ["one", "two"] {
            replace(&path, Readers::Umask, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mut given_up = Replacement::begin(&path, Readers::Umask).unwrap();
        given_up.write_all(b"three").unwrap();
        assert_eq!(names(dir.path()), 2);
        drop(given_up);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), 1);
        let nowhere = dir.path().join("missing/f");
        let error = replace(&nowhere, Readers::Umask, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        // A directory is in its place.
        let error = replace(dir.path(), Readers::Owner, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_file_can_be_read_by_whom_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("plain"), "x").unwrap();
        for (readers, expected) in [
            (Readers::Owner, 0o600),
            (Readers::Umask, mode(&at("plain"))),
            (Readers::AsBefore, 0o600),
        ] {
            let path = at(&format!("{readers:?}"));
            replace(&path, readers, b"x").unwrap();
            assert_eq!(mode(&path), expected, "{readers:?}");
        }
        for (before, after) in [(0o640, 0o640), (0o664, 0o640), (0o404, 0o600)] {
            fs::set_permissions(at("plain"), fs::Permissions::from_mode(before)).unwrap();
            replace(&at("plain"), Readers::AsBefore, b"x").unwrap();
            assert_eq!(mode(&at("plain")), after);
        }
    }

    #[test]
    fn a_link_is_replaced_and_what_it_names_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (link, other) = (dir.path().join("link"), dir.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        symlink("other", &link).unwrap();
        replace(&link, Readers::Owner, b"ours").unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"ours");
        assert!(!link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
    }

    #[test]
    fn what_a_kill_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "").unwrap();
        for name in ["a", "b"] {
            let killed = Replacement::begin(&at(name), Readers::Owner).unwrap();
            killed.file.into_inner().unwrap().keep().unwrap();
        }
        assert_eq!(names(dir.path()), 3);
        sweep(dir.path(), &["a", "c"]).unwrap();
        assert_eq!(names(dir.path()), 2);
        assert!(at("a").exists());
    }
}
