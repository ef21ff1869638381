//! Versions come into memory when they are used and leave when room is needed; old ones leave the disk.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use attune::app::versions::Expected;
use attune_adapter::bundle::bundle_dir;
use attune_adapter::files::{MANIFEST_FILE, WEIGHTS_FILE};
use attune_ids::{AdapterVersion, Alias, VersionDigits};
use futures_util::future::join_all;
use serde_json::{json, Value};

use crate::support::bundles::{base, TEXTS};
use crate::support::http::Reply;
use crate::support::socket::PATIENCE;
use crate::support::{Setup, TestServer};

const ADAPTERS: &str = "/v1/admin/adapters";
/// Room for one version of [`TestServer::offer`], which takes 16 MiB for prompts and little else.
const ROOM_FOR_ONE: usize = 20 << 20;

async fn ask(server: &TestServer, version: &AdapterVersion) -> Reply {
    let body = json!({"model": format!("attune@{version}"), "temperature": 0,
        "messages": [{"role": "user", "content": "hi"}]});
    server.post("/v1/chat/completions", &body).await
}

fn in_memory(server: &TestServer, versions: &[&AdapterVersion]) -> Vec<bool> {
    let loaded = server.state.versions.loaded();
    let is_there = |v: &&AdapterVersion| loaded.leases(v).is_some();
    versions.iter().map(is_there).collect()
}

fn alias() -> Alias {
    Alias::new("attune").unwrap()
}

