//! The store's snapshot and decisions over HTTP.

use std::sync::Arc;

use attune_ids::{AdapterVersion, Alias, RecordId, Tenant, UserId};
use attune_store::{DecisionRecord, Store, TrainingSet, UserRecord};
use serde_json::{json, Value};

use crate::support::TestServer;

fn store(server: &TestServer) -> &Store {
    server.state.versions.store()
}

fn users(server: &TestServer, n: usize) {
    for i in 0..n {
        let record = UserRecord {
            tenant: Tenant::default(),
            user: UserId::new(format!("user {i} {}", "x".repeat(40))).unwrap(),
            created_unix_ms: i as u64,
        };
        store(server).put_user(&record).unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_is_the_export_and_can_be_read_back() {
    let server = TestServer::new();
    users(&server, 50);
    server.installed(0).await;
    let mut expected = Vec::new();
    let summary = store(&server).export(&mut expected).unwrap();
    for _ in 0..2 {
        let reply = server.get("/v1/admin/snapshot").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("content-type"), "application/x-ndjson");
        assert_eq!(reply.header("content-length"), expected.len().to_string());
        assert_eq!(reply.header("x-attune-snapshot-sha256"), summary.sha256);
        assert!(reply.body == expected, "not the export");
    }
    let last: Value = serde_json::from_slice(
        expected
            .trim_ascii_end()
            .rsplit(|b| *b == b'\n')
            .next()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(last["end"]["sha256"], summary.sha256);
    TrainingSet::read(&mut &expected[..]).unwrap();
    // Nothing is left on disk.
    let left = std::fs::read_dir(server.data_dir.path()).unwrap();
    let names: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}: store, adapters, bundles");
}

/// A reader that stands still holds up nobody: neither writers nor the server.
#[tokio::test]
async fn a_slow_reader_of_a_snapshot_holds_nobody_up() {
    use axum::body::Body;
    use axum::http::Request;
    use futures_util::StreamExt;
    use tower::ServiceExt;
    let server = TestServer::new();
    users(&server, 4000);
    let request = Request::get("/v1/admin/snapshot")
        .body(Body::empty())
        .unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let digest = response.headers()["x-attune-snapshot-sha256"].clone();
    let length: usize = response.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let mut chunks = response.into_body().into_data_stream();
    let mut bytes = chunks.next().await.unwrap().unwrap().to_vec();
    let version = server.installed(0).await;
    server.promote(&version).await;
    let next = server.get("/v1/admin/snapshot").await;
    assert_ne!(next.headers["x-attune-snapshot-sha256"], digest);
    let mut parts = 1;
    // As hyper reads: nothing is asked for after the last byte.
    while bytes.len() < length {
        bytes.extend(chunks.next().await.unwrap().unwrap());
        parts += 1;
    }
    assert!(parts > 1, "one part only: it was never slow");
    // What is read is of the moment at which it was asked for.
    let text = String::from_utf8(bytes).unwrap();
    assert!(!text.contains(version.as_str()));
    assert!(text.ends_with(&format!("{}\"}}}}\n", digest.to_str().unwrap())));
    let state = Arc::downgrade(&server.state);
    drop((chunks, next));
    let metrics = server.get("/metrics").await;
    assert!(
        !metrics.text().contains("client_disconnected"),
        "{}",
        metrics.text()
    );
    drop(server);
    assert_eq!(state.strong_count(), 0, "a snapshot holds on to its server");
}

#[tokio::test]
async fn decisions_are_listed_oldest_first() {
    let server = TestServer::new();
    let empty =
        json!({"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": false});
    assert_eq!(server.get("/v1/admin/decisions").await.json(), empty);
    let version = AdapterVersion::new("ab".repeat(32)).unwrap();
    for (n, evaluation) in [
        (1, Some("{\"margin\": 0.25}")),
        (2, Some("not json")),
        (3, None),
    ] {
        let decision = DecisionRecord {
            id: RecordId::new(format!("dec_{n}")).unwrap(),
            created_unix_ms: 1_700_000_000_000 + n * 1000,
            alias: Alias::new("attune").unwrap(),
            current: None,
            candidate: Some(version.clone()),
            promoted: false,
            reason: format!("reason {n}"),
            snapshot: (n == 2).then(|| "cd".repeat(32)),
            evaluation: evaluation.map(str::to_owned),
        };
        store(&server).decide(&decision).unwrap();
    }
    let list = server.get("/v1/admin/decisions").await.json();
    let first = json!({"object": "decision", "id": "dec_1", "created": 1_700_000_001,
        "alias": "attune", "current": null, "candidate": version.as_str(), "promoted": false,
        "reason": "reason 1", "snapshot": null, "evaluation": {"margin": 0.25}});
    assert_eq!(list["data"][0], first);
    assert_eq!(list["data"][1]["evaluation"], "not json");
    assert_eq!(list["data"][1]["snapshot"], "cd".repeat(32));
    assert_eq!(list["data"][2]["id"], "dec_3");
}

/// A decision and what it decides are one: neither is there without the other.
#[tokio::test]
async fn a_decision_promotes_or_is_not_recorded() {
    let path = "/v1/admin/decisions";
    let server = TestServer::new();
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    let body = |current: Value, candidate: &str, promoted: bool| {
        json!({"alias": "attune", "current": current, "candidate": candidate,
            "promoted": promoted, "reason": "better by 0.1", "snapshot": "cd".repeat(32),
            "evaluation": {"margin": 0.1}})
    };
    let reply = server
        .post(path, &body(Value::Null, one.as_str(), true))
        .await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let decision = reply.json();
    assert_eq!(decision["promoted"], true);
    assert_eq!(decision["evaluation"]["margin"], 0.1);
    assert_eq!(server.says(None).await.1, one.as_str());

    // From where it is not any more; a version that is not installed; kept.
    let stale = server
        .post(path, &body(Value::Null, two.as_str(), true))
        .await;
    assert_eq!(stale.error().0, 409, "{}", stale.text());
    assert!(stale.text().contains(one.short()), "{}", stale.text());
    let unknown = body(json!(one.as_str()), &"ef".repeat(32), true);
    let unknown = server.post(path, &unknown).await;
    assert_eq!(unknown.error().2.as_deref(), Some("adapter_not_found"));
    let kept = body(json!(one.as_str()), &"ef".repeat(32), false);
    assert_eq!(server.post(path, &kept).await.status, 201);
    assert_eq!(server.says(None).await.1, one.as_str());

    let list = server.get(path).await.json();
    let list = list["data"].as_array().unwrap();
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(list[0], decision);
    assert_eq!(list[1]["promoted"], false);

    // A snapshot says what the next turn has to know.
    let mut export = Vec::new();
    store(&server).export(&mut export).unwrap();
    let set = TrainingSet::read(&mut &export[..]).unwrap();
    assert_eq!(set.aliases[&Alias::new("attune").unwrap()], one);
    let reasons: Vec<&str> = set.decisions.iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(reasons, ["better by 0.1"; 2]);
    assert!(store(&server).verify().unwrap().is_clean());
}
