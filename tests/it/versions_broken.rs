//! A version that an alias names and that cannot be loaded: the server starts, all else answers, the alias says
//! what is wrong, and there is a way out.

use std::fs;

use attune::app::housekeeping;
use attune::app::versions::Expected;
use attune_adapter::bundle::bundle_dir;
use attune_adapter::files::{MANIFEST_FILE, WEIGHTS_FILE};
use attune_adapter::publish;
use attune_ids::{AdapterVersion, Alias};
use attune_store::AdapterSource;
use serde_json::{json, Value};

use crate::support::bundles::{base, contents, TEXTS};
use crate::support::http::Reply;
use crate::support::runner::HIDDEN;
use crate::support::{Setup, TestServer};

const ADAPTERS: &str = "/v1/admin/adapters";
const ALIASES: &str = "/v1/admin/aliases";

/// How a version is broken, and what is said of it.
const DAMAGES: [(&str, &str); 5] = [
    ("weights", "hashes to"),
    ("manifest", "hashes to|manifest.json"),
    ("gone", "No such file"),
    ("file gone", "it has no adapter.safetensors"),
    ("link", "must be a plain file"),
];

fn damage(server: &TestServer, version: &AdapterVersion, how: &str) {
    let dir = bundle_dir(server.state.versions.disk().adapters_dir(), version);
    let cut = |file: &str| {
        let mut bytes = fs::read(dir.join(file)).unwrap();
        bytes.pop();
        fs::write(dir.join(file), bytes).unwrap();
    };
    match how {
        "weights" => cut(WEIGHTS_FILE),
        "manifest" => cut(MANIFEST_FILE),
        "gone" => fs::remove_dir_all(&dir).unwrap(),
        "file gone" => fs::remove_file(dir.join(WEIGHTS_FILE)).unwrap(),
        #[cfg(unix)]
        "link" => {
            fs::remove_file(dir.join(WEIGHTS_FILE)).unwrap();
            std::os::unix::fs::symlink("/dev/zero", dir.join(WEIGHTS_FILE)).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// The version that the alias names, and the one that it named before: they say `TEXTS[0]` and `TEXTS[1]`.
async fn promoted() -> (TestServer, AdapterVersion, AdapterVersion) {
    let server = TestServer::new();
    let (named, before) = (server.installed(0).await, server.installed(1).await);
    server.promote(&before).await;
    server.promote(&named).await;
    (server, named, before)
}

async fn broken(how: &str) -> (TestServer, AdapterVersion, AdapterVersion) {
    let (server, named, before) = promoted().await;
    damage(&server, &named, how);
    (server.restarted(), named, before)
}

async fn ask(server: &TestServer, model: &str) -> Reply {
    let body = json!({"model": model, "temperature": 0,
        "messages": [{"role": "user", "content": "hi"}]});
    server.post("/v1/chat/completions", &body).await
}

async fn alias(server: &TestServer, name: &str) -> Value {
    let list = server.get(ALIASES).await.json();
    let found = list["data"].as_array().unwrap().iter();
    let mut found = found.filter(|alias| alias["alias"] == name);
    found.next().unwrap().clone()
}

/// (`unavailable_aliases` of /readyz, the gauge)
async fn told(server: &TestServer) -> (Value, String) {
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let metrics = server.get("/metrics").await;
    let gauge = metrics.text();
    let gauge = gauge
        .lines()
        .find_map(|line| line.strip_prefix("attune_aliases_unavailable "));
    (
        ready.json()["unavailable_aliases"].clone(),
        gauge.unwrap().to_owned(),
    )
}

/// The alias answers with an error that names the version; nothing else is touched.
async fn check_unavailable(server: &TestServer, named: &AdapterVersion, reason: &str) {
    let secret = server.data_dir.path().to_str().unwrap();
    for user in [None, Some("alice")] {
        for (route, prompt) in [
            (
                "/v1/chat/completions",
                json!({"messages": [{"role": "user", "content": "hi"}]}),
            ),
            ("/v1/completions", json!({"prompt": "hi"})),
            (
                "/v1/chat/completions",
                json!({"messages": [{"role": "user", "content": "hi"}], "stream": true}),
            ),
        ] {
            let mut body = json!({"model": "attune", "user": user});
            body.as_object_mut()
                .unwrap()
                .extend(prompt.as_object().unwrap().clone());
            if user.is_none() {
                body.as_object_mut().unwrap().remove("user");
            }
            let reply = server.post(route, &body).await;
            let expected = (
                503,
                "server_error".to_owned(),
                Some("adapter_unavailable".to_owned()),
                Some("model".to_owned()),
            );
            assert_eq!(reply.error(), expected, "{}", reply.text());
            assert_eq!(reply.header("x-should-retry"), "false");
            let text = reply.text();
            assert!(
                text.contains(named.as_str()) && text.contains("roll back"),
                "{text}"
            );
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(ask(server, "tiny-llama").await.status, 200, "the bare base");
    let shown = alias(server, "attune").await;
    assert_eq!(shown["version"], named.as_str());
    let entry = server.get(&format!("{ADAPTERS}/{named}")).await.json();
    assert_eq!(entry["loaded"], false, "{entry}");
    for why in [&shown["unavailable"], &entry["unavailable"]] {
        let why = why.as_str().unwrap();
        assert!(reason.split('|').any(|r| why.contains(r)), "{why}");
        assert!(!why.contains(secret), "{why}");
    }
    assert_eq!(told(server).await, (json!(1), "1".to_owned()));
    let models = server.get("/v1/models").await.json();
    let ids: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids[0], "attune");
    assert_eq!(server.get("/v1/models/attune").await.status, 200);
}

async fn check_answers(server: &TestServer, text: &str) {
    assert_eq!(server.says(Some("alice")).await.0, text);
    assert!(alias(server, "attune").await.get("unavailable").is_none());
    assert_eq!(told(server).await, (Value::Null, "0".to_owned()));
}

#[tokio::test]
async fn a_damaged_version_stops_its_alias_and_nothing_else() {
    for (how, reason) in DAMAGES {
        let (server, named, before) = broken(how).await;
        check_unavailable(&server, &named, reason).await;
        let pinned = ask(&server, &format!("attune@{before}")).await;
        assert_eq!(pinned.status, 200, "{how}: {}", pinned.text());
        // It cannot be promoted anew, and another one can.
        let again = server.move_alias(&json!({"version": named.as_str()})).await;
        assert_eq!(again.status, 503, "{how}: {}", again.text());
        server.promote(&before).await;
        check_answers(&server, TEXTS[1]).await;
        let server = server.restarted();
        check_answers(&server, TEXTS[1]).await;
    }
}

#[tokio::test]
async fn a_rollback_is_a_way_out() {
    let (server, ..) = broken("weights").await;
    let rollback = server
        .post(&format!("{ALIASES}/attune/rollback"), &json!({}))
        .await;
    assert_eq!(rollback.status, 200, "{}", rollback.text());
    check_answers(&server, TEXTS[1]).await;
}

#[tokio::test]
async fn a_version_of_another_shape_stops_its_alias_and_nothing_else() {
    let (server, _, before) = promoted().await;
    // Installed by a program that did not look at the model.
    let disk = server.state.versions.disk();
    let wrong = contents(2, &base().sha256, HIDDEN - 1);
    let wrong = publish::write(disk.adapters_dir(), &wrong).unwrap();
    let source = AdapterSource::Imported;
    disk.record(&wrong, None, source, 7).unwrap();
    let attune = Alias::new("attune").unwrap();
    disk.promote(&attune, &wrong, &Expected::Anything, 8)
        .unwrap();
    let server = server.restarted();
    check_unavailable(
        &server,
        &wrong,
        "it does not fit the base model tiny (llama, 1 blocks of width",
    )
    .await;
    server.promote(&before).await;
    check_answers(&server, TEXTS[1]).await;
}

#[tokio::test]
async fn a_version_that_is_not_installed_stops_its_alias_and_nothing_else() {
    let (server, named, before) = broken("gone").await;
    // Other aliases are not touched by it, and a broken one of theirs not by them.
    let body = json!({"version": before.as_str()});
    let second = server.post(&format!("{ALIASES}/second"), &body).await;
    assert_eq!(second.status, 200, "{}", second.text());
    assert_eq!(server.says_as("second", None).await.0, TEXTS[1]);
    check_unavailable(&server, &named, "No such file").await;
    damage(&server, &before, "weights");
    let server = server.restarted();
    let reply = ask(&server, "second").await;
    assert_eq!(
        (reply.status, reply.error().2),
        (503, Some("adapter_unavailable".into()))
    );
    assert!(
        reply.text().contains("second names adapter version"),
        "{}",
        reply.text()
    );
    assert_eq!(told(&server).await, (json!(2), "2".to_owned()));
    let models = server.get("/v1/models").await;
    assert!(models.text().contains("\"second\""), "{}", models.text());
}

#[tokio::test]
async fn what_is_put_back_answers_again() {
    let (server, named, _) = broken("weights").await;
    check_unavailable(&server, &named, "hashes to").await;
    // By hand: the next look finds it.
    let sound = server.bundles().join("run-0").join(named.as_str());
    let installed = bundle_dir(server.state.versions.disk().adapters_dir(), &named);
    housekeeping::versions(&server.state).await.unwrap();
    check_unavailable(&server, &named, "hashes to").await;
    fs::copy(sound.join(WEIGHTS_FILE), installed.join(WEIGHTS_FILE)).unwrap();
    housekeeping::versions(&server.state).await.unwrap();
    check_answers(&server, TEXTS[0]).await;

    // Over HTTP, whatever is left of it.
    for (how, _) in DAMAGES {
        let (server, named, _) = broken(how).await;
        let reply = server.install("run-0").await;
        assert!(matches!(reply.status, 200 | 201), "{how}: {}", reply.text());
        assert_eq!(reply.json()["version"], named.as_str());
        check_answers(&server, TEXTS[0]).await;
        check_answers(&server.restarted(), TEXTS[0]).await;
    }
}

#[tokio::test]
async fn a_canary_that_cannot_be_loaded_is_none() {
    let (server, named, tried) = promoted().await;
    let body = json!({"version": tried.as_str(), "percent": 100});
    let canary = format!("{ALIASES}/attune/canary");
    assert_eq!(server.post(&canary, &body).await.status, 200);
    assert_eq!(server.says(Some("alice")).await.0, TEXTS[1]);
    damage(&server, &tried, "weights");
    let server = server.restarted();
    let answer = (TEXTS[0].to_owned(), named.to_string());
    assert_eq!(server.says(Some("alice")).await, answer);
    let shown = alias(&server, "attune").await;
    assert!(shown.get("unavailable").is_none(), "{shown}");
    let why = shown["canary"]["unavailable"].as_str().unwrap();
    assert!(why.contains("hashes to"), "{why}");
    let entry = server.get(&format!("{ADAPTERS}/{tried}")).await.json();
    assert_eq!(entry["loaded"], false);
    assert_eq!(told(&server).await.0, Value::Null, "the alias answers");
    assert_eq!(server.delete(&canary).await.status, 200);
    check_answers(&server, TEXTS[0]).await;
}

#[tokio::test]
async fn no_room_for_a_named_version_is_no_reason_not_to_start() {
    let (server, named, _) = promoted().await;
    let data_dir = server.data_dir.clone();
    drop(server);
    let server = TestServer::with(Setup {
        adapter_bytes: 1 << 20,
        data_dir: Some(data_dir),
        ..Setup::default()
    });
    check_unavailable(&server, &named, "--adapter-memory").await;
    check_answers(&server.restarted(), TEXTS[0]).await;
}