/// Two versions, the first one promoted, after a restart.
async fn restarted() -> (TestServer, AdapterVersion, AdapterVersion) {
    let server = TestServer::new();
    let (named, other) = (server.installed(0).await, server.installed(1).await);
    server.promote(&named).await;
    (server.restarted(), named, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_loads_what_an_alias_names_and_a_request_the_rest() {
    let (server, named, other) = restarted().await;
    assert_eq!(in_memory(&server, &[&named, &other]), [true, false]);
    // It is listed with all that its manifest says, and is a model.
    let shown = server.get(&format!("{ADAPTERS}/{other}")).await.json();
    assert_eq!(
        (&shown["loaded"], &shown["users"], &shown["created"]),
        (&json!(true), &json!(1), &json!(1_710_000_000))
    );
    let models = server.get("/v1/models").await;
    assert!(models.text().contains(other.as_str()), "{}", models.text());
    assert_eq!(in_memory(&server, &[&other]), [false], "to look is no use");
    // However many come at once.
    for reply in join_all((0..40).map(|_| ask(&server, &other))).await {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let content = &reply.json()["choices"][0]["message"]["content"];
        assert_eq!(content, TEXTS[1]);
    }
    assert_eq!(in_memory(&server, &[&named, &other]), [true, true]);
    let metrics = server.get("/metrics").await;
    let counted = metrics.text().contains("attune_adapter_versions 2");
    assert!(counted, "{}", metrics.text());
}

fn damage(server: &TestServer, version: &AdapterVersion, file: &str) {
    let disk = server.state.versions.disk();
    let path = bundle_dir(disk.adapters_dir(), version).join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes.pop();
    fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_version_that_nobody_names_stops_nobody() {
    for file in [WEIGHTS_FILE, MANIFEST_FILE] {
        let (server, _, other) = restarted().await;
        damage(&server, &other, file);
        let server = server.restarted();
        assert_eq!(server.says(None).await.0, TEXTS[0], "{file}");
        let reply = ask(&server, &other).await;
        let code = Some("adapter_unavailable".to_owned());
        assert_eq!((reply.status, reply.error().2), (503, code), "{file}");
        assert_eq!(reply.header("x-should-retry"), "false");
        let secret = server.data_dir.path().to_str().unwrap();
        assert!(!reply.text().contains(secret), "{}", reply.text());
        let body = json!({"version": other.as_str()});
        assert_eq!(server.move_alias(&body).await.status, 503, "{file}");
        assert_eq!(server.says(None).await.0, TEXTS[0], "{file}");
        // The way out.
        let path = format!("{ADAPTERS}/{other}");
        assert_eq!(server.delete(&path).await.status, 200);
        assert_eq!(server.installed(1).await, other);
        assert_eq!(ask(&server, &other).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_in_use_is_a_503_and_nobody_else_notices() {
    let server = TestServer::with(Setup {
        adapter_bytes: ROOM_FOR_ONE,
        ..Setup::default()
    });
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    assert_eq!(in_memory(&server, &[&one, &two]), [false, true]);
    // While nobody holds them they make room for each other.
    for version in [&one, &two, &one] {
        assert_eq!(ask(&server, version).await.status, 200);
        server.until_idle().await;
    }
    server.promote(&one).await;
    let refused = |reply: Reply| {
        let code = Some("adapter_memory_full".to_owned());
        assert_eq!((reply.status, reply.error().2), (503, code));
        assert!(
            reply.text().contains("--adapter-memory"),
            "{}",
            reply.text()
        );
        assert!(!reply.header("retry-after").is_empty());
    };
    refused(ask(&server, &two).await);
    server.offer("third", 2);
    refused(server.install("third").await);
    let body = json!({"version": two.as_str()});
    refused(server.move_alias(&body).await);
    let list = server.get(ADAPTERS).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    assert_eq!(server.says(None).await, (TEXTS[0].into(), one.to_string()));
    assert_eq!(server.get("/readyz").await.status, 200);
    assert!(server.state.versions.loaded().used_bytes() <= ROOM_FOR_ONE);
}

/// An answer holds its version in memory, and it can be answered again afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_answer_keeps_its_version_in_memory() {
    let server = TestServer::with(Setup {
        adapter_bytes: ROOM_FOR_ONE,
        ..Setup::default()
    });
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    server.gate.close();
    let under_way = ask(&server, &two);
    let others = async {
        crate::support::socket::until("the first step", || server.gate.is_reached()).await;
        // If it were loaded, it would wait for the gate.
        let refused = tokio::time::timeout(PATIENCE, ask(&server, &one)).await;
        assert_eq!(refused.expect("it was not refused").status, 503);
        server.gate.open();
    };
    let (reply, ()) = tokio::join!(under_way, others);
    assert_eq!(reply.json()["choices"][0]["message"]["content"], TEXTS[1]);
    server.until_idle().await;
    let free = || server.state.versions.loaded().leases(&two) == Some(0);
    crate::support::socket::until("the end of the lease", free).await;
    assert_eq!(ask(&server, &one).await.status, 200);
}

#[tokio::test]
async fn old_versions_go_but_for_the_newest_and_those_that_are_needed() {
    let server = TestServer::new();
    let mut versions = Vec::new();
    for says in 0..3 {
        versions.push(server.installed(says).await);
    }
    // Three more that nobody needs, the newest last.
    let disk = server.state.versions.disk();
    let mut idle = Vec::new();
    for n in 0..3_u64 {
        let mut contents = crate::support::bundles::contents(1, &base().sha256, 4);
        contents.manifest.name = Some(format!("idle {n}"));
        let version = attune_adapter::publish::write(disk.adapters_dir(), &contents).unwrap();
        disk.record(
            &version,
            None,
            attune_store::AdapterSource::Trained,
            100 + n,
        )
        .unwrap();
        idle.push(version);
    }
    let [previous, named, tried] = &versions[..] else {
        unreachable!()
    };
    server.promote(previous).await;
    server.promote(named).await;
    let body = json!({"version": tried.as_str(), "percent": 5});
    let canary = server.post("/v1/admin/aliases/attune/canary", &body).await;
    assert_eq!(canary.status, 200);
    // Somebody is answered by the oldest.
    let lease = {
        let now = server.state.versions.now();
        assert!(now.version(&idle[0]).is_some());
        assert_eq!(ask(&server, &idle[0]).await.status, 200);
        server.state.versions.loaded().lease(&idle[0]).unwrap()
    };
    let later = attune::app::boot::now_unix_ms() + 7_200_000;
    let prune = |keep, now| server.state.versions.prune(keep, now).unwrap();
    assert_eq!(prune(0, 3_600_099), [], "within their first hour");
    assert_eq!(prune(1, later), [idle[1].clone()]);
    assert!(!bundle_dir(disk.adapters_dir(), &idle[1]).exists());
    assert_eq!(ask(&server, &idle[1]).await.status, 404);
    drop(lease);
    assert_eq!(prune(1, later), [idle[0].clone()]);
    assert_eq!(prune(1, later), []);
    assert_eq!(prune(0, later), [idle[2].clone()]);
    let list = server.get(ADAPTERS).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    let rollback = server
        .post("/v1/admin/aliases/attune/rollback", &json!({}))
        .await;
    assert_eq!(
        (rollback.status, &rollback.json()["version"]),
        (200, &json!(previous.as_str()))
    );
}

/// A projection is one moment: whoever reads an alias gets a version that is in memory, and never an older
/// one than before, while versions are promoted and retired.
#[tokio::test]
async fn readers_never_see_half_a_change() {
    const MOVES: usize = 60;
    let server = TestServer::new();
    let mut versions = Vec::new();
    for says in 0..3 {
        versions.push(server.installed(says).await);
    }
    let live = &server.state.versions;
    let promote = |version: &AdapterVersion| {
        let digits = VersionDigits::new(version.as_str()).unwrap();
        live.promote(&alias(), &digits, &Expected::Anything, 7)
            .unwrap();
    };
    promote(&versions[0]);
    let done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let done = done.clone();
                scope.spawn(move || {
                    let mut promotions = 0;
                    while !done.load(Ordering::Acquire) {
                        let now = live.now();
                        let lease = now.by_alias(&alias()).unwrap().expect("an alias answers");
                        let record = now.alias(&alias()).unwrap().record.clone().unwrap();
                        assert_eq!(lease.adapter().version, record.version);
                        assert!(record.promotions >= promotions, "time runs backwards");
                        promotions = record.promotions;
                    }
                    promotions
                })
            })
            .collect();
        for n in 0..MOVES {
            promote(&versions[(n + 1) % 3]);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    let record = live.store().alias(&alias()).unwrap().unwrap();
    assert_eq!(record.promotions, 1 + MOVES as u64);
    let shown: Value = server.get("/v1/admin/aliases").await.json()["data"][0].clone();
    assert_eq!(shown["promotions"], 1 + MOVES);
}
