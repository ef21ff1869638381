//! More connections than there are places: health checks are answered all the same.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use attune::api::connections::ConnectionConfig;
use attune::api::health_server::HealthServer;
use attune::api::server::ServerConfig;

use crate::support::socket::{get, Client, Listening, PATIENCE};
use crate::support::TestServer;

const PLACES: usize = 3;
const RESERVED: usize = 4;

async fn start() -> Listening {
    let config = ServerConfig {
        connections: ConnectionConfig {
            max_connections: PLACES,
            reserved: RESERVED,
            ..ConnectionConfig::default()
        },
        ..ServerConfig::default()
    };
    Listening::start(TestServer::new(), config).await
}

/// Connections that say nothing. The server takes connections in the order in which they were made.
fn idle(listening: &Listening, count: usize) -> Vec<Client> {
    (0..count).map(|_| listening.connect()).collect()
}

/// Connections that have been answered once, and stay.
fn known(listening: &Listening, count: usize) -> Vec<Client> {
    let mut clients = idle(listening, count);
    for client in &mut clients {
        client.send("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
        client.read_until("\"ok\"");
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_nobody_out() {
    let listening = start().await;
    let _crowd = idle(&listening, PLACES + 3 * RESERVED);
    let answer = listening.ask(get("/v1/models")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_is_answered_although_all_places_are_taken() {
    let listening = start().await;
    let mut taken = known(&listening, PLACES);
    let _crowd = idle(&listening, 3 * RESERVED);
    for path in ["/livez", "/readyz"] {
        let answer = listening.ask(get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    // One that would stay makes room, too.
    let mut checker = listening.connect();
    checker.send("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = tokio::task::spawn_blocking(move || checker.rest()).await;
    let answer = answer.unwrap().to_lowercase();
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");

    let refused = listening.ask(get("/v1/models")).await.to_lowercase();
    assert!(refused.starts_with("http/1.1 503"), "{refused}");
    for part in [
        "too_many_connections",
        "x-request-id: ",
        "retry-after: 1",
        "connection: close",
    ] {
        assert!(refused.contains(part), "{part} is not in {refused}");
    }
    // Who has a place keeps it, and one that gets free is taken by whoever asks next.
    let mut kept = taken.pop().unwrap();
    kept.send("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
    kept.read_until("\"object\":\"list\"");
    drop(taken);
    let (mut answer, dropped) = (String::new(), Instant::now());
    while !answer.starts_with("HTTP/1.1 200") {
        assert!(dropped.elapsed() < PATIENCE, "{answer}");
        answer = listening.ask(get("/v1/models")).await;
        let known = answer.starts_with("HTTP/1.1 200") || answer.contains("too_many_connections");
        assert!(known, "{answer}");
    }
}

/// Asks without a runtime.
fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(get(path).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The only thread of the test's runtime is the one that waits for the answers.
#[tokio::test(flavor = "current_thread")]
async fn the_health_port_answers_while_no_other_thread_does() {
    let server = TestServer::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ConnectionConfig::default();
    let health = HealthServer::start(listener, server.state.clone(), &config).unwrap();
    let _crowd: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for path in ["/livez", "/readyz"] {
        let answer = ask(address, path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("x-request-id: req_"), "{answer}");
    }
    // Nothing else is there.
    for path in ["/v1/models", "/metrics", "/"] {
        let answer = ask(address, path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("unknown_url"), "{answer}");
    }
    server.state.start_draining();
    assert!(ask(address, "/readyz").starts_with("HTTP/1.1 503"));
    assert!(ask(address, "/livez").starts_with("HTTP/1.1 200"));
    drop(health);
}
