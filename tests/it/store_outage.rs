//! A store that hangs, is full of work or takes no writes: answers go on, and the rest says so.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::Arc;

use attune::app::error::AppError;
use attune::app::housekeeping;
use attune::app::state::AppState;
use attune::app::store_health::{self, StoreState};
use attune::app::store_threads::StoreWork;
use attune_store::{Space, Store, StoreError};
use serde_json::{json, Value};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::http::Reply;
use crate::support::TestServer;

fn hello(more: Value) -> Value {
    let mut body = json!({"model": "attune", "user": "alice", "temperature": 0, "max_tokens": 2,
        "messages": [{"role": "user", "content": "hi"}]});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

async fn profile(server: &TestServer, text: &str) {
    let set = json!({"profile": text});
    assert_eq!(server.post("/v1/users/alice", &set).await.status, 200);
}

async fn chat(server: &TestServer, more: Value) -> Reply {
    server.post("/v1/chat/completions", &hello(more)).await
}

fn preference() -> Value {
    json!({"user": "alice", "messages": [{"role": "user", "content": "hi"}],
        "chosen": "a", "rejected": "b"})
}

/// Work that hangs until the senders are dropped, as much as there are threads and places for.
struct Hanging {
    gates: Vec<mpsc::Sender<()>>,
    work: Vec<JoinHandle<Result<(), AppError>>>,
}

impl Hanging {
    async fn everywhere(state: &Arc<AppState>, kind: StoreWork) -> Self {
        let mut hanging = Self {
            gates: Vec::new(),
            work: Vec::new(),
        };
        // First each thread, then each place of the queue.
        for _ in 0..kind.threads() {
            let begun = hanging.more(state, kind);
            begun.await.unwrap();
        }
        for _ in 0..kind.waiting() {
            drop(hanging.more(state, kind));
            tokio::task::yield_now().await;
        }
        hanging
    }

    /// Work that says when it is begun.
    fn more(&mut self, state: &Arc<AppState>, kind: StoreWork) -> oneshot::Receiver<()> {
        let (gate, until) = mpsc::channel();
        let (begin, begun) = oneshot::channel();
        let (tasks, state) = (state.tasks.clone(), state.clone());
        self.gates.push(gate);
        self.work.push(tasks.spawn(async move {
            let wait = move |_: &Store| -> Result<(), StoreError> {
                let _ = begin.send(());
                let _ = until.recv();
                Ok(())
            };
            state.store_threads.run(kind, wait).await
        }));
        begun
    }

    async fn end(self) {
        drop(self.gates);
        for work in self.work {
            work.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn an_answer_reads_no_record() {
    let server = TestServer::promoted();
    profile(&server, "Drinks tea.").await;
    assert_eq!(server.delete("/v1/users/bob").await.status, 200);
    let reads = || server.state.versions.store().records_read();
    let before = reads();
    for user in ["alice", "bob", "stranger"] {
        assert_eq!(chat(&server, json!({"user": user})).await.status, 200);
    }
    assert_eq!(reads(), before);
}

#[tokio::test]
async fn while_every_thread_of_the_store_hangs_answers_go_on_and_others_hear_that_it_is_busy() {
    let server = TestServer::promoted();
    profile(&server, "Drinks tea.").await;
    let hanging = Hanging::everywhere(&server.state, StoreWork::Request).await;
    let reply = chat(&server, json!({})).await;
    assert_eq!(
        (reply.status, reply.header("x-attune-user-row")),
        (200, "user"),
        "{}",
        reply.text()
    );
    let usage = &reply.json()["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 12, "{usage}");
    for path in ["/readyz", "/livez"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let busy = server.post("/v1/preferences", &preference()).await;
    let (status, kind, code, _) = busy.error();
    assert_eq!(
        (status, kind.as_str(), code.as_deref()),
        (503, "overloaded_error", Some("store_busy"))
    );
    assert!(busy.header("retry-after").parse::<u64>().unwrap() >= 1);
    // An answer that was to be kept is given all the same.
    let kept = chat(&server, json!({"store": true})).await;
    assert_eq!((kept.status, kept.header("x-attune-kept")), (200, "false"));
    // Snapshots have threads of their own.
    assert_eq!(server.get("/v1/admin/snapshot").await.status, 200);
    hanging.end().await;
    let now = server.post("/v1/preferences", &preference()).await;
    assert_eq!(now.status, 201);
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_named_and_stops_no_answer() {
    let server = TestServer::promoted();
    let metric = |text: &str, line: &str| assert!(text.contains(line), "{line} is not in\n{text}");
    for state in [StoreState::Failed, StoreState::Hanging] {
        server.state.store_health.set(state);
        let ready = server.get("/readyz").await;
        assert_eq!(ready.status, 200);
        assert_eq!(ready.json()["store"], state.as_str());
        for stream in [false, true] {
            let reply = chat(&server, json!({"store": true, "stream": stream})).await;
            let named = reply.header("x-attune-store");
            assert_eq!((reply.status, named), (200, state.as_str()));
        }
    }
    // What is looked at is believed, not what was set.
    store_health::look(&server.state).await;
    assert_eq!(server.get("/readyz").await.json(), json!({"status": "ok"}));
    let text = server.get("/metrics").await;
    metric(text.text(), "attune_store_writable 1");
    metric(
        text.text(),
        r#"attune_completions_to_keep_total{outcome="failed"} 4"#,
    );
    let kept = chat(&server, json!({"store": true})).await;
    assert_eq!(kept.header("x-attune-kept"), "true");
}

#[tokio::test]
async fn a_look_that_hangs_changes_nothing_and_the_next_one_is_not_held_up_by_long_work() {
    let server = TestServer::new();
    server.state.store_health.set(StoreState::Failed);
    let hanging = Hanging::everywhere(&server.state, StoreWork::Probe).await;
    store_health::look(&server.state).await;
    assert_eq!(server.state.store_health.state(), StoreState::Failed);
    hanging.end().await;
    let hanging = Hanging::everywhere(&server.state, StoreWork::Long).await;
    store_health::look(&server.state).await;
    assert_eq!(server.state.store_health.state(), StoreState::Writable);
    hanging.end().await;
}

/// So much room as a test says.
struct Stated(AtomicU64);

impl Space for Stated {
    fn free(&self, _: &Path) -> std::io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn on_a_disk_that_is_nearly_full_answers_and_deletions_go_on_and_all_comes_back() {
    let server = TestServer::promoted();
    let kept = server.kept(json!({"user": "alice"})).await;
    // Half of what is kept is enough for a compaction.
    let (kept_free, space) = (1 << 30, Arc::new(Stated(AtomicU64::new((1 << 30) - 1))));
    let store = server.state.versions.store();
    store.keep_free(kept_free, space.clone());
    store_health::look(&server.state).await;
    let ready = server.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.json()["store"]),
        (200, &json!("full"))
    );
    for (path, body) in [
        ("/v1/preferences", preference()),
        ("/v1/feedback", json!({"completion_id": kept, "rating": 4})),
        ("/v1/users/alice", json!({"profile": "x"})),
        (
            &format!("/v1/chat/completions/{kept}"),
            json!({"metadata": {"a": "b"}}),
        ),
    ] {
        let refused = server.post(path, &body).await;
        let (status, _, code, _) = refused.error();
        assert_eq!(
            (status, code.as_deref()),
            (507, Some("store_full")),
            "{path}"
        );
        assert_eq!(refused.header("retry-after"), "60");
    }
    let answer = chat(&server, json!({"store": true})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-attune-store"), "full");
    assert_eq!(answer.header("x-attune-kept"), "false");
    // A bundle is not copied where it would take the rest.
    server.offer("run", 0);
    let refused = server.install("run").await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    // What makes room, and what reads, goes on.
    assert_eq!(server.get("/v1/admin/snapshot").await.status, 200);
    let path = format!("/v1/chat/completions/{kept}");
    assert_eq!(server.delete(&path).await.status, 200);
    assert_eq!(server.delete("/v1/users/alice").await.status, 200);
    housekeeping::once(&server.state).await.unwrap();
    assert!(!server.state.versions.store().wants_compaction());
    // Nothing is restarted.
    space.0.store(kept_free, Ordering::SeqCst);
    assert_eq!(
        server.post("/v1/preferences", &preference()).await.status,
        201
    );
    store_health::look(&server.state).await;
    assert_eq!(server.get("/readyz").await.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn admin_routes_wait_for_their_own_kind_only() {
    let server = TestServer::promoted();
    let hanging = Hanging::everywhere(&server.state, StoreWork::Change).await;
    for refused in [
        server.get("/v1/admin/adapters").await,
        server
            .post("/v1/admin/adapters", &json!({"path": "x"}))
            .await,
    ] {
        let (status, _, code, _) = refused.error();
        assert_eq!((status, code.as_deref()), (503, Some("store_busy")));
    }
    assert_eq!(chat(&server, json!({})).await.status, 200);
    let recorded = server.post("/v1/preferences", &preference()).await;
    assert_eq!(recorded.status, 201);
    hanging.end().await;
    assert_eq!(server.get("/v1/admin/adapters").await.status, 200);
}
