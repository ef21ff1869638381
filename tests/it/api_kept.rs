//! Kept completions: `store`, and what is asked for later.

use std::time::Duration;

use attune::app::state::Limits;
use serde_json::{json, Value};

use crate::support::{openai, Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";

fn hello(more: Value) -> Value {
    let mut body = json!({"model": "attune", "temperature": 0, "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}]});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

async fn count(server: &TestServer) -> usize {
    let list = server.get(CHAT).await.json();
    openai::check("ChatCompletionList", &list);
    list["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn an_answer_is_kept_as_it_was_given() {
    let server = TestServer::promoted();
    let asked =
        hello(json!({"store": true, "user": "alice", "n": 2, "seed": 1, "metadata": {"a": "b"}}));
    let answer = server.chat(&asked).await;
    let path = format!("{CHAT}/{}", answer["id"].as_str().unwrap());
    let kept = server.get(&path).await.json();
    openai::check("CreateChatCompletionResponse", &kept);
    for field in [
        "id",
        "object",
        "created",
        "model",
        "choices",
        "system_fingerprint",
        "attune",
    ] {
        assert_eq!(kept[field], answer[field], "{field}");
    }
    assert_eq!(
        kept["usage"]["total_tokens"],
        answer["usage"]["total_tokens"]
    );
    assert_eq!(kept["metadata"], json!({"a": "b"}));
    let messages = server.get(&format!("{path}/messages")).await.json();
    assert_eq!(messages["data"][0]["content"], "hi");
    assert_eq!(messages["has_more"], false);
    // A stream is kept, too, and is the same.
    let mut streamed = asked.clone();
    streamed["stream"] = json!(true);
    let reply = server.post(CHAT, &streamed).await;
    let chunks = reply.chunks("CreateChatCompletionStreamResponse");
    let path = format!("{CHAT}/{}", chunks[0]["id"].as_str().unwrap());
    let again = server.get(&path).await.json();
    assert_eq!(again["choices"], kept["choices"]);
    assert_eq!(
        again["usage"]["completion_tokens"],
        kept["usage"]["completion_tokens"]
    );
}

#[tokio::test]
async fn only_what_asks_for_it_is_kept_unless_the_server_keeps_all_for_a_time() {
    let server = TestServer::promoted();
    for more in [json!({}), json!({"store": false})] {
        server.chat(&hello(more)).await;
    }
    assert_eq!(count(&server).await, 0);
    for (ttl, expected) in [(Duration::from_secs(60), 1), (Duration::ZERO, 0)] {
        let server = TestServer::with(Setup {
            promoted: true,
            limits: Limits {
                keep_completions: Some(ttl),
                ..Limits::default()
            },
            ..Setup::default()
        });
        server.chat(&hello(json!({}))).await;
        server.chat(&hello(json!({"store": false}))).await;
        assert_eq!(count(&server).await, expected);
        // What was asked for stays.
        server.chat(&hello(json!({"store": true}))).await;
        assert_eq!(count(&server).await, expected + 1);
    }
}

#[tokio::test]
async fn a_list_comes_in_pages_and_is_filtered() {
    let server = TestServer::promoted();
    let mut ids = Vec::new();
    for i in 0..5 {
        let model = if i == 2 { "tiny-llama" } else { "attune" };
        let more = json!({"model": model, "metadata": {"n": format!("{}", i % 2)}});
        ids.push(server.kept(more).await);
    }
    // Made within one millisecond, ids sort by chance; the list sorts by id.
    ids.sort();
    let listed = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap().iter();
        data.map(|c| c["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.get(&format!("{CHAT}?limit=2")).await.json();
    assert_eq!(listed(&first), ids[..2]);
    assert_eq!(
        (&first["has_more"], first["last_id"].as_str()),
        (&json!(true), Some(ids[1].as_str()))
    );
    let rest = server
        .get(&format!("{CHAT}?limit=3&after={}", ids[1]))
        .await
        .json();
    assert_eq!(
        (listed(&rest), &rest["has_more"]),
        (ids[2..].to_vec(), &json!(false))
    );
    let newest = server
        .get(&format!("{CHAT}?order=desc&limit=1"))
        .await
        .json();
    assert_eq!(listed(&newest), ids[4..]);
    let base = server.get(&format!("{CHAT}?model=tiny-llama")).await.json();
    assert_eq!(base["data"].as_array().unwrap().len(), 1);
    let odd = server
        .get(&format!("{CHAT}?metadata%5Bn%5D=1"))
        .await
        .json();
    assert_eq!(odd["data"].as_array().unwrap().len(), 2);
    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=up", "order"),
        ("after=a%20b", "after"),
        ("before=x", "before"),
    ] {
        let error = server.get(&format!("{CHAT}?{query}")).await.error();
        assert_eq!((error.0, error.3.as_deref()), (400, Some(param)), "{query}");
    }
    assert_eq!(server.get(&format!("{CHAT}?after=%ff")).await.status, 400);
}

#[tokio::test]
async fn metadata_is_changed_and_a_completion_is_deleted() {
    let server = TestServer::promoted();
    let id = server.kept(json!({"metadata": {"a": "b"}})).await;
    let path = format!("{CHAT}/{id}");
    let changed = server.post(&path, &json!({"metadata": {"c": "d"}})).await;
    assert_eq!(changed.json()["metadata"], json!({"c": "d"}));
    for body in [
        json!({}),
        json!({"metadata": {"a": 1}}),
        json!({"metadata": {"a": "x".repeat(513)}}),
        json!({"metadata": {"a": "b"}, "model": "x"}),
    ] {
        assert_eq!(server.post(&path, &body).await.status, 400, "{body}");
    }
    assert_eq!(
        server.get(&path).await.json()["metadata"],
        json!({"c": "d"})
    );
    let deleted = server.delete(&path).await.json();
    openai::check("ChatCompletionDeleted", &deleted);
    for path in [
        path.clone(),
        format!("{path}/messages"),
        format!("{CHAT}/a%20b"),
        format!("{CHAT}/x"),
    ] {
        let (status, _, code, _) = server.get(&path).await.error();
        assert_eq!(
            (status, code.as_deref()),
            (404, Some("completion_not_found"))
        );
    }
    assert_eq!(server.delete(&path).await.status, 404);
    assert_eq!(
        server.post(&path, &json!({"metadata": {}})).await.status,
        404
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_keeps_nothing() {
    let server = TestServer::promoted();
    server.gate.close();
    let body = hello(json!({"store": true, "stream": true}));
    let sent = server.post(CHAT, &body);
    // The client goes away before the model has answered.
    let gone = tokio::time::timeout(Duration::from_millis(50), sent).await;
    assert!(gone.is_err());
    server.gate.open();
    server.until_idle().await;
    assert_eq!(count(&server).await, 0);
}
