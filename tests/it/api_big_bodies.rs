//! What takes long to parse, to encode or to write holds nobody up.

use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::Poll;

use serde_json::{json, Value};

use crate::support::http::Reply;
use crate::support::TestServer;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const PREFERENCES: &str = "/v1/preferences";

fn hello() -> Value {
    json!({"model": "tiny-llama", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]})
}

/// Whether a future waits for something else than this thread, which it gets often enough to read all that is
/// there.
async fn waits<F: Future>(mut future: Pin<&mut F>) -> bool {
    for _ in 0..100 {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if polled.is_ready() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

/// Asks while no turn for long work is left: nothing is answered until there is one, and others are answered
/// meanwhile. All of it on one thread, which a request that did its work there would not give back.
async fn waits_for_a_turn(server: &TestServer, path: &str, body: &Value) -> Reply {
    let turns = Arc::clone(server.state.bodies.turns());
    let all = u32::try_from(turns.available_permits()).unwrap();
    let held = turns.acquire_many_owned(all).await.unwrap();
    let mut long = pin!(server.post(path, body));
    assert!(waits(long.as_mut()).await, "{path} did not wait");
    assert_eq!(server.chat(&hello()).await["object"], "chat.completion");
    assert!(waits(long.as_mut()).await, "{path} did not wait");
    drop(held);
    long.await
}

#[tokio::test]
async fn long_bodies_are_parsed_beside_the_workers() {
    let server = TestServer::new();
    let ids = json!({"model": "tiny-llama", "prompt": vec![5; 50_000]});
    let reply = waits_for_a_turn(&server, COMPLETIONS, &ids).await;
    assert_eq!(reply.error().2.as_deref(), Some("context_length_exceeded"));
    let wrong = json!({"model": "tiny-llama", "prompt": vec![-5; 50_000]});
    let reply = waits_for_a_turn(&server, COMPLETIONS, &wrong).await;
    assert_eq!(reply.error().2.as_deref(), Some("integer_below_min_value"));
    let chat = json!({"model": "tiny-llama", "messages": [{"role": "user", "content": "x".repeat(50_000)}]});
    let reply = waits_for_a_turn(&server, CHAT, &chat).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let preference = json!({"user": "alice", "messages": [{"role": "user", "content": "x".repeat(50_000)}],
        "chosen": "a", "rejected": "b"});
    let reply = waits_for_a_turn(&server, PREFERENCES, &preference).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[tokio::test]
async fn long_answers_are_written_beside_the_workers() {
    let server = TestServer::new();
    let turns = Arc::clone(server.state.bodies.turns());
    let all = u32::try_from(turns.available_permits()).unwrap();
    let held = turns.acquire_many_owned(all).await.unwrap();
    // 20 answers of 30 tokens with 5 alternatives each.
    let body =
        json!({"model": "tiny-llama", "prompt": "0", "n": 20, "logprobs": 5, "max_tokens": 30});
    let mut long = pin!(server.post(COMPLETIONS, &body));
    assert!(waits(long.as_mut()).await);
    server.until_idle().await;
    // All tokens are there, and are read.
    assert!(waits(long.as_mut()).await, "it was written without a turn");
    drop(held);
    let reply = long.await;
    assert_eq!(reply.json()["choices"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn short_work_is_done_at_once_and_long_work_on_another_thread() {
    let server = TestServer::new();
    let state = &server.state;
    let thread = || std::thread::current().id();
    let inline = state.limits.inline_body_bytes;
    assert_eq!(state.compute(inline, thread).await.unwrap(), thread());
    assert_ne!(state.compute(inline + 1, thread).await.unwrap(), thread());
    let turns = state.bodies.turns().available_permits();
    let failed = state.compute(inline + 1, || panic!("a bug")).await;
    assert!(failed.is_err(), "a panic is an error of that request");
    assert_eq!(state.bodies.turns().available_permits(), turns);
}
