//! Through real sockets: drain, disconnects, pings, limits on connections.

use std::time::Duration;

use attune::api::connections::ConnectionConfig;
use attune::api::router::HttpConfig;
use attune::api::server::ServerConfig;
use serde_json::{json, Value};

use crate::support::socket::{get, post, until, Listening};
use crate::support::TestServer;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn endless(stream: bool) -> Value {
    json!({"model": "attune", "prompt": "0", "temperature": 0, "max_tokens": 240, "stream": stream})
}

fn chat(stream: bool) -> Value {
    json!({"model": "attune", "temperature": 0, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

async fn start() -> Listening {
    Listening::start(TestServer::new(), ServerConfig::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_runs_and_refuses_what_is_new() {
    let mut listening = start().await;
    assert!(listening
        .ask(get("/readyz"))
        .await
        .starts_with("HTTP/1.1 200"));
    listening.server.gate.close();
    let mut running = listening.connect();
    running.send(&post(CHAT, &chat(true)));
    running.read_until("assistant");
    listening.shut_down();
    let state = listening.server.state.clone();
    until("the drain", || state.is_draining()).await;
    let ready = listening.ask(get("/readyz")).await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(listening
        .ask(get("/livez"))
        .await
        .starts_with("HTTP/1.1 200"));
    let refused = listening.ask(post(CHAT, &chat(false))).await.to_lowercase();
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    for part in [
        "shutting_down",
        "connection: close",
        "retry-after: 5",
        "retry-after-ms: 5000",
    ] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    listening.server.gate.open();
    let answer = tokio::task::spawn_blocking(move || running.rest())
        .await
        .unwrap();
    assert!(
        answer.contains("\"content\":\"j\"") && answer.contains("data: [DONE]"),
        "{answer}"
    );
    listening.task.await.unwrap().unwrap();
    assert!(std::net::TcpStream::connect(listening.address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_does_not_hold_the_drain_up() {
    let mut listening = start().await;
    let mut idle = listening.connect();
    idle.send("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    idle.read_until("\"ok\"");
    listening.shut_down();
    listening.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlasts_the_drain_ends_with_an_error_event() {
    let config = ServerConfig {
        drain_timeout: Duration::from_millis(20),
        ..ServerConfig::default()
    };
    let mut listening = Listening::start(TestServer::new(), config).await;
    listening.server.gate.close();
    let mut running = listening.connect();
    running.send(&post(COMPLETIONS, &endless(true)));
    running.read_until("text_completion");
    listening.shut_down();
    let address = listening.address;
    // The engine is asked to stop after the listener has gone; until then it stands at the gate.
    until("the end of the drain", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    until("the end of the server", || {
        listening.server.gate.pass(1);
        std::thread::sleep(Duration::from_millis(1));
        listening.task.is_finished()
    })
    .await;
    let answer = tokio::task::spawn_blocking(move || running.rest())
        .await
        .unwrap();
    assert!(
        answer.contains("shutting_down") && !answer.contains("[DONE]"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_sequence_streaming_or_not() {
    for stream in [true, false] {
        let listening = start().await;
        let server = &listening.server;
        server.gate.close();
        let mut client = listening.connect();
        client.send(&post(COMPLETIONS, &endless(stream)));
        until("a step", || server.gate.is_reached()).await;
        drop(client);
        until("the end of the request", || server.state.work.is_empty()).await;
        let before = server.state.engine.stats().steps;
        server.gate.open();
        server.until_idle().await;
        let stats = server.state.engine.stats();
        assert!(
            stats.steps - before <= 2,
            "{} steps after the end",
            stats.steps - before
        );
        assert_eq!(stats.blocks_used, 0);
        let metrics = server.get("/metrics").await;
        let count = "outcome=\"client_disconnected\"} 1";
        assert!(metrics.text().contains(count), "{}", metrics.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_disconnects_leave_nothing_behind() {
    let listening = start().await;
    let server = &listening.server;
    let tasks = || server.state.tasks.len();
    listening.ask(get("/livez")).await;
    let own = tasks();
    for i in 0..100 {
        let mut client = listening.connect();
        let request = post(COMPLETIONS, &endless(i % 2 == 0));
        // From a broken head over a broken body to a broken answer.
        client.send(&request[..request.len() * (i % 5 + 1) / 5]);
        if i % 10 == 4 {
            client.read_until("HTTP/1.1 200");
        }
    }
    // Connections are taken in the order in which they were made: all of these have a task by now.
    listening.ask(get("/livez")).await;
    until("the end of the connections", || tasks() <= own).await;
    until("the end of the requests", || server.state.work.is_empty()).await;
    server.until_idle().await;
    assert_eq!(server.state.engine.stats().blocks_used, 0);
    let answer = listening.ask(post(CHAT, &chat(false))).await;
    assert!(answer.contains("abcdefghij"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_shows_that_it_lives() {
    let config = ServerConfig {
        http: HttpConfig {
            ping_interval: Duration::from_millis(5),
            ..HttpConfig::default()
        },
        ..ServerConfig::default()
    };
    let listening = Listening::start(TestServer::new(), config).await;
    listening.server.gate.close();
    let mut client = listening.connect();
    client.send(&post(CHAT, &chat(true)));
    client.read_until(": ping\n\n");
    listening.server.gate.open();
    let answer = tokio::task::spawn_blocking(move || client.rest())
        .await
        .unwrap();
    assert!(answer.contains("[DONE]"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded_in_number_size_and_time() {
    let bounded = |header_timeout| {
        let config = ServerConfig {
            connections: ConnectionConfig {
                header_timeout,
                max_headers: 20,
                max_header_bytes: 8192,
                ..ConnectionConfig::default()
            },
            ..ServerConfig::default()
        };
        Listening::start(TestServer::new(), config)
    };
    // Time enough for a client that a busy machine lets wait before it has sent anything.
    let listening = bounded(ConnectionConfig::default().header_timeout).await;
    let many: String = (0..30).map(|i| format!("x-{i}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(20_000));
    for headers in [many, large] {
        let request = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        let answer = listening.ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let listening = bounded(Duration::from_millis(50)).await;
    let mut slow = listening.connect();
    slow.send("GET /livez HTTP/1.1\r\nhost: loc");
    let answer = tokio::task::spawn_blocking(move || slow.rest())
        .await
        .unwrap();
    assert!(!answer.contains("200"), "{answer}");
}
