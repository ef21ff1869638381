//! The OpenAPI document in the repository is the one that the server serves.

use std::path::Path;

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == attune::api::openapi::document(),
        "openapi/openapi.json is out of date; run: cargo run -- openapi > openapi/openapi.json"
    );
}
