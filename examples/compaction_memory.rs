//! Does memory grow by compactions, or with what the store holds? First people come and half of them stay, then all of
//! them come and go, and after each round the store is compacted:
//!
//! ```text
//! cargo run --release --example compaction_memory [ROUNDS]
//! ```

#![expect(clippy::print_stdout, reason = "its figures are for a terminal")]

use std::error::Error;
use std::fs;

use attune_ids::{RecordId, Tenant, UserId, UserKey};
use attune_store::{ComparedAnswer, PreferenceRecord, PreferenceSource, Store, Turn};

/// People of a round, and what each of them prefers.
const PEOPLE: u64 = 40;
const PREFERENCES: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u64 = std::env::args().nth(1).map_or(Ok(60), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path(), 0)?;
    println!("round  MiB  descriptors  records");
    for round in 0..rounds {
        for person in 0..PEOPLE {
            for n in 0..PREFERENCES {
                prefer(&store, person, (round * PEOPLE + person) * PREFERENCES + n)?;
            }
        }
        let grows = round < rounds / 2;
        let gone = if grows { PEOPLE / 2 } else { PEOPLE };
        for person in 0..gone {
            store.erase_user(&key(person)?, round)?;
        }
        store.compact()?;
        if round % 10 == 9 {
            let records: u64 = store.verify()?.records.values().sum();
            let descriptors = fs::read_dir("/proc/self/fd")?.count();
            println!(
                "{:>5} {:>4} {descriptors:>12} {records:>8}",
                round + 1,
                resident_mib()?
            );
        }
    }
    Ok(())
}

fn key(person: u64) -> Result<UserKey, Box<dyn Error>> {
    Ok(UserKey {
        tenant: Tenant::default(),
        user: UserId::new(format!("user-{person}"))?,
    })
}

fn prefer(store: &Store, person: u64, n: u64) -> Result<(), Box<dyn Error>> {
    let answer = |text: &str| ComparedAnswer {
        text: text.repeat(40),
        completion: None,
        index: None,
        adapter_version: None,
    };
    let record = PreferenceRecord {
        tenant: Tenant::default(),
        id: RecordId::new(format!("pref_{n:012}"))?,
        user: Some(key(person)?.user),
        created_unix_ms: store.begin(n),
        source: PreferenceSource::Texts,
        adapter_version: None,
        messages: vec![Turn {
            role: "user".into(),
            content: format!("Question {n}?"),
        }],
        chosen: answer("tea "),
        rejected: answer("coffee "),
    };
    store.insert_preference(&record, None)?;
    Ok(())
}

fn resident_mib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? / 1024)
}
