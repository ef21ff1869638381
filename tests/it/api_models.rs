//! `GET /v1/models` and `GET /v1/models/{model}`.

use serde_json::Value;

use crate::support::{openai, TestServer, OTHER_VERSION, VERSION};

#[tokio::test]
async fn the_alias_comes_first_then_the_base_then_the_versions() {
    for (server, expected) in [
        (
            TestServer::new(),
            vec!["attune".to_owned(), "tiny-llama".to_owned()],
        ),
        (
            TestServer::promoted(),
            vec![
                "attune".to_owned(),
                "tiny-llama".to_owned(),
                format!("attune@{VERSION}"),
                format!("attune@{OTHER_VERSION}"),
            ],
        ),
    ] {
        let list = server.get("/v1/models").await.json();
        openai::check("ListModelsResponse", &list);
        let models = list["data"].as_array().unwrap();
        let ids: Vec<_> = models.iter().map(|m| m["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected);
        assert_eq!(models[1]["adapter_version"], Value::Null);
        // Each can be asked for by the id under which it is listed.
        for model in models {
            let path = format!("/v1/models/{}", model["id"].as_str().unwrap());
            let alone = server.get(&path).await.json();
            openai::check("Model", &alone);
            assert_eq!(&alone, model);
        }
    }
}

#[tokio::test]
async fn a_model_says_which_version_answers() {
    let server = TestServer::promoted();
    let alias = server.get("/v1/models/attune").await.json();
    assert_eq!(alias["adapter_version"], VERSION);
    assert_eq!(alias["created"], 1_710_000_000);
    let short = server
        .get(&format!("/v1/models/attune%40{}", &VERSION[..9]))
        .await
        .json();
    assert_eq!(short["id"], format!("attune@{VERSION}"));
    assert_eq!(short["name"], "styles");
}

#[tokio::test]
async fn an_unknown_model_is_404() {
    let server = TestServer::promoted();
    for id in [
        "gpt-4o",
        "attune@ffffffff",
        "attune@ab12cd34",
        "org%2Fmodel",
        "%00",
        "x%0d%0ay",
    ] {
        let reply = server.get(&format!("/v1/models/{id}")).await;
        let expected = Some("model_not_found".to_owned());
        assert_eq!((reply.status, reply.error().2), (404, expected), "{id}");
    }
    assert_eq!(server.get("/v1/models/%ff").await.status, 404);
}
