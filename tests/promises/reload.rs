//! Promise 5: versions change under load. No request fails, each answer comes from exactly one
//! version, which it names, and is that version's own; a retired version is freed with its last user.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use attune::adapter::bundle::Adapter;
use attune::app::commands;
use attune::config::raw::{Cli, Command};
use attune::ids::{AdapterVersion, Tenant, UserId, UserKey};
use clap::Parser;
use futures_util::StreamExt;
use serde_json::{json, Value};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::common::{oracles, soft_rows_of, tiny, tokens, Solo};
use crate::server::{boot_with, post, until, Server};

const PROMPT: &str = "Q: tea or coffee?\nA: ";
/// None, and the people of the fixtures.
const USERS: [Option<&str>; 4] = [None, Some("1"), Some("2"), Some("3")];
const MAX_TOKENS: usize = 14;

/// The tiny Llama with two imported versions, the first one promoted.
fn server(data_dir: &std::path::Path) -> (Server, [Arc<Adapter>; 2]) {
    let model = oracles().join("tiny/llama");
    for (folder, rows) in [("individual_T2", "2"), ("cluster_T4", "0")] {
        let checkpoint = oracles().join("prlhf").join(folder).join("adapter");
        run(&[
            "adapter",
            "import",
            checkpoint.to_str().unwrap(),
            "--model",
            model.to_str().unwrap(),
            "--n-user-tokens",
            rows,
            "--name",
            folder,
            "--data-dir",
            data_dir.to_str().unwrap(),
        ]);
    }
    let server = boot_with(data_dir, &["--no-demo", "--model", model.to_str().unwrap()]);
    let versions: [Arc<Adapter>; 2] = server.state.registry.versions().try_into().unwrap();
    promote(&server, &versions[0].version);
    (server, versions)
}

fn run(arguments: &[&str]) -> String {
    match Cli::parse_from(["attune"].iter().chain(arguments)).command {
        Command::Adapter(command) => commands::adapter(command).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn promote(server: &Server, version: &AdapterVersion) {
    let registry = &server.state.registry;
    let now = registry.aliases().pop().map(|(_, version)| version);
    registry
        .promote(&server.state.alias, version, now.as_ref())
        .unwrap();
}

fn body(model: &str, user: Option<&str>) -> Value {
    let mut body = json!({"model": model, "prompt": PROMPT, "temperature": 0,
        "max_tokens": MAX_TOKENS, "ignore_eos": true});
    if let Some(user) = user {
        body["user"] = json!(user);
    }
    body
}

/// What a version says to a person, without server and engine.
fn offline(server: &Server, version: &Adapter, user: Option<&str>, n: usize) -> String {
    use attune::text::tokenizer::SpecialTokens;
    let decoder = tiny("llama");
    let key = user.map(|user| UserKey {
        tenant: Tenant::default(),
        user: UserId::new(user).unwrap(),
    });
    let soft = version.people.as_ref().unwrap().soft_prompt(key.as_ref());
    let tokenizer = &server.state.tokenizer;
    let prompt = tokenizer.encode(PROMPT, SpecialTokens::AsText).unwrap();
    let bos: Vec<u32> = tokenizer
        .bos()
        .filter(|_| tokenizer.adds_bos())
        .into_iter()
        .collect();
    let rows = [tokens(&bos), soft_rows_of(&soft), tokens(&prompt)].concat();
    let ids = Solo::new(&decoder, 256, Some(version.lora.clone())).greedy(&rows, n);
    tokenizer.decode(&ids, true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_change_under_load() {
    let data_dir = tempfile::tempdir().unwrap();
    let (server, versions) = server(data_dir.path());
    let mut expected = BTreeMap::new();
    for version in &versions {
        for user in USERS {
            let text = offline(&server, version, user, MAX_TOKENS);
            expected.insert((version.version.to_string(), user), text);
        }
    }
    let distinct: std::collections::BTreeSet<_> = expected.values().collect();
    assert!(
        distinct.len() > 5,
        "the versions say the same: {expected:#?}"
    );

    let pinned = [0, 1].map(|i: usize| format!("attune@{}", versions[i].version));
    let done = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for client in 0..4 {
        let (server, expected, done) = (server.clone(), expected.clone(), done.clone());
        let pinned = pinned.clone();
        load.spawn(async move {
            let mut answered = [0usize; 2];
            // Until both versions answered often: which one answers when is left to chance.
            for request in 0.. {
                assert!(request < 5000, "one version never answers: {answered:?}");
                if answered.iter().all(|n| *n >= 10) {
                    break;
                }
                let user = USERS[(client + request) % USERS.len()];
                // Each third request names the version, whatever the alias names meanwhile.
                let model = match request % 3 {
                    0 => pinned[request / 3 % 2].clone(),
                    _ => "attune".to_owned(),
                };
                let reply = server.post("/v1/completions", &body(&model, user)).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                let version = reply.header("x-attune-adapter-version").to_owned();
                assert!(model == "attune" || model.ends_with(&version), "{model}");
                let answer = reply.json();
                let row = if user.is_some() { "user" } else { "generic" };
                let named = format!("fp_llama_{}_{row}", &version[..12]);
                assert_eq!(answer["system_fingerprint"], named);
                let text = &answer["choices"][0]["text"];
                assert_eq!(*text, expected[&(version.clone(), user)], "{version}");
                if model == "attune" {
                    answered[usize::from(pinned[1].ends_with(&version))] += 1;
                }
            }
            if client == 0 {
                done.store(true, Ordering::Release);
            }
        });
    }
    let mut promotions = 0;
    while !load.is_empty() {
        promote(&server, &versions[(promotions + 1) % 2].version);
        promotions += 1;
        while let Some(joined) = load.try_join_next() {
            joined.unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert!(done.load(Ordering::Acquire) && promotions > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_version_finishes_its_answers_and_is_freed() {
    let data_dir = tempfile::tempdir().unwrap();
    let (server, versions) = server(data_dir.path());
    let [old, new] = versions;
    let (name, freed) = (old.version.clone(), Arc::downgrade(&old));
    let long = 200;
    let expected = offline(&server, &old, Some("2"), long);
    drop(old);

    // Longer than an answer's channel: the engine waits for the reader in its middle.
    let mut request = body("attune", Some("2"));
    request["max_tokens"] = json!(long);
    request["stream"] = json!(true);
    let response = server
        .router
        .clone()
        .oneshot(post("/v1/completions", &request))
        .await
        .unwrap();
    assert_eq!(
        response.headers()["x-attune-adapter-version"],
        name.as_str()
    );
    let mut chunks = response.into_body().into_data_stream();
    let mut text = chunks.next().await.unwrap().unwrap().to_vec();

    promote(&server, &new.version);
    server.state.registry.retire(&name).unwrap();
    let pinned = format!("attune@{name}");
    let refused = server.post("/v1/completions", &body(&pinned, None)).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    let after = server
        .post("/v1/completions", &body("attune", Some("2")))
        .await;
    assert_eq!(
        after.header("x-attune-adapter-version"),
        new.version.as_str()
    );
    assert!(freed.upgrade().is_some(), "freed while it answers");

    while let Some(chunk) = chunks.next().await {
        text.extend(chunk.unwrap());
    }
    drop(chunks);
    let text = String::from_utf8(text).unwrap();
    let events = text.split("\n\n").filter_map(|e| e.strip_prefix("data: {"));
    let answer: String = events
        .map(|e| serde_json::from_str::<Value>(&format!("{{{e}")).unwrap())
        .filter_map(|e| e["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(answer, expected);
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    until("the end of the old version", || freed.upgrade().is_none()).await;
}
