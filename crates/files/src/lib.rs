//! Regular files, opened without surprises, and replaced whole or not at all ([`replace`]).
//!
//! A path that a client or an operator names may be anything: a FIFO that keeps its reader waiting for ever,
//! a device, a link to somewhere else. A look at the path before it is opened decides nothing, as it can be
//! replaced in between: what was opened is looked at.

pub mod replace;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// What becomes of a symbolic link at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is followed: operators keep keys and models behind links.
    Follow,
    /// It is refused: the file came from somebody else.
    Refuse,
}

/// Opens a regular file for reading, and tells its size in bytes. Never waits for a writer.
///
/// # Errors
/// The system's, for example `NotFound`; `InvalidInput` for anything but a regular file.
pub fn open(path: &Path, links: Links) -> io::Result<(File, u64)> {
    let file = options(links).open(path).map_err(|error| match links {
        Links::Refuse if is_link(path) => not_regular(),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_regular());
    }
    Ok((file, metadata.len()))
}

/// The whole of a regular file of at most `max` bytes.
///
/// # Errors
/// As [`open`]; `FileTooLarge`.
pub fn read(path: &Path, max: u64, links: Links) -> io::Result<Vec<u8>> {
    let (file, _) = open(path, links)?;
    read_open(file, max)
}

/// What is left of an open file, at most `max` bytes.
///
/// # Errors
/// The system's; `FileTooLarge`.
pub fn read_open(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than it may have: a file that grows meanwhile is not read on.
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let what = format!("it has more than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn options(links: Links) -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let nofollow = match links {
        Links::Follow => 0,
        Links::Refuse => libc::O_NOFOLLOW,
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | nofollow);
    options
}

#[cfg(not(unix))]
fn options(_: Links) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

/// For the message only.
fn is_link(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.is_symlink())
}

fn not_regular() -> io::Error {
    let what = "it must be a regular file, not a link, directory, pipe or device";
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "abc").unwrap();
        symlink("file", at("link")).unwrap();
        // Opened in the usual way, a pipe without a writer would hold this test for ever.
        let made = Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(made.success());
        symlink("pipe", at("link-to-pipe")).unwrap();
        for links in [Links::Follow, Links::Refuse] {
            assert_eq!(read(&at("file"), 3, links).unwrap(), b"abc");
            for name in ["pipe", "link-to-pipe", "."] {
                let error = read(&at(name), 3, links).unwrap_err();
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::InvalidInput,
                    "{name} {links:?}"
                );
            }
            let error = read(&at("nothing"), 3, links).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            let error = read(Path::new("/dev/null"), 3, links).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(read(&at("link"), 3, Links::Follow).unwrap(), b"abc");
        let error = read(&at("link"), 3, Links::Refuse).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn no_more_is_read_than_was_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "abcd").unwrap();
        let error = read(&path, 3, Links::Follow).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&path, u64::MAX, Links::Follow).unwrap(), b"abcd");
    }
}
