//! Versions are installed, listed and retired while the server runs.

use std::fs;
use std::path::Path;

use attune_adapter::bundle::{bundle_dir, BundleContents};
use attune_adapter::files::{MANIFEST_FILE, WEIGHTS_FILE};
use attune_adapter::publish;
use attune_ids::AdapterVersion;
use attune_store::AdapterSource;
use serde_json::{json, Value};

use crate::support::bundles::{base, contents, craft, TEXTS};
use crate::support::runner::HIDDEN;
use crate::support::{TestServer, OTHER_VERSION, VERSION};

const ADAPTERS: &str = "/v1/admin/adapters";

fn path(version: &AdapterVersion) -> String {
    format!("{ADAPTERS}/{version}")
}

/// Everything that an installation could change, but for the snapshot's time.
async fn everything(server: &TestServer) -> (Value, Value, Value, Vec<String>) {
    let on_disk = fs::read_dir(server.state.versions.disk().adapters_dir());
    let names = on_disk.into_iter().flatten().map(|entry| {
        let name = entry.unwrap().file_name();
        name.into_string().unwrap()
    });
    (
        server.get(ADAPTERS).await.json(),
        server.get("/v1/admin/aliases").await.json(),
        server.get("/v1/models").await.json(),
        names.collect(),
    )
}

#[tokio::test]
async fn an_installed_version_answers_by_name_and_once_promoted_under_the_alias() {
    let server = TestServer::new();
    let version = server.offer("run", 1);
    let reply = server.install("run").await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let adapter = reply.json();
    let installed = adapter["installed"].as_u64().unwrap();
    assert!(installed > 1_700_000_000, "{installed}");
    let bytes: u64 = fs::read_dir(bundle_dir(&server.bundles().join("run"), &version))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    let none = json!({"won": 0, "lost": 0, "other_preferences": 0, "liked": 0, "disliked": 0});
    let expected = json!({"object": "adapter", "version": version.as_str(), "name": "says 1",
        "created": 1_710_000_000, "installed": installed, "source": "installed", "loaded": true,
        "bytes": bytes, "users": 1, "rows": 2, "leases": 0, "aliases": [], "canary_of": [],
        "tally": none});
    assert_eq!(adapter, expected);
    let list = server.get(ADAPTERS).await.json();
    assert_eq!(
        list,
        json!({"object": "list", "data": [expected], "base_tally": none})
    );

    // Nothing is promoted by itself.
    assert_eq!(
        server.says(None).await,
        ("abcdefghij".into(), "base".into())
    );
    let pinned = format!("attune@{version}");
    let expected = (TEXTS[1].to_owned(), version.to_string());
    assert_eq!(server.says_as(&pinned, Some("alice")).await, expected);
    server.promote(&version).await;
    assert_eq!(server.says(Some("alice")).await, expected);
    let shown = server.get(&path(&version)).await.json();
    assert_eq!(shown["aliases"], json!(["attune"]));
}

#[tokio::test]
async fn the_same_content_again_changes_nothing() {
    let server = TestServer::new();
    let version = server.offer("run", 1);
    // The folder that a training run leaves, and the bundle itself.
    fs::rename(
        bundle_dir(&server.bundles().join("run"), &version),
        bundle_dir(&server.bundles(), &version),
    )
    .unwrap();
    server.offer("again", 1);
    assert_eq!(server.install(version.as_str()).await.status, 201);
    let before = everything(&server).await;
    for name in ["again", version.as_str()] {
        let reply = server.install(name).await;
        assert_eq!((reply.status, &reply.json()), (200, &before.0["data"][0]));
    }
    assert_eq!(everything(&server).await, before);
}

/// A folder with a version that is changed by `change`, under the hash of what it became.
fn changed(parent: &Path, change: impl Fn(&mut Vec<u8>, &mut Vec<u8>)) {
    let scratch = tempfile::tempdir().unwrap();
    let version = publish::write(scratch.path(), &contents(1, &base().sha256, HIDDEN)).unwrap();
    let dir = bundle_dir(scratch.path(), &version);
    let mut manifest = fs::read(dir.join(MANIFEST_FILE)).unwrap();
    let mut weights = fs::read(dir.join(WEIGHTS_FILE)).unwrap();
    change(&mut manifest, &mut weights);
    craft(parent, &manifest, &weights);
}

fn put(parent: &Path, contents: &BundleContents) {
    publish::write(parent, contents).unwrap();
}

/// Directories in the bundle folder that cannot be installed, and what is said of each.
const BAD_BUNDLES: [(&str, &str); 15] = [
    ("damaged", "hashes to"),
    ("nan", "NaN"),
    ("infinite", "inf"),
    ("truncated", "safetensors"),
    ("header", "safetensors"),
    ("manifest", "manifest.json"),
    ("later", "format 2"),
    ("base", "different base model|made for base model"),
    ("shapes", "shape"),
    ("adapter_model.bin", "only safetensors"),
    ("notes.txt", "does not belong"),
    ("empty", "holds 0 bundles"),
    ("two", "holds 2 bundles"),
    ("by-hand", "its name is not a version"),
    ("file", ""),
];

