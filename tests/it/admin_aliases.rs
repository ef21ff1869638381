//! Promotion is a compare-and-swap; requests under way keep their version.

use std::collections::BTreeSet;

use attune::app::versions::Expected;
use attune_adapter::publish;
use attune_ids::Alias;
use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use serde_json::{json, Value};

use crate::support::bundles::{base, contents, TEXTS};
use crate::support::http::Reply;
use crate::support::runner::HIDDEN;
use crate::support::TestServer;

const ALIASES: &str = "/v1/admin/aliases";

async fn roll_back(server: &TestServer, alias: &str) -> Reply {
    let path = format!("{ALIASES}/{alias}/rollback");
    server
        .send(Request::post(path).body(Body::empty()).unwrap())
        .await
}

/// The only alias as the list has it.
async fn listed(server: &TestServer) -> Value {
    let list = server.get(ALIASES).await.json();
    assert_eq!(list["object"], "list");
    let data = list["data"].as_array().unwrap();
    assert_eq!(data.len(), 1, "{list}");
    data[0].clone()
}

#[tokio::test]
async fn an_alias_is_promoted_and_rolled_back() {
    let server = TestServer::new();
    let never = json!({"object": "alias", "alias": "attune", "version": null, "previous": null,
        "promoted": null, "promotions": 0, "canary": null});
    assert_eq!(listed(&server).await, never);
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    let first = server.promote(&one).await;
    let promoted = first["promoted"].as_u64().unwrap();
    let expected = json!({"object": "alias", "alias": "attune", "version": one.as_str(),
        "previous": null, "promoted": promoted, "promotions": 1, "canary": null});
    assert_eq!((&first, &listed(&server).await), (&expected, &expected));

    // Nothing to go back to yet.
    let reply = roll_back(&server, "attune").await;
    assert_eq!(reply.error().0, 409, "{}", reply.text());
    assert_eq!(roll_back(&server, "other").await.error().0, 404);

    let short = &two.as_str()[..8];
    let reply = server.move_alias(&json!({"version": short})).await.json();
    assert_eq!(reply["version"], two.as_str());
    assert_eq!(reply["previous"], one.as_str());
    assert_eq!(server.says(None).await, (TEXTS[1].into(), two.to_string()));
    // Promoting what is promoted does not forget what was before.
    assert_eq!(server.promote(&two).await["previous"], one.as_str());
    for (version, previous, text) in [(&one, &two, TEXTS[0]), (&two, &one, TEXTS[1])] {
        let reply = roll_back(&server, "attune").await.json();
        assert_eq!(reply["version"], version.as_str());
        assert_eq!(reply["previous"], previous.as_str());
        assert_eq!(server.says(None).await.0, text);
    }

    // What was retired is not promoted again.
    let path = format!("/v1/admin/adapters/{one}");
    assert_eq!(server.delete(&path).await.status, 200);
    assert_eq!(listed(&server).await["previous"], Value::Null);
    let reply = roll_back(&server, "attune").await;
    assert_eq!(reply.error().0, 409, "{}", reply.text());
    assert_eq!(server.says(None).await.0, TEXTS[1]);
}

