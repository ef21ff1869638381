//! The demo version: rows that are embeddings, bit for bit, for the right people.

use attune::adapter::bundle::{bundle_dir, read};
use attune::adapter::demo::{contents, equalise, STYLES};
use attune::adapter::manifest::BaseModel;
use attune::adapter::publish::write;
use attune::adapter::registry::AdapterRegistry;
use attune::ids::UserKey;
use attune::user_model::soft_prompt::RowKind;
use tempfile::TempDir;

use crate::support::{tensor, tiny_llama, user, BASE};

/// Embeddings of tokens: rows of an odd table.
fn embed(ids: &[u32]) -> Vec<f32> {
    let row = |id: &u32| tensor(*id as usize, [1, 32]).values;
    ids.iter().flat_map(row).map(|v| v * 0.1 + 1e-3).collect()
}

#[test]
fn each_person_has_the_embeddings_of_their_instruction() {
    let base = || BaseModel {
        name: "tiny".into(),
        sha256: BASE.into(),
    };
    let turns = equalise([vec![3, 4, 5], vec![3, 7, 8, 9, 5], vec![3, 6, 5]], 1, 5);
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &contents(base(), &turns, embed).unwrap()).unwrap();
    let again = write(parent.path(), &contents(base(), &turns, embed).unwrap()).unwrap();
    assert_eq!(version, again, "every start makes the same version");

    let adapter = read(&bundle_dir(parent.path(), &version), &tiny_llama(), BASE).unwrap();
    let lease = AdapterRegistry::new().install(adapter);
    for (style, turn) in STYLES.iter().zip(&turns) {
        let key: Option<UserKey> = style.user.map(|id| user("default", id));
        let prompt = lease.soft_prompt(key.as_ref());
        assert_eq!(prompt.len(), 5);
        assert_eq!(prompt.rows()[..], embed(turn));
        let kind = if key.is_some() {
            RowKind::User
        } else {
            RowKind::Generic
        };
        assert_eq!(prompt.kind(), kind);
    }
}
