//! Preferences a second with durable acknowledgement, at 1, 16 and 128 writers; beside it plain sled
//! with one flush per record, which does less: no index, no counts, no idempotency, no fdatasync.
//!
//!   preference_writes [SECONDS=3] [DIR]
//!
//! DIR should be on the disk that a store would be on.

#![expect(clippy::print_stdout, reason = "its figures are for a terminal")]

use std::env::args;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use attune_ids::{IdempotencyKey, RecordId, Tenant, UserId};
use attune_store::{ComparedAnswer, Idempotent, PreferenceRecord, PreferenceSource, Store, Turn};

fn main() -> Result<()> {
    let seconds = args().nth(1).map_or(Ok(3), |text| text.parse())?;
    let span = Duration::from_secs(seconds);
    let parent = args().nth(2).unwrap_or_else(|| ".".to_owned());
    for writers in [1, 16, 128] {
        let dir = tempfile::tempdir_in(&parent)?;
        let store = Store::open(&dir.path().join("store"), 0)?;
        let ours = measure(writers, span, |n| {
            let request = Idempotent {
                key: IdempotencyKey::new(format!("key-{n}"))?,
                sha256: "0".repeat(64),
            };
            store.insert_preference(&record(n)?, Some(&request))?;
            Ok(())
        })?;
        let plain = measure_plain_sled(writers, span, dir.path())?;
        println!(
            "{writers} writers: attune {:.0} preferences/s, mean {:.2} ms; plain sled, a flush per record: {:.0}/s, {:.2} ms",
            ours.0, ours.1, plain.0, plain.1
        );
    }
    Ok(())
}

fn measure_plain_sled(writers: u64, span: Duration, dir: &Path) -> Result<(f64, f64)> {
    let db = sled::Config::new()
        .path(dir.join("plain"))
        .flush_every_ms(None)
        .open()?;
    measure(writers, span, |n| {
        let value = serde_json::to_vec(&record(n)?)?;
        db.insert(n.to_be_bytes(), value)?;
        db.flush()?;
        Ok(())
    })
}

/// Writes per second, and the mean time of one in milliseconds.
fn measure(
    writers: u64,
    span: Duration,
    write: impl Fn(u64) -> Result<()> + Sync,
) -> Result<(f64, f64)> {
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let one = || -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            write(next.fetch_add(1, Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(one)).collect();
        std::thread::sleep(span);
        over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let done = next.load(Ordering::Relaxed) as f64;
    Ok((done / seconds, 1000.0 * seconds * writers as f64 / done))
}

/// A preference as an app sends it: a question and two answers of some hundred characters.
fn record(n: u64) -> Result<PreferenceRecord> {
    let answer = |text: &str| ComparedAnswer {
        text: text.repeat(8),
        completion: None,
        index: None,
        adapter_version: None,
    };
    Ok(PreferenceRecord {
        tenant: Tenant::default(),
        id: RecordId::generate("pref_", n),
        user: Some(UserId::new(format!("user-{}", n % 1000))?),
        created_unix_ms: n,
        source: PreferenceSource::Texts,
        adapter_version: None,
        messages: vec![Turn {
            role: "user".to_owned(),
            content: "What should change in this town to make it a better place?".to_owned(),
        }],
        chosen: answer("More trees along the main road. "),
        rejected: answer("Nothing at all, it is fine as is. "),
    })
}
