//! Whoever was deleted stays forgotten, whatever was on its way.

use std::convert::Infallible;

use attune_adapter::data_until::DataUntil;
use attune_adapter::publish;
use attune_ids::AdapterVersion;
use attune_store::TrainingSet;
use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::{json, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::bundles::{base, contents};
use crate::support::http::{post, Reply};
use crate::support::runner::HIDDEN;
use crate::support::socket::until;
use crate::support::{person, TestServer};

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

/// A request whose body comes in two parts; the first is read when this returns.
async fn begun(
    server: &TestServer,
    path: &str,
    body: &Value,
) -> (mpsc::Sender<Vec<u8>>, Vec<u8>, JoinHandle<Reply>) {
    let text = body.to_string().into_bytes();
    let (first, rest) = text.split_at(text.len() / 2);
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(1);
    let parts = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from_stream(parts))
        .unwrap();
    let router = server.router.clone();
    let reply = server.state.tasks.spawn(Reply::read(router, request));
    // There is room for one part: the second is taken once somebody has read the first.
    sender.send(first.to_vec()).await.unwrap();
    sender.send(Vec::new()).await.unwrap();
    (sender, rest.to_vec(), reply)
}

async fn is_unknown(server: &TestServer, user: &str) -> bool {
    let path = format!("/v1/users/{user}");
    let created = server.get(&path).await.json()["created"].clone();
    let export = server.get(&format!("{path}/export")).await;
    created.is_null() && export.text().is_empty()
}

/// While the body is on its way, its person is deleted.
#[tokio::test]
async fn what_was_sent_before_a_deletion_is_refused_after_it() {
    let server = TestServer::new();
    let profile = json!({"profile": "Drinks tea."});
    let requests = [
        ("/v1/preferences", preference("alice", "tea")),
        ("/v1/users/alice", profile),
    ];
    for (path, body) in requests {
        let (sender, rest, reply) = begun(&server, path, &body).await;
        server.delete("/v1/users/alice").await;
        sender.send(rest).await.unwrap();
        drop(sender);
        let reply = reply.await.unwrap();
        let error = reply.error();
        let (code, param) = (error.2.as_deref(), error.3.as_deref());
        assert_eq!(
            (error.0, code, param),
            (409, Some("user_deleted"), Some("user"))
        );
        assert_eq!(reply.header("x-should-retry"), "false");
        assert!(is_unknown(&server, "alice").await, "{path}");
        // What is sent after it begins anew.
        let again = server.post(path, &body).await;
        assert!(again.status < 300, "{path}: {}", again.text());
        assert!(!is_unknown(&server, "alice").await, "{path}");
    }
}

/// The answer comes to its end, and is not kept.
#[tokio::test]
async fn an_answer_to_somebody_who_was_deleted_meanwhile_is_not_kept() {
    for stream in [false, true] {
        let server = TestServer::new();
        let body = json!({"model": "tiny-llama", "user": "alice", "temperature": 0, "store": true,
            "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        server.gate.close();
        let asked = post("/v1/chat/completions", &body);
        let router = server.router.clone();
        let reply = server.state.tasks.spawn(Reply::read(router, asked));
        until("the first step", || server.gate.is_reached()).await;
        // The store alone: an engine that is told ends the answer, which may be whole by then.
        let store = server.state.versions.store();
        store.erase_user(&person("alice"), 0).unwrap();
        server.gate.open();
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        if stream {
            assert!(
                reply.text().ends_with("data: [DONE]\n\n"),
                "{}",
                reply.text()
            );
        } else {
            assert_eq!(reply.header("x-attune-kept"), "false");
        }
        assert!(is_unknown(&server, "alice").await);
        let list = server.get("/v1/chat/completions").await.json();
        assert_eq!(list["data"], json!([]));
        let metrics = server.get("/metrics").await;
        let line = "attune_completions_to_keep_total{outcome=\"user_deleted\"} 1";
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }
}

/// What alice and bob are being told when alice is deleted; the gate is closed.
async fn being_answered(
    server: &TestServer,
    stream: bool,
) -> [impl std::future::Future<Output = Reply>; 2] {
    server.gate.close();
    let alice = asked(server, "alice", stream);
    until("the first step", || server.gate.is_reached()).await;
    let bob = asked(server, "bob", stream);
    until("bob's answer", || server.state.engine.stats().waiting == 1).await;
    [alice, bob]
}

fn asked(
    server: &TestServer,
    user: &str,
    stream: bool,
) -> impl std::future::Future<Output = Reply> {
    let body = json!({"model": "attune", "user": user, "temperature": 0, "stream": stream,
        "messages": [{"role": "user", "content": "hi"}]});
    let reply = Reply::read(server.router.clone(), post("/v1/chat/completions", &body));
    let reply = server.state.tasks.spawn(reply);
    async move { reply.await.unwrap() }
}

#[tokio::test]
async fn the_answers_of_whoever_is_deleted_end_and_those_of_others_do_not() {
    for stream in [false, true] {
        let server = TestServer::promoted();
        let [alice, bob] = being_answered(&server, stream).await;
        server.delete("/v1/users/alice").await;
        server.gate.open();
        let (alice, bob) = (alice.await, bob.await);
        assert_eq!(bob.status, 200, "{}", bob.text());
        assert!(!bob.text().contains("user_deleted"), "{}", bob.text());
        assert!(alice.text().contains("user_deleted"), "{}", alice.text());
        if stream {
            assert!(bob.text().ends_with("data: [DONE]\n\n"), "{}", bob.text());
        } else {
            let error = alice.error();
            assert_eq!((error.0, error.2.as_deref()), (409, Some("user_deleted")));
            assert_eq!(alice.header("x-should-retry"), "false");
        }
        server.until_idle().await;
        // What they ask from now on is answered, as a stranger's.
        assert_eq!(row(&server).await, "generic");
    }
}

/// Whoever comes back at once is a stranger, and is answered: also while the engine has not heard of the deletion.
#[tokio::test]
async fn whoever_returns_right_after_their_deletion_is_answered() {
    let server = TestServer::promoted();
    let [alice, bob] = being_answered(&server, false).await;
    server.delete("/v1/users/alice").await;
    let back = asked(&server, "alice", false);
    until("the next", || server.state.engine.stats().waiting == 2).await;
    server.gate.open();
    assert_eq!(alice.await.status, 409);
    assert_eq!(bob.await.status, 200);
    let back = back.await;
    assert_eq!(back.status, 200, "{}", back.text());
}

/// The body of a chat comes while its person is deleted: their rows are not used, whoever computed them first.
#[tokio::test]
async fn a_chat_that_began_before_a_deletion_is_not_answered_after_it() {
    let server = TestServer::promoted();
    let body = json!({"model": "attune", "user": "alice", "temperature": 0,
        "messages": [{"role": "user", "content": "hi"}]});
    let (sender, rest, reply) = begun(&server, "/v1/chat/completions", &body).await;
    server.delete("/v1/users/alice").await;
    sender.send(rest).await.unwrap();
    drop(sender);
    let error = reply.await.unwrap().error();
    assert_eq!((error.0, error.2.as_deref()), (409, Some("user_deleted")));
}
