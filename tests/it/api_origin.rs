//! Which web pages may call: names of the server, origins, CORS.

use std::net::TcpStream;

use attune::api::origin::CorsOrigins;
use attune::api::router::HttpConfig;
use attune::api::server::ServerConfig;
use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::support::http::Reply;
use crate::support::socket::{Client, Listening};
use crate::support::{keys, Setup, TestServer};

const ROLLBACK: &str = "/v1/admin/aliases/attune/rollback";
const KEY: &str = "sk-app-0123456789abcdef";
const PAGE: &str = "https://chat.example";

fn with_cors(cors: CorsOrigins) -> TestServer {
    TestServer::with(Setup {
        http: HttpConfig {
            cors,
            ..HttpConfig::default()
        },
        ..Setup::default()
    })
}

fn only(origin: &'static str) -> CorsOrigins {
    CorsOrigins::Only(vec![axum::http::HeaderValue::from_static(origin)])
}

async fn ask(server: &TestServer, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_server_without_keys_answers_under_loopback_names_only() {
    let server = TestServer::new();
    for (host, status) in [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("localhost.", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("192.168.0.7", 403),
        ("0.0.0.0:8080", 403),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("attune.localhost", 403),
        ("[::1%25lo]", 403),
        ("", 403),
    ] {
        let reply = ask(&server, "GET", "/v1/models", &[("host", host)]).await;
        assert_eq!(reply.status, status, "{host:?}");
        if status == 403 {
            assert!(reply.text().contains("--api-keys"), "{}", reply.text());
        }
        // Load balancers call by whatever name they like.
        let health = ask(&server, "GET", "/livez", &[("host", host)]).await;
        assert_eq!(health.status, 200, "{host:?}");
    }
    let twice = [("host", "localhost"), ("host", "localhost")];
    assert_eq!(ask(&server, "GET", "/v1/models", &twice).await.status, 403);
}

/// As bytes on a socket: what clients make of a URL and an HTTP version.
#[tokio::test(flavor = "multi_thread")]
async fn targets_and_versions_are_no_way_around() {
    let listening = Listening::start(TestServer::new(), ServerConfig::default()).await;
    for (head, status) in [
        ("GET /v1/models HTTP/1.1\r\nhost: localhost", "200"),
        ("GET /v1/models HTTP/1.1", "403"),
        ("GET /v1/models HTTP/1.0", "403"),
        ("GET /v1/models HTTP/1.0\r\nhost: 127.0.0.1", "200"),
        ("GET /v1/models HTTP/1.0\r\nhost: evil.example", "403"),
        (
            "GET http://localhost/v1/models HTTP/1.1\r\nhost: localhost",
            "200",
        ),
        (
            "GET http://[::1]:80/v1/models HTTP/1.1\r\nhost: localhost",
            "200",
        ),
        ("GET http://localhost/v1/models HTTP/1.0", "200"),
        (
            "GET http://evil.example/v1/models HTTP/1.1\r\nhost: localhost",
            "403",
        ),
        (
            "GET http://localhost/v1/models HTTP/1.1\r\nhost: evil.example",
            "403",
        ),
        (
            "GET http://localhost@evil.example/v1/models HTTP/1.1\r\nhost: localhost",
            "403",
        ),
        (
            "GET http://evil.example/livez HTTP/1.1\r\nhost: evil.example",
            "200",
        ),
    ] {
        let address = listening.address;
        let text = format!("{head}\r\nconnection: close\r\n\r\n");
        let answer = tokio::task::spawn_blocking(move || {
            let mut client = Client::new(TcpStream::connect(address).unwrap());
            client.send(&text);
            client.rest()
        });
        let answer = answer.await.unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{head}: {answer}");
    }
}

const HOST: (&str, &str) = ("host", "localhost:8080");
const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
const SAME_SITE: (&str, &str) = ("sec-fetch-site", "same-site");
const NO_CORS: (&str, &str) = ("sec-fetch-mode", "no-cors");
const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
const FROM_PAGE: (&str, &str) = ("origin", PAGE);

type Headers = Vec<(&'static str, &'static str)>;

/// What a browser sends for something that a page of another origin makes it do.
#[rustfmt::skip]
fn foreign() -> Vec<(&'static str, &'static str, Headers)> {
    vec![
        // fetch(..., {method: "POST", mode: "no-cors"}), with and without fetch metadata.
        ("POST", ROLLBACK, vec![FROM_PAGE, CROSS]),
        ("POST", ROLLBACK, vec![FROM_PAGE]),
        // A page in a sandboxed frame, and pages on other ports and names of this machine.
        ("POST", ROLLBACK, vec![("origin", "null"), CROSS]),
        ("POST", ROLLBACK, vec![("origin", "http://localhost:3000"), SAME_SITE]),
        ("POST", ROLLBACK, vec![("origin", "http://localhost")]),
        ("POST", ROLLBACK, vec![("origin", "http://127.0.0.1:8080")]),
        ("POST", ROLLBACK, vec![("origin", "")]),
        ("POST", ROLLBACK, vec![("origin", "http://localhost:8080"), FROM_PAGE]),
        // A form that another page submits.
        ("POST", ROLLBACK, vec![CROSS, NAVIGATE, DOCUMENT]),
        // An image, a script, a frame.
        ("GET", "/v1/models", vec![CROSS, NO_CORS, ("sec-fetch-dest", "image")]),
        ("GET", "/v1/models", vec![SAME_SITE, NO_CORS, ("sec-fetch-dest", "script")]),
        ("GET", "/docs/", vec![CROSS, NAVIGATE, ("sec-fetch-dest", "iframe")]),
        ("GET", "/v1/models", vec![FROM_PAGE, CROSS, NAVIGATE, DOCUMENT]),
    ]
}

/// What people and the server's own pages make a browser do.
fn own() -> Vec<(&'static str, Headers)> {
    vec![
        ("/docs/", vec![CROSS, NAVIGATE, DOCUMENT]),
        ("/v1/models", vec![("sec-fetch-site", "none"), NAVIGATE]),
        ("/openapi.json", vec![("sec-fetch-site", "same-origin")]),
        ("/v1/models", vec![("origin", "http://LOCALHOST:8080")]),
        ("/v1/models", vec![]),
        ("/livez", vec![FROM_PAGE, CROSS]),
    ]
}

#[tokio::test]
async fn a_page_of_another_origin_can_change_nothing_and_start_nothing() {
    let server = TestServer::promoted();
    for (method, path, headers) in foreign() {
        let all = [&[HOST], headers.as_slice()].concat();
        let reply = ask(&server, method, path, &all).await;
        let (status, kind, code, _) = reply.error();
        assert_eq!(
            (status, kind.as_str()),
            (403, "permission_error"),
            "{method} {headers:?}"
        );
        assert_eq!(
            code.as_deref(),
            Some("origin_not_allowed"),
            "{method} {headers:?}"
        );
        assert!(reply.text().contains("--cors-origin"), "{}", reply.text());
        assert!(!reply.headers.contains_key("access-control-allow-origin"));
    }
    for (path, headers) in own() {
        let all = [&[HOST], headers.as_slice()].concat();
        let reply = ask(&server, "GET", path, &all).await;
        assert_eq!(reply.status, 200, "{path} {headers:?}");
    }
    // Off, CORS answers nothing.
    let preflight = [HOST, FROM_PAGE, ("access-control-request-method", "POST")];
    assert_eq!(
        ask(&server, "OPTIONS", ROLLBACK, &preflight).await.status,
        403
    );
    assert_eq!(ask(&server, "OPTIONS", ROLLBACK, &[HOST]).await.status, 405);
}

#[tokio::test]
async fn an_origin_that_is_named_may_call_and_read() {
    for (cors, origin, allowed) in [
        (only(PAGE), PAGE, Some(PAGE)),
        (only(PAGE), "https://chat.example:8443", None),
        (only(PAGE), "http://chat.example", None),
        (CorsOrigins::Any, "https://anybody.example", Some("*")),
        (CorsOrigins::Any, "null", Some("*")),
    ] {
        let server = with_cors(cors);
        let from = [("origin", origin), ("sec-fetch-site", "cross-site")];
        let preflight = [
            &from[..],
            &[
                ("access-control-request-method", "DELETE"),
                (
                    "access-control-request-headers",
                    "authorization,x-stainless-os",
                ),
            ],
        ];
        let reply = ask(&server, "OPTIONS", "/v1/users/alice", &preflight.concat()).await;
        assert_eq!(reply.status, 200);
        let header = |reply: &Reply, name: &str| {
            let value = reply.headers.get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let allow_origin = "access-control-allow-origin";
        assert_eq!(header(&reply, allow_origin).as_deref(), allowed, "{origin}");
        let methods = header(&reply, "access-control-allow-methods").unwrap();
        assert!(methods.contains("DELETE"), "{methods}");
        let headers = header(&reply, "access-control-allow-headers").unwrap();
        assert!(headers.contains("x-stainless-os"), "{headers}");
        let reply = ask(&server, "GET", "/v1/models", &from).await;
        let status = if allowed.is_some() { 200 } else { 403 };
        assert_eq!(reply.status, status, "{origin}");
        assert_eq!(header(&reply, allow_origin).as_deref(), allowed, "{origin}");
        let exposed = header(&reply, "access-control-expose-headers").unwrap();
        for name in ["x-request-id", "x-attune-ignored", "x-attune-store"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        // A name that was made to lead here is still none of ours.
        let rebound = [&from[..], &[("host", "evil.example")]].concat();
        assert_eq!(
            ask(&server, "GET", "/v1/models", &rebound).await.status,
            403
        );
        assert_eq!(
            ask(&server, "OPTIONS", "/v1/models", &rebound).await.status,
            403
        );
    }
}

#[tokio::test]
async fn with_keys_a_preflight_needs_none_and_everything_else_does() {
    let file = json!({"keys": [{"name": "app", "key": KEY}]}).to_string();
    let bearer = format!("Bearer {KEY}");
    for (cors, preflighted, allowed) in
        [(CorsOrigins::Off, 401, None), (only(PAGE), 200, Some(PAGE))]
    {
        let server = TestServer::with(Setup {
            keys: keys(&file),
            http: HttpConfig {
                cors,
                ..HttpConfig::default()
            },
            ..Setup::default()
        });
        let preflight = [("origin", PAGE), ("access-control-request-method", "POST")];
        let reply = ask(&server, "OPTIONS", "/v1/chat/completions", &preflight).await;
        assert_eq!(reply.status, preflighted);
        let named = [("host", "attune.example"), ("origin", PAGE)];
        let reply = ask(&server, "GET", "/v1/models", &named).await;
        assert_eq!(reply.status, 401);
        // A page can read why.
        let allow = reply.headers.get("access-control-allow-origin");
        assert_eq!(allow.map(|value| value.to_str().unwrap()), allowed);
        // Programs may send what they like: the key is what counts.
        let with_key = [&named[..], &[("authorization", bearer.as_str())]].concat();
        assert_eq!(
            ask(&server, "GET", "/v1/models", &with_key).await.status,
            200
        );
    }
}
