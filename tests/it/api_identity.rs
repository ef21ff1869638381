//! Who answers where a data directory says that its server does: `attune loop` asks before it sends its key.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use attune::api::server::ServerConfig;
use attune::app::address::{self, Identity};
use attune::learning_loop::target::Target;
use attune::learning_loop::LoopError;
use serde_json::json;

use crate::support::socket::Listening;
use crate::support::{keys, Setup, TestServer};

const ADMIN: &str = "sk-admin-0123456789abcdef";

async fn start() -> Listening {
    let file = json!({"keys": [{"name": "loop", "key": ADMIN, "roles": ["admin"]}]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        ..Setup::default()
    });
    Listening::start(server, ServerConfig::default()).await
}

/// A snapshot, as a turn of the loop takes one of the server that has `data_dir`.
async fn snapshot(data_dir: &Path) -> Result<usize, LoopError> {
    let target = Target {
        data_dir: data_dir.to_owned(),
        bundles: data_dir.join("bundles"),
        url: None,
        key: Some(ADMIN.to_owned()),
    };
    let out = data_dir.join("snapshot.jsonl");
    let taken = tokio::task::spawn_blocking(move || {
        target.snapshot(&out)?;
        Ok(std::fs::read_to_string(&out).unwrap().lines().count())
    });
    taken.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_of_the_data_directory_proves_it_and_gets_the_key() {
    let listening = start().await;
    let data_dir = listening.server.data_dir.path();
    let identity = &listening.server.state.identity;
    address::publish(data_dir, listening.address, identity).unwrap();
    assert!(snapshot(data_dir).await.unwrap() >= 2);
    // The word of a server before it, on the same port.
    address::publish(data_dir, listening.address, &Identity::new()).unwrap();
    let error = snapshot(data_dir).await.unwrap_err();
    assert!(matches!(error, LoopError::Stranger { .. }), "{error}");
    assert!(error.to_string().contains("--url"), "{error}");
    let metrics = listening.server.get_as(ADMIN, "/metrics").await;
    let snapshots = r#"route="/v1/admin/snapshot",method="GET",status="200",outcome="complete"} 1"#;
    assert!(metrics.text().contains(snapshots), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_port_of_a_server_that_ended_learns_nothing() {
    // A server holds the store, and its word is of another port than its own.
    let listening = start().await;
    let data_dir = listening.server.data_dir.path();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let identity = &listening.server.state.identity;
    address::publish(data_dir, stranger.local_addr().unwrap(), identity).unwrap();
    let heard = std::thread::spawn(move || {
        let mut stream = stranger.accept().unwrap().0;
        let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
        while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
            let n = stream.read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..n]);
        }
        let no = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(no.as_bytes()).unwrap();
        String::from_utf8(heard).unwrap()
    });
    let error = snapshot(data_dir).await.unwrap_err();
    assert!(matches!(error, LoopError::Stranger { .. }), "{error}");
    let heard = heard.join().unwrap();
    assert!(heard.starts_with("GET /v1/identity?challenge="), "{heard}");
    assert!(!heard.contains(ADMIN), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_left_no_word_is_not_waited_for() {
    let listening = start().await;
    let error = snapshot(listening.server.data_dir.path())
        .await
        .unwrap_err();
    assert!(matches!(error, LoopError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_challenge_is_64_hex_digits_and_needs_no_key() {
    let server = TestServer::with(Setup {
        keys: keys(&json!({"keys": [{"name": "loop", "key": ADMIN}]}).to_string()),
        ..Setup::default()
    });
    let path = |challenge: &str| format!("/v1/identity?challenge={challenge}");
    let reply = server.get(&path(&"0a".repeat(32))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let proof = hex::encode(server.state.identity.prove(&[10; 32]));
    assert_eq!(reply.json(), json!({"object": "identity", "proof": proof}));
    for bad in ["", "0a", &"0a".repeat(33), &"zz".repeat(32)] {
        let (status, _, _, param) = server.get(&path(bad)).await.error();
        assert_eq!(
            (status, param.as_deref()),
            (400, Some("challenge")),
            "{bad}"
        );
    }
    assert_eq!(server.get("/v1/identity").await.status, 400);
    let more = path(&"0a".repeat(32)) + "&key=x";
    assert_eq!(server.get(&more).await.status, 400);
}
