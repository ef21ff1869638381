//! A version without some of its people: their ids and their rows are left out, and everything else is as it
//! was, byte for byte. It is another version, since its content is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::tensor::TensorView;
use serde_json::Value;

use super::data_until::DataUntil;
use super::error::AdapterError;
use super::files::{read_regular, Files, Weights, MANIFEST_FILE, MAX_MANIFEST_BYTES, WEIGHTS_FILE};
use super::hash::content_version;
use super::manifest::Manifest;
use super::plan::user_model_name;
use super::tensors::TensorFile;
use attune_ids::UserKey;
use attune_model::user_model::cluster::USER_WEIGHT;
use attune_model::user_model::individual::USER_EMBEDDING;
use attune_model::user_model::model::UserModelKind;

/// The people whom the bundle in `dir` knows, and until when what it has learned of each reaches. Reads the
/// manifest only; nothing is hashed.
///
/// # Errors
/// A manifest that is not there or cannot be used.
pub fn people_of(dir: &Path) -> Result<Vec<(UserKey, DataUntil)>, AdapterError> {
    people(&read_regular(&dir.join(MANIFEST_FILE), MAX_MANIFEST_BYTES)?)
}

pub(super) fn people(manifest: &[u8]) -> Result<Vec<(UserKey, DataUntil)>, AdapterError> {
    let manifest = Manifest::parse(manifest)?;
    let usual = manifest.data_until_unix_ms;
    let users = manifest.users.iter();
    let until = |row: &super::manifest::UserRow| row.data_until_unix_ms.unwrap_or(usual);
    Ok(users.map(|row| (row.key(), until(row))).collect())
}

/// See [`Offered::without`](super::publish::Offered::without).
pub(super) fn without(files: &Files, gone: &BTreeSet<UserKey>) -> Result<Files, AdapterError> {
    let mut manifest = Manifest::parse(&files.manifest)?;
    let (left, kept) = manifest
        .users
        .into_iter()
        .partition(|user| gone.contains(&user.key()));
    manifest.users = kept;
    let left: Vec<_> = left;
    let rows: BTreeSet<usize> = left.iter().map(|user| user.row).collect();
    for user in &mut manifest.users {
        user.row -= rows.range(..user.row).count();
    }
    let mut per_user = 1;
    let mut table = USER_WEIGHT;
    if let Some(model) = &mut manifest.user_model {
        // Each person of a manifest has a row of their own, 1 ..= N.
        model.n_users -= rows.len();
        if model.kind != UserModelKind::Cluster {
            (table, per_user) = (USER_EMBEDDING, model.n_user_tokens);
        }
    }
    for user in &left {
        forget_text(&mut manifest, user.user.as_str());
    }
    let file = TensorFile::parse(WEIGHTS_FILE, &files.weights)?;
    let weights = file.without_rows(&user_model_name(table), &rows, per_user)?;
    let manifest = manifest.to_bytes()?;
    let files = Files {
        version: content_version(&manifest, &weights),
        manifest,
        weights: Weights::Made(weights),
    };
    files.verify()?;
    Ok(files)
}

impl TensorFile<'_> {
    /// The bytes of a file of the same tensors, each with its own type and bytes, but for the rows of
    /// `table` that belong to the user rows `gone`: `per_user` of them each.
    fn without_rows(
        &self,
        table: &str,
        gone: &BTreeSet<usize>,
        per_user: usize,
    ) -> Result<Vec<u8>, AdapterError> {
        let broken = |e: safetensors::SafeTensorError| AdapterError::Safetensors {
            file: WEIGHTS_FILE,
            reason: e.to_string(),
        };
        let mut kept = Vec::new();
        let mut shape = Vec::new();
        if let Some(view) = self.views.get(table) {
            shape = view.shape().to_vec();
            let n_rows = shape.first().copied().unwrap_or(0).max(1);
            let row_bytes = view.data().len() / n_rows;
            let rows = view.data().chunks_exact(row_bytes.max(1));
            for (at, row) in rows.enumerate() {
                if !gone.contains(&(at / per_user.max(1))) {
                    kept.extend_from_slice(row);
                }
            }
            if let Some(n) = shape.first_mut() {
                *n = kept.len() / row_bytes.max(1);
            }
        }
        let views = self.views.iter().map(|(name, view)| {
            let (shape, bytes) = match name == table {
                true => (shape.clone(), &kept[..]),
                false => (view.shape().to_vec(), view.data()),
            };
            let view = TensorView::new(view.dtype(), shape, bytes).map_err(broken)?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<BTreeMap<_, _>, AdapterError>>()?;
        safetensors::serialize(views, None).map_err(broken)
    }
}

/// Takes out what names `id` in texts that nobody reads back: the version's name, and how it came about.
fn forget_text(manifest: &mut Manifest, id: &str) {
    manifest.name.take_if(|name| names(name, id));
    if let Some(training) = &mut manifest.training {
        forget_value(training, id);
    }
}

fn forget_value(value: &mut Value, id: &str) {
    let says = |value: &Value| value.as_str().is_some_and(|text| names(text, id));
    match value {
        Value::Array(items) => {
            items.retain(|item| match item {
                // An entry of a list of people, for example.
                Value::Object(fields) => !fields.values().any(says),
                item => !says(item),
            });
            items.iter_mut().for_each(|item| forget_value(item, id));
        }
        Value::Object(fields) => {
            fields.retain(|key, value| !names(key, id) && !says(value));
            fields.values_mut().for_each(|item| forget_value(item, id));
        }
        Value::String(text) if names(text, id) => *value = Value::Null,
        _ => {}
    }
}

/// Whether `id` is in `text`, not as a part of a longer word.
fn names(text: &str, id: &str) -> bool {
    text.match_indices(id).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + id.len()..].chars().next();
        let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !is_part(before) && !is_part(after)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_found_as_a_word_and_not_within_one() {
        for text in [
            "ann",
            "for ann",
            "ann.jsonl",
            "/data/ann/x",
            "(ann)",
            "joann ann",
        ] {
            assert!(names(text, "ann"), "{text}");
        }
        for text in ["", "joann", "anna", "1ann", "an n"] {
            assert!(!names(text, "ann"), "{text}");
        }
    }

    #[test]
    fn texts_that_name_somebody_are_left_out_and_the_rest_stays() {
        let mut training = json!({
            "settings": {"data": ["pairs.jsonl", "ann.jsonl"], "seed": 1},
            "users": [{"user": "ann", "accuracy": 0.5}, {"user": "bob", "accuracy": 1.0}],
            "by_user": {"ann": 3, "bob": 4},
            "note": "as ann likes it",
            "deep": [[{"of": ["x", "ann"]}]],
        });
        forget_value(&mut training, "ann");
        let left = json!({
            "settings": {"data": ["pairs.jsonl"], "seed": 1},
            "users": [{"user": "bob", "accuracy": 1.0}],
            "by_user": {"bob": 4},
            "deep": [[{"of": ["x"]}]],
        });
        assert_eq!(training, left);
        let mut word = json!("ann");
        forget_value(&mut word, "ann");
        assert_eq!(word, Value::Null);
    }
}
