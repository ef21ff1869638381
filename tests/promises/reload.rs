//! Promise 5: versions are installed and promoted over HTTP under load. No request fails, each answer
//! comes from exactly one version, which it names, and is that version's own; a retired version is
//! freed with its last user.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use attune::app::commands;
use attune::app::versions::LoadedBase;
use attune::config::attune::{Cli, Command};
use attune_adapter::bundle::{self, Adapter};
use attune_base_model as base_model;
use attune_ids::{AdapterVersion, Tenant, UserId, UserKey};
use axum::body::Body;
use axum::http::Request;
use clap::Parser;
use futures_util::StreamExt;
use serde_json::{json, Value};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::common::{oracles, soft_rows_of, tiny, tokens, Solo, EXACT};
use crate::server::{boot_with, post, until, Server};

const PROMPT: &str = "Q: tea or coffee?\nA: ";
/// None, and the people of the fixtures.
const USERS: [Option<&str>; 4] = [None, Some("1"), Some("2"), Some("3")];
const MAX_TOKENS: usize = 14;
/// Two versions, by their names in the bundle folder, and their T_u where the checkpoint has none.
const BUNDLES: [(&str, &str); 2] = [("individual_T2", "2"), ("cluster_T4", "0")];

/// The tiny Llama with two bundles to install from, the first one installed and promoted.
async fn server(data_dir: &std::path::Path) -> (Server, [Adapter; 2]) {
    let model = oracles().join("tiny/llama");
    let bundles = data_dir.join("bundles");
    for (folder, rows) in BUNDLES {
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
            "--out",
            bundles.join(folder).to_str().unwrap(),
        ]);
    }
    let server = boot_with(data_dir, &["--no-demo", "--model", model.to_str().unwrap()]);
    let base = base_model::load(model.to_str().unwrap(), EXACT).unwrap();
    let base = LoadedBase::from(&base);
    let versions = BUNDLES.map(|(folder, _)| {
        let dir = bundle::locate(&bundles.join(folder)).unwrap();
        bundle::read(&dir, &base.config, &base.sha256).unwrap()
    });
    install(&server, BUNDLES[0].0, 201).await;
    promote(&server, &versions[0].version, None).await;
    (server, versions)
}

async fn install(server: &Server, name: &str, status: u16) {
    let reply = server
        .post("/v1/admin/adapters", &json!({"path": name}))
        .await;
    assert_eq!(reply.status, status, "{}", reply.text());
}

fn run(arguments: &[&str]) -> String {
    match Cli::parse_from(["attune"].iter().chain(arguments)).command {
        Command::Adapter(command) => commands::adapter(command).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Promotes over HTTP, from `expected`.
async fn promote(server: &Server, version: &AdapterVersion, expected: Option<&AdapterVersion>) {
    let expected = expected.map(AdapterVersion::as_str);
    let body = json!({"version": version.as_str(), "expected": expected});
    let reply = server.post("/v1/admin/aliases/attune", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["version"], version.as_str());
}

async fn get(server: &Server, path: &str) -> u16 {
    let request = Request::get(path).body(Body::empty()).unwrap();
    server.send(request).await.status
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
    use attune_text::tokenizer::SpecialTokens;
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
    let (server, versions) = server(data_dir.path()).await;
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
    let (done, second) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let mut load = JoinSet::new();
    for client in 0..4 {
        let (server, expected, done) = (server.clone(), expected.clone(), done.clone());
        let (pinned, second) = (pinned.clone(), second.clone());
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
                let installed = 1 + usize::from(second.load(Ordering::Acquire));
                let model = match request % 3 {
                    0 => pinned[request / 3 % installed].clone(),
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
    // Not before somebody is answered.
    until("the load", || server.state.engine.stats().running > 0).await;
    install(&server, BUNDLES[1].0, 201).await;
    second.store(true, Ordering::Release);
    let mut promotions = 0;
    while !load.is_empty() {
        let [from, to] = [promotions % 2, (promotions + 1) % 2].map(|i| &versions[i].version);
        promote(&server, to, Some(from)).await;
        promotions += 1;
        // What is there already, and what is not there, change nothing.
        install(&server, BUNDLES[promotions % 2].0, 200).await;
        install(&server, "nowhere", 404).await;
        assert_eq!(get(&server, "/readyz").await, 200);
        assert_eq!(get(&server, "/v1/admin/snapshot").await, 200);
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
    let (server, versions) = server(data_dir.path()).await;
    install(&server, BUNDLES[1].0, 201).await;
    let [old, new] = versions;
    let name = old.version.clone();
    let loaded = server.state.versions.loaded().hold(&name).unwrap();
    let freed = Arc::downgrade(&loaded);
    drop(loaded);
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

    promote(&server, &new.version, Some(&name)).await;
    let retire = Request::delete(format!("/v1/admin/adapters/{name}"));
    let retired = server.send(retire.body(Body::empty()).unwrap()).await;
    assert_eq!(retired.status, 200, "{}", retired.text());
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
