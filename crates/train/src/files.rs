//! Files that are there whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

use super::TrainError;

/// Replaces `path` by `bytes`: written beside it, forced to disk, renamed. A crash leaves the old
/// file or the new one.
///
/// # Errors
/// A directory that cannot be written, or a full disk; `path` is as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    // A bare name has an empty parent, which no system opens.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let write = || {
        let mut file = beside(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        if cfg!(unix) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(TrainError::io(path))
}

/// A file with the permissions of any other: a temporary one would be its owner's alone, and the
/// trainer and the server may be different users.
fn beside(parent: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_file_has_the_permissions_of_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        replace(&ours, b"x").unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_file_is_replaced_and_a_failure_leaves_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = dir.path().join("missing/f");
        let problem = replace(&nowhere, b"x").unwrap_err().to_string();
        assert!(problem.contains("missing/f"), "{problem}");
    }
}
