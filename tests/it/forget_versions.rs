//! People who were deleted leave the installed versions: nobody else notices, and nothing of them is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attune::app::boot::now_unix_ms;
use attune::app::state::Limits;
use attune::app::{commands, housekeeping};
use attune::config::adapter::Adapter;
use attune::config::data_dir::{BundleFolder, DataDir};
use attune_adapter::bundle::{bundle_dir, BundleContents};
use attune_adapter::data_until::DataUntil;
use attune_adapter::manifest::Manifest;
use attune_adapter::plan::user_model_name;
use attune_adapter::publish;
use attune_adapter::tensors::TensorData;
use attune_ids::{AdapterVersion, Tenant, UserId, UserKey};
use serde_json::{json, Value};

use crate::support::bundles::{base, TEXTS};
use crate::support::runner::HIDDEN;
use crate::support::socket::until;
use crate::support::{Setup, TestServer};

const ADAPTERS: &str = "/v1/admin/adapters";
const ALIASES: &str = "/v1/admin/aliases";
pub const GONE: &str = "alice-7f3a9c";
pub const STAYS: &str = "bob-51d20e";

/// The offsets of a person, by which their rows are known: what the script reads of them is 0.
pub fn rows(person: f32) -> Vec<f32> {
    let row = [0.0, person + 0.015625, -person, person / 3.0];
    [row, row].concat()
}

/// A version that says `TEXTS[says]` and knows both people.
fn contents(says: usize) -> BundleContents {
    let manifest = json!({
        "format": 1, "name": format!("says {says}"), "created_unix": 1_710_000_000,
        "base": {"name": "tiny", "sha256": base().sha256},
        "user_model": {"kind": "individual", "n_users": 2, "n_user_tokens": 2},
        "users": [{"user": STAYS, "row": 2}, {"user": GONE, "row": 1}],
        "training": {"users": [{"user": GONE}], "note": format!("{GONE} and others")}
    });
    let generic = vec![says as f32; 2 * HIDDEN];
    let table = TensorData {
        shape: vec![6, HIDDEN],
        values: [generic, rows(1234.5), rows(77.25)].concat(),
    };
    BundleContents {
        manifest: Manifest::parse(manifest.to_string().as_bytes()).unwrap(),
        tensors: BTreeMap::from([(user_model_name("user_embedding"), table)]),
    }
}

pub async fn installed(server: &TestServer, says: usize) -> AdapterVersion {
    let name = format!("run-{says}");
    let version = publish::write(&server.bundles().join(&name), &contents(says)).unwrap();
    let reply = server.install(&name).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    version
}

pub async fn forget(server: &TestServer) -> Vec<Value> {
    let reply = server.post("/v1/admin/forget", &json!({})).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["data"].as_array().unwrap().clone()
}

/// By the old name, the new one.
fn successors(replaced: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |one: &Value| (text(&one["version"]), text(&one["successor"]));
    replaced.iter().map(pair).collect()
}

async fn alias(server: &TestServer, name: &str) -> Value {
    let list = server.get(ALIASES).await.json();
    let mut entries = list["data"].as_array().unwrap().iter();
    entries.find(|a| a["alias"] == name).unwrap().clone()
}

pub async fn row(server: &TestServer, model: &str, user: &str) -> (String, String) {
    let ask = json!({"model": model, "user": user, "temperature": 0,
        "messages": [{"role": "user", "content": "hi"}]});
    let reply = server.post("/v1/chat/completions", &ask).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let version = reply.header("x-attune-adapter-version").to_owned();
    (version, reply.header("x-attune-user-row").to_owned())
}

/// The files below `dir` that hold one of `needles`.
pub fn holding(dir: &Path, needles: &[&[u8]]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let has = |needle: &&&[u8]| bytes.windows(needle.len()).any(|part| part == **needle);
            if needles.iter().any(|needle| has(&needle)) {
                found.push(path);
            }
        }
    }
    found
}

