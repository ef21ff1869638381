//! Background writers beside the requests of a level.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use loadtest::table;

use crate::fake_preferences::WRITE;
use crate::fake_server::FakeServer;
use crate::{run_on, scenario};

const LOAD: &str = "kind = \"closed\"\nconcurrency = [2]\nrequests = 8";

fn request(preferences: &str) -> String {
    format!("max_tokens = 2\n[preferences]\n{preferences}")
}

#[tokio::test]
async fn writers_are_levels_and_their_numbers_stand_beside_the_chats() {
    let server = FakeServer::start().await;
    let scenario = scenario(LOAD, &request("writers = [0, 3]\nusers = 5"));
    let report = run_on(&server, &scenario).await;
    let labels: Vec<&str> = report.levels.iter().map(|l| l.label.as_str()).collect();
    assert_eq!(labels, ["c=2 distinct-3 w=0", "c=2 distinct-3 w=3"]);
    assert!(report.levels.iter().all(|level| level.numbers.ok == 8));
    assert_eq!(report.levels[0].preferences, None);

    let writes = report.levels[1].preferences.as_ref().unwrap();
    assert_eq!((writes.writers, writes.failed), (3, 0));
    let bodies = server.seen.preferences.bodies.lock().unwrap();
    assert_eq!(writes.ok, bodies.len() as u64);
    // Each writer waits for its answer: no more than three at once, and no fewer.
    let most = server.seen.preferences.max_in_flight.load(Ordering::SeqCst);
    assert_eq!(most, 3);
    let rate_at_most = 3.0 / WRITE.as_secs_f64();
    assert!(writes.per_s > 1.0 && writes.per_s <= rate_at_most);
    let latency = writes.latency_ms.unwrap();
    assert!(latency.p50 >= WRITE.as_secs_f64() * 1e3, "{latency:?}");
    assert_eq!(latency.count, writes.ok);
    // They wrote for as long as the level ran, and hardly longer.
    let chats = report.levels[1].numbers.wall_s;
    assert!(writes.wall_s < chats + 0.5, "{} {chats}", writes.wall_s);

    let users: HashSet<String> = bodies.iter().map(|b| b["user"].to_string()).collect();
    assert_eq!(users.len(), 5.min(bodies.len()));
    assert!(bodies.iter().all(|body| body["chosen"] != body["rejected"]));
    let table = table::render(&report);
    assert!(table.contains("| prefs/s | "), "{table}");
}

#[tokio::test]
async fn a_rate_limit_holds_writers_back() {
    let server = FakeServer::start().await;
    let limited = request("writers = [3]\nmax_per_second = 20.0");
    let report = run_on(&server, &scenario(LOAD, &limited)).await;
    let writes = report.levels[0].preferences.as_ref().unwrap();
    // One at once, then one each 50 ms, until the last chat is answered.
    let due = 1.0 + report.levels[0].numbers.wall_s * 20.0;
    let most = due.ceil() as u64;
    assert!((1..=most).contains(&writes.ok), "{} of {most}", writes.ok);
}

#[tokio::test]
async fn failed_writes_are_counted_by_kind_and_fail_the_run_when_asked() {
    let server = FakeServer::start().await;
    let refuse = &server.seen.preferences.refuse;
    refuse.store(true, Ordering::SeqCst);
    let report = run_on(&server, &scenario(LOAD, &request("writers = [2]"))).await;
    let level = &report.levels[0];
    let writes = level.preferences.as_ref().unwrap();
    assert_eq!((level.numbers.failed, writes.ok), (0, 0));
    assert!(writes.failed >= 2);
    assert_eq!(writes.latency_ms, None);
    let errors = &writes.errors["http 503 store_unavailable"];
    assert_eq!(errors.count, writes.failed);
    assert_eq!(report.unanswered(), writes.failed);
    // They wait after a failure: two writers fail twice each 110 ms at most.
    let most = 2.0 * (level.numbers.wall_s / 0.11 + 2.0);
    assert!((writes.failed as f64) < most, "{} {most}", writes.failed);
    let table = table::render(&report);
    assert!(table.contains("preferences: "), "{table}");
    assert!(table.contains("x http 503 store_unavailable"), "{table}");
}
