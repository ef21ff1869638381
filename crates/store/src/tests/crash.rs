//! Kill -9, and a disk that fills up: every acknowledged write survives, exactly as it was acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rand::{Rng, SeedableRng};

use super::*;

/// Tells the child where its store is; without it the child is an ordinary test that does nothing.
const DIR: &str = "ATTUNE_TEST_CRASH_DIR";
/// Tells the child the number of its first write.
const FIRST: &str = "ATTUNE_TEST_CRASH_FIRST";
/// Kills of one test run; the environment may ask for more.
const KILLS: u64 = 20;
/// How many kills, in the environment.
const MORE_KILLS: &str = "ATTUNE_TEST_KILLS";
/// Promotions between two compactions.
const COMPACT_EVERY: u64 = 24;

fn request(n: u64) -> Idempotent {
    Idempotent {
        key: attune_ids::IdempotencyKey::new(format!("key-{n}")).unwrap(),
        sha256: n.to_string(),
    }
}

/// Preference `n`, under an id that no other attempt has.
fn attempt(n: u64, number: u64) -> PreferenceRecord {
    let mut record = super::people::preference(n, Some("ann"));
    record.id = attune_ids::RecordId::new(format!("pref_{n}-{number}")).unwrap();
    record
}

/// Writes in three threads, compacts now and then, and prints the number of each write after it was
/// acknowledged. Never ends.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store = open(Path::new(&dir));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in first.. {
                store.put_user(&user("t", &n.to_string(), n)).unwrap();
                acknowledge("user", n);
            }
        });
        scope.spawn(|| {
            for n in first.. {
                let record = attempt(n, 1);
                store.insert_preference(&record, Some(&request(n))).unwrap();
                acknowledge("preference", n);
            }
        });
        let name = alias("a");
        let mut current = store.alias(&name).unwrap();
        for n in 0.. {
            let new = version((n % 2) as u8);
            store.insert_adapter(&adapter((n % 2) as u8)).unwrap();
            let seen = current.map(|record| record.version);
            let moved = store
                .compare_and_swap_alias(&name, seen.as_ref(), &new, n)
                .unwrap();
            acknowledge("promotion", moved.promotions);
            current = Some(moved);
            // Indexes that come and go with their records.
            let mut kept = super::people::completion(n % 40, Some("ann"), Some(n));
            kept.metadata.insert("n".to_owned(), (n % 3).to_string());
            store.insert_completion(&kept).unwrap();
            if n % 10 == 9 {
                store.sweep_completions(n).unwrap();
            }
            if n % COMPACT_EVERY == COMPACT_EVERY - 1 {
                store.compact().unwrap();
            }
            if n % COMPACT_EVERY == COMPACT_EVERY / 2 {
                store.snapshot().unwrap();
            }
        }
    });
}

fn acknowledge(what: &str, n: u64) {
    // One write call, so that a kill does not cut a line that counts.
    std::io::stdout()
        .write_all(format!("ack {what} {n}\n").as_bytes())
        .unwrap();
}

/// `room`: the child's files may grow by so many KiB, as on a disk that is nearly full.
fn start(dir: &Path, first: u64, room: Option<u64>) -> Child {
    // In units of 512 bytes; a process that ignores the signal sees an error.
    let limit = room.map_or("unlimited".to_owned(), |kib| {
        (largest_file(dir) / 512 + 2 * kib).to_string()
    });
    Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"",
            "sh",
            &limit,
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::crash::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Bytes of the largest file in or below `dir`.
fn largest_file(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(entry_is) if entry_is.is_dir() => largest_file(&entry.path()),
        Ok(entry_is) => entry_is.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).max().unwrap_or(0)
}

/// What a child acknowledged.
#[derive(Default)]
struct Acknowledged {
    users: Vec<u64>,
    preferences: Vec<u64>,
    promotions: u64,
}

impl Acknowledged {
    fn count(&self) -> u64 {
        // Promotions are few and numbered from the first child on.
        (self.users.len() + self.preferences.len()) as u64
    }
}

/// Lets the child acknowledge `until` writes, and kills it. One whose disk is full may end before.
fn kill_after(child: &mut Child, until: u64, may_end: bool) -> Acknowledged {
    let (mut acknowledged, mut seen) = (Acknowledged::default(), 0);
    // Lines that were written before the kill are read after it.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, ack)) = line.split_once("ack ") else {
            continue;
        };
        let (what, n) = ack.split_once(' ').unwrap();
        let n: u64 = n.parse().unwrap();
        match what {
            "user" => acknowledged.users.push(n),
            "preference" => acknowledged.preferences.push(n),
            _ => acknowledged.promotions = n,
        }
        seen += 1;
        if seen == until {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(
        seen >= until || may_end,
        "the child died by itself: {status}"
    );
    acknowledged
}

/// Every acknowledged preference is there once; the one that may have been on the way is there once
/// after it was sent again.
fn check_preferences(store: &Store, acknowledged: &[u64], on_the_way: u64) {
    let again = store.insert_preference(&attempt(on_the_way, 2), Some(&request(on_the_way)));
    again.unwrap();
    let records: Result<Vec<PreferenceRecord>, StoreError> = store.all_preferences().collect();
    let mut found: Vec<u64> = records
        .unwrap()
        .iter()
        .map(|record| record.created_unix_ms)
        .collect();
    found.sort_unstable();
    let mut expected = acknowledged.to_vec();
    expected.push(on_the_way);
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn acknowledged_writes_survive_kill_9_and_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(4);
    let (mut acknowledged, mut preferences) = (Vec::new(), Vec::new());
    let (mut promotions, mut filled_up) = (0, 0);
    let kills = std::env::var(MORE_KILLS).map_or(KILLS, |text| text.parse().unwrap());
    for kill in 0..kills {
        let first = kill * 1_000_000;
        // Each third child has little room, and time enough to use it up; mostly it dies of that.
        let room = (kill % 3 == 2).then(|| random.random_range(8..200));
        let mut child = start(dir.path(), first, room);
        let until = random.random_range(if room.is_some() { 100..900 } else { 1..90 });
        let new = kill_after(&mut child, until, room.is_some());
        filled_up += u64::from(room.is_some() && new.count() < until);
        acknowledged.extend(new.users);
        preferences.extend(&new.preferences);
        promotions = promotions.max(new.promotions);

        let store = open(dir.path());
        assert_clean(&store);
        let on_the_way = new.preferences.last().map_or(first, |last| last + 1);
        check_preferences(&store, &preferences, on_the_way);
        preferences.push(on_the_way);
        for &n in &acknowledged {
            let key = user_key("t", &n.to_string());
            assert_eq!(
                store.user(&key).unwrap(),
                Some(user("t", &n.to_string(), n)),
                "kill {kill}"
            );
        }
        let record = store.alias(&alias("a")).unwrap();
        let found = record.map_or(0, |record| record.promotions);
        assert!(
            found >= promotions && found <= promotions + 1,
            "{found} promotions, {promotions} acknowledged"
        );
        // Each killed child may have had one user on the way.
        let users = store.users().count();
        // Ann is one more.
        let most = acknowledged.len() + kill as usize + 2;
        assert!(
            (acknowledged.len()..=most).contains(&users),
            "{users} users, at most {most}"
        );
        promotions = found;
    }
    let least = kills as usize;
    assert!(acknowledged.len() > least && preferences.len() > 2 * least);
    assert!(promotions > kills);
    assert!(filled_up >= kills / 6, "{filled_up} disks were full");
}
