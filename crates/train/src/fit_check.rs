//! Whether a version differs from another one by new people's rows alone.

use std::path::Path;

use super::TrainError;
use attune_adapter::bundle::{contents, BundleContents};
use attune_adapter::plan::user_model_name;
use attune_adapter::tensors::TensorData;
use attune_model::user_model::cluster::USER_WEIGHT;
use attune_model::user_model::individual::USER_EMBEDDING;
use attune_model::user_model::model::UserModelKind;

/// The number of people who are answered by the bundle in `fitted` as by that in `current`: the same LoRA, the same
/// generic row, and each the same row of their own, bit for bit.
///
/// # Errors
/// A bundle that cannot be read; [`TrainError::Bug`]: they differ.
pub fn unchanged(current: &Path, fitted: &Path) -> Result<usize, TrainError> {
    let (before, after) = (contents(current)?, contents(fitted)?);
    let differ = |what: &str| {
        let text = format!("a fit of new people changed {what}, so it was not promoted");
        TrainError::Bug(text)
    };
    let table = table(&before);
    let names = before.tensors.keys().eq(after.tensors.keys());
    let same = |name: &String| same_bits(&before.tensors[name].values, &after.tensors[name].values);
    let mut shared = before
        .tensors
        .keys()
        .filter(|name| Some(*name) != table.as_ref());
    if !names || !shared.all(same) || before.manifest.lora != after.manifest.lora {
        return Err(differ("what all people share"));
    }
    let Some(table) = table else {
        return Err(differ("a version without rows"));
    };
    let [old, new] = [&before, &after].map(|bundle| rows(bundle, &bundle.tensors[&table]));
    // Row 0 is the generic user's.
    if !same_bits(old(0), new(0)) {
        return Err(differ("the generic row"));
    }
    let after = after.manifest.user_rows();
    let mut people = 0;
    for (user, row) in before.manifest.user_rows() {
        // Who is no longer there was deleted.
        let Some(now) = after.get(&user) else {
            continue;
        };
        if !same_bits(old(row), new(*now)) {
            return Err(differ("the row of somebody else"));
        }
        people += 1;
    }
    Ok(people)
}

/// The table that has a part for each person.
fn table(bundle: &BundleContents) -> Option<String> {
    let users = bundle.manifest.user_model.as_ref()?;
    Some(user_model_name(match users.kind {
        UserModelKind::Cluster => USER_WEIGHT,
        _ => USER_EMBEDDING,
    }))
}

/// A person's part of the table; empty if it is not there.
fn rows<'a>(bundle: &BundleContents, table: &'a TensorData) -> impl Fn(usize) -> &'a [f32] {
    let users = bundle.manifest.user_model.as_ref();
    let per_user = match users.map(|users| users.kind) {
        None | Some(UserModelKind::Cluster) => 1,
        _ => users.map_or(1, |users| users.n_user_tokens),
    };
    let size = per_user * table.shape.last().copied().unwrap_or(0);
    move |row| {
        table
            .values
            .get(row * size..(row + 1) * size)
            .unwrap_or(&[])
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
