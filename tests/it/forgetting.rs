//! Whoever was deleted stays forgotten, whatever was on its way.

use attune::adapter::data_until::DataUntil;
use attune::adapter::publish;
use attune::ids::AdapterVersion;
use attune::store::TrainingSet;
use serde_json::{json, Value};

use crate::support::bundles::{base, contents};
use crate::support::runner::HIDDEN;
use crate::support::TestServer;

fn preference(user: &str, chosen: &str) -> Value {
    json!({"user": user, "chosen": chosen, "rejected": "coffee",
        "messages": [{"role": "user", "content": "hi"}]})
}

async fn prefer(server: &TestServer, user: &str, chosen: &str) {
    let reply = server
        .post("/v1/preferences", &preference(user, chosen))
        .await;
    assert_eq!(reply.status, 201, "{}", reply.text());
}

/// Until when a turn's data reaches that begins now.
async fn snapshot(server: &TestServer) -> DataUntil {
    let export = server.get("/v1/admin/snapshot").await.body;
    let set = TrainingSet::read(&mut &export[..]).unwrap();
    DataUntil::UnixMs(set.newest_unix_ms.unwrap())
}

/// Installs and promotes a version that knows alice from data until `until`, published long after everything.
async fn published(server: &TestServer, says: usize, until: DataUntil) -> AdapterVersion {
    let mut contents = contents(says, &base().sha256, HIDDEN);
    contents.manifest.data_until_unix_ms = until;
    contents.manifest.created_unix = 4_000_000_000;
    let name = format!("turn-{says}");
    let version = publish::write(&server.bundles().join(&name), &contents).unwrap();
    let reply = server.install(&name).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    server.promote(&version).await;
    version
}

/// Whose rows answer alice.
async fn row(server: &TestServer) -> String {
    let ask = json!({"model": "attune", "user": "alice", "temperature": 0,
        "messages": [{"role": "user", "content": "hi"}]});
    let answer = server.chat(&ask).await;
    let shown = server.get("/v1/users/alice").await.json();
    assert_eq!(answer["attune"]["user_row"], shown["user_row"]);
    answer["attune"]["user_row"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_turn_that_began_before_a_deletion_brings_nobody_back() {
    let server = TestServer::new();
    prefer(&server, "alice", "tea").await;
    let learned = snapshot(&server).await;
    published(&server, 0, learned).await;
    assert_eq!(row(&server).await, "user");
    // The turn trains while she is deleted.
    server.delete("/v1/users/alice").await;
    published(&server, 1, learned).await;
    assert_eq!(row(&server).await, "generic");
    // Somebody else's data that is newer changes nothing about hers.
    prefer(&server, "bob", "tea").await;
    published(&server, 2, DataUntil::Unknown).await;
    assert_eq!(row(&server).await, "generic");
}

#[tokio::test]
async fn whoever_comes_back_is_learned_anew() {
    let server = TestServer::new();
    prefer(&server, "alice", "tea").await;
    server.delete("/v1/users/alice").await;
    prefer(&server, "alice", "water").await;
    published(&server, 0, snapshot(&server).await).await;
    assert_eq!(row(&server).await, "user");
}