#[tokio::test]
async fn a_promotion_that_expects_something_else_is_a_conflict() {
    let server = TestServer::new();
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    let (one, two) = (one.as_str(), two.as_str());
    let refused = |reply: Reply, actual: &str| {
        let code = Some("conflict".to_owned());
        let kind = "invalid_request_error".to_owned();
        assert_eq!(reply.error(), (409, kind, code, None));
        assert_eq!(reply.header("x-should-retry"), "false");
        assert!(reply.text().contains(actual), "{}", reply.text());
    };
    let promote =
        |version: &str, expected: Value| json!({"version": version, "expected": expected});
    refused(
        server.move_alias(&promote(one, json!(two))).await,
        "nothing",
    );
    let reply = server.move_alias(&promote(one, Value::Null)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    for expected in [Value::Null, json!(two), json!("ffffffff")] {
        refused(server.move_alias(&promote(two, expected)).await, one);
        assert_eq!(server.says(None).await.0, TEXTS[0]);
    }
    let rollback = format!("{ALIASES}/attune/rollback");
    let reply = server.move_alias(&promote(two, json!(&one[..8]))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    refused(server.post(&rollback, &json!({"expected": one})).await, two);
    let reply = server.post(&rollback, &json!({"expected": two})).await;
    assert_eq!((reply.status, &reply.json()["version"]), (200, &json!(one)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_promotions_at_once_exactly_one_wins() {
    let server = TestServer::new();
    let mut versions = Vec::new();
    for says in 0..3 {
        versions.push(server.installed(says).await.to_string());
    }
    let mut now = Value::Null;
    for _ in 0..20 {
        // Each other version, four times: who promotes what another one has just promoted loses too.
        let others: Vec<_> = versions.iter().filter(|v| now != **v).collect();
        let body = |to: &&String| json!({"version": to, "expected": now});
        let bodies: Vec<Value> = others.iter().cycle().take(8).map(body).collect();
        let replies = join_all(bodies.iter().map(|body| server.move_alias(body))).await;
        let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.status == 200);
        assert_eq!((won.len(), lost.len()), (1, bodies.len() - 1));
        now = won[0].json()["version"].clone();
        for reply in lost {
            assert_eq!(reply.error().0, 409);
            assert!(
                reply.text().contains(now.as_str().unwrap()),
                "{}",
                reply.text()
            );
        }
        assert_eq!(listed(&server).await["version"], now);
        assert_eq!(server.says(None).await.1, now.as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_keeps_its_version() {
    let server = TestServer::new();
    let (old, new) = (server.installed(0).await, server.installed(1).await);
    server.promote(&old).await;
    server.gate.close();
    let answers = async {
        let under_way = server.says(Some("alice"));
        let change = async {
            crate::support::socket::until("the first step", || server.gate.is_reached()).await;
            server.promote(&new).await;
            let old_path = format!("/v1/admin/adapters/{old}");
            let shown = server.get(&old_path).await.json();
            assert!(shown["leases"].as_u64().unwrap() > 0, "{shown}");
            assert_eq!(server.delete(&old_path).await.status, 200);
            assert_eq!(server.get("/readyz").await.status, 200);
            server.gate.open();
        };
        tokio::join!(under_way, change).0
    };
    assert_eq!(answers.await, (TEXTS[0].into(), old.to_string()));
    assert_eq!(
        server.says(Some("alice")).await,
        (TEXTS[1].into(), new.to_string())
    );
}

#[tokio::test]
async fn a_restart_restores_aliases() {
    let server = TestServer::new();
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    server.promote(&one).await;
    server.promote(&two).await;
    let before = listed(&server).await;
    let server = server.restarted();
    assert_eq!(listed(&server).await, before);
    assert_eq!(server.says(None).await, (TEXTS[1].into(), two.to_string()));
    assert_eq!(roll_back(&server, "attune").await.status, 200);
    assert_eq!(server.says(None).await, (TEXTS[0].into(), one.to_string()));
}

/// As after a kill between the store's write and the next projection, and one between bundle and record.
#[tokio::test]
async fn a_start_heals_what_a_crash_left_half_done() {
    let server = TestServer::new();
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    server.promote(&one).await;
    let (versions, alias) = (server.state.versions.disk(), Alias::new("attune").unwrap());
    let moved = versions.promote(&alias, &two, &Expected::Anything, 7);
    assert_eq!(moved.unwrap().version, two);
    let third = contents(2, &base().sha256, HIDDEN);
    let third = publish::write(versions.adapters_dir(), &third).unwrap();
    assert_eq!(server.says(None).await.1, one.as_str());
    // So it looks, too, when the store could not be flushed: the list says what answers.
    assert_eq!(listed(&server).await["version"], one.as_str());
    for (version, aliases) in [(&one, json!(["attune"])), (&two, json!([]))] {
        let path = format!("/v1/admin/adapters/{version}");
        assert_eq!(server.get(&path).await.json()["aliases"], aliases);
    }

    let server = server.restarted();
    assert_eq!(server.says(None).await.1, two.as_str());
    assert_eq!(listed(&server).await["previous"], one.as_str());
    // A bundle that nobody names is not installed, and can be.
    let path = format!("/v1/admin/adapters/{third}");
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.installed(2).await, third);
    assert_eq!(server.get(&path).await.status, 200);
}

#[tokio::test]
async fn further_aliases_are_models_too() {
    let server = TestServer::new();
    let (one, two) = (server.installed(0).await, server.installed(1).await);
    server.promote(&one).await;
    let beta = json!({"version": two.as_str(), "expected": null});
    assert_eq!(
        server.post(&format!("{ALIASES}/beta"), &beta).await.status,
        200
    );
    assert_eq!(server.says_as("beta", None).await.0, TEXTS[1]);
    assert_eq!(server.says(None).await.0, TEXTS[0]);
    let models = server.get("/v1/models").await.json();
    let ids = models["data"].as_array().unwrap().iter();
    let ids: BTreeSet<_> = ids.map(|m| m["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.contains("beta"), "{models}");
    assert_eq!(
        server.get("/v1/models/beta").await.json()["adapter_version"],
        two.as_str()
    );
    // It would never answer: the bare base model has that name.
    let reply = server.post(&format!("{ALIASES}/tiny-llama"), &beta).await;
    assert_eq!(reply.error().3, Some("alias".to_owned()));
    assert_eq!(server.says_as("tiny-llama", None).await.1, "base");
}
