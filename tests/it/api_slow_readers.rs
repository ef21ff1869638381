//! Callers who do not read, and callers who have read enough.

use std::time::Duration;

use attune::api::server::ServerConfig;
use attune::app::state::Limits;
use attune_engine::clock::{Clock, Hands};
use serde_json::{json, Value};

use crate::support::http::post;
use crate::support::socket::{self, until, Listening};
use crate::support::{Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const STALL: Duration = Duration::from_secs(30);
const DEADLINE: Duration = Duration::from_secs(600);
/// More than the hands of a test can move on.
const NEVER: Duration = Duration::from_secs(100_000_000_000);

/// A server whose time is moved by hand, and its hands.
fn timed(max_stall: Duration, answer_timeout: Duration) -> (TestServer, Hands) {
    let (clock, hands) = Clock::by_hand();
    let server = TestServer::with(Setup {
        max_running: 640,
        clock,
        limits: Limits {
            max_stall,
            answer_timeout,
            ..Limits::default()
        },
        ..Setup::default()
    });
    (server, hands)
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_answers_that_nobody_reads_come_back() {
    for (stall, deadline, reason) in [(STALL, NEVER, "stalled"), (NEVER, DEADLINE, "deadline")] {
        let (server, hands) = timed(stall, deadline);
        let (listening, mut clients) = Listening::narrow(server, ServerConfig::default(), 5).await;
        // Far more than a narrow socket and the buffer of the server's own take.
        let flood = json!({"model": "tiny-llama", "prompt": "0", "n": 128, "stream": true,
            "ignore_eos": true, "max_tokens": 250});
        for client in &mut clients {
            client.send(&socket::post(COMPLETIONS, &flood));
        }
        let server = &listening.server;
        let engine = &server.state.engine;
        // The first ones may come to their end before the buffers are full.
        until("stalled answers", || engine.stats().stalled > 500).await;
        // Again and again, for a socket may take some more bytes at any time.
        until("the places", || {
            hands.advance(stall.min(deadline));
            let stats = engine.stats();
            (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)
        })
        .await;
        assert_eq!(server.state.work.len(), 5, "nobody read, or went away");
        let answer = listening.ask(socket::post(CHAT, &chat(json!({})))).await;
        assert!(answer.contains("abcdefghij"), "{answer}");
        let counted = format!("attune_request_failure_total{{reason=\"{reason}\"}} ");
        let ends = ends(server);
        let ended = ends.iter().find_map(|line| line.strip_prefix(&counted));
        let ended: usize = ended.unwrap_or("0").parse().unwrap();
        assert!(ended > 500, "{ends:?}");
        drop(clients);
    }
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "tiny-llama", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]});
    let fields = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test]
async fn a_body_that_is_never_polled_ends_too_and_its_reader_is_told() {
    let (server, hands) = timed(STALL, DEADLINE);
    let body = json!({"model": "tiny-llama", "prompt": "0", "stream": true, "max_tokens": 200, "temperature": 0});
    let request = post(COMPLETIONS, &body);
    let response = tower::ServiceExt::oneshot(server.router.clone(), request);
    let response = response.await.unwrap();
    until("a stalled answer", || {
        server.state.engine.stats().stalled == 1
    })
    .await;
    hands.advance(STALL);
    server.until_idle().await;
    let rest = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    let text = String::from_utf8(rest.unwrap().to_vec()).unwrap();
    let events = crate::support::http::events(&text);
    let error: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(error["error"]["code"], "answer_not_read", "{error}");
    assert!(events.len() > 60, "what was made before is not lost");
    let counted = "attune_request_failure_total{reason=\"stalled\"} 1";
    let metrics = server.engine_metrics.render();
    assert!(metrics.contains(counted), "{metrics}");
}

/// Lines of the engine's metrics that say how answers ended.
fn ends(server: &TestServer) -> Vec<String> {
    let text = server.engine_metrics.render();
    let lines = text.lines().filter(|line| {
        ["success_total", "failure_total", "disconnect_total"]
            .iter()
            .any(|name| line.starts_with(&format!("attune_request_{name}")))
    });
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_answer_that_a_stop_string_ends_has_stopped_and_knows_what_was_cached() {
    for (stream, n) in [(false, 1), (false, 3), (true, 1), (true, 3)] {
        let server = TestServer::with(Setup {
            prefix_cache: true,
            ..Setup::default()
        });
        let body = |stop: Value| {
            chat(
                json!({"stop": stop, "n": n, "stream": stream, "messages": [{"role": "user", "content": "x".repeat(100)}],
                "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null }}),
            )
        };
        // What the cache holds after the first answers is there for all the others.
        server.post(CHAT, &body(Value::Null)).await;
        server.until_idle().await;
        let mut cached = Vec::new();
        for stop in [Value::Null, json!("def"), json!("a")] {
            let reply = server.post(CHAT, &body(stop)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let last = match stream {
                true => reply.chunks("CreateChatCompletionStreamResponse").pop(),
                false => Some(reply.json()),
            };
            let usage = &last.unwrap()["usage"];
            cached.push(usage["prompt_tokens_details"]["cached_tokens"].as_u64());
            server.until_idle().await;
        }
        assert!(cached[0] >= Some(64), "{cached:?}");
        assert_eq!(cached, [cached[0]; 3], "stream: {stream}, n: {n}");
        let expected = format!(
            "attune_request_success_total{{finished_reason=\"stop\"}} {}",
            4 * n
        );
        assert_eq!(ends(&server), [expected], "stream: {stream}, n: {n}");
    }
}

#[tokio::test]
async fn answers_of_a_request_that_failed_have_not_lost_their_client() {
    for stream in [false, true] {
        let server = TestServer::new();
        // The first prompt's logits are not numbers; the second goes on for ever.
        let body = json!({"model": "tiny-llama", "prompt": ["z", "0"], "max_tokens": 200, "stream": stream});
        let reply = server.post(COMPLETIONS, &body).await;
        assert!(reply.text().contains("internal_error"), "{}", reply.text());
        server.until_idle().await;
        let failed = |reason| format!("attune_request_failure_total{{reason=\"{reason}\"}} 1");
        let mut found = ends(&server);
        found.sort();
        assert_eq!(found, [failed("given_up"), failed("not_finite")]);
    }
}
