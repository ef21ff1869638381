//! Which files of large values are new: sled writes a large value to a file of its own, and never syncs it.
//!
//! The kernel tells the names of files as they appear, so that a commit looks at new files only, however
//! many there are. Where it cannot (another system, no watch left, too many at once) the directory is listed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The files of one database.
pub(super) struct NewBlobs {
    dir: PathBuf,
    watch: Option<watch::Watch>,
    /// All that were there when the directory was listed last.
    listed: BTreeSet<OsString>,
    /// New since they were taken last.
    new: Vec<OsString>,
}

impl NewBlobs {
    /// Of the directory `dir`, which sled has made. If `durable`, what is there already is no news.
    pub(super) fn of(dir: PathBuf, durable: bool) -> Result<NewBlobs, StoreError> {
        let mut blobs = NewBlobs {
            watch: watch::Watch::of(&dir),
            listed: BTreeSet::new(),
            new: Vec::new(),
            dir,
        };
        if blobs.watch.is_none() || !durable {
            blobs.list()?;
        }
        if durable {
            blobs.new.clear();
        }
        Ok(blobs)
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The names of the files that are new since the last [`settled`](Self::settled). Some may be gone.
    pub(super) fn look(&mut self) -> Result<&[OsString], StoreError> {
        let seen = self.watch.as_mut().and_then(watch::Watch::names);
        match seen {
            Some(names) => self.new.extend(names),
            None => {
                self.watch = None;
                self.list()?;
            }
        }
        Ok(&self.new)
    }

    /// What [`look`](Self::look) said is durable.
    pub(super) fn settled(&mut self) {
        self.new.clear();
    }

    fn list(&mut self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(StoreError::io("read", &self.dir))?;
        let names = entries.map(|entry| Ok(entry?.file_name()));
        let now: BTreeSet<OsString> = names
            .collect::<io::Result<_>>()
            .map_err(StoreError::io("read", &self.dir))?;
        self.new.extend(now.difference(&self.listed).cloned());
        self.listed = now;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod watch {
    use std::ffi::{OsStr, OsString};
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;

    /// What the kernel says of a directory.
    pub(super) struct Watch(OwnedFd);

    impl Watch {
        /// `None` where the kernel has no watch for us.
        pub(super) fn of(dir: &Path) -> Option<Watch> {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
            inotify::add_watch(&watch, dir, WatchFlags::CREATE | WatchFlags::MOVED_TO).ok()?;
            Some(Watch(watch))
        }

        /// The names that appeared since the last call; `None` if some may be missing.
        pub(super) fn names(&mut self) -> Option<Vec<OsString>> {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&self.0, &mut buffer);
            let mut names = Vec::new();
            loop {
                match events.next() {
                    Err(Errno::WOULDBLOCK) => return Some(names),
                    Err(Errno::INTR) => {}
                    Err(_) => return None,
                    Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => return None,
                    Ok(event) => {
                        let name = event
                            .file_name()
                            .map(|name| OsStr::from_bytes(name.to_bytes()));
                        names.extend(name.map(OsStr::to_owned));
                    }
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod watch {
    use std::ffi::OsString;
    use std::path::Path;

    /// There is none.
    pub(super) struct Watch;

    impl Watch {
        pub(super) fn of(_: &Path) -> Option<Watch> {
            None
        }

        pub(super) fn names(&mut self) -> Option<Vec<OsString>> {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(blobs: &mut NewBlobs) -> Vec<String> {
        let found = blobs.look().unwrap().iter();
        let mut found: Vec<String> = found.map(|n| n.to_string_lossy().into_owned()).collect();
        found.sort();
        found.dedup();
        found
    }

    fn make(dir: &Path, name: &str) {
        fs::write(dir.join(name), "x").unwrap();
    }

    #[test]
    fn each_file_is_new_once_with_a_watch_and_without() {
        for watched in [true, false] {
            for durable in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                make(dir.path(), "1");
                let mut blobs = NewBlobs::of(dir.path().to_owned(), durable).unwrap();
                if !watched {
                    blobs.watch = None;
                    blobs.list().unwrap();
                    blobs.new.retain(|_| !durable);
                }
                make(dir.path(), "2");
                let old = (!durable).then_some("1");
                let expected: Vec<&str> = old.into_iter().chain(["2"]).collect();
                assert_eq!(names(&mut blobs), expected, "{watched} {durable}");
                // Not durable yet: still new.
                assert_eq!(names(&mut blobs), expected);
                blobs.settled();
                assert_eq!(names(&mut blobs), [""; 0]);
                fs::remove_file(dir.path().join("1")).unwrap();
                make(dir.path(), "3");
                assert_eq!(names(&mut blobs), ["3"]);
            }
        }
    }

    /// The kernel keeps some 16,384 events; more are lost, and it says so.
    #[test]
    #[cfg(target_os = "linux")]
    fn too_many_at_once_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let mut blobs = NewBlobs::of(dir.path().to_owned(), true).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        if most > 100_000 {
            return;
        }
        for n in 0..most + 10 {
            // Equal events in a row count once: names differ.
            let path = dir.path().join(n.to_string());
            fs::hard_link(dir.path().join("0"), &path)
                .or_else(|_| fs::write(&path, "x"))
                .unwrap();
        }
        assert_eq!(names(&mut blobs).len(), most + 10);
    }
}
