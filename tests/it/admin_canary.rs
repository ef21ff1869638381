//! Canaries: some users of an alias, always the same ones, are answered by another version.

use std::collections::BTreeSet;

use attune_ids::{AdapterVersion, Alias, Tenant, UserId, UserKey};
use serde_json::{json, Value};

use crate::support::bundles::TEXTS;
use crate::support::TestServer;

const CANARY: &str = "/v1/admin/aliases/attune/canary";
const USERS: usize = 10_000;

fn user(tenant: &str, n: usize) -> UserKey {
    UserKey {
        tenant: Tenant::new(tenant).unwrap(),
        user: UserId::new(format!("user-{n}")).unwrap(),
    }
}

/// The users whom `version` answers now.
fn answered_by(server: &TestServer, tenant: &str, version: &AdapterVersion) -> BTreeSet<usize> {
    let alias = Alias::new("attune").unwrap();
    let answers = |n: &usize| {
        let lease = server
            .state
            .versions
            .by_alias_for(&alias, Some(&user(tenant, *n)));
        lease.unwrap().unwrap().adapter().version == *version
    };
    (0..USERS).filter(answers).collect()
}

async fn start(server: &TestServer, version: &AdapterVersion, percent: f64) -> Value {
    let body = json!({"version": version.as_str(), "percent": percent});
    let reply = server.post(CANARY, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A server whose alias names the first version; the second one is there.
async fn promoted() -> (TestServer, AdapterVersion, AdapterVersion) {
    let server = TestServer::new();
    let (stable, tried) = (server.installed(0).await, server.installed(1).await);
    server.promote(&stable).await;
    (server, stable, tried)
}

#[tokio::test]
async fn the_share_is_right_and_a_growing_one_only_adds_users() {
    let (server, _, tried) = promoted().await;
    let mut before = BTreeSet::new();
    for percent in [0.1, 1.0, 5.0, 12.3, 50.0, 99.9, 100.0] {
        start(&server, &tried, percent).await;
        let now = answered_by(&server, "default", &tried);
        // Five standard deviations of a binomial, and one user for the smallest share.
        let share = percent / 100.0;
        let deviation = (USERS as f64 * share * (1.0 - share)).sqrt();
        let expected = USERS as f64 * share;
        let off = (now.len() as f64 - expected).abs();
        assert!(off <= 5.0 * deviation + 1.0, "{percent}: {}", now.len());
        assert!(
            now.is_superset(&before),
            "{percent}: somebody was sent back"
        );
        before = now;
    }
    assert_eq!(before.len(), USERS);
    // And back: a share that shrinks only takes users away.
    start(&server, &tried, 5.0).await;
    let five = answered_by(&server, "default", &tried);
    start(&server, &tried, 1.0).await;
    assert!(answered_by(&server, "default", &tried).is_subset(&five));
    // Tenants are divided on their own.
    start(&server, &tried, 50.0).await;
    let here = answered_by(&server, "default", &tried);
    let there = answered_by(&server, "other", &tried);
    let both = here.intersection(&there).count();
    assert!((2000..3000).contains(&both), "{both}");
}

#[tokio::test]
async fn requests_are_divided_as_the_registry_says() {
    let (server, stable, tried) = promoted().await;
    let alias = start(&server, &tried, 30.0).await;
    let started = alias["canary"]["started"].as_u64().unwrap();
    assert!(started > 1_700_000_000);
    let expected = json!({"version": tried.as_str(), "percent": 30.0, "started": started});
    assert_eq!(alias["canary"], expected);
    let list = server.get("/v1/admin/aliases").await.json();
    assert_eq!(list["data"][0], alias);
    let shown = server
        .get(&format!("/v1/admin/adapters/{tried}"))
        .await
        .json();
    assert_eq!(shown["canary_of"], json!(["attune"]));

    let members = answered_by(&server, "default", &tried);
    let mut seen = BTreeSet::new();
    for n in 0..40 {
        let id = format!("user-{n}");
        let expected = match members.contains(&n) {
            true => (TEXTS[1].to_owned(), tried.to_string()),
            false => (TEXTS[0].to_owned(), stable.to_string()),
        };
        for _ in 0..2 {
            assert_eq!(server.says(Some(&id)).await, expected, "{id}");
        }
        // A version that is named is not divided, nor is the bare base.
        let pinned = server.says_as(&format!("attune@{stable}"), Some(&id)).await;
        assert_eq!(pinned.1, stable.as_str());
        assert_eq!(server.says_as("tiny-llama", Some(&id)).await.1, "base");
        seen.insert(expected.1);
    }
    assert_eq!(seen.len(), 2);
    // Nobody in particular is no subject of a trial.
    for _ in 0..10 {
        assert_eq!(server.says(None).await.1, stable.as_str());
    }
    start(&server, &tried, 100.0).await;
    assert_eq!(server.says(None).await.1, stable.as_str());
    assert_eq!(server.says(Some("user-0")).await.1, tried.as_str());

    let ended = server.delete(CANARY).await;
    assert_eq!((ended.status, &ended.json()["canary"]), (200, &Value::Null));
    assert!(answered_by(&server, "default", &tried).is_empty());
    assert_eq!(server.delete(CANARY).await.status, 404);
}

#[tokio::test]
async fn promoting_the_canary_ends_it_and_another_promotion_does_not() {
    let (server, stable, tried) = promoted().await;
    let third = server.installed(2).await;
    start(&server, &tried, 50.0).await;
    let alias = server.promote(&third).await;
    assert_eq!(alias["canary"]["version"], tried.as_str());
    let half = answered_by(&server, "default", &tried).len();
    assert!((4000..6000).contains(&half), "{half}");

    let alias = server.promote(&tried).await;
    assert_eq!(alias["canary"], Value::Null);
    assert_eq!(answered_by(&server, "default", &tried).len(), USERS);
    // A rollback does not bring it back.
    server.promote(&stable).await;
    assert!(answered_by(&server, "default", &tried).is_empty());
    // And what the alias names is no canary of it.
    let body = json!({"version": stable.as_str(), "percent": 5});
    let reply = server.post(CANARY, &body).await;
    assert_eq!(reply.error().0, 409, "{}", reply.text());
}

#[tokio::test]
async fn a_restart_restores_the_canary_and_divides_the_same_way() {
    let (server, _, tried) = promoted().await;
    let begun = start(&server, &tried, 20.0).await;
    let first = start(&server, &tried, 25.0).await;
    // Another share of the same canary is no new one.
    let when = |alias: &Value| alias["canary"]["started"].clone();
    assert_eq!(when(&first), when(&begun));
    let members = answered_by(&server, "default", &tried);
    let server = server.restarted();
    let list = server.get("/v1/admin/aliases").await.json();
    assert_eq!(list["data"][0], first);
    let same = answered_by(&server, "default", &tried) == members;
    assert!(same, "a restart moves users");
    // Another store divides its users in another way.
    let (other, _, tried) = promoted().await;
    start(&other, &tried, 25.0).await;
    let same = answered_by(&other, "default", &tried) == members;
    assert!(!same, "who knows one server knows all");
}

/// The first version ever can be tried on some users before anybody else leaves the bare base.
#[tokio::test]
async fn a_canary_may_be_tried_against_the_bare_base() {
    let server = TestServer::new();
    let tried = server.installed(1).await;
    start(&server, &tried, 100.0).await;
    assert_eq!(server.says(Some("alice")).await.1, tried.as_str());
    assert_eq!(server.says(None).await.1, "base");
}
