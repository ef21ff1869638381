//! Promise 4: with the prefix cache as without, preempted as not, streamed as whole.

use std::sync::Arc;

use attune_engine::request::{EngineEvent, EngineRequest};
use attune_engine::thread::{Answer, EngineConfig};
use serde_json::{json, Value};

use crate::common::{ids_of, oracle_json, smollm2, tiny};
use crate::sequences::{
    alone, engine, greedy, noise_adapter, noise_rows, rest, usual, ExactToken, PLENTY,
};
use crate::server::{content, smollm2_server};

/// Tokens, and how many prompt tokens came from the cache.
fn with_cached(answer: &mut Answer, n: usize) -> (Vec<ExactToken>, usize) {
    let tokens = (0..n)
        .filter_map(|_| crate::sequences::next(answer))
        .collect();
    match answer.events.blocking_recv() {
        Some(EngineEvent::Finished(finished)) => (tokens, finished.cached_tokens),
        other => panic!("{other:?} instead of the end"),
    }
}

#[test]
fn smollm2_with_the_prefix_cache_is_smollm2_without() {
    let decoder = smollm2();
    let chat = ids_of(&oracle_json("smollm2/chat.json")["records"][1]["prompt_ids"]);
    let chat: Vec<u32> = chat.iter().copied().cycle().take(50).collect();
    let other_end = [&chat[..40], &[100, 200, 300]].concat();
    let person = noise_rows(decoder.config(), 4, 1);
    let personal = |prompt: &[u32]| EngineRequest {
        soft_prompt: person.clone(),
        ..greedy(prompt, 5)
    };
    let versioned = |seed| EngineRequest {
        adapter: Some(noise_adapter(decoder.config(), 4, seed)),
        ..personal(&chat)
    };
    let config = EngineConfig {
        prefix_cache: true,
        ..usual()
    };
    let engine = engine(&decoder, PLENTY, config);
    let cached: Vec<usize> = [
        greedy(&chat, 5),
        greedy(&chat, 5),
        greedy(&other_end, 5),
        personal(&chat),
        personal(&other_end),
        versioned(2),
        versioned(3),
    ]
    .into_iter()
    .map(|request| {
        let mut answer = engine.submit(vec![request.clone()]).unwrap().remove(0);
        let (tokens, cached) = with_cached(&mut answer, 5);
        assert_eq!(tokens, alone(&decoder, request));
        cached
    })
    .collect();
    // Whole blocks of 16 rows; 4 rows of the person are no prompt tokens.
    assert_eq!(cached, [0, 48, 32, 0, 28, 0, 0]);
}

#[test]
fn what_is_preempted_goes_on_as_if_it_had_not_been() {
    for family in ["llama", "gemma3"] {
        let decoder = Arc::new(tiny(family));
        let adapter = noise_adapter(decoder.config(), 4, 9);
        let requests: Vec<EngineRequest> = (0..4u32)
            .map(|i| EngineRequest {
                adapter: (i % 2 == 1).then(|| adapter.clone()),
                soft_prompt: noise_rows(decoder.config(), 2, u64::from(i / 2)),
                ..greedy(&[5 + i, 6, 7, 8 + i], 60)
            })
            .collect();
        for prefix_cache in [false, true] {
            // Each needs 5 blocks in the end; all four fit only at first.
            let config = EngineConfig {
                prefix_cache,
                ..usual()
            };
            let engine = engine(&decoder, 9, config);
            let mut answers = engine.submit(requests.clone()).unwrap();
            for (answer, request) in answers.iter_mut().zip(&requests) {
                assert_eq!(rest(answer), alone(&decoder, request.clone()));
            }
            assert!(engine.stats().preemptions > 0, "nothing was preempted");
        }
    }
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "attune", "user": "bob", "max_tokens": 14, "logprobs": true,
        "top_logprobs": 2, "messages": [{"role": "user", "content": "Name three colours, please."}]});
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    body
}

/// (text, log-probabilities, reason) of each choice of a stream.
fn joined(chunks: &[Value], n: usize) -> Vec<(String, Vec<Value>, Value)> {
    let mut choices = vec![(String::new(), Vec::new(), Value::Null); n];
    for choice in chunks.iter().flat_map(|c| c["choices"].as_array().unwrap()) {
        let (text, tokens, reason) = &mut choices[choice["index"].as_u64().unwrap() as usize];
        assert!(reason.is_null(), "a choice goes on after its end");
        text.push_str(choice["delta"]["content"].as_str().unwrap_or(""));
        tokens.extend(
            choice["logprobs"]["content"]
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
        *reason = choice["finish_reason"].clone();
    }
    choices
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_the_answer_in_pieces() {
    let server = smollm2_server();
    for extra in [
        json!({"temperature": 0}),
        json!({"temperature": 0, "stop": ["\n", "lue"]}),
        json!({"temperature": 0.9, "seed": 11, "n": 3}),
        json!({"temperature": 0.7, "seed": 5, "n": 2, "top_p": 0.9, "frequency_penalty": 0.5}),
    ] {
        let whole = server.chat(chat(extra.clone())).await.json();
        let mut streamed = chat(extra.clone());
        streamed["stream"] = json!(true);
        let chunks = server.chat(streamed).await.chunks();
        let choices = whole["choices"].as_array().unwrap();
        assert_eq!(choices.len(), extra["n"].as_u64().unwrap_or(1) as usize);
        for (whole, (text, tokens, reason)) in choices.iter().zip(joined(&chunks, choices.len())) {
            assert_eq!(whole["message"]["content"], text, "{extra}");
            assert_eq!(whole["logprobs"]["content"], json!(tokens), "{extra}");
            assert_eq!(whole["finish_reason"], reason, "{extra}");
        }
        assert_eq!(chunks[0]["system_fingerprint"], whole["system_fingerprint"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_are_those_of_requests_on_their_own() {
    let server = smollm2_server();
    let greedy = server
        .chat(chat(json!({"temperature": 0, "n": 3})))
        .await
        .json();
    let one = server.chat(chat(json!({"temperature": 0}))).await.json();
    for i in 0..3 {
        assert_eq!(
            greedy["choices"][i]["message"],
            one["choices"][0]["message"]
        );
        assert_eq!(
            greedy["choices"][i]["logprobs"],
            one["choices"][0]["logprobs"]
        );
    }
    let sampled = json!({"temperature": 1.5, "seed": 3, "n": 2});
    let two = server.chat(chat(sampled.clone())).await.json();
    assert_ne!(two["choices"][0]["message"], two["choices"][1]["message"]);
    let again = server.chat(chat(sampled)).await.json();
    assert_eq!(two["choices"], again["choices"]);
    let first = server
        .chat(chat(json!({"temperature": 1.5, "seed": 3})))
        .await
        .json();
    assert_eq!(content(&first), content(&two));
}
