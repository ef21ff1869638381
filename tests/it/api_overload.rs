//! Who is refused when there is more to do than can be done, and that it costs nothing.

use std::sync::Arc;

use attune::app::state::Limits;
use attune_engine::admission::Caps;
use attune_engine::fairness::Sharing;
use futures_util::FutureExt;
use serde_json::{json, Value};

use crate::support::http::post;
use crate::support::{keys, Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat(user: Option<&str>) -> Value {
    let mut body = json!({"model": "attune", "temperature": 0, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    if let Some(user) = user {
        body["user"] = user.into();
    }
    body
}

fn capped(per_key: Option<usize>, per_member: Option<usize>) -> Sharing {
    Sharing {
        caps: Caps {
            per_key,
            per_member,
        },
        ..Sharing::default()
    }
}

/// A stream that has begun and is not read.
async fn begun(server: &TestServer, key: Option<&str>, body: &Value) -> axum::response::Response {
    let mut request = post(CHAT, body);
    if let Some(key) = key {
        let value = format!("Bearer {key}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
    }
    let response = tower::ServiceExt::oneshot(server.router.clone(), request);
    response.await.unwrap()
}

fn metric(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.rsplit(' ').next()?.to_owned())
}

#[tokio::test]
async fn one_user_has_a_cap_others_and_nobody_have_none_of_it() {
    let server = TestServer::with(Setup {
        sharing: capped(None, Some(2)),
        ..Setup::default()
    });
    server.gate.close();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(begun(&server, None, &chat(Some("alice"))).await);
    }
    assert!(held.iter().all(|response| response.status() == 200));
    let refused = server.post(CHAT, &chat(Some("alice"))).await;
    let code = Some("rate_limit_exceeded".to_owned());
    assert_eq!(
        refused.error(),
        (429, "rate_limit_error".to_owned(), code, None)
    );
    let message = refused.json()["error"]["message"].to_string();
    assert!(
        message.contains("one user may have 2 answers under way at a time"),
        "{message}"
    );
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds));
    // Who names her in the header is the same person; others and nobody are not she.
    let by_header = server
        .post_with(CHAT, &[("x-user-id", "alice")], &chat(None))
        .await;
    assert_eq!(by_header.status, 429);
    for user in [Some("bob"), None, None, None] {
        let response = begun(&server, None, &chat(user)).await;
        assert_eq!(response.status(), 200, "{user:?}");
        held.push(response);
    }
    // More at once than she may ever have is no matter of time.
    let mut three = chat(Some("carol"));
    three["n"] = 3.into();
    let never = server.post(CHAT, &three).await;
    assert_eq!(
        (never.status, never.json()["error"]["code"].as_str()),
        (400, Some("invalid_value"))
    );
    let text = server.get("/metrics").await;
    let counted = metric(text.text(), "attune_request_refusal_total{reason=\"user\"}");
    assert_eq!(counted.as_deref(), Some("2"));
    // Her places come back with the answers that go.
    drop(held);
    server.gate.open();
    server.until_idle().await;
    assert_eq!(
        begun(&server, None, &chat(Some("alice"))).await.status(),
        200
    );
}

#[tokio::test]
async fn one_key_has_a_cap_and_another_key_has_its_own() {
    let (a, b) = ("sk-a-key-of-the-first-app", "sk-a-key-of-the-other-app");
    let server = TestServer::with(Setup {
        keys: keys(&format!(
            r#"{{"keys":[{{"name":"a","key":"{a}"}},{{"name":"b","key":"{b}"}}]}}"#
        )),
        sharing: capped(Some(2), None),
        ..Setup::default()
    });
    server.gate.close();
    let mut held = Vec::new();
    for user in ["one", "two"] {
        held.push(begun(&server, Some(a), &chat(Some(user))).await);
    }
    assert_eq!(
        begun(&server, Some(a), &chat(Some("three"))).await.status(),
        429
    );
    assert_eq!(begun(&server, Some(a), &chat(None)).await.status(), 429);
    held.push(begun(&server, Some(b), &chat(Some("three"))).await);
    assert!(held.iter().all(|response| response.status() == 200));
    server.gate.open();
}

/// What a full server cannot take is refused before anything of it is looked at: a prompt that would be a 400
/// gets the 503 of all others.
#[tokio::test]
async fn a_full_server_refuses_before_it_renders() {
    let server = TestServer::with(Setup {
        max_running: 1,
        max_queued: 1,
        ..Setup::default()
    });
    let mut long = chat(None);
    long["messages"][0]["content"] = "x".repeat(1000).into();
    let ids = json!({"model": "attune", "prompt": vec![5; 1000]});
    for (path, body) in [(CHAT, &long), (COMPLETIONS, &ids)] {
        let error = server.post(path, body).await.error();
        assert_eq!(
            (error.0, error.2.as_deref()),
            (400, Some("context_length_exceeded"))
        );
    }
    server.gate.close();
    let held = [
        begun(&server, None, &chat(None)).await,
        begun(&server, None, &chat(None)).await,
    ];
    for (path, body) in [(CHAT, &long), (COMPLETIONS, &ids)] {
        let error = server.post(path, body).await.error();
        assert_eq!(
            (error.0, error.2.as_deref()),
            (503, Some("engine_overloaded"))
        );
    }
    drop(held);
    server.gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_prompts_take_turns_and_hold_their_places_meanwhile() {
    let server = TestServer::with(Setup {
        sharing: capped(None, Some(1)),
        limits: Limits {
            inline_tokenize_bytes: 0,
            encode_at_once: 1,
            ..Limits::default()
        },
        ..Setup::default()
    });
    // Somebody else has the only turn.
    let turn = Arc::clone(server.state.encoding.turns())
        .try_acquire_owned()
        .unwrap();
    let body = chat(Some("alice"));
    let mut first = Box::pin(server.post(CHAT, &body));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(server.state.engine.stats().held, 1);
    // She has her place, so she gets no second one; nothing has reached the engine.
    assert_eq!(server.post(CHAT, &chat(Some("alice"))).await.status, 429);
    let text = server.get("/metrics").await;
    let waiting = "attune_num_requests_waiting_by_reason{reason=\"encoding\"}";
    assert_eq!(metric(text.text(), waiting).as_deref(), Some("1"));
    assert_eq!(server.state.engine.stats().steps, 0);
    drop(turn);
    assert_eq!(first.await.status, 200);
    // Who leaves while waiting for a turn gives the place back.
    let turn = Arc::clone(server.state.encoding.turns())
        .try_acquire_owned()
        .unwrap();
    let mut leaves = Box::pin(server.post(CHAT, &body));
    assert!(leaves.as_mut().now_or_never().is_none());
    assert_eq!(server.state.engine.stats().held, 1);
    drop(leaves);
    assert_eq!(server.state.engine.stats().held, 0);
    drop(turn);
    assert_eq!(server.post(CHAT, &body).await.status, 200);
}
