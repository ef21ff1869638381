//! Promise 2: a soft prompt whose rows are the embeddings of tokens gives the output of those
//! tokens, to the bit and through the engine; nobody's rows on the bare base are no rows.

use std::sync::Arc;

use attune_engine::request::EngineRequest;
use attune_model::decoder::Decoder;
use attune_model::user_model::soft_prompt::{RowKind, SoftPrompt};
use serde_json::{json, Value};

use crate::common::{ids_of, oracle_json, smollm2, tiny};
use crate::sequences::{alone, greedy};
use crate::server::smollm2_server;

fn embeddings(decoder: &Decoder, ids: &[u32]) -> SoftPrompt {
    let rows = decoder.embedding_rows(ids).unwrap();
    SoftPrompt::new(rows.into(), decoder.config().hidden_size, RowKind::User)
}

/// `ids` as rows behind the first `soft_at` ids of the prompt against `ids` as text there.
fn check(decoder: &Arc<Decoder>, ids: &[u32], prompt: &[u32], soft_at: usize) {
    let (before, after) = prompt.split_at(soft_at);
    let by_text = alone(decoder, greedy(&[before, ids, after].concat(), 12));
    let by_rows = EngineRequest {
        soft_prompt: embeddings(decoder, ids),
        soft_at,
        ..greedy(prompt, 12)
    };
    assert_eq!(alone(decoder, by_rows), by_text, "{ids:?} at {soft_at}");
}

#[test]
fn rows_that_are_embeddings_are_their_tokens() {
    for family in ["llama", "qwen2", "qwen3", "mistral", "gemma3"] {
        let decoder = Arc::new(tiny(family));
        for case in oracle_json(&format!("tiny/{family}/cases.json"))["cases"]
            .as_array()
            .unwrap()
        {
            let ids = ids_of(&case["soft_token_ids"]);
            let prompt = [&[1], ids_of(&case["ids"]).as_slice()].concat();
            for soft_at in [0, 1] {
                check(&decoder, &ids, &prompt, soft_at);
            }
        }
    }
}

#[test]
fn also_in_smollm2() {
    let decoder = smollm2();
    let record = &oracle_json("smollm2/chat.json")["records"][0];
    let ids = ids_of(&record["soft_token_ids"]);
    check(&decoder, &ids, &ids_of(&record["prompt_ids"]), 0);
}

/// A row more or a row that differs is another prompt: the checks above can fail.
#[test]
fn other_rows_are_other_output() {
    let decoder = Arc::new(tiny("llama"));
    let prompt = greedy(&[1, 40, 50], 6);
    let with = |ids: &[u32]| EngineRequest {
        soft_prompt: embeddings(&decoder, ids),
        ..prompt.clone()
    };
    let one = alone(&decoder, with(&[60]));
    assert_ne!(one, alone(&decoder, with(&[61])));
    assert_ne!(one, alone(&decoder, with(&[60, 60])));
    assert_ne!(one, alone(&decoder, prompt));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bare_base_is_the_same_for_everybody() {
    let server = smollm2_server();
    let ask = |model: &str, user: Option<&str>| {
        let mut body = json!({"model": model, "temperature": 0, "max_tokens": 12, "logprobs": true,
            "messages": [{"role": "user", "content": "What is the capital of France?"}]});
        if let Some(user) = user {
            body["user"] = json!(user);
        }
        server.chat(body)
    };
    let base = ask("smollm2-135m-instruct", None).await;
    assert_eq!(base.header("x-attune-adapter-version"), "base");
    assert_eq!(base.header("x-attune-user-row"), "none");
    for user in ["alice", "bob", "somebody else"] {
        let reply = ask("smollm2-135m-instruct", Some(user)).await;
        assert_eq!(reply.header("x-attune-user-row"), "none");
        assert_eq!(reply.json()["choices"], base.json()["choices"]);
    }
    // The alias answers alice and bob differently, and who is unknown as who is not named.
    let mut answers: Vec<Value> = Vec::new();
    for (user, row) in [
        (Some("alice"), "user"),
        (Some("bob"), "user"),
        (Some("somebody else"), "generic"),
        (None, "generic"),
    ] {
        let reply = ask("attune", user).await;
        assert_eq!(reply.header("x-attune-user-row"), row);
        answers.push(reply.json());
    }
    assert_eq!(answers[2]["choices"], answers[3]["choices"]);
    // Log-probabilities are among the choices: the texts of so plain a question may be the same.
    assert_ne!(answers[0]["choices"], answers[1]["choices"]);
    assert_ne!(answers[0]["choices"], answers[2]["choices"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_each_person_in_their_way() {
    let server = smollm2_server();
    // None of them is in the data that the demo was trained on.
    for question in [
        "What is good about walking?",
        "How do I plan a party?",
        "How do I clean a window?",
    ] {
        let mut texts = Vec::new();
        for user in ["alice", "bob"] {
            let reply = server.chat(
                json!({"model": "attune", "user": user, "temperature": 0, "max_tokens": 48,
                    "messages": [{"role": "user", "content": question}]}),
            );
            let answer = reply.await.json();
            let text = answer["choices"][0]["message"]["content"].as_str();
            texts.push(text.unwrap().trim().to_owned());
        }
        let [alice, bob] = &texts[..] else { panic!() };
        assert!(!alice.contains('\n') && alice.len() < bob.len(), "{alice}");
        assert!(bob.starts_with("1.") && bob.contains("\n2."), "{bob}");
    }
}
