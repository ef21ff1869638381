//! Bodies as clients send them: behind a byte order mark, packed.

use std::io::Write;

use attune::api::router::HttpConfig;
use axum::body::Body;
use axum::http::Request;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::Compression;

use crate::support::http::Reply;
use crate::support::{Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str =
    r#"{"model":"attune","temperature":0,"messages":[{"role":"user","content":"hi"}]}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

async fn send(server: &TestServer, encodings: &[&str], body: impl Into<Body>) -> Reply {
    let mut request = Request::post(CHAT).header("content-type", "application/json");
    for encoding in encodings {
        request = request.header("content-encoding", *encoding);
    }
    server.send(request.body(body.into()).unwrap()).await
}

fn text(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["choices"][0]["message"]["content"].to_string()
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_body() {
    let server = TestServer::new();
    let marked = format!("\u{feff}{HELLO}");
    assert_eq!(
        text(&send(&server, &[], marked.clone()).await),
        "\"abcdefghij\""
    );
    let packed = gzip(&marked);
    assert_eq!(
        text(&send(&server, &["gzip"], packed).await),
        "\"abcdefghij\""
    );
    for bad in [format!("\u{feff}\u{feff}{HELLO}"), "\u{feff}".to_owned()] {
        let reply = send(&server, &[], bad).await;
        assert!(
            reply.status == 400 && reply.text().contains("the body"),
            "{}",
            reply.text()
        );
    }
    for little in [true, false] {
        let unit = |unit: u16| {
            if little {
                unit.to_le_bytes()
            } else {
                unit.to_be_bytes()
            }
        };
        let wide: Vec<u8> = marked.encode_utf16().flat_map(unit).collect();
        let reply = send(&server, &[], wide).await;
        assert!(
            reply.status == 400 && reply.text().contains("UTF-8"),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn gzip_is_unpacked() {
    let server = TestServer::new();
    for encodings in [
        &["gzip"][..],
        &["GZIP"],
        &["x-gzip"],
        &["identity, gzip"],
        &["", "gzip"],
    ] {
        let reply = send(&server, encodings, gzip(HELLO)).await;
        assert_eq!(text(&reply), "\"abcdefghij\"", "{encodings:?}");
    }
    for encodings in [&["identity"][..], &[""], &["identity", "identity"]] {
        assert_eq!(
            text(&send(&server, encodings, HELLO).await),
            "\"abcdefghij\""
        );
    }
    let reply = send(&server, &[], gzip(HELLO)).await;
    assert!(
        reply.status == 400 && reply.text().contains("Content-Encoding"),
        "{}",
        reply.text()
    );
    // Several members are one text, as RFC 1952 says.
    let (head, tail) = HELLO.split_at(20);
    let members = [gzip(head), gzip(tail)].concat();
    assert_eq!(
        text(&send(&server, &["gzip"], members).await),
        "\"abcdefghij\""
    );
}

#[tokio::test]
async fn other_packings_are_415_and_say_what_is_taken() {
    let server = TestServer::new();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(HELLO.as_bytes()).unwrap();
    let deflated = encoder.finish().unwrap();
    for encodings in [
        &["deflate"][..],
        &["br"],
        &["zstd"],
        &["gzip, gzip"],
        &["gzip", "br"],
        &["rot13"],
    ] {
        let reply = send(&server, encodings, deflated.clone()).await;
        assert_eq!(reply.status, 415, "{encodings:?}");
        assert_eq!(reply.header("accept-encoding"), "gzip, identity");
        assert!(reply.text().contains("gzip"), "{}", reply.text());
    }
}

#[tokio::test]
async fn what_is_not_packed_as_it_says_is_400() {
    let server = TestServer::new();
    let mut cut = gzip(HELLO);
    cut.truncate(cut.len() / 2);
    let mut damaged = gzip(HELLO);
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    for body in [HELLO.as_bytes().to_vec(), cut, damaged, Vec::new()] {
        let reply = send(&server, &["gzip"], body).await;
        let expected = (400, "invalid_request_error".to_owned(), None, None);
        assert_eq!(reply.error(), expected, "{}", reply.text());
        assert!(reply.text().contains("gzip"), "{}", reply.text());
    }
}

#[tokio::test]
async fn the_limit_is_on_what_is_unpacked() {
    let server = TestServer::with(Setup {
        http: HttpConfig {
            max_body_bytes: 1000,
            ..HttpConfig::default()
        },
        ..Setup::default()
    });
    let padded = |bytes: usize| format!("{HELLO}{}", " ".repeat(bytes - HELLO.len()));
    assert_eq!(
        text(&send(&server, &["gzip"], gzip(&padded(1000))).await),
        "\"abcdefghij\""
    );
    for bytes in [1001, 400_000] {
        let packed = gzip(&padded(bytes));
        assert!(packed.len() < 1000, "{}", packed.len());
        let reply = send(&server, &["gzip"], packed).await;
        assert_eq!(reply.status, 413, "{bytes}");
        assert_eq!(reply.error().2.as_deref(), Some("request_too_large"));
    }
}
