//! One person in every place of docs/forgetting.md that is a file, deleted, and looked for in all of them.

use std::fs;
use std::path::PathBuf;

use attune::app::housekeeping;
use serde_json::{json, Value};

use crate::forget_versions::{bytes_of, forget, holding, installed, row, rows, GONE, STAYS};
use crate::support::TestServer;

/// What each record says of whom it is about: a word that is nowhere else.
fn words(user: &str) -> [String; 8] {
    let word = |what: &str| format!("{what}-of-{}", user.to_uppercase());
    [
        word("asked"),
        word("chosen"),
        word("rejected"),
        word("comment"),
        word("profile"),
        word("kept"),
        word("metadata"),
        word("key"),
    ]
}

/// Records of all kinds.
async fn put_everywhere(server: &TestServer, user: &str) {
    let [asked, chosen, rejected, comment, profile, kept, metadata, key] = words(user);
    let said = |text: &str| json!([{"role": "user", "content": text}]);
    // So long that the database gives it a file of its own.
    let chosen = format!("{chosen} {}", "tea ".repeat(8_000));
    let preference =
        json!({"user": user, "messages": said(&asked), "chosen": chosen, "rejected": rejected});
    let sent = server
        .post_with(
            "/v1/preferences",
            &[("idempotency-key", key.as_str())],
            &preference,
        )
        .await;
    assert_eq!(sent.status, 201, "{}", sent.text());
    let kept = json!({"user": user, "messages": said(&kept), "metadata": {"a": metadata}});
    let rating = json!({"completion_id": server.kept(kept).await, "rating": 4, "comment": comment});
    let rated = server.post("/v1/feedback", &rating).await;
    assert_eq!(rated.status, 201, "{}", rated.text());
    let path = format!("/v1/users/{user}");
    let set = server.post(&path, &json!({"profile": profile})).await;
    assert_eq!(set.status, 200, "{}", set.text());
}

/// What names `user` or was theirs: id, words, and rows of versions, whose offsets follow from `offset`.
fn traces(user: &str, offset: f32) -> Vec<Vec<u8>> {
    let mut traces: Vec<Vec<u8>> = words(user).map(String::into_bytes).to_vec();
    traces.push(user.as_bytes().to_vec());
    traces.push(bytes_of(&rows(offset)));
    traces
}

/// The traces that are in some file of the server.
fn found(server: &TestServer, traces: &[Vec<u8>]) -> Vec<(String, Vec<PathBuf>)> {
    let dir = server.data_dir.path();
    let files = traces.iter().map(|trace| holding(dir, &[trace.as_slice()]));
    let shown = traces
        .iter()
        .map(|t| String::from_utf8_lossy(t).into_owned());
    let all = shown.zip(files);
    all.filter(|(_, files)| !files.is_empty()).collect()
}

#[tokio::test]
async fn a_deleted_person_is_in_no_file_below_the_data_directory() {
    let server = TestServer::new();
    for says in [0, 1] {
        let version = installed(&server, says).await;
        server.promote(&version).await;
    }
    for user in [GONE, STAYS] {
        put_everywhere(&server, user).await;
        assert_eq!(row(&server, "attune", user).await.1, "user");
    }
    let (gone, stays) = (traces(GONE, 1234.5), traces(STAYS, 77.25));
    // Else nothing would be shown by finding nothing.
    assert_eq!(found(&server, &gone).len(), gone.len());

    let deleted = server.delete(&format!("/v1/users/{GONE}")).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    forget(&server).await;
    housekeeping::once(&server.state).await.unwrap();
    assert_eq!(found(&server, &gone), []);
    // A snapshot is what the next turn learns from.
    let snapshot = server.get("/v1/admin/snapshot").await;
    fs::write(server.data_dir.path().join("snapshot"), &snapshot.body).unwrap();
    assert_eq!(found(&server, &gone), []);

    // A restart seals the store anew, and finds a stranger; who is left has all of theirs.
    let server = server.restarted();
    assert_eq!(found(&server, &gone), []);
    assert_eq!(found(&server, &stays).len(), stays.len());
    assert_eq!(row(&server, "attune", GONE).await.1, "generic");
    let export = |user: &str| format!("/v1/users/{user}/export");
    assert_eq!(server.get(&export(GONE)).await.text(), "");
    let lines = server.get(&export(STAYS)).await;
    let kinds = lines.text().lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["kind"].to_string()
    });
    assert!(kinds.count() >= 5, "{}", lines.text());
}
