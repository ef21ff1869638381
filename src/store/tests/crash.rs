//! Kill -9: every acknowledged write survives, exactly as it was acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use rand::{Rng, SeedableRng};

use super::*;

/// Tells the child where its store is; without it the child is an ordinary test that does nothing.
const DIR: &str = "ATTUNE_TEST_CRASH_DIR";
/// Tells the child the number of its first write.
const FIRST: &str = "ATTUNE_TEST_CRASH_FIRST";
/// Kills of one test run.
const KILLS: u64 = 20;

/// Writes in two threads, and prints the number of each write after it was acknowledged. Never ends.
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
        }
    });
}

fn acknowledge(what: &str, n: u64) {
    // One write call, so that a kill does not cut a line that counts.
    std::io::stdout()
        .write_all(format!("ack {what} {n}\n").as_bytes())
        .unwrap();
}

fn start(dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::crash::child",
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

/// Lets the child acknowledge `until` writes, kills it, and gives (users, promotions) acknowledged.
fn kill_after(child: &mut Child, until: u64) -> (Vec<u64>, u64) {
    let (mut users, mut promotions, mut seen) = (Vec::new(), 0, 0);
    // Lines that were written before the kill are read after it.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((_, ack)) = line.split_once("ack ") else {
            continue;
        };
        let (what, n) = ack.split_once(' ').unwrap();
        let n: u64 = n.parse().unwrap();
        match what {
            "user" => users.push(n),
            _ => promotions = n,
        }
        seen += 1;
        if seen == until {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(seen >= until, "the child died by itself: {status}");
    (users, promotions)
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(4);
    let (mut acknowledged, mut promotions) = (Vec::new(), 0);
    for kill in 0..KILLS {
        let mut child = start(dir.path(), kill * 1_000_000);
        let (users, moved) = kill_after(&mut child, random.random_range(1..60));
        acknowledged.extend(users);
        promotions = promotions.max(moved);

        let store = open(dir.path());
        assert_clean(&store);
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
        let most = acknowledged.len() + kill as usize + 1;
        assert!(
            (acknowledged.len()..=most).contains(&users),
            "{users} users, at most {most}"
        );
        promotions = found;
    }
    assert!(acknowledged.len() as u64 > KILLS && promotions > KILLS);
}