/// Puts [`BAD_BUNDLES`] there.
fn offer_bad_bundles(server: &TestServer) {
    let folder = server.bundles();
    let at = |name: &str| folder.join(name);

    let damaged = bundle_dir(&at("damaged"), &server.offer("damaged", 1)).join(WEIGHTS_FILE);
    let mut bytes = fs::read(&damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    changed(&at("nan"), |_, weights| {
        let end = weights.len();
        weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    changed(&at("infinite"), |_, weights| {
        let end = weights.len();
        weights[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    changed(&at("truncated"), |_, weights| weights.truncate(40));
    changed(&at("header"), |_, weights| weights[..8].fill(0xff));
    changed(&at("manifest"), |manifest, _| manifest.truncate(20));
    changed(&at("later"), |manifest, _| {
        let text = String::from_utf8(manifest.clone()).unwrap();
        let text = text.replacen("\"format\": 1", "\"format\": 2", 1);
        *manifest = text
            .replacen("\"format\":1", "\"format\":2", 1)
            .into_bytes();
    });
    put(&at("base"), &contents(1, "ffff", HIDDEN));
    put(&at("shapes"), &contents(1, &base().sha256, HIDDEN + 1));
    for pickle in ["adapter_model.bin", "notes.txt"] {
        let version = server.offer(pickle, 1);
        fs::write(bundle_dir(&at(pickle), &version).join(pickle), "x").unwrap();
    }
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("file"), "x").unwrap();
    server.offer("two", 1);
    server.offer("two", 2);
    let (version, named) = (server.offer("named", 1), at("named"));
    fs::rename(bundle_dir(&named, &version), at("by-hand")).unwrap();
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_changes_nothing() {
    let server = TestServer::new();
    let first = server.installed(0).await;
    server.promote(&first).await;
    offer_bad_bundles(&server);
    let before = everything(&server).await;
    for (name, reason) in BAD_BUNDLES {
        let reply = server.install(name).await;
        let expected = (
            400,
            "invalid_request_error".to_owned(),
            Some("invalid_value".to_owned()),
            Some("path".to_owned()),
        );
        assert_eq!(reply.error(), expected, "{name}: {}", reply.text());
        let told = reply.text();
        assert!(
            reason.split('|').any(|r| told.contains(r)),
            "{name}: {told}"
        );
        let secret = server.data_dir.path().to_str().unwrap();
        assert!(!told.contains(secret), "{name}: {told}");
        assert_eq!(everything(&server).await, before, "{name}");
    }
    let missing = server.install("missing").await;
    let code = Some("bundle_not_found".to_owned());
    assert_eq!((missing.status, missing.error().2), (404, code));
    assert_eq!(everything(&server).await, before);
    assert_eq!(server.get("/readyz").await.status, 200);
    assert_eq!(server.says(None).await.0, TEXTS[0]);
    let metrics = server.get("/metrics").await;
    let counted = r#"attune_adapter_changes_total{change="install",outcome="refused"} 16"#;
    assert!(metrics.text().contains(counted), "{}", metrics.text());
}

/// As with a full disk: the place to which versions are copied takes nothing.
#[tokio::test]
async fn a_disk_that_fails_is_503_and_changes_nothing() {
    let server = TestServer::new();
    let version = server.offer("run", 1);
    let adapters = server.state.versions.disk().adapters_dir();
    fs::write(adapters, "not a directory").unwrap();
    let reply = server.install("run").await;
    let code = Some("store_unavailable".to_owned());
    assert_eq!(
        (reply.status, reply.error().2),
        (503, code),
        "{}",
        reply.text()
    );
    let list = server.get(ADAPTERS).await.json();
    assert_eq!(list["data"], json!([]));
    assert!(server.state.versions.loaded().lease(&version).is_none());
    let metrics = server.get("/metrics").await;
    let counted = r#"attune_adapter_changes_total{change="install",outcome="failed"} 1"#;
    assert!(metrics.text().contains(counted), "{}", metrics.text());

    fs::remove_file(adapters).unwrap();
    assert_eq!(server.install("run").await.status, 201);
}

#[tokio::test]
async fn names_lead_nowhere_else() {
    let server = TestServer::new();
    server.installed(0).await;
    let before = everything(&server).await;
    let outside = tempfile::tempdir().unwrap();
    let version = publish::write(outside.path(), &contents(1, &base().sha256, HIDDEN)).unwrap();
    let out = outside.path().to_str().unwrap();
    let link = |name: &str| server.bundles().join(name);
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(outside.path(), link("link")).unwrap();
        fs::create_dir(link("nested")).unwrap();
        symlink(
            bundle_dir(outside.path(), &version),
            bundle_dir(&link("nested"), &version),
        )
        .unwrap();
    }
    let absolute = bundle_dir(outside.path(), &version);
    for name in [
        "",
        ".",
        "..",
        "/",
        "../bundles",
        "../adapters",
        "run-0/..",
        "run-0/",
        "./run-0",
        "a/../run-0",
        "..\\bundles",
        "run-0\0",
        ".hidden",
        "link",
        "nested",
        out,
        absolute.to_str().unwrap(),
        "%2e%2e",
        "file:///etc",
    ] {
        let reply = server.install(name).await;
        assert!(
            matches!(reply.status, 400 | 404),
            "{name:?}: {}",
            reply.text()
        );
        assert_eq!(everything(&server).await, before, "{name:?}");
    }
    assert!(server.state.versions.loaded().lease(&version).is_none());
}

#[tokio::test]
async fn a_version_in_use_is_not_retired() {
    let server = TestServer::new();
    let (old, new) = (server.installed(0).await, server.installed(1).await);
    server.promote(&old).await;
    let body = json!({"version": new.as_str(), "percent": 10});
    let canary = "/v1/admin/aliases/attune/canary";
    assert_eq!(server.post(canary, &body).await.status, 200);
    let before = everything(&server).await;
    for version in [&old, &new] {
        let reply = server.delete(&path(version)).await;
        let code = Some("conflict".to_owned());
        assert_eq!((reply.status, reply.error().2), (409, code));
        assert_eq!(reply.header("x-should-retry"), "false");
        assert!(reply.text().contains("attune"), "{}", reply.text());
        assert_eq!(everything(&server).await, before);
    }
    assert_eq!(server.delete(canary).await.status, 200);
    let reply = server.delete(&path(&new)).await;
    let expected = json!({"object": "adapter.deleted", "version": new.as_str(), "deleted": true});
    assert_eq!((reply.status, reply.json()), (200, expected));
    assert!(!bundle_dir(server.state.versions.disk().adapters_dir(), &new).exists());
    assert!(server.state.versions.loaded().lease(&new).is_none());
    let models = server.get("/v1/models").await;
    assert!(!models.text().contains(new.as_str()), "{}", models.text());
    assert_eq!(server.delete(&path(&new)).await.status, 404);
    assert_eq!(server.get(&path(&new)).await.status, 404);
    assert_eq!(server.says(None).await.0, TEXTS[0]);

    // It can come back, and nothing of this is lost by a restart.
    assert_eq!(server.install("run-1").await.status, 201);
    let server = server.restarted();
    let list = server.get(ADAPTERS).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    assert_eq!(server.says(None).await.0, TEXTS[0]);
}

#[tokio::test]
async fn a_retired_version_is_gone_after_a_restart() {
    let server = TestServer::new();
    let version = server.installed(0).await;
    let short = format!("{ADAPTERS}/{}", &version.as_str()[..8]);
    assert_eq!(server.delete(&short).await.status, 200);
    let server = server.restarted();
    assert_eq!(server.get(ADAPTERS).await.json()["data"], json!([]));
    assert_eq!(
        fs::read_dir(server.state.versions.disk().adapters_dir())
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn versions_are_found_by_their_first_digits() {
    let server = TestServer::new();
    let version = server.installed(0).await;
    for (digits, status) in [(64, 200), (12, 200), (8, 200), (7, 404), (1, 404)] {
        let path = format!("{ADAPTERS}/{}", &version.as_str()[..digits]);
        assert_eq!(server.get(&path).await.status, status, "{digits}");
    }
    for wrong in [
        "x",
        "ffffffff",
        &version.as_str().to_uppercase(),
        "%00",
        "..%2fbundles",
    ] {
        let reply = server.get(&format!("{ADAPTERS}/{wrong}")).await;
        let code = Some("adapter_not_found".to_owned());
        assert_eq!((reply.status, reply.error().2), (404, code), "{wrong}");
        assert_eq!(
            server.delete(&format!("{ADAPTERS}/{wrong}")).await.status,
            404
        );
    }

    // Two that begin alike, made for another model.
    let manifest = contents(1, "ffff", HIDDEN).manifest.to_bytes().unwrap();
    for version in [VERSION, OTHER_VERSION] {
        let version = AdapterVersion::new(version).unwrap();
        let disk = server.state.versions.disk();
        let dir = bundle_dir(disk.adapters_dir(), &version);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(MANIFEST_FILE), &manifest).unwrap();
        disk.record(&version, None, AdapterSource::Installed, 7)
            .unwrap();
    }
    let server = server.restarted();
    let reply = server.get(&format!("{ADAPTERS}/{}", &VERSION[..8])).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(reply.text().contains("more digits"), "{}", reply.text());
    let shown = server.get(&format!("{ADAPTERS}/{VERSION}")).await.json();
    assert_eq!(
        (&shown["loaded"], &shown["users"]),
        (&json!(false), &json!(1))
    );
    let before = server.get("/v1/admin/aliases").await.json();
    let reply = server.move_alias(&json!({"version": VERSION})).await;
    assert_eq!(reply.status, 409, "{}", reply.text());
    assert!(
        reply.text().contains("different base model"),
        "{}",
        reply.text()
    );
    assert_eq!(server.get("/v1/admin/aliases").await.json(), before);
}
