//! `POST /v1/completions`: prompts in their forms, echo, lists of log-probabilities, streams.

use attune_text::tokenizer::{GgufVocabulary, Tokenizer};
use serde_json::{json, Value};

use crate::support::runner::id;
use crate::support::{openai, Setup, TestServer};

const COMPLETIONS: &str = "/v1/completions";

async fn complete(server: &TestServer, extra: Value) -> Value {
    let mut body = json!({"model": "tiny-llama", "prompt": "a", "temperature": 0});
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    let reply = server.post(COMPLETIONS, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    openai::check("CreateCompletionResponse", &reply.json());
    reply.json()
}

fn texts(answer: &Value) -> Vec<&str> {
    let choices = answer["choices"].as_array().unwrap().iter();
    choices.map(|c| c["text"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn prompts_come_in_four_forms_and_answers_in_their_order() {
    let server = TestServer::new();
    let (a, k) = (id('a'), id('K'));
    for (prompt, expected, tokens) in [
        (json!("a"), vec!["bcdefghij"], 1),
        (json!(["a", "K"]), vec!["bcdefghij", "LMNOPQRST"], 2),
        (json!([k, a]), vec!["bcdefghij"], 2),
        (json!([[a], [k]]), vec!["bcdefghij", "LMNOPQRST"], 2),
    ] {
        let answer = complete(&server, json!({"prompt": prompt})).await;
        assert_eq!(texts(&answer), expected, "{prompt}");
        assert_eq!(answer["usage"]["prompt_tokens"], tokens, "{prompt}");
        assert_eq!(answer["object"], "text_completion");
        assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    }
    let answer = complete(
        &server,
        json!({"prompt": ["a", "K"], "n": 2, "max_tokens": 1}),
    )
    .await;
    assert_eq!(texts(&answer), ["b", "b", "L", "L"]);
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn an_empty_prompt_begins_with_what_stands_before_any_text() {
    let server = TestServer::promoted();
    for (prompt, model) in [(json!(""), "tiny-llama"), (json!(["", "a"]), "attune")] {
        let answer = complete(&server, json!({"prompt": prompt, "model": model})).await;
        assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() >= 1);
    }
}

#[tokio::test]
async fn control_tokens_in_a_text_are_plain_text_and_ids_are_ids() {
    let server = TestServer::new();
    let answer = complete(&server, json!({"prompt": "</s><|user|>"})).await;
    assert_eq!(answer["usage"]["prompt_tokens"], 12);
    let answer = complete(&server, json!({"prompt": [1, 100, 127]})).await;
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[tokio::test]
async fn the_usual_bound_is_sixteen_tokens() {
    let server = TestServer::new();
    let answer = complete(&server, json!({"prompt": "0"})).await;
    assert_eq!(texts(&answer), ["1234567890123456"]);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn an_echo_goes_before_each_answer() {
    let server = TestServer::new();
    let prompt = json!({"prompt": ["xa", "K"], "n": 2, "echo": true, "max_tokens": 1});
    assert_eq!(
        texts(&complete(&server, prompt).await),
        ["xab", "xab", "KL", "KL"]
    );
    let ids = json!({"prompt": [1, id('x'), id('a')], "echo": true, "max_tokens": 1});
    assert_eq!(texts(&complete(&server, ids).await), ["xab"]);
}

/// The tiny vocabulary, but `a` and `b` are the two bytes of one character.
fn bytes_of_a_character() -> Tokenizer {
    let token = |id: u32| match char::from_u32(id + 28) {
        Some('a') => "<0xC3>".to_owned(),
        Some('b') => "<0xA9>".to_owned(),
        Some(character) if (4..=98).contains(&id) => character.to_string(),
        _ if id == 99 => "<0x0A>".to_owned(),
        _ => format!("<{id}>"),
    };
    let tokens: Vec<String> = (0..128).map(token).collect();
    let kind = |token: &String| match token.as_str() {
        byte if byte.starts_with("<0x") => 6,
        name if name.len() > 1 => 3,
        _ => 1,
    };
    Tokenizer::from_gguf(&GgufVocabulary {
        model: "llama".to_owned(),
        token_types: tokens.iter().map(kind).collect(),
        scores: vec![0.0; tokens.len()],
        tokens,
        bos: Some(1),
        eos: Some(2),
        add_space_prefix: Some(false),
        chat_template: Some("{{ messages[0].content }}".to_owned()),
        ..GgufVocabulary::default()
    })
    .unwrap()
}

#[tokio::test]
async fn an_answer_begins_with_the_character_that_a_prompt_of_ids_ended_inside() {
    let server = TestServer::with(Setup {
        tokenizer: Some(bytes_of_a_character()),
        ..Setup::default()
    });
    for (echo, want) in [(true, "x\u{e9}c"), (false, "\u{e9}c")] {
        let body = json!({"model": "tiny-llama", "prompt": [1, id('x'), id('a')], "echo": echo, "max_tokens": 2});
        assert_eq!(texts(&complete(&server, body.clone()).await), [want]);
        let mut streamed = body;
        streamed["stream"] = json!(true);
        let reply = server.post(COMPLETIONS, &streamed).await;
        let chunks = reply.chunks("CreateCompletionResponse");
        let joined: String = chunks.iter().flat_map(texts).collect();
        assert_eq!(joined, want);
    }
    // Nothing ends it.
    let other = id('c').to_string();
    let alone =
        json!({"prompt": [1, id('a')], "echo": true, "max_tokens": 1, "logit_bias": {other: 100}});
    assert_eq!(texts(&complete(&server, alone).await), ["\u{fffd}c"]);
}

#[tokio::test]
async fn log_probabilities_are_parallel_lists() {
    let server = TestServer::new();
    let answer = complete(&server, json!({"logprobs": 2, "max_tokens": 3})).await;
    let lists = &answer["choices"][0]["logprobs"];
    assert_eq!(lists["tokens"], json!(["b", "c", "d"]));
    assert_eq!(lists["text_offset"], json!([0, 1, 2]));
    assert_eq!(lists["token_logprobs"].as_array().unwrap().len(), 3);
    let top = lists["top_logprobs"][0].as_object().unwrap();
    assert_eq!(top["b"], lists["token_logprobs"][0]);
    assert_eq!(top.len(), 2);
}

#[tokio::test]
async fn a_stream_joins_to_the_answers() {
    let server = TestServer::promoted();
    let body = json!({"model": "attune", "user": "bob", "prompt": ["a", "0"], "temperature": 0, "stream": true,
        "echo": true, "stream_options": {"include_usage": true}, "max_tokens": 12});
    let reply = server.post(COMPLETIONS, &body).await;
    let chunks = reply.chunks("CreateCompletionResponse");
    let mut joined = [String::new(), String::new()];
    for choice in chunks.iter().flat_map(|c| c["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap();
        joined[usize::try_from(index).unwrap()] += choice["text"].as_str().unwrap();
    }
    assert_eq!(joined, ["abcdefghij", "0123456789012"]);
    let (last, rest) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 21);
    assert!(rest
        .iter()
        .all(|c| c.get("usage").is_none() && c["id"] == last["id"]));
    assert_eq!(chunks[0]["attune"]["user_row"], "user");
    assert_eq!(reply.header("x-attune-user-row"), "user");
}
