//! Keys while a server runs: they change, end and reach as far as they say.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attune::app::keys::{watch, KeyRing};
use axum::body::Body;
use axum::http::Request;
use serde_json::{json, Value};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::socket::PATIENCE;
use crate::support::{keys, Setup, TestServer};

const APP: &str = "sk-app-0123456789abcdef";
const NEW: &str = "sk-new-0123456789abcdef";
const TENANT: &str = "sk-tenant-0123456789abcdef";
const OPERATOR: &str = "sk-operator-0123456789abcdef";
const OLD: &str = "sk-old-0123456789abcdef";

/// Another file in the place of the last one.
fn put(path: &Path, name: &str, key: &str) {
    let json = json!({"keys": [{"name": name, "key": key}]});
    let new = path.with_extension("new");
    std::fs::write(&new, json.to_string()).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn with(ring: KeyRing) -> TestServer {
    TestServer::with(Setup {
        keys: ring,
        ..Setup::default()
    })
}

/// Until `key` is accepted.
async fn until_accepted(server: &TestServer, key: &str) {
    let accepted = async {
        while server.get_as(key, "/v1/models").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted)
        .await
        .expect("the key is not accepted");
}

#[tokio::test]
async fn a_key_file_that_changes_is_read_again_and_so_it_is_on_sighup() {
    for told in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        put(&path, "app", APP);
        let server = with(KeyRing::from_file(&path).unwrap());
        assert_eq!(server.get_as(APP, "/v1/models").await.status, 200);
        // One that is told does not look by itself again while this test runs.
        let every = Duration::from_millis(if told { 1 << 40 } else { 1 });
        put(&path, "first", NEW);
        let watching = server
            .state
            .tasks
            .spawn(watch::run(server.state.clone(), every));
        // It has looked, so it hears signals by now.
        until_accepted(&server, NEW).await;
        assert_eq!(server.get_as(APP, "/v1/models").await.status, 401);
        put(&path, "app", APP);
        if told {
            signal_hook::low_level::raise(signal_hook::consts::SIGHUP).unwrap();
        }
        until_accepted(&server, APP).await;
        assert_eq!(server.get_as(NEW, "/v1/models").await.status, 401);
        watching.abort();
    }
}

#[tokio::test]
async fn a_key_that_ended_says_so_to_who_has_it() {
    let server = with(keys(
        &json!({"keys": [
            {"name": "old", "key": OLD, "expires": "2020-01-01"},
            {"name": "app", "key": APP, "expires": "9999-12-31T23:59:59Z"},
        ]})
        .to_string(),
    ));
    assert_eq!(server.get_as(APP, "/v1/models").await.status, 200);
    let reply = server.get_as(OLD, "/v1/models").await;
    let (status, _, code, _) = reply.error();
    assert_eq!((status, code.as_deref()), (401, Some("invalid_api_key")));
    assert!(reply.text().contains("has expired"), "{}", reply.text());
    let other = server.get_as(&OLD[..OLD.len() - 1], "/v1/models").await;
    assert!(!other.text().contains("expired"), "{}", other.text());
}

#[tokio::test]
async fn the_admin_of_a_tenant_manages_that_tenant_and_not_the_server() {
    let server = with(keys(
        &json!({"keys": [
            {"name": "tenant", "key": TENANT, "tenant": "acme", "roles": ["admin"]},
            {"name": "operator", "key": OPERATOR, "tenant": "*", "roles": ["admin"]},
            {"name": "old", "key": OLD, "roles": ["admin"]},
        ]})
        .to_string(),
    ));
    let ask = async |key: &str, method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {key}"));
        server.send(request.body(Body::from("{")).unwrap()).await
    };
    let document: Value = serde_json::from_str(&attune::api::openapi::document()).unwrap();
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation["tags"] != json!(["admin"]) {
                continue;
            }
            let (method, path) = (method.to_uppercase(), path.replace(['{', '}'], ""));
            let reply = ask(TENANT, &method, &path).await;
            assert_eq!(reply.status, 403, "{method} {path}");
            assert!(reply.text().contains("its tenant only"), "{}", reply.text());
            for key in [OPERATOR, OLD] {
                let status = ask(key, &method, &path).await.status;
                assert!(![401, 403].contains(&status), "{method} {path}: {status}");
            }
            asked += 1;
        }
    }
    assert!(asked >= 12, "{asked} routes");
    for key in [TENANT, OPERATOR, OLD] {
        let reply = ask(key, "DELETE", "/v1/users/alice").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_access_log_names_the_key_and_shows_none() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(log.clone())
        .finish();
    // While there is only one dispatcher, a place in the code that another test's thread logs from first would be
    // switched off for good: tracing asks that thread's own dispatcher, which is none.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(subscriber);
    let server = with(keys(
        &json!({"keys": [{"name": "chat-app", "key": APP}]}).to_string(),
    ));
    for (key, status) in [(APP, 200), (NEW, 401)] {
        assert_eq!(server.get_as(key, "/v1/models").await.status, status);
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests = lines.filter(|line| line["fields"]["message"] == "request");
    let seen: Vec<_> = requests
        .map(|line| {
            (
                line["fields"]["status"].clone(),
                line["fields"]["key"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(json!(200), json!("chat-app")), (json!(401), Value::Null)]
    );
    assert!(!text.contains("sk-"), "{text}");
}
