//! The OpenAPI document in the repository is the one that the server serves, and docs/api.md has the table of
//! fields that the server goes by.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::path::Path;

use attune::api::types::generation::MAX_ANSWERS;

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == attune::api::openapi::document(),
        "openapi/openapi.json is out of date; run: cargo run -- openapi > openapi/openapi.json"
    );
}

/// `UPDATE_EXAMPLES=1 cargo test --test openapi` writes it anew.
#[test]
fn api_md_has_the_table_of_other_servers_fields() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- fields of other servers -->\n", "<!-- end -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (table, after) = rest.split_once(end).unwrap();
    let expected = attune::api::types::client_fields::markdown();
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        let page = [before, begin, &expected, end, after].concat();
        std::fs::write(&path, page).unwrap();
        return;
    }
    assert!(
        table == expected,
        "docs/api.md is out of date; run: UPDATE_EXAMPLES=1 cargo test --test openapi"
    );
}

/// How many answers a request may ask for is one constant.
#[test]
fn the_pages_state_the_limit_on_answers() {
    let page = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs")
            .join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let api = page("api.md");
    for stated in [
        format!("| `n` | 1 to {MAX_ANSWERS} answers |"),
        format!("At most {MAX_ANSWERS} prompts times `n` |"),
        format!("{MAX_ANSWERS} answers per request,"),
    ] {
        assert!(api.contains(&stated), "docs/api.md does not say: {stated}");
    }
    // Whoever names a user can ask for as many.
    let settings = page("configuration.md");
    let of_user = settings
        .lines()
        .find(|line| line.starts_with("| `--max-answers-per-user` |"))
        .and_then(|line| line.split('`').nth(5));
    let per_user: usize = of_user.unwrap().parse().unwrap();
    assert!(per_user >= MAX_ANSWERS, "{per_user} answers per user");
}