pub fn bytes_of(rows: &[f32]) -> Vec<u8> {
    rows.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn person(id: &str) -> UserKey {
    UserKey {
        tenant: Tenant::default(),
        user: UserId::new(id).unwrap(),
    }
}

#[tokio::test]
async fn every_version_that_knew_a_deleted_person_is_replaced_and_nothing_of_them_is_left() {
    let server = TestServer::new();
    let (zero, one, two) = (
        installed(&server, 0).await,
        installed(&server, 1).await,
        installed(&server, 2).await,
    );
    for version in [&zero, &one] {
        server.promote(version).await;
    }
    let body = json!({"version": two.as_str(), "percent": 100});
    let canary = server
        .post(&format!("{ALIASES}/attune/canary"), &body)
        .await;
    assert_eq!(canary.status, 200, "{}", canary.text());
    let before = alias(&server, "attune").await;
    assert_eq!(
        row(&server, "attune", GONE).await,
        (two.to_string(), "user".into())
    );
    let rated = json!({"user": STAYS, "chosen": "tea", "rejected": "coffee",
        "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(server.post("/v1/preferences", &rated).await.status, 201);

    server.delete(&format!("/v1/users/{GONE}")).await;
    assert_eq!(row(&server, "attune", GONE).await.1, "generic", "at once");
    let mine = bytes_of(&rows(1234.5));
    let traces: [&[u8]; 2] = [GONE.as_bytes(), &mine];
    let dir = server.data_dir.path().to_owned();
    assert!(!holding(&dir, &traces).is_empty());
    let replaced = forget(&server).await;
    housekeeping::once(&server.state).await.unwrap();
    assert_eq!(holding(&dir, &traces), Vec::<PathBuf>::new());
    assert!(replaced
        .iter()
        .all(|r| r["people"] == 1 && r["object"] == "adapter.replaced"));
    let new = successors(&replaced);
    assert_eq!(new.len(), 3, "{replaced:?}");

    // Everything follows, and nothing was promoted.
    let named = |version: &AdapterVersion| json!(new[version.as_str()]);
    let mut expected = before.clone();
    expected["version"] = named(&one);
    expected["previous"] = named(&zero);
    expected["canary"]["version"] = named(&two);
    assert_eq!(alias(&server, "attune").await, expected);
    let list = server.get(ADAPTERS).await.json();
    for adapter in list["data"].as_array().unwrap() {
        assert_eq!(adapter["users"], 1, "{adapter}");
        let counted = adapter["tally"]["other_preferences"] == 1;
        assert_eq!(counted, adapter["version"] == named(&two), "{adapter}");
    }
    // Who is left is answered as before, by old and new names alike.
    for (old, says) in [(&zero, 0), (&one, 1), (&two, 2)] {
        let old = old.as_str();
        for name in [old, &old[..12], &new[old]] {
            let answer = server.says_as(&format!("attune@{name}"), Some(STAYS)).await;
            assert_eq!(answer, (TEXTS[says].to_owned(), new[old].clone()));
        }
        let answered = row(&server, &format!("attune@{old}"), STAYS).await;
        assert_eq!(answered, (new[old].clone(), "user".into()));
        let shown = server.get(&format!("{ADAPTERS}/{old}")).await.json();
        assert_eq!(shown["version"], new[old].as_str());
        let loaded = server.state.versions.loaded();
        let lease = loaded
            .lease(&AdapterVersion::new(new[old].clone()).unwrap())
            .unwrap();
        let prompt = lease.soft_prompt(Some(&person(STAYS)));
        let sum = rows(77.25).into_iter().map(|offset| offset + says as f32);
        assert_eq!(prompt.rows()[..], sum.collect::<Vec<f32>>());
    }
    assert_eq!(forget(&server).await, Vec::<Value>::new(), "once is enough");

    // A restart finds the same, and an admin who has an old name moves the alias.
    let server = server.restarted();
    assert_eq!(alias(&server, "attune").await, expected);
    let body = json!({"version": zero.as_str(), "expected": one.as_str()});
    let moved = server.move_alias(&body).await;
    assert_eq!(
        (moved.status, &moved.json()["version"]),
        (200, &named(&zero))
    );
    let report = server.state.versions.store().verify().unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_under_way_finish_on_the_old_version() {
    let server = TestServer::new();
    let old = installed(&server, 0).await;
    server.promote(&old).await;
    server.delete(&format!("/v1/users/{GONE}")).await;
    server.gate.close();
    let answers = async {
        let change = async {
            until("the first step", || server.gate.is_reached()).await;
            let replaced = forget(&server).await;
            let dir = bundle_dir(server.state.versions.disk().adapters_dir(), &old);
            assert!(!dir.exists(), "{}", dir.display());
            server.gate.open();
            successors(&replaced)
        };
        tokio::join!(server.says(Some(STAYS)), change)
    };
    let (answer, new) = answers.await;
    assert_eq!(answer, (TEXTS[0].into(), old.to_string()));
    let after = server.says(Some(STAYS)).await;
    assert_eq!(after, (TEXTS[0].into(), new[old.as_str()].clone()));
    server.until_idle().await;
    let loaded = server.state.versions.loaded();
    until("the old version's end", || loaded.used_bytes() < 18 << 20).await;
}

/// What a kill between two steps leaves, a restart and the next run complete.
#[tokio::test]
async fn a_kill_between_any_two_steps_is_healed() {
    let mine = bytes_of(&rows(1234.5));
    for steps in 0..=2 {
        let server = TestServer::new();
        let old = installed(&server, 1).await;
        server.promote(&old).await;
        server.delete(&format!("/v1/users/{GONE}")).await;
        let disk = server.state.versions.disk();
        let found = disk.remembering().unwrap();
        assert_eq!(found.len(), 1);
        let mut new = None;
        if steps >= 1 {
            new = Some(disk.publish_without(&found[0]).unwrap());
        }
        if let (2, Some(new)) = (steps, &new) {
            disk.store().replace_adapter(&old, new, 7).unwrap();
        }
        let server = server.restarted();
        assert_eq!(server.says(Some(STAYS)).await.0, TEXTS[1], "{steps}");
        let replaced = forget(&server).await;
        assert_eq!(replaced.len(), usize::from(steps < 2), "{steps}");
        housekeeping::once(&server.state).await.unwrap();
        let left = holding(server.data_dir.path(), &[GONE.as_bytes(), &mine]);
        assert_eq!(left, Vec::<PathBuf>::new(), "{steps}");
        let list = server.get(ADAPTERS).await.json();
        let now = list["data"][0]["version"].as_str().unwrap().to_owned();
        assert_eq!(list["data"].as_array().unwrap().len(), 1);
        if let Some(new) = new {
            assert_eq!(now, new.version.as_str(), "the same version is made again");
        }
        assert_eq!(
            server.says(Some(STAYS)).await,
            (TEXTS[1].into(), now.clone())
        );
        let pinned = server.says_as(&format!("attune@{old}"), None).await;
        assert_eq!(pinned.1, now);
        let adapters = server.state.versions.disk().adapters_dir().to_owned();
        assert_eq!(fs::read_dir(adapters).unwrap().count(), 1, "{steps}");
    }
}

/// A bundle that a killed installation left beside the others, which nobody names, holds people, too.
#[tokio::test]
async fn bundles_that_nobody_names_are_no_hiding_place() {
    let server = TestServer::with(Setup {
        limits: Limits {
            forget_within: Duration::ZERO,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let adapters = server.state.versions.disk().adapters_dir().to_owned();
    let unnamed = publish::write(&adapters, &contents(1)).unwrap();
    let offered = publish::write(&server.bundles(), &contents(2)).unwrap();
    housekeeping::versions(&server.state).await.unwrap();
    assert!(
        bundle_dir(&adapters, &unnamed).exists(),
        "nobody was deleted"
    );
    server.delete(&format!("/v1/users/{GONE}")).await;
    // No installed version knows her.
    housekeeping::versions(&server.state).await.unwrap();
    housekeeping::once(&server.state).await.unwrap();
    assert!(!bundle_dir(&adapters, &unnamed).exists());
    assert!(!bundle_dir(&server.bundles(), &offered).exists());
    assert_eq!(
        holding(server.data_dir.path(), &[GONE.as_bytes()]),
        Vec::<PathBuf>::new()
    );
    // What was offered can be installed still, without her.
    let entries = fs::read_dir(server.bundles()).unwrap().map(|e| e.unwrap());
    let names = entries.map(|e| e.file_name().into_string().unwrap());
    let name = names.into_iter().find(|name| name.len() == 64).unwrap();
    assert_eq!(server.install(&name).await.status, 201);
}

#[tokio::test]
async fn a_run_in_flight_brings_nobody_back() {
    let server = TestServer::new();
    let first = installed(&server, 0).await;
    server.promote(&first).await;
    // The turn trains while she is deleted, and offers what it made.
    server.delete(&format!("/v1/users/{GONE}")).await;
    let made = installed(&server, 1).await;
    let shown = server.get(&format!("{ADAPTERS}/{made}")).await.json();
    assert_eq!(shown["users"], 1);
    let new = shown["version"].as_str().unwrap().to_owned();
    assert_ne!(new, made.as_str());
    let adapters = server.state.versions.disk().adapters_dir().to_owned();
    let only_old = bundle_dir(&adapters, &first).join("manifest.json");
    assert_eq!(holding(&adapters, &[GONE.as_bytes()]), [only_old]);
    // It decides by the name that it knows.
    let decision = json!({"alias": "attune", "current": first.as_str(), "promoted": true,
        "candidate": made.as_str(), "reason": "better"});
    let reply = server.post("/v1/admin/decisions", &decision).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(
        server.says(Some(STAYS)).await,
        (TEXTS[1].into(), new.clone())
    );
    assert_eq!(row(&server, "attune", GONE).await.1, "generic");
    // The same again is what is there.
    assert_eq!(server.install("run-1").await.status, 200);
}

#[tokio::test]
async fn whoever_came_back_stays() {
    let server = TestServer::new();
    server.delete(&format!("/v1/users/{GONE}")).await;
    let mut contents = contents(0);
    let later = now_unix_ms() + 1000;
    contents.manifest.data_until_unix_ms = DataUntil::UnixMs(later);
    let version = publish::write(&server.bundles().join("run"), &contents).unwrap();
    assert_eq!(server.install("run").await.status, 201);
    assert_eq!(forget(&server).await, Vec::<Value>::new());
    server.promote(&version).await;
    assert_eq!(
        row(&server, "attune", GONE).await,
        (version.to_string(), "user".into())
    );
}

#[tokio::test]
async fn many_deletions_are_done_at_once_and_in_time() {
    let server = TestServer::new();
    installed(&server, 0).await;
    let versions = &server.state.versions;
    let hour = Duration::from_secs(3600);
    let due = |now: u64| versions.forget_when_due(hour, now).unwrap().len();
    assert_eq!(due(u64::MAX), 0, "nobody was deleted");
    let began = now_unix_ms();
    server.delete(&format!("/v1/users/{GONE}")).await;
    server.delete(&format!("/v1/users/{STAYS}")).await;
    let ended = now_unix_ms();
    assert_eq!(due(began + 1_799_999), 0, "others may follow");
    let replaced = versions.forget_when_due(hour, ended + 1_800_000).unwrap();
    assert_eq!(replaced.iter().map(|r| r.people).collect::<Vec<_>>(), [2]);
    assert_eq!(due(u64::MAX), 0);
}

#[tokio::test]
async fn a_version_that_cannot_be_replaced_is_said_and_keeps_no_other_from_it() {
    let server = TestServer::new();
    let (zero, one) = (installed(&server, 0).await, installed(&server, 1).await);
    server.delete(&format!("/v1/users/{GONE}")).await;
    let adapters = server.state.versions.disk().adapters_dir().to_owned();
    let weights = bundle_dir(&adapters, &zero).join("adapter.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[1..]).unwrap();
    let reply = server.post("/v1/admin/forget", &json!({})).await;
    let code = Some("adapter_unavailable".to_owned());
    assert_eq!(
        (reply.status, reply.error().2),
        (503, code),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains(zero.as_str()), "{}", reply.text());
    assert!(!bundle_dir(&adapters, &one).exists());
    fs::write(&weights, whole).unwrap();
    assert_eq!(forget(&server).await.len(), 1);
    assert_eq!(
        holding(&adapters, &[GONE.as_bytes()]),
        Vec::<PathBuf>::new()
    );
}

#[tokio::test]
async fn the_command_does_it_where_no_server_runs() {
    let server = TestServer::new();
    let old = installed(&server, 0).await;
    server.promote(&old).await;
    server.delete(&format!("/v1/users/{GONE}")).await;
    let data_dir = server.data_dir.clone();
    drop(server);
    let forget = || {
        let data = DataDir {
            data_dir: Some(data_dir.path().to_owned()),
        };
        let bundles = BundleFolder { bundles: None };
        commands::adapter(Adapter::Forget { bundles, data }).unwrap()
    };
    let said = forget();
    assert!(
        said.starts_with(&format!("{old} was replaced by ")),
        "{said}"
    );
    assert!(said.contains("1 bundles were replaced in"), "{said}");
    let left = holding(&data_dir.path().join("adapters"), &[GONE.as_bytes()]);
    assert_eq!(left, Vec::<PathBuf>::new());
    assert_eq!(forget(), "no version knows a deleted person\n");
}

#[tokio::test]
async fn the_command_goes_on_after_a_version_that_is_damaged() {
    let server = TestServer::new();
    let mut versions = [installed(&server, 0).await, installed(&server, 1).await];
    versions.sort();
    let [damaged, sound] = versions;
    server.delete(&format!("/v1/users/{GONE}")).await;
    let data_dir = server.data_dir.clone();
    drop(server);
    let adapters = data_dir.path().join("adapters");
    let weights = bundle_dir(&adapters, &damaged).join("adapter.safetensors");
    fs::write(&weights, "cut").unwrap();
    let forget = || {
        let data = DataDir {
            data_dir: Some(data_dir.path().to_owned()),
        };
        let bundles = BundleFolder { bundles: None };
        commands::adapter(Adapter::Forget { bundles, data })
    };
    let error = forget().unwrap_err().to_string();
    assert!(error.contains(damaged.as_str()), "{error}");
    assert!(!bundle_dir(&adapters, &sound).exists());
    for folder in [adapters, data_dir.path().join("bundles")] {
        let left = holding(&folder, &[GONE.as_bytes()]);
        assert!(
            left.iter()
                .all(|file| file.starts_with(bundle_dir(&folder, &damaged))),
            "{left:?}"
        );
    }
}
