//! A disk that is full: the write fails with a clear error, and earlier records are intact.
//!
//! A limit on the size of files stands in for the disk: the same write fails at the same place,
//! with another error code. Linux reports it as an error to a process that ignores the signal.

#![cfg(target_os = "linux")]

use std::process::Command;

use super::*;

/// Tells the child where its store is; without it the child is an ordinary test that does nothing.
const DIR: &str = "ATTUNE_TEST_FULL_DIR";

/// Writes until it fails, and prints how far it came and why it stopped.
#[test]
fn child() {
    use std::io::Write;

    let Ok(dir) = std::env::var(DIR) else { return };
    let store = open(Path::new(&dir));
    let (written, error) = (0..)
        .find_map(|n| {
            let record = AdapterRecord {
                name: Some(format!("{n} {}", "x".repeat(2000))),
                ..adapter(1)
            };
            let record = AdapterRecord {
                version: AdapterVersion::new(format!("{n:064x}")).unwrap(),
                ..record
            };
            store.insert_adapter(&record).err().map(|error| (n, error))
        })
        .unwrap();
    let next = store.put_user(&user("t", "u", 1)).unwrap_err();
    assert!(matches!(next, StoreError::Failed), "{next}");
    assert!(store.is_writable().is_err());
    assert!(store.adapter(&version(0)).unwrap().is_some(), "reads go on");
    // While there is no room it stays so; then it is opened anew, and nothing is lost.
    assert!(store.mend().is_err());
    raise_limit();
    store.mend().unwrap();
    for n in 0..written {
        let version = AdapterVersion::new(format!("{n:064x}")).unwrap();
        assert!(
            store.adapter(&version).unwrap().is_some(),
            "{n} of {written}"
        );
    }
    store.put_user(&user("t", "after", 1)).unwrap();
    let line = format!("\nwritten {written} {error}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// As if the disk had been made larger.
fn raise_limit() {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Fsize, raised).unwrap();
}

#[test]
fn a_full_disk_is_an_error_and_earlier_records_are_intact() {
    let dir = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    // 4 MiB: some segments of sled's log. In units of 512 bytes.
    let script = "trap '' XFSZ; ulimit -S -f 8192; exec \"$0\" \
                  --exact tests::full_disk::child --nocapture --test-threads=1";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(exe)
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stdout
        .lines()
        .find_map(|line| line.strip_prefix("written "));
    let line = line.unwrap_or_else(|| panic!("{stdout}\n{stderr}"));
    let (written, error) = line.split_once(' ').unwrap();
    let written: usize = written.parse().unwrap();
    assert!(written > 100, "{line}");
    assert!(
        error.contains("everything that was acknowledged is safe"),
        "{error}"
    );

    let store = open(dir.path());
    assert_clean(&store);
    let found = store.adapters().unwrap().len();
    // The write that failed may have reached the disk.
    assert!(
        found == written || found == written + 1,
        "{found} found, {written} written"
    );
    let after = store.user(&user_key("t", "after")).unwrap();
    assert_eq!(after, Some(user("t", "after", 1)));
    store.put_user(&user("t", "u", 1)).unwrap();
}
